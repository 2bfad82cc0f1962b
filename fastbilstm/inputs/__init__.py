"""What a user gives to `Model.predict`, checked against the inputs of the graph.

model_input.py   the way in: one array for each input of the model
arrays.py        one array, or the rows of one input
ragged.py        rows of different lengths: read, padded or grouped

May import: analysis, layers, graph.
"""
