"""LayerNormalization and RMSNormalization over the last axes, on the float32 vector kernels.

Each has the call and the result of the layer that it replaces. Imports NumPy and the compiled module `_kernels`.
"""

import numpy as np

from .. import _kernels
from ..layers import Tensor
from ..layers.normalization import LayerNormalization, RMSNormalization
from .vector_layers import adopt, contiguous


class VectorNormalization(LayerNormalization):
    """A row is all of the last axes; for other axes the specification computes."""

    def __init__(self, layer):
        adopt(self, layer)
        self.layer, self.passes_mask = layer, layer.passes_mask
        self.is_rms = isinstance(layer, RMSNormalization)
        weights = {role: contiguous(array).reshape(-1) for role, array in self.weights.items()}
        self.gamma, self.beta = weights.get("scale" if self.is_rms else "gamma"), weights.get("beta")
        self.keeps_mean = self.is_rms or self.rms_scaling

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        axes = self.layer.normalized_axes(x.ndim)
        if axes != tuple(range(x.ndim - len(axes), x.ndim)):
            return self.layer.call(inputs, kwargs, states)
        y, size = states.array(*x.shape), int(np.prod(x.shape[axes[0] :]))
        rows = (-1, size) if size else (0, 1)
        _kernels.normalize(
            contiguous(x).reshape(rows),
            self.gamma,
            self.beta,
            self.epsilon,
            y.reshape(rows),
            self.keeps_mean,
            self.is_rms,
        )
        return [Tensor(y, mask if self.passes_mask else None)]
