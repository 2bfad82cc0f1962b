"""The algebra of folding, and which layers it or a kernel applies to. Knows layers of the specification, no graph.

A fold is a function (kernel, bias) -> (kernel, bias), computed in float64; the engine rounds once, at the end.
"""

from functools import partial

import numpy as np

from .. import activations
from ..activations import kernel_code
from ..layers import activation, cells, merging, recurrent

# How far a folded BatchNormalization may move the numbers that it is to take off again: |mean| / deviation.
MAX_SHIFT = 64.0


def affine(scale, offset):
    """(kernel, bias) for x * scale + offset in the place of x, in float64 until the end."""

    def fold(kernel, bias):
        kernel = np.asarray(kernel, np.float64)
        matrix = scale[:, np.newaxis] * kernel if scale.ndim == 1 else scale @ kernel
        return matrix, offset @ kernel + (0 if bias is None else bias)

    return fold


def scaled(scale, offset):
    """(kernel, bias) for y * scale + offset in the place of y."""

    def fold(kernel, bias):
        bias = np.zeros(len(scale)) if bias is None else np.asarray(bias, np.float64)
        return np.asarray(kernel, np.float64) * scale, bias * scale + offset

    return fold


def scale_and_offset(layer, rank):
    """BatchNormalization over the last axis as x * scale + offset in float64; None if it is another one, or if the
    numbers it takes off are so large that rounding them elsewhere could show.
    """
    if len(layer.axis) != 1 or layer.axis[0] % rank != rank - 1:
        return None
    weights = {role: np.asarray(array, np.float64) for role, array in layer.weights.items()}
    deviation = np.sqrt(weights["moving_variance"] + layer.epsilon)
    if not np.all(deviation > 0) or not np.all(np.abs(weights["moving_mean"]) <= MAX_SHIFT * deviation):
        return None
    scale = weights.get("gamma", 1.0) / deviation
    return scale, weights.get("beta", 0.0) - weights["moving_mean"] * scale


def is_linear(layer):
    return kernel_code(layer.activation_function()) == kernel_code(activations.linear)


def cell_of(layer):
    """What has the units, weights and activations of a recurrent layer: itself, or the cell of an RNN."""
    return layer.cell if isinstance(layer, recurrent.RNN) else layer


def has_kernels(layer):
    """Whether it runs a cell of LSTM, GRU or SimpleRNN, or two, whose activations are functions of one row."""
    parts = layer.inner if isinstance(layer, recurrent.Bidirectional) else (layer,)
    return all(has_cell_kernels(cell_of(part)) for part in parts)


def has_cell_kernels(cell):
    if not isinstance(cell, (cells.LSTMCell, cells.GRUCell, cells.SimpleRNNCell)):
        return False
    options = [option for option in ("activation", "recurrent_activation") if option in cell.config]
    return None not in (kernel_code(cell.activation_function(option)) for option in options)


def has_stack_kernels(layer):
    """Whether it is an RNN over StackedRNNCells each of which has kernels."""
    if not isinstance(layer, recurrent.RNN) or not isinstance(layer.cell, cells.StackedRNNCells):
        return False
    return all(map(has_cell_kernels, layer.cell.inner))


def has_attention_kernel(layer):
    return type(layer) is merging.Attention and layer.score_mode == "dot" and not layer.config.get("causal")


def row_function(layer):
    """The function of a layer that activates rows and has no weights."""
    if isinstance(layer, activation.ELU):
        return partial(activations.elu, alpha=layer.alpha)
    if isinstance(layer, activation.Softmax):
        return partial(activations.softmax, axis=tuple(layer.axis))
    return None
