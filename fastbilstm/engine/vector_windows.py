"""Convolutions and poolings on the float32 kernels; each has the call and the result of the layer that it replaces.

Imports NumPy and the compiled module `_kernels`; knows nothing of files.
"""

import math

import numpy as np

from .. import _kernels
from ..layers import Tensor
from ..layers.convolution import Conv
from ..layers.pooling import AveragePooling, MaxPooling
from ..layers.reshaping import GlobalMaxPooling1D
from ..layers.windows import margins, reach
from .vector_elementwise import VectorGlobalPooling, moved
from .vector_layers import adopt, contiguous, packed_matrix, row_activation, worth_a_thread


def windows_of(layer, shape, taps, strides, dilation_rate):
    """The windows of `_kernels.convolve` and `pool` over x of shape (B, *spatial, C)."""
    spans = map(reach, taps, dilation_rate)
    before = [margins(*axis, layer.padding)[0] for axis in zip(shape[1:-1], spans, strides)]
    counts = [layer.length(axis, size) for axis, size in enumerate(shape[1:-1])]
    return tuple(zip(counts, taps, strides, dilation_rate, before))


def channels_last(layer, x, states):
    """The input as the kernels read it; InputError if it is too small."""
    x = contiguous(x)
    if layer.channels_first:
        view = np.moveaxis(x, 1, -1)
        x = moved(states, x, view.shape, view)
    layer.check_room(x)
    return x


def channels_back(layer, y, states):
    """What the kernels wrote as the layer gives it."""
    if not layer.channels_first:
        return y
    view = np.moveaxis(y, -1, 1)
    return moved(states, y, view.shape, view)


# Windows of a convolution whose largest number is taken in place: what they give stays in a cache.
MOST_WHOLE = 256
# Channels and filters of a 3 x 3 convolution from which on Winograd's is faster.
FEWEST_CHANNELS = 32
# G of Winograd's F(2x2, 3x3): Lavin and Gray, "Fast algorithms for convolutional neural networks", arXiv:1509.09308.
WINOGRAD = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def winograd_kernels(kernel):
    """The 16 matrices (C, F) of a kernel (3, 3, C, F) float32 for `_kernels.convolve`: GgG', computed in float64."""
    tiles = np.einsum("ia,jb,abcf->ijcf", WINOGRAD, WINOGRAD, kernel.astype(np.float64))
    return [_kernels.Matrix(contiguous(matrix)) for matrix in tiles.reshape(16, *kernel.shape[2:])]


