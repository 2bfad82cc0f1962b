"""fastbilstm: runs trained Keras sequence models without Keras or TensorFlow, with the same numbers.

    model = fastbilstm.load("model.h5")
    y = model.predict(x)

Importing this package imports NumPy and the standard library, nothing else.
"""

from typing import TYPE_CHECKING

from ._version import __version__
from .errors import (
    FastBiLSTMError,
    FileFormatError,
    InputError,
    MissingExtraError,
    StreamInUseError,
    UnsupportedLayerError,
)
from .layers import register_layer
from .loading import load
from .model import Model

__all__ = [
    "BatchPredictor",
    "FastBiLSTMError",
    "FileFormatError",
    "InputError",
    "MissingExtraError",
    "Model",
    "Stream",
    "StreamInUseError",
    "UnsupportedLayerError",
    "__version__",
    "convert",
    "load",
    "preprocessing",
    "register_layer",
    "sample_model",
    "sample_reviews",
    "show_config",
]

if TYPE_CHECKING:
    from . import aio as aio
    from . import dask as dask
    from . import preprocessing
    from . import report as report
    from .clusters.batch_predictor import BatchPredictor
    from .converting import convert
    from .engine.show_config import show_config
    from .engine.streaming import Stream
    from .sample import sample_model, sample_reviews
else:

    def __getattr__(name):
        """Imported when it is asked for: most processes need no conversion, streams, texts, batches of columns or
        configuration."""
        if name in ("aio", "dask", "preprocessing", "report"):
            import importlib

            return importlib.import_module(f".{name}", __name__)
        if name == "BatchPredictor":
            from .clusters.batch_predictor import BatchPredictor  # saves time at start

            return BatchPredictor
        if name == "convert":
            from .converting import convert  # saves time at start

            return convert
        if name in ("sample_model", "sample_reviews"):
            from . import sample  # who tries things out waits for it

            return getattr(sample, name)
        if name == "show_config":
            from .engine.show_config import show_config  # saves time at start

            return show_config
        if name == "Stream":
            from .engine.streaming import Stream  # saves time at start

            return Stream
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        """What is imported when it is asked for is listed, too: editors and notebooks complete names by this."""
        return sorted({*globals(), *__all__})
