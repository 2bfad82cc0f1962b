"""Keras 2.12 under a newer TensorFlow: enough of it runs to write its own .keras files and answer for them.

What TensorFlow has dropped since is stubbed; LSTM must avoid the fused path (recurrent_dropout does, and is the
identity at inference).
"""

import importlib
from types import SimpleNamespace


def load(version):
    """The modules of Keras 2.12 as one namespace like `keras`."""
    import tensorflow as tf
    import tensorflow.compat.v2 as tf2

    for module in (tf, tf2):
        module.__internal__.register_load_context_function = lambda function: None
    parts = ("layers", "models", "backend", "mixed_precision", "regularizers", "constraints", "initializers", "utils")
    k = SimpleNamespace(**{part: importlib.import_module(f"keras.{part}") for part in parts})
    k.mixed_precision.set_global_policy = k.mixed_precision.policy.set_global_policy
    k.utils.set_random_seed = k.utils.tf_utils.set_random_seed
    k.Input, k.Model, k.Sequential = k.layers.Input, k.models.Model, k.models.Sequential
    k.__name__, k.__version__ = "keras", version
    # This module's `keras` is not yet complete where it is imported; only the version is asked of it.
    importlib.import_module("keras.saving.saving_lib").keras = SimpleNamespace(__version__=version)
    return k
