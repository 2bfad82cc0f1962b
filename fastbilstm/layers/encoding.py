"""Indices -> one_hot, multi_hot or counts, for Keras' preprocessing layers. Imports NumPy."""

import numpy as np

from ..errors import InputError

MODES = ("one_hot", "multi_hot", "count")


def encoded_shape(layer, shape, mode, depth):
    """The shape that `encode` gives for indices of this shape; refuses shapes that Keras does not encode row by row."""
    rank = len(shape)
    if mode == "one_hot":
        lead = shape[:-1] if rank > 1 and shape[-1] == 1 else shape
        if len(lead) > 1 and not layer.version.is_keras3:
            layer.fail(f"its input has shape {shape}; one_hot takes one value a row in tf.keras")
        return (*lead, depth)
    if rank < 2:
        layer.fail(f"its input has shape {shape}: output_mode {mode!r} would count over the rows of the batch")
    if rank > 2 and not layer.version.is_keras3:
        layer.fail(f"its input has shape {shape}; expected 2 axes")
    return (shape[0], *shape[2:], depth)


def count(rows, indices, n_rows, depth):
    """How often each index below `depth` stands in each row: (n_rows, depth), int64. `rows`, `indices` are flat."""
    if len(indices) and indices.min() < 0:
        raise InputError(f"an index to be counted is {indices.min()}; expected 0 or more")
    keep = indices < depth
    counts = np.zeros((n_rows, depth), np.int64)
    np.add.at(counts, (rows[keep], indices[keep]), 1)
    return counts


def encode(layer, indices, mode, depth):
    """Indices (B, ...) -> int64: `one_hot` along a new last axis; other modes count along axis 1 of each row.

    There is a column for each index from 0 to depth - 1; larger indices are left out.
    """
    if mode == "one_hot":
        if indices.ndim > 1 and indices.shape[-1] == 1:
            indices = indices[..., 0]
        return (indices[..., np.newaxis] == np.arange(depth)).astype(np.int64)
    try:
        if indices.ndim == 2:
            rows = np.repeat(np.arange(len(indices)), indices.shape[1])
            counts = count(rows, indices.ravel(), len(indices), depth)
        else:
            counts = np.sum(indices[..., np.newaxis] == np.arange(depth), axis=1)
    except InputError as error:
        raise InputError(f"layer {layer.name!r} ({layer.class_name}): {error}") from None
    return np.minimum(counts, 1) if mode == "multi_hot" else counts
