"""What a user gives to `Model.predict`, checked and turned into one array for each input.

Rows of different lengths and padding are left to `ragged`, which is imported when they come. Imports NumPy.
"""

import numbers
from typing import Any, NamedTuple

import numpy as np

from .errors import InputError
from .layers.core import check_ids


class Options(NamedTuple):
    """How rows are padded and cut, as `Model.predict` takes it."""

    pad: Any = None
    maxlen: Any = None
    truncating: Any = "pre"
    value: Any = 0.0


_PLAIN = Options()


def check(plan, x, options=None):
    """Check an input of `Model.predict`.

    Parameters
    ----------
    plan : Plan
    x : array_like, list or dict
    options : Options, optional

    Returns
    -------
    arrays : list
        For each input an array, or a `ragged.Ragged`, which is read like one.
    rows : int
    cuts : list or None
        None if every row has the same timesteps; else for each output the lengths of its rows, or None.

    Raises
    ------
    InputError
        If `x` or the options do not fit the model.
    """
    options = check_options(*(options or _PLAIN))
    graph = plan.network.graph
    if plan.backend == "vector" and len(graph.inputs) == 1 and options.pad is None and options.maxlen is None:
        # What takes long below in Python is soon done for the usual input.
        if plan.runner.is_plain(x, graph.inputs[0].dtype, graph.inputs[0].shape, plan.id_limits[0]):
            return [x], len(x), None
    given = by_input(graph, x)
    differ = [may_differ(values, info) for values, info in zip(given, graph.inputs)]
    cuts = None
    if any(differ) or options.pad is not None or options.maxlen is not None:
        from . import ragged

        arrays, cuts = ragged.check(plan, given, differ, options)
    else:
        arrays = [check_array(values, info, limit) for values, info, limit in zip(given, graph.inputs, plan.id_limits)]
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        sizes = ", ".join(f"{i.name!r}: {len(a)}" for i, a in zip(graph.inputs, arrays))
        raise InputError(f"the inputs differ in their number of rows ({sizes})")
    return arrays, counts.pop(), cuts


def check_whole(name, value, minimum=1, optional=True):
    """A whole number as int (or None where it is optional); anything else is refused by the name of the option."""
    if type(value) is int and value >= minimum:
        return value
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least {minimum}")
    return int(value)


def check_options(pad=None, maxlen=None, truncating="pre", value=0.0):
    """Options that are used as they are, or InputError."""
    plain = pad is None and maxlen is None and type(truncating) is str and truncating == "pre"
    if plain and type(value) is float and value == 0:
        return _PLAIN
    if pad is not None and not (isinstance(pad, str) and pad in ("pre", "post")):
        raise InputError(f"pad is {pad!r}; expected None, 'pre' or 'post'")
    if not isinstance(truncating, str) or truncating not in ("pre", "post"):
        raise InputError(f"truncating is {truncating!r}; expected 'pre' or 'post'")
    if maxlen is not None:
        if isinstance(maxlen, bool) or not isinstance(maxlen, numbers.Integral) or maxlen < 1:
            raise InputError(f"maxlen is {maxlen!r}; expected None or a whole number of at least 1")
        maxlen = int(maxlen)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"value is {value!r}; expected a number")
    if value != 0 and pad is None:
        raise InputError(f"value is {value!r}, and nothing is padded; pass pad='pre' or pad='post', too")
    return Options(pad, maxlen, truncating, value)


def by_input(graph, x):
    """What was given for each input, in the order of the inputs."""
    inputs = graph.inputs
    names = [given.name for given in inputs]
    if isinstance(x, dict):
        keys = graph.input_keys or names
        wrong = set(x) ^ set(keys) if not set(x) >= set(names) else set()
        if wrong:
            raise InputError(f"the inputs are {', '.join(map(repr, keys))}; got {', '.join(map(repr, x))}")
        return [x[key] for key in (names if set(x) >= set(names) else keys)]
    if len(inputs) == 1:
        if isinstance(x, (list, tuple)) and len(x) == 1 and _depth(x[0]) >= len(inputs[0].shape):
            return [x[0]]
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != len(inputs):
        got = f"{len(x)} of them" if isinstance(x, (list, tuple)) else type(x).__name__
        raise InputError(f"the model has {len(inputs)} inputs ({', '.join(map(repr, names))}); got {got}")
    return list(x)


