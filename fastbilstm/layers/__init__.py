"""The specification: every layer once, in NumPy, in any float dtype. One file a family.

Importing this package fills the registry from Keras' class names to the classes that compute them. Nothing here
knows files; the fast engine is tested against what is here, and what is here against Keras.
"""

from . import activation, core, functional, merging, multihead, normalization  # noqa: F401
from . import operations, recurrent, reshaping  # noqa: F401
from .base import REGISTRY, BaseLayer, Option, Spec, Tensor, register
from .functional import Functional, build

__all__ = ["REGISTRY", "BaseLayer", "Functional", "Option", "Spec", "Tensor", "build", "register"]
