"""The specification: every layer once, in NumPy, in any float dtype. One file a family.

Importing this package fills the registry from Keras' class names to the classes that compute them. Nothing here
knows files; the fast engine is tested against what is here, and what is here against Keras.
"""

from . import (  # noqa: F401
    activation,
    cells,
    convolution,
    core,
    functional,
    lookup,
    merging,
    multihead,
    normalization,
    operations,
    operations_gather,
    operations_reduce,
    operations_shape,
    pooling,
    preprocessing,
    recurrent,
    reshaping,
    resizing,
    text,
)
from .base import REGISTRY, BaseLayer, Option, Spec, Tensor, register
from .custom import CustomLayer, find_custom, register_layer
from .functional import Functional, build

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
