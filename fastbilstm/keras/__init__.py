"""All that knows Keras' files: the only part of the package that imports h5py.

hdf5.py     safe access to HDF5: attributes, groups, datasets, links
archive.py  .keras archives
config.py   the architecture (JSON or YAML) -> Graph
legacy.py   names and weights of Keras 1, CuDNN layers, renamed options -> today's
precision.py  dtype policies, quantization
sharded.py  .weights.json and its shards
weights.py  arrays of a file -> the weights of the Graph
reader.py   a file of any kind -> (Graph, tensors)

And the installed Keras, as a reference to compare with:
rebuilt_in_keras.py     Graph and arrays -> a model of the installed Keras; rebuilt_operations.py: its operations
installed_keras.py      its answers; the one place that hands Keras a file, where the user trusts it
"""
