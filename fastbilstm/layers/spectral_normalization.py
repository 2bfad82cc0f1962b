"""SpectralNormalization: the layer inside it, whose kernel was divided by its largest singular value in training.

The specification, in NumPy.
"""

from .base import Tensor, register
from .functional import Wrapper, autocast, autocast_spec


@register
class SpectralNormalization(Wrapper):
    """At inference the layer inside, cast in Keras 3 to the dtype of the input: whole numbers are cut off."""

    casts_input = False
    ignored = ("power_iterations",)

    def cuts(self, dtype):
        """Whether an answer to an input of this dtype, None for floats, becomes whole numbers."""
        return self.version.is_keras3 and dtype is not None

    def infer(self, inputs, kwargs):
        (layer,) = self.inner
        outputs = layer.checked_infer([autocast_spec(spec, layer) for spec in inputs], {})
        if self.cuts(inputs[0].dtype):
            return [spec._replace(masked=False, dtype=inputs[0].dtype) for spec in outputs]
        return outputs

    def call(self, inputs, kwargs, states):
        (layer,) = self.inner
        x = inputs[0].value
        outputs = layer.call(autocast(inputs, layer, self.dtype), {}, states)
        if self.cuts(None if x.dtype.kind == "f" else x.dtype):
            return [Tensor(y.astype(x.dtype)) for y, _ in outputs]
        return outputs
