"""The default of an option that a config lacks, in the version of Keras that wrote the file.

Keras stores all options; hand-made files and those of some libraries name those alone that were given. The registry has
the defaults of Keras 3; here is where others differ. Sources: the constructors of keras 1.0.0 to 2.3.1, tf_keras 2.21
and keras 3.15 (layers/recurrent.py, convolutional_recurrent.py, normalization.py, convolutional.py, pooling.py), and
those of tf.keras in TensorFlow 1.4 to 2.2. Knows no files.
"""

from ..layers.base import REQUIRED
from ..layers.windows import Spatial
from .nodes import CONV_LSTM

_BOTH_TENSORFLOWS = "TensorFlow 1.13 to 2.1 wrote this version; up to 1.15 the default is {}, from 2.0 on it is {}"


def default_of(class_name, cls, name, version):
    """The default of option `name` of a layer class, or REQUIRED; raises ValueError where the file does not tell it."""
    if version.is_keras3 and name == "pool_size" and class_name.startswith("AveragePooling"):
        return REQUIRED  # in tf_keras, and for maxima, it is 2
    if name == "recurrent_activation" and not version.is_keras3:
        return _recurrent_activation(class_name, version)
    if name == "reset_after" and not version.is_keras3:
        return _reset_after(version)
    if version.framework == "keras1":
        if name == "epsilon" and class_name == "BatchNormalization":
            return _epsilon(version.version)
        if name == "data_format" and class_name.endswith(("2D", "3D")) and issubclass(cls, Spatial):
            raise ValueError("Keras 1 took it from the settings of the machine; write it into the config")
    return cls.options[name].default


def _recurrent_activation(class_name, version):
    if class_name in CONV_LSTM:
        return "hard_sigmoid"
    if version.is_multi_backend:
        return "hard_sigmoid" if version.version < (2, 3) else "sigmoid"
    return _of_tensorflow(version.version, "hard_sigmoid", "sigmoid")


def _reset_after(version):
    return False if version.is_multi_backend else _of_tensorflow(version.version, False, True)


def _of_tensorflow(version, first, second):
    """The value that changed from TensorFlow 1 to TensorFlow 2."""
    if (2, 2) <= version < (2, 3):
        raise ValueError(_BOTH_TENSORFLOWS.format(first, second))
    return first if version < (2, 2) else second


def _epsilon(version):
    if len(version) < 3:
        raise ValueError("Keras 1 took 1e-6, 1e-5 and 1e-3 in turn, and the file does not say its release")
    return 1e-6 if version < (1, 0, 8) else 1e-5 if version < (1, 2) else 1e-3
