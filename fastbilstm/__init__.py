"""fastbilstm: runs trained Keras LSTM and BiLSTM models without Keras or TensorFlow, with the same numbers.

    model = fastbilstm.load("model.h5")
    y = model.predict(x)

Importing this package imports NumPy and the standard library, nothing else.
"""

from ._version import __version__
from .config_info import show_config
from .errors import FastBiLSTMError, FileFormatError, InputError, MissingExtraError, UnsupportedLayerError
from .layers import register_layer
from .loading import convert, load
from .model import Model
from .streaming import Stream

__all__ = [
    "FastBiLSTMError",
    "FileFormatError",
    "InputError",
    "MissingExtraError",
    "Model",
    "Stream",
    "UnsupportedLayerError",
    "__version__",
    "convert",
    "load",
    "register_layer",
    "show_config",
]
