"""EinsumDense on the float32 kernels, or in int8, where its equation is a Dense over the last axes of its input.

It has the call and the result of the layer that it replaces. Imports NumPy and the compiled module `_kernels`; knows
nothing of files.
"""

import math

import numpy as np

from ..layers import Tensor
from ..layers.einsum_dense import summed_axes
from .vector_elementwise import OnKernels
from .vector_layers import LEAST_OF_DENSE, contiguous, packed_matrix, row_activation


def is_dense(layer):
    """Whether an EinsumDense is a product of rows with a kernel, to which a bias for each column is added."""
    count, bias = summed_axes(layer.equation), layer.weights.get("bias")
    return count > 0 and (bias is None or bias.ndim <= layer.weights["kernel"].ndim - count)


class VectorEinsumDense(OnKernels):
    """x (B, ..., *summed) . kernel (*summed, *new) + bias, a product of matrices. `weights`: the form of the kernel."""

    def __init__(self, layer, weights="float32"):
        super().__init__(layer)
        kernel, bias = layer.weights["kernel"], layer.weights.get("bias")
        self.count = summed_axes(layer.equation)
        self.depth, self.new = math.prod(kernel.shape[: self.count]), kernel.shape[self.count :]
        bias = None if bias is None else np.broadcast_to(bias, self.new).reshape(-1)
        (self.packed,) = packed_matrix(kernel.reshape(self.depth, -1), bias, weights, least=LEAST_OF_DENSE)
        self.form = self.packed.form
        self.activation = row_activation(layer)

    def call(self, inputs, kwargs, states):
        x = contiguous(inputs[0].value)
        rows, columns = x.shape[: x.ndim - self.count], self.packed.columns
        y = states.array(*rows, *self.new)
        # Softmax is a function of the last axis alone, where a product takes in one of all columns.
        at_once = self.activation if len(self.new) == 1 else None
        self.packed.product(x.reshape(*rows, self.depth), y.reshape(*rows, columns), at_once)
        if self.activation is None:
            y = self.layer.activation_function()(y)
        elif at_once is None:
            self.activation.apply(y)
        return [Tensor(y)]
