"""Layers on the float32 vector kernels. Each has the call and the result of the layer of `layers/` that it replaces.

`layers/` says what an option means, and this file only how numbers are computed. Recurrent layers are in
vector_recurrent.py. Imports NumPy and the compiled module `_kernels`; knows nothing of files.
"""

import numpy as np

from .. import _kernels
from ..activations import kernel_code
from ..layers import Tensor
from ..layers.core import Dense
from ..layers.merging import Attention
from .weight_forms import int8_codes

Scratch, is_plain, recorder = _kernels.Scratch, _kernels.is_plain, _kernels.recorder
# Multiplications that take a thread about 0.05 ms: for fewer, waking another thread does not pay.
PARALLEL_WORK = 2_000_000
# Rows of fewer numbers are multiplied in float32: there int8 gains nothing.
LEAST_OF_INT8 = 16
# Depth and columns from which on int8 is faster, of Dense and of products over all positions (convolutions,
# attention). With fewer columns it takes more time to round a row than its products save.
LEAST_OF_DENSE = LEAST_OF_INT8, 48
LEAST_DEPTH, LEAST_COLUMNS = 32, 64


class Context:
    """What one prediction owns while it runs: states of stateful layers, memory, rows by mask, threads.

    It reads and writes like the dict of states in the specification.
    """

    def __init__(self, states, scratch, n_threads):
        self.states, self.scratch, self.n_threads = states, scratch, n_threads
        self._rows = {}

    def get(self, layer):
        return self.states.get(layer)

    def __setitem__(self, layer, state):
        self.states[layer] = state

    def array(self, *shape, dtype=np.float32):
        """An uninitialized array. Where no view of it is left, later ones of the prediction take its memory."""
        return self.scratch.take(shape, dtype)

    def rows(self, x, mask):
        """The Rows of a sequence and its mask, made once for each mask."""
        kept = self._rows.get(id(mask))
        if mask is None or kept is None or kept[0] is not mask:
            kept = (mask, _kernels.Rows(x.shape[0], x.shape[1], mask))
            self._rows[id(mask)] = kept
        return kept[1]


def worth_a_thread(work, steps):
    """Whether two threads are faster than one. `work`: multiplications of both in one timestep of one row."""
    return work * steps >= PARALLEL_WORK


def contiguous(x, dtype=np.float32):
    x = np.ascontiguousarray(x, dtype)
    return x if x.flags.aligned else x.copy()


def adopt(self, layer):
    """Copy the attributes of a layer of the specification, and its options as attributes: every call reads them."""
    options = {name: layer.config[name] for name in type(layer).options if name in layer.config}
    vars(self).update(vars(layer) | options)
    self.has_kernels = True


def in_numpy(function, *reads):
    """The array that a function of NumPy makes of the arrays `reads`; a tape that is recording notes it as a step."""
    found, tape = function(), recorder()
    return found if tape is None else tape.step(lambda: [function()], list(reads), [found])[0]


def lanes():
    """The lanes of a vector of the kernels in use; inside, units are padded to a multiple of them."""
    return _kernels.lanes()


def compiled_activation(code):
    return _kernels.Activation(*code)


def row_activation(layer, option="activation"):
    """The compiled Activation of a layer; None if it is not a function of one row."""
    code = kernel_code(layer.activation_function(option))
    return None if code is None else compiled_activation(code)


def contiguous_mask(mask):
    return None if mask is None else np.ascontiguousarray(mask)


def packed_matrix(kernel, bias, weights, folds=(), groups=1, least=(LEAST_DEPTH, LEAST_COLUMNS)):
    """A Matrix for each group of columns of a kernel (K, N), in int8 where `weights` say so and it is faster.

    `folds`: functions (kernel, bias) -> (kernel, bias) that scale columns; they leave the codes of int8 as they are.
    `least`: K and columns of a group from which on int8 is faster.
    """
    narrow = weights == "int8" and len(kernel) >= least[0] and kernel.shape[1] >= least[1] * groups
    codes, scale = int8_codes(contiguous(kernel), 0) if narrow else (None, None)
    for fold in folds:
        scale = fold(scale, bias)[0] if narrow else None
        kernel, bias = fold(kernel, bias)
    biases = [None] * groups if bias is None else np.split(bias, groups)
    parts = zip(np.split(codes, groups, axis=1), np.split(scale, groups, axis=1)) if narrow else [None] * groups
    return list(map(_kernels.Matrix, np.split(kernel, groups, axis=1), biases, parts))


class VectorDense(Dense):
    """Dense. `fold`: a function (kernel, bias) -> (kernel, bias) that folds the layers before it into the weights;
    these are read in float32. `folds`: functions that scale columns, for the layers after it.

    `activation`: a compiled Activation in place of a linear one. `weights`: their form, of weight_forms.py.
    """

    def __init__(self, layer, fold=None, folds=(), activation=None, weights="float32"):
        adopt(self, layer)
        kernel, bias = self.weights["kernel"], self.weights.get("bias")
        if fold is not None:
            kernel, bias = fold(kernel, bias)
        if fold is not None or type(layer) is not Dense:  # else the codes of Keras would be rounded again
            weights = "float32"
        (self.packed,) = packed_matrix(kernel, bias, weights, folds, least=LEAST_OF_DENSE)
        self.form = self.packed.form
        self.row_activation = activation or row_activation(self)

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        y = states.array(*x.shape[:-1], self.packed.columns)
        self.packed.product(contiguous(x), y, self.row_activation)
        if self.row_activation is None:
            y = self.activation_function()(y)
        return [Tensor(y, mask)]


class VectorActivation:
    """An activation layer; it works in place on a copy of its input."""

    casts_input, n_inputs, has_kernels = True, 1, True

    def __init__(self, layer, activation):
        self.layer, self.name, self.activation = layer, layer.name, activation

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        y = states.array(*x.shape)
        _kernels.concatenate([contiguous(x)], y)
        self.activation.apply(y)
        return [Tensor(y, mask)]


class VectorAttention(Attention):
    """Dot-product attention over sequences; `pooling`, the GlobalAveragePooling1D after it, is fused in."""

    def __init__(self, layer, pooling=None):
        adopt(self, layer)
        self.pooling = pooling
        self.factor = float(self.weights["scale"]) if self.use_scale else 1.0

    def call(self, inputs, kwargs, states):
        query, value, key = (contiguous(tensor.value) for tensor in (inputs[0], inputs[1], inputs[-1]))
        if value.shape[1] == 0:
            return super().call(inputs, kwargs, states)
        query_mask, value_mask = (contiguous_mask(tensor.mask) for tensor in inputs[:2])
        shape = (query.shape[0], value.shape[2]) if self.pooling else (*query.shape[:2], value.shape[2])
        y = _kernels.attention(
            query,
            value,
            key,
            query_mask,
            value_mask,
            self.factor,
            self.pooling is not None,
            states.array(*shape),
            states.scratch,
            states.n_threads if worth_a_thread(key.shape[2], query.shape[1] * value.shape[1]) else 1,
        )
        if self.pooling is not None:
            return [Tensor(y[:, np.newaxis] if self.pooling.keepdims else y)]
        lost = self.version.is_keras3 and self.version.version < (3, 4)
        return [Tensor(y, None if lost else query_mask)]
