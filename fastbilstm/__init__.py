"""fastbilstm: runs trained Keras sequence models without Keras or TensorFlow, with the same numbers.

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

__all__ = [
    "BatchPredictor",
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
    "preprocessing",
    "register_layer",
    "show_config",
]


def __getattr__(name):
    """Imported when it is asked for: most processes need no streams, texts or batches of columns."""
    if name in ("dask", "preprocessing", "report"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    if name == "BatchPredictor":
        from .batches import BatchPredictor

        return BatchPredictor
    if name == "Stream":
        from .streaming import Stream

        return Stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
