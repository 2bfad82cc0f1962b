"""Reads what TensorFlow writes for Keras: SavedModel folders and checkpoints, without TensorFlow.

saved_model.py   which files, and (Graph, tensors) of them
layers.py        the variables of a checkpoint -> the weights of the Graph
objects.py       the tree of objects, whose edges are attributes of Python
bundle.py        the tensors of a checkpoint: an index and shards; table.py: the index, crc32c.py: checksums
protobuf.py      Protobuf's wire format
files.py         a folder, or a zip of one

May import what `keras` may, and `keras`.
"""
