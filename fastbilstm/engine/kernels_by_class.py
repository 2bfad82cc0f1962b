"""Which kernels replace a layer that nothing is fused with.

The modules over kernels are imported when a model has such a layer, so that a process that predicts once starts sooner.
"""

import importlib
from functools import partial

from ..layers import core
from ..layers.operation import Operation
from .folding import has_stack_kernels


def ranks(*kinds):
    """The names of layers that there are for one, two and three axes."""
    return tuple(f"{kind}{rank}D" for kind in kinds for rank in (1, 2, 3))


# Module -> class in it -> the classes of layers that it runs in place of.
MODULES = {
    "vector_elementwise": {
        "VectorFormula": ("PReLU", "ThresholdedReLU", "BatchNormalization", "Rescaling", "Normalization"),
        "VectorMerge": ("Add", "Average", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate"),
        "VectorMove": ("Permute", "RepeatVector", "Flatten", *ranks("Cropping", "UpSampling", "ZeroPadding")),
        "VectorGlobalPooling": ranks("GlobalAveragePooling", "GlobalMaxPooling"),
        "VectorSoftmax": ("Softmax",),
        "VectorMasking": ("Masking",),
        "VectorEmbedding": ("Embedding",),
        "VectorView": ("Reshape", "Identity", "Unchanged", "ForgetMask"),
    },
    "vector_normalization": {
        "VectorNormalization": ("LayerNormalization", "RMSNormalization"),
        "VectorUnitNormalization": ("UnitNormalization",),
        "VectorGroupNormalization": ("GroupNormalization",),
    },
    "vector_windows": {
        "VectorConv": ranks("Conv"),
        "VectorMaxPooling": ranks("MaxPooling"),
        "VectorAveragePooling": ranks("AveragePooling"),
    },
    "vector_depthwise": {
        "VectorDepthwise": ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
        "VectorTransposed": ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    },
    "vector_multihead": {
        "VectorScores": ("Attention", "AdditiveAttention"),
        "VectorMultiHead": ("MultiHeadAttention", "GroupQueryAttention"),
    },
    "vector_operations": {"VectorDot": ("Dot",)},
    "vector_einsum": {"VectorEinsumDense": ("EinsumDense",)},
}
# Classes that read weights of other forms.
NARROW = ("VectorConv", "VectorDepthwise", "VectorMultiHead", "VectorEinsumDense")
PLACES = {
    name: (module, made) for module, classes in MODULES.items() for made, names in classes.items() for name in names
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
    if has_stack_kernels(layer):
        from .vector_recurrent import VectorStacked  # saves time at start, where there is no such layer

        return partial(VectorStacked, weights=weights)
    if name == "Bidirectional":
        from .vector_halves import VectorHalves, halves_have_kernels  # as above

        return partial(VectorHalves, weights=weights) if halves_have_kernels(layer) else None
    if name == "UpSampling2D" and layer.interpolation != "nearest":
        return None
    if name == "EinsumDense":
        from .vector_einsum import is_dense  # as above

        if not is_dense(layer):
            return None
    if isinstance(layer, core.Identity) or (name == "Flatten" and layer.data_format != "channels_first"):
        name = "Reshape"  # the result is the input in another shape
    if name not in PLACES:
        return None
    module, made = PLACES[name]
    found = getattr(importlib.import_module(f".{module}", __package__), made)
    return partial(found, weights=weights) if made in NARROW else found
