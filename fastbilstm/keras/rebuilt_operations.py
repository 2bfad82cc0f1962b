"""Operations of a Graph -> calls of the installed framework's functions: keras.ops, or TensorFlow's for tf_keras.

A function is looked for only if the operation is one of ours (`layers/operations*.py`), under the name that a table of
ours gives. Imports TensorFlow inside a function: it is there where tf_keras is.
"""

import re

from ..graph import Constant
from ..layers.base import REGISTRY
from .tf_ops import FUNCTIONS

# Where TensorFlow keeps its functions.
_MODULES = ("math", "nn", "linalg")
# Arguments that name a dtype: not all of its functions take a string there.
_DTYPES = ("dtype", "output_type", "index_type")


def call_operation(framework, is_keras3, layer, args, kwargs):
    """Call the function of an operation on the framework's tensors; LookupError if the framework has none."""
    cls, name = REGISTRY[layer.class_name], layer.class_name.removeprefix("ops.")
    if cls.variadic and args:
        args = (list(args),)
    named = {**layer.config, **dict(zip(cls.parameters, args)), **kwargs}
    named = {key: _value(value) for key, value in named.items()}
    if name == "GetItem":
        return named["x"][_key(named["key"])]
    if is_keras3:
        function = _keras_function(framework, name)
        first = "subscripts" if name == "Einsum" else cls.parameters[0]
    else:
        import tensorflow

        function, names = _tensorflow_function(tensorflow, name, set(named) - {"operands"})
        named.update({key: tensorflow.as_dtype(named[key]) for key in _DTYPES if isinstance(named.get(key), str)})
        named = {names.get(key, key): value for key, value in named.items()}
        first = next(iter(names.values()))
    operands = named.pop("operands", ())  # of Einsum
    return function(named.pop(first), *operands, **named)


def _keras_function(framework, name):
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
    function = getattr(framework.ops, snake, None)
    if function is None:
        raise LookupError(f"keras.ops has no function {snake!r}")
    return function


def _tensorflow_function(tensorflow, name, given):
    """The first function of the table that computes an operation with these arguments, and {name here: its name}."""
    for function, (operation, arguments) in FUNCTIONS.items():
        names = {}
        for there, here in arguments.items():
            names.setdefault(here, there)
        if operation != name or not given <= set(names):
            continue
        for module in (tensorflow, *(getattr(tensorflow, part) for part in _MODULES)):
            if hasattr(module, function):
                return getattr(module, function), names
    raise LookupError(f"TensorFlow has no function for {name} of {', '.join(sorted(given))}")


def _value(value):
    """Constants inside an argument as Keras takes them: arrays of their dtype, else lists of numbers."""
    if isinstance(value, Constant):
        return value.value if value.dtype is None else value.array
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return value


def _key(key):
    """What stands between square brackets, from the form that layers/operations_shape.py describes."""
    if isinstance(key, list):
        return tuple(_key(part) for part in key)
    if isinstance(key, dict):
        return slice(*key["slice"])
    return ... if isinstance(key, str) else key
