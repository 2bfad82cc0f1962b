"""The specification: every layer in NumPy, written once, for any float dtype. Each family of layers has a file.

REGISTRY maps the class names of Keras to the classes here; the files of rarer layers are imported when they are needed.
Nothing here knows files of models. Tests compare the fast engine with this specification, and the specification with
Keras.
"""

from . import activation, cells, core, functional, merging, normalization, recurrent, reshaping  # noqa: F401
from .base import REGISTRY, BaseLayer, Option, Spec, Tensor, register
from .contributed import MODULES, names_in_file
from .contributed import find as find_contributed
from .custom import CustomLayer, find_custom, register_layer
from .functional import Functional, build, find_class

REGISTRY.rest = (
    *("convolution", "convolutional_recurrent", "einsum_dense", "locally_connected", "lookup", "multihead", "pooling"),
    *("contrast", "hashing", "images", "lambdas", "preprocessing", "spectral_normalization", "spectrogram"),
    *("quantized", "quantized_einsum", "resizing", "text", "operations", "operations_gather", "operations_reduce"),
    "operations_shape",
    *MODULES,
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
    "find_class",
    "find_contributed",
    "find_custom",
    "names_in_file",
    "register",
    "register_layer",
]
