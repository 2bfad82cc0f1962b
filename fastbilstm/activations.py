"""Keras' activation functions, in NumPy: one table from name to function, resolved by the version that wrote the file.

Every function keeps the dtype of its argument, accepts any shape and passes NaN and inf on as Keras does. Imports
NumPy and the standard library only.
"""

import functools
import inspect
import math
from collections.abc import Callable
from functools import partial

import numpy as np

from .record import Record

# Constants of selu: Klambauer et al., "Self-Normalizing Neural Networks", 2017.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _as_float32(value):
    """A constant that TensorFlow rounds to float32 whatever the dtype of the tensor (an op attribute or a cast)."""
    return float(np.float32(value))


def linear(x):
    return x


def tanh(x):
    return np.tanh(x)


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow: exp is only taken of negative numbers."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def relu(x, max_value=None, negative_slope=0.0, threshold=0.0):
    """max(x, 0), and beyond: 0 below `threshold`, a slope there instead, a cap at `max_value`."""
    if negative_slope and max_value is None and threshold == 0:
        return leaky_relu(x, negative_slope)
    y = np.where(x > threshold, x, 0) if threshold else np.maximum(x, 0)
    y = np.where(np.isnan(x), x, y)
    if max_value is not None:
        y = np.clip(y, 0, max_value)
    if negative_slope:
        y = y - negative_slope * np.maximum(threshold - x, 0)
    return y


def leaky_relu(x, negative_slope=0.2):
    """x above 0, `negative_slope` * x below; TensorFlow holds the slope as float32."""
    return np.where(x > 0, x, _as_float32(negative_slope) * x)


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x):
    return SELU_SCALE * elu(x, SELU_ALPHA)


def celu(x, alpha=1.0):
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softsign(x):
    return x / (1 + np.abs(x))


def exponential(x):
    return np.exp(x)


def clip_hard_sigmoid(x):
    """Keras 1, Keras 2 and tf.keras: 0.2 x + 0.5, clipped to 0..1."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def relu6_hard_sigmoid(x):
    """Keras 3: relu6(x + 3) / 6."""
    return np.clip(x + 3, 0, 6) / 6


def silu(x):
    return x * sigmoid(x)


def hard_silu(x):
    return x * relu6_hard_sigmoid(x)


def gelu(x, approximate=False):
    """x * Phi(x); TensorFlow rounds sqrt(1/2) and 0.044715 to float32 before use."""
    if approximate:
        cubic = x + _as_float32(0.044715) * x * x * x
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * cubic))
    return 0.5 * x * _erfc(-x * _as_float32(math.sqrt(0.5))).astype(x.dtype)


def relu6(x):
    return np.clip(x, 0, 6)


def mish(x):
    return x * np.tanh(softplus(x))


def softmax(x, axis=-1):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def log_sigmoid(x):
    return -softplus(-x)


def hard_tanh(x):
    return np.clip(x, -1, 1)


def tanh_shrink(x):
    return x - np.tanh(x)


def hard_shrink(x, threshold=0.5):
    return np.where(np.abs(x) > threshold, x, 0)


def soft_shrink(x, threshold=0.5):
    return np.where(x > threshold, x - threshold, np.where(x < -threshold, x + threshold, 0))


def sparse_plus(x):
    return np.where(x <= -1, 0, np.where(x < 1, 0.25 * np.square(x + 1), x))


def sparse_sigmoid(x):
    return np.where(x <= -1, 0, np.where(x >= 1, 1, 0.5 * (x + 1)))


def squareplus(x, b=4):
    return (x + np.sqrt(np.square(x) + b)) / 2


def glu(x, axis=-1):
    first, second = np.split(x, 2, axis=axis)
    return first * sigmoid(second)


def sparsemax(x, axis=-1):
    """max(x - tau, 0); for tau Keras adds up the cumulated sums, Martins and Astudillo (2016) take the last of them."""
    x = np.moveaxis(x, axis, -1)
    ordered = -np.sort(-x, axis=-1)
    cumulated = np.cumsum(ordered, axis=-1)
    rank = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = ordered - (cumulated - 1) / rank > 0
    count = np.sum(support, axis=-1, keepdims=True).astype(x.dtype)
    tau = (np.sum(np.where(support, cumulated, 0), axis=-1, keepdims=True) - 1) / count
    return np.moveaxis(np.maximum(x - tau, 0), -1, axis)


_EVERYWHERE = {
    f.__name__: f for f in (linear, tanh, sigmoid, relu, softmax, elu, selu, softplus, softsign, exponential)
}
# tf.keras (tf_keras 2.21, activations.py).
_TF_KERAS = {
    **_EVERYWHERE,
    "hard_sigmoid": clip_hard_sigmoid,
    "swish": silu,
    "silu": silu,
    "gelu": gelu,
    "mish": mish,
    "leaky_relu": leaky_relu,
    "relu6": relu6,
    "log_softmax": log_softmax,
}
_KERAS3 = {
    **_EVERYWHERE,
    **{
        f.__name__: f
        for f in (leaky_relu, relu6, celu, squareplus, soft_shrink, sparse_plus, silu, gelu, glu, tanh_shrink)
    },
    **{f.__name__: f for f in (sparse_sigmoid, hard_silu, hard_tanh, hard_shrink, mish, log_softmax, log_sigmoid)},
    "hard_sigmoid": relu6_hard_sigmoid,
    "swish": silu,
    "hard_swish": hard_silu,
    "sparsemax": sparsemax,
}
_TABLES = {
    "keras1": {**_EVERYWHERE, "hard_sigmoid": clip_hard_sigmoid},
    "keras2": {**_EVERYWHERE, "hard_sigmoid": clip_hard_sigmoid},
    "tf_keras": _TF_KERAS,
    "keras3": _KERAS3,
}
# Activation layers that a config may name where a function is expected, with the option names of each version.
_LAYERS = {
    "ReLU": (relu, {"max_value": "max_value", "negative_slope": "negative_slope", "threshold": "threshold"}),
    "LeakyReLU": (leaky_relu, {"alpha": "negative_slope", "negative_slope": "negative_slope"}),
    "ELU": (elu, {"alpha": "alpha"}),
    "Softmax": (softmax, {"axis": "axis"}),
}


class Activation(Record):
    """A resolved activation: Keras' name, and the NumPy function of the version that wrote the file."""

    name: str
    function: Callable

    def __call__(self, x):
        return self.function(x)