class VectorConv(Conv):
    """Conv1D, Conv2D and Conv3D: windows times the packed kernel.

    `folds`, `activation`: as in VectorDense. `pooling`: the layer after it, see `pools_in_place`.

    With `embeddings` (V, E) it reads token ids. What a token adds to each tap is a product of its own; the taps are
    added up. `project` makes the table of what all tokens add. `weights` is their form; token ids are
    read in float32.
    """

    def __init__(self, layer, folds=(), activation=None, pooling=None, embeddings=None, weights="float32"):
        adopt(self, layer)
        self.rank = layer.rank
        kernel, bias = self.weights["kernel"], self.weights.get("bias")
        kernel = kernel.reshape(-1, self.filters)
        tokens = None
        if embeddings is None:
            packed = packed_matrix(kernel, bias, weights, folds, self.groups)
        for fold in folds:
            kernel, bias = fold(kernel, bias)
        if embeddings is not None:
            taps = kernel.reshape(*self.kernel_size, -1, self.filters).transpose(1, 0, 2)
            tokens = contiguous(embeddings), None if bias is None else contiguous(bias)
            packed = [_kernels.Matrix(taps.reshape(len(taps), -1))]
        self.form = packed[0].form
        self.winograd = None
        if tokens is None and self.form == "float32" and self.suits_winograd():
            self.winograd = winograd_kernels(kernel.reshape(3, 3, -1, self.filters))
        self.depth = packed[0].depth * packed[0].columns * self.groups // self.filters
        # What a call reads at once, so that another thread may project meanwhile.
        self.source = packed, tokens
        # channels_first: the activation comes after the channels are moved back.
        function = activation or row_activation(self)
        self.row_activation, self.late_activation = (None, function) if self.channels_first else (function, None)
        self.pooling, self.takes_whole = None, isinstance(pooling, GlobalMaxPooling1D)
        if self.takes_whole:
            self.pooling = VectorGlobalPooling(pooling)
        elif pooling is not None:
            made = VectorAveragePooling if isinstance(pooling, AveragePooling) else VectorMaxPooling
            self.pooling = made(pooling)

    def suits_winograd(self):
        """Whether fewer products outweigh the transforms."""
        ones = [1, 1]
        shape = self.rank == 2 and list(self.kernel_size) == [3, 3] and self.groups == 1
        shape = shape and list(self.strides) == ones and list(self.dilation_rate) == ones
        return shape and min(self.filters, self.weights["kernel"].shape[2]) >= FEWEST_CHANNELS

    def project(self):
        kernels, (rows, bias) = self.source
        if kernels:
            self.source = [], (kernels[0].product(rows, np.empty((len(rows), kernels[0].columns), np.float32)), bias)

    def call(self, inputs, kwargs, states):
        x, (kernels, tokens) = inputs[0].value, self.source
        if tokens is None:
            x = channels_last(self, x, states)
        else:
            x = contiguous(x, np.int32)
            self.check_room(x[..., np.newaxis])
        windows = windows_of(
            self, x.shape if tokens is None else (*x.shape, 1), self.kernel_size, self.strides, self.dilation_rate
        )
        shape = (len(x), *(window[0] for window in windows), self.filters)
        size = math.prod(shape)
        pooling, mean = None, isinstance(self.pooling, AveragePooling)
        if self.takes_whole:
            count = shape[1]
            if 0 < count <= MOST_WHOLE:
                pooling, shape = ((1, count, count, 1, 0),), (len(x), 1, self.filters)
        elif self.pooling is not None:
            self.pooling.check_room(np.broadcast_to(np.float32(0), shape))
            pooling = pooled_windows(self.pooling, shape)
            if all(before == 0 for *_, before in pooling):
                shape = (len(x), *(window[0] for window in pooling), self.filters)
            else:
                pooling = None
        y = states.array(*shape)
        if self.channels_first and self.use_bias and self.misplaces_bias and y.shape[-2] == self.filters > 1:
            return super().call(inputs, kwargs, states)
        # Less work pays than elsewhere: a thread reads little that another one has just written.
        n_threads = states.n_threads if worth_a_thread(7 * self.depth, size) else 1
        _kernels.convolve(
            x,
            kernels,
            y,
            windows,
            states.scratch,
            self.row_activation,
            n_threads,
            pooling,
            mean,
            tokens,
            self.winograd,
            self.takes_whole and pooling is not None,
        )
        y = channels_back(self, y, states)
        if self.late_activation is not None:
            self.late_activation.apply(y)
        elif self.row_activation is None:
            y = self.activation_function()(y)
        if self.pooling is not None and pooling is None:
            return self.pooling.call([Tensor(y)], kwargs, states)
        return [Tensor(y.reshape(len(y), -1) if self.takes_whole else y)]


def pools_in_place(layer):
    """Whether a layer pools windows that lie beside each other, channels last: a convolution before it takes it in.

    Or all of a sequence, to the largest number.
    """
    if isinstance(layer, GlobalMaxPooling1D):
        return layer.time_axis == 1 and not layer.keepdims
    kinds = isinstance(layer, (MaxPooling, AveragePooling))
    return kinds and not layer.channels_first and list(layer.steps) == list(layer.pool_size)


def pooled_windows(layer, shape):
    return windows_of(layer, shape, layer.pool_size, layer.steps, [1] * layer.rank)


class VectorPooling:
    """MaxPooling and AveragePooling of floats; for whole numbers the specification computes."""

    def call(self, inputs, kwargs, states):
        if inputs[0].value.dtype != np.float32:
            return super().call(inputs, kwargs, states)
        x = channels_last(self, inputs[0].value, states)
        windows = pooled_windows(self, x.shape)
        y = states.array(len(x), *(window[0] for window in windows), x.shape[-1])
        _kernels.pool(x, y, windows, isinstance(self, AveragePooling))
        return [Tensor(channels_back(self, y, states))]


class VectorMaxPooling(VectorPooling, MaxPooling):
    def __init__(self, layer):
        adopt(self, layer)
        self.rank = layer.rank


class VectorAveragePooling(VectorPooling, AveragePooling):
    def __init__(self, layer):
        adopt(self, layer)
        self.rank = layer.rank
