"""The specification: every layer once, in NumPy, in any float dtype. One file a family.

The registry leads from Keras' class names to the classes that compute them; rarer families are imported when needed.
Nothing here knows files; the fast engine is tested against what is here, and what is here against Keras.
"""

from . import activation, cells, core, functional, merging, normalization, recurrent, reshaping  # noqa: F401
from .base import REGISTRY, BaseLayer, Option, Spec, Tensor, register
from .custom import CustomLayer, find_custom, register_layer
from .functional import Functional, build

REGISTRY.rest = (
    *("convolution", "lookup", "multihead", "pooling", "preprocessing", "quantized", "resizing", "text"),
    *("operations", "operations_gather", "operations_reduce", "operations_shape"),
)

__all__ = [
    "REGISTRY",
    "BaseLayer",
    "CustomLayer",
    "Functional",
    "Option",
    "Spec",
    "Tensor",
    "build",
    "find_custom",
    "register",
    "register_layer",
]
