"""The golden cases: which models are built, with which weights and inputs, and how Keras' answers are recorded.

registry.py holds the table and the inputs; recurrent.py .. formats.py fill it, one family a file; worker.py builds,
saves and runs the models inside one framework; derived.py and old_keras.py work out by hand what no installable
Keras can compute. make_golden.py is the command.
"""
