"""Which kernels replace a layer that nothing is fused with.

The modules over kernels are imported when a model has such a layer, so that a process that predicts once starts sooner.
"""

from functools import partial

from ..layers import core
from ..layers.operation import Operation
from .folding import has_stack_kernels

# Classes that vector_elementwise has kernels for.
ELEMENTWISE = {
    *("Add", "Average", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate"),
    *(
        "PReLU",
        "ThresholdedReLU",
        "BatchNormalization",
        "Rescaling",
        "Normalization",
        "Softmax",
        "Masking",
        "Embedding",
    ),
    *("Permute", "RepeatVector", "Flatten", "Reshape", "Unchanged", "ForgetMask", "Embedding"),
    *(f"{kind}{rank}D" for kind in ("Cropping", "UpSampling", "ZeroPadding") for rank in (1, 2, 3)),
    *(f"Global{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in (1, 2, 3)),
}


def family(layer):
    """The file of `layers/` that says what a layer is; "" for a layer from elsewhere."""
    package, _, name = type(layer).__module__.rpartition(".")
    return name if package == core.__package__ else ""


def kernels_of(layer, weights="float32"):
    """What makes the layer on kernels from a layer; None if nothing does. `weights`: their form, of weight_forms.py."""
    name = type(layer).__name__
    if not family(layer) or isinstance(layer, Operation):
        return None
    if name in ELEMENTWISE or isinstance(layer, core.Identity):
        from .vector_elementwise import kernels_for  # saves time at start, where there is no such layer

        return kernels_for(layer)
    if family(layer) == "normalization":
        from .vector_normalization import NORMALIZATIONS  # as above

        return NORMALIZATIONS.get(name)
    if has_stack_kernels(layer):
        from .vector_recurrent import VectorStacked  # as above

        return partial(VectorStacked, weights=weights)
    if name == "Bidirectional":
        from .vector_halves import VectorHalves, halves_have_kernels  # as above

        return partial(VectorHalves, weights=weights) if halves_have_kernels(layer) else None
    if name.startswith(("DepthwiseConv", "SeparableConv")):
        from .vector_depthwise import VectorDepthwise  # as above

        return VectorDepthwise
    if name.endswith("Transpose"):
        from .vector_depthwise import VectorTransposed  # as above

        return VectorTransposed
    if family(layer) in ("convolution", "pooling"):
        from .vector_windows import WINDOWS  # as above

        return next((make for kind, make in WINDOWS.items() if isinstance(layer, kind)), None)
    if name in ("Attention", "AdditiveAttention"):
        from .vector_multihead import VectorScores  # as above

        return VectorScores
    if name in ("MultiHeadAttention", "GroupQueryAttention"):
        from .vector_multihead import VectorMultiHead  # as above

        return VectorMultiHead
    if name == "Dot":
        from .vector_operations import VectorDot  # as above

        return VectorDot
    return None
