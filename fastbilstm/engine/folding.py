"""Folding constants into weights, and the layers for which that or a kernel is possible. Knows layers, not graphs.

A fold is a function (kernel, bias) -> (kernel, bias). It computes in float64; the engine rounds once, at the end.
"""

from functools import partial

import numpy as np

from .. import activations
from ..activations import kernel_code
from ..layers import activation, cells, core, merging, quantized, recurrent

# Layers whose weights are, once bound, those of a plain Dense, and of a plain Embedding.
DENSE = (core.Dense, quantized.Int8WeightsDense, quantized.Int4WeightsDense)
EMBEDDING = (core.Embedding, quantized.Int8Embedding, quantized.Int4Embedding)
# The largest |mean| / deviation of a BatchNormalization that is folded.
MAX_SHIFT = 64.0


def affine(scale, offset):
    """(kernel, bias) that give for x what the old ones give for x * scale + offset; in float64."""

    def fold(kernel, bias):
        kernel = np.asarray(kernel, np.float64)
        matrix = scale[:, np.newaxis] * kernel if scale.ndim == 1 else scale @ kernel
        return matrix, offset @ kernel + (0 if bias is None else bias)

    return fold


def scaled(scale, offset):
    """(kernel, bias) that give y * scale + offset where the old ones give y."""

    def fold(kernel, bias):
        bias = np.zeros(len(scale)) if bias is None else np.asarray(bias, np.float64)
        return np.asarray(kernel, np.float64) * scale, bias * scale + offset

    return fold


def scale_and_offset(layer, rank):
    """BatchNormalization over the last axis as x * scale + offset, in float64.

    None for another axis, or if the means are so large that folding could add visible rounding errors.
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
    """The cell of an RNN, else the layer itself: the object with units, weights and activations."""
    return layer.cell if isinstance(layer, recurrent.RNN) else layer


def has_kernels(layer):
    """Whether a layer runs LSTM, GRU or SimpleRNN, in one or two directions, with activations that kernels have."""
    parts = layer.inner if isinstance(layer, recurrent.Bidirectional) else (layer,)
    return all(has_cell_kernels(cell_of(part)) for part in parts)


def has_cell_kernels(cell):
    if not isinstance(cell, (cells.LSTMCell, cells.GRUCell, cells.SimpleRNNCell)):
        return False
    options = [option for option in ("activation", "recurrent_activation") if option in cell.config]
    return None not in (kernel_code(cell.activation_function(option)) for option in options)


def has_stack_kernels(layer):
    """Whether a layer is an RNN over StackedRNNCells, and each cell has kernels."""
    if not isinstance(layer, recurrent.RNN) or not isinstance(layer.cell, cells.StackedRNNCells):
        return False
    return all(map(has_cell_kernels, layer.cell.inner))


def has_attention_kernel(layer):
    return type(layer) is merging.Attention and layer.score_mode == "dot" and not layer.config.get("causal")


def row_function(layer):
    """The function of an activation layer without weights that works row by row."""
    if isinstance(layer, activation.Activation):
        return layer.activation_function()
    if isinstance(layer, activation.ReLU):
        options = {"negative_slope": layer.negative_slope or 0.0, "threshold": layer.threshold or 0.0}
        return partial(activations.relu, max_value=layer.max_value, **options)
    if isinstance(layer, activation.LeakyReLU):
        return partial(activations.leaky_relu, negative_slope=layer.negative_slope)
    if isinstance(layer, activation.ELU):
        return partial(activations.elu, alpha=layer.alpha)
    if isinstance(layer, activation.Softmax):
        return partial(activations.softmax, axis=tuple(layer.axis))
    return None
