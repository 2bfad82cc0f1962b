"""What holds of a graph whatever its weights are: on what may an output at one timestep depend?

causality.py   on later timesteps? (streams)
padding.py     on masked padding, on the other rows of a batch? (ragged rows, threads)

May import: layers, graph. Computes nothing.
"""
