"""The specification: every layer once, in NumPy, in any float dtype. One file a family.

Importing this package fills the registry from Keras' class names to the classes that compute them. Nothing here
knows files; the fast engine is tested against what is here, and what is here against Keras.
"""

from . import (  # noqa: F401
    activation,
    core,
    functional,
    lookup,
    merging,
    multihead,
    normalization,
    operations,
    preprocessing,
    recurrent,
    reshaping,
    text,
)
from .base import REGISTRY, BaseLayer, Option, Spec, Tensor, register
from .functional import Functional, build

__all__ = ["REGISTRY", "BaseLayer", "Functional", "Option", "Spec", "Tensor", "build", "register"]
