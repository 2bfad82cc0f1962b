"""BatchNormalization and linear Dense before a product go into its kernel: a pass over its input less.

Not where products of whole numbers are faster than that: a kernel with something folded in is float32. Works on the
calls of fusion.py. Imports the specification; knows nothing of files.
"""

import numpy as np

from ..layers import normalization, recurrent
from . import joined_features
from .folding import DENSE, affine, cell_of, is_linear, scale_and_offset

# Inputs and columns from which on a product of whole numbers and a normalization of its own take less time.
LEAST_APART = 64
# How much faster a product of whole numbers is, at least, from there on.
GAIN = 2


def fold(builder, call):
    """Remove what can go into the kernel of a call; the function (kernel, bias) -> (kernel, bias) for it, or None."""
    folds, reads_codes = [], multiplies_codes(builder, call)
    while not builder.is_shared(call):
        before = builder.producer(call)
        if before is None:
            break
        if is_normalization(before):
            found = scale_and_offset(before.layer, builder.rank(before))
            if found is None or reads_codes:
                break
            size = len(before.layer.weights["moving_mean"])
            found = tuple(np.broadcast_to(part, size) for part in found)
        elif is_linear_dense(before):
            kernel, bias = before.layer.weights["kernel"], before.layer.weights.get("bias", 0.0)
            found = np.asarray(kernel, np.float64), np.broadcast_to(np.float64(bias), kernel.shape[1])
            width = columns(call.layer)
            together, apart = kernel.shape[0] * width, kernel.size + kernel.shape[1] * width
            if together * (GAIN if reads_codes else 1) > apart or builder.is_shared(before):
                break
        else:
            break
        folds.append(affine(*found))
        builder.change(call, call.reading(before.refs[0]), call.kwargs)
        builder.merge(before, call, "folded")
        builder.remove(before)
    if not folds:
        return None

    def folded(kernel, bias):
        for part in folds:
            kernel, bias = part(kernel, bias)
        return kernel, bias

    return folded


def is_normalization(call):
    return isinstance(call.layer, normalization.BatchNormalization)


def is_linear_dense(call):
    return type(call.layer) in DENSE and is_linear(call.layer) and not (call.folds or call.activation)


def columns(layer):
    """Columns of the products with a layer's input."""
    if isinstance(layer, recurrent.Bidirectional):
        return sum(columns(part) for part in layer.inner)
    cell = cell_of(layer)
    return cell.units * getattr(cell, "n_gates", 1)


def multiplies_codes(builder, call):
    """Whether a call multiplies its input as whole numbers, and so much of it that a fold would cost time.

    Not where a recurrent layer reads embeddings, through what can be folded: it looks up a table of projections.
    """
    if builder.weights != "int8" or not call.refs:
        return False
    if min(builder.spec_of(call.refs[0]).shape[-1], columns(call.layer)) < LEAST_APART:
        return False
    if type(call.layer) in DENSE:
        return True
    first, before = call, builder.producer(call)
    while before is not None and (is_normalization(before) or is_linear_dense(before)):
        first, before = before, builder.producer(before)
    return builder.embedding_read_by(first) is None and joined_features.find(builder, first) is None
