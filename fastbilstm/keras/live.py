"""A Keras model in memory -> the bytes of its file, which the model itself writes. Never imports Keras.

Keras writes what it must to build a model again: nested and shared layers, vocabularies, names of registered classes.
The file lies in a temporary folder for this moment. Versions before tf.keras 2.12 write HDF5 under the same name.
"""

import os
import tempfile
from typing import Any

from ..checks import read_file
from ..errors import FastBiLSTMError


def content_of(model: Any) -> tuple[bytes, str]:
    """(The bytes of the file of a Keras model, what messages call the model.)"""
    label = f"<Keras model {str(getattr(model, 'name', '?'))!r}>"
    if not getattr(model, "built", True):
        raise FastBiLSTMError(
            f"{label}: is not built, so that it has no weights: give it an Input, or call it on data first"
        )
    with tempfile.TemporaryDirectory(prefix="fastbilstm-") as folder:
        path = os.path.join(folder, "model.keras")
        try:
            model.save(path)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise FastBiLSTMError(f"{label}: Keras cannot save it ({type(error).__name__}: {reason})") from error
        return read_file(path), label
