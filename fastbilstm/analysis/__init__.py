"""What a graph tells without its weights: what an output may depend on.

causality.py   does an output depend on later timesteps? If so, the model cannot be streamed.
padding.py     does it depend on masked padding or on other rows? If so, rows must be padded, or computed together.
listing.py     inputs, outputs, layers and arrays as Keras lists them

May import: layers, graph. Computes nothing.
"""