def normalize(value):
    """Reduce a config's activation to a name, or to [class name, options] for an activation layer.

    Returns None for something that is neither.
    """
    if value is None:
        return "linear"
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        class_name, config = value.get("class_name"), value.get("config")
        if class_name == "function" and isinstance(config, str):
            return config
        if isinstance(class_name, str) and isinstance(config, dict):
            kept = {k: v for k, v in config.items() if k not in ("name", "trainable", "dtype", "batch_input_shape")}
            return [class_name, kept]
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str):
        return [value[0], dict(value[1])]
    return None


def resolve(value, framework):
    """Return the Activation for a normalized config value, or None if that version has no such function.

    Parameters
    ----------
    value : str or [str, dict]
        What `normalize` returned.
    framework : {"keras1", "keras2", "tf_keras", "keras3"}
        Decides what a name means: hard_sigmoid differs between Keras 3 and the others.
    """
    if isinstance(value, str):
        function = _TABLES[framework].get(value)
        return None if function is None else Activation(value, function)
    class_name, config = value
    function, names = _LAYERS.get(class_name, (None, {}))
    if function is None or not set(config) <= set(names):
        return None
    options = {names[key]: option for key, option in config.items() if option is not None}
    if class_name == "LeakyReLU":
        options.setdefault("negative_slope", 0.3)
    return Activation(class_name, partial(function, **options))


# ---- compiled kernels ------------------------------------------------------------------------------------------------

# Function -> code of `ext/fbl_activations.h`. Options become parameters in the order of the function's arguments; relu
# and gelu with options are codes of their own, and glu, which is not one row to one row, has none.
KERNEL_CODES = {
    linear: 0,
    tanh: 1,
    sigmoid: 2,
    relu: 3,
    clip_hard_sigmoid: 4,
    relu6_hard_sigmoid: 5,
    elu: 6,
    softsign: 7,
    exponential: 8,
    softplus: 9,
    leaky_relu: 11,
    selu: 12,
    celu: 13,
    gelu: 14,
    silu: 16,
    hard_silu: 17,
    relu6: 18,
    mish: 19,
    softmax: 20,
    log_softmax: 21,
    log_sigmoid: 22,
    hard_tanh: 23,
    tanh_shrink: 24,
    hard_shrink: 25,
    soft_shrink: 26,
    sparse_plus: 27,
    sparse_sigmoid: 28,
    squareplus: 29,
    sparsemax: 30,
}
RELU_OPTIONS, GELU_TANH = 10, 15


@functools.cache
def _defaults(function):
    """Options of an activation and their defaults, as pairs in the order of its arguments."""
    arguments = list(inspect.signature(function).parameters.values())[1:]
    return tuple((argument.name, argument.default) for argument in arguments)


def kernel_code(activation):
    """How the compiled kernels call an activation: (code, (p0, p1, p2)), parameters that it has not being 0.

    Parameters
    ----------
    activation : Activation or callable
        A function of this module, `functools.partial` of one with options, or np.tanh.

    Returns
    -------
    (int, (float, float, float)) or None
        None for what is not a function of one row over the last axis: glu, softmax over another axis, a function from
        elsewhere.
    """
    function = getattr(activation, "function", activation)
    given = {}
    if isinstance(function, partial):
        if function.args:
            return None
        function, given = function.func, function.keywords
    function = tanh if function is np.tanh else function
    code = KERNEL_CODES.get(function)
    if code is None:
        return None
    options = dict(_defaults(function)) | given
    if options.pop("axis", -1) not in (-1, (-1,), [-1]):
        return None
    if options.pop("approximate", False):
        code = GELU_TANH
    if function is relu:
        cap, slope, threshold = options["max_value"], options["negative_slope"], options["threshold"]
        if cap is not None and math.isnan(cap):  # the kernels' word for no cap
            return None
        if slope and cap is None and threshold == 0:  # as `relu` itself does
            return kernel_code(partial(leaky_relu, negative_slope=slope))
        if cap is None and not slope and threshold == 0:
            options = {}
        else:
            code, options["max_value"] = RELU_OPTIONS, math.nan if cap is None else cap
    if function is leaky_relu:
        options["negative_slope"] = _as_float32(options["negative_slope"])
    values = [float(value) for value in options.values()]
    return code, tuple(values + [0.0] * (3 - len(values)))