def _depth(x):
    """The axes of an array_like whose rows may differ in length."""
    try:
        found = np.ndim(x)
    except ValueError:
        found = 0
    if isinstance(x, (list, tuple)) or (isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1):
        filled = [part for part in x if not isinstance(part, (list, tuple)) or part]
        return max(found, 1 + max(map(_depth, filled[:2]), default=0))
    return found


def may_differ(values, given):
    """Whether `values` are rows of numbers that are not all of the same length, of at least one timestep.

    Rows of one length that is not the one the model fixes count, too. Only lengths are looked at.
    """
    if len(given.shape) < 2 or given.dtype == "string":
        return False
    if not isinstance(values, (list, tuple)):
        if isinstance(values, np.ndarray) and (values.dtype != object or values.ndim != 1):
            return False
        values = np.asarray(values) if not isinstance(values, np.ndarray) else values
        if values.dtype != object or values.ndim != 1:
            return False
    try:
        lengths = {len(row) for row in values}
    except TypeError:
        # Some are no rows; where none is one, they may stand for the numbers of an axis of size 1.
        return any(isinstance(row, (list, tuple)) or getattr(row, "ndim", 0) for row in values)
    if len(lengths) != 1 or 0 in lengths or isinstance(values, np.ndarray):
        return True
    return given.shape[1] is not None and given.shape[1] not in lengths


def check_array(values, given, limit):
    """An array of numbers (or `bytes`) that fits an input, or InputError; `limit`: how many token ids there are."""
    what = f"input {given.name!r}"
    try:
        array = np.asarray(values)
    except ValueError as error:
        if given.dtype != "string" and isinstance(values, (list, tuple)):
            from .ragged import read

            read(values, given, None)  # tells which row is none
        raise InputError(f"{what}: its rows are no array: inside them sizes differ ({error})") from error
    if given.dtype == "string":
        array = _as_strings(array, what)
    elif array.dtype.kind not in "biuf":
        raise InputError(f"{what}: has dtype {array.dtype}; expected numbers")
    array = with_last_axis(array, given.shape)
    sizes = list(zip(array.shape[1:], given.shape[1:]))
    rank = len(given.shape)
    if array.ndim != rank or any(expected is not None and size != expected for size, expected in sizes):
        expected = ("rows", *("any" if size is None else size for size in given.shape[1:]))
        raise InputError(f"{what}: has shape {array.shape}; expected ({', '.join(map(str, expected))})")
    if 0 in array.shape[1:]:
        raise InputError(f"{what}: has shape {array.shape}; an axis of size 0 (no timesteps) has no answer")
    if limit is not None and given.dtype == "string":
        raise InputError(f"{what}: holds strings, and an Embedding reads it; expected numbers")
    if limit is not None:
        check_ids(array, limit, f"{what}: the token id")
    return array


def with_last_axis(array, shape):
    """Add or remove a last axis of size 1 where that makes an array fit, as Keras does."""
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        return array[..., 0]
    if array.ndim == len(shape) - 1 and shape[-1] == 1:
        return array[..., np.newaxis]
    return array


def _as_strings(array, what):
    """Text as an array of `bytes` in UTF-8, from str or bytes."""
    if array.dtype.kind not in "USO":
        raise InputError(f"{what}: has dtype {array.dtype}; expected strings")
    found = array.ravel().tolist()
    for number, item in enumerate(found):
        if not isinstance(item, (str, bytes)):
            raise InputError(f"{what}: holds {item!r}; expected strings")
        if isinstance(item, str):
            try:
                found[number] = item.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InputError(f"{what}: the text {item[:40]!r} has no UTF-8 form ({error.reason})") from error
    strings = np.empty(len(found), object)
    strings[:] = found
    return strings.reshape(array.shape)
