"""Reads the files of Keras. Only this part of the package imports h5py.

hdf5.py     safe access to HDF5: attributes, groups, datasets, links
archive.py  .keras archives
asked.py    what `load` was asked for beside the file: outputs, functions of Lambda layers
architecture.py  JSON or YAML, given beside weights -> the architecture
config.py   the architecture -> Graph
legacy.py   names and weights of Keras 1, CuDNN layers, renamed options -> those of today's Keras
precision.py  dtype policies, quantization
backslashes.py  files written on Windows
other_files.py  what a file is that is no model of Keras, in words
sharded.py  .weights.json and its shards
tfjs.py     model.json of TensorFlow.js and its shards
weights.py  arrays of a file -> the weights of the Graph; weight_groups.py, object_paths.py: where the arrays are
live.py     a model of Keras in memory -> the file that it writes
reader.py   a file of any kind -> (Graph, tensors)

It also runs the installed Keras, as a reference to compare with:
rebuilt_in_keras.py     Graph and arrays -> a model of the installed Keras; rebuilt_operations.py: its operations
installed_keras.py      the outputs of that model. Only here Keras is given a file, if the user trusts it.
"""
