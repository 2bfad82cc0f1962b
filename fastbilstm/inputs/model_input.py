"""What a user gives to `Model.predict`, checked and turned into one array for each input of the model.

Rows of different lengths and padding are left to `ragged`, which is imported when they come. Imports NumPy.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..errors import InputError
from .arrays import check_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ..graph import Graph

# What `Model.predict` takes: one array_like; a list of them (one for each input, or rows of different lengths); a dict
# of them by input name.
ModelInput: TypeAlias = "ArrayLike | list[Any] | tuple[Any, ...] | dict[str, Any]"
# What it gives: one array, or a list or a dict of arrays, by the model that was loaded. To a type checker this is an
# array that may be something else: it refuses what no array does, and `isinstance(y, list)` tells it more.
Predictions: TypeAlias = "NDArray[Any] | Any"


class Options(NamedTuple):
    """How rows are padded and cut, as `Model.predict` takes it."""

    pad: Literal["pre", "post"] | None = None
    maxlen: int | None = None
    truncating: Literal["pre", "post"] = "pre"
    value: float = 0.0


PLAIN = Options()


def fixed_batch(plan: Any) -> int | None:
    """The rows of a batch where a stateful model fixes them, else None."""
    return plan.network.graph.inputs[0].shape[0] if plan.stateful else None


def check_batch(plan: Any, rows: int, batch_size: int) -> None:
    """Raise InputError if rows in batches of this size do not fit a stateful model."""
    fixed = fixed_batch(plan)
    if fixed is not None and rows and (batch_size != fixed or rows % fixed):
        raise InputError(
            f"layer {plan.stateful[0].name!r} is stateful with a batch size of {fixed}; got {rows} rows in batches of "
            f"{batch_size}"
        )


def check(plan: Any, x: Any, options: Options | None = None) -> tuple[list[Any], int, list[NDArray[Any] | None] | None]:
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
    options = check_options(*options) if options else PLAIN
    graph = plan.network.graph
    if plan.backend == "vector" and len(graph.inputs) == 1 and options.pad is None and options.maxlen is None:
        # What takes long below in Python is soon done for the usual input.
        if plan.runner.is_plain(x, graph.inputs[0].dtype, graph.inputs[0].shape, plan.id_limits[0]):
            return [x], len(x), None
    given = by_input(graph, x)
    differ = [may_differ(values, info) for values, info in zip(given, graph.inputs)]
    cuts = None
    if any(differ) or options.pad is not None or options.maxlen is not None:
        from . import ragged  # most inputs are arrays: saves its import at start

        arrays, cuts = ragged.check(plan, given, differ, options)
    else:
        arrays = [check_array(values, info, limit) for values, info, limit in zip(given, graph.inputs, plan.id_limits)]
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        sizes = ", ".join(f"{i.name!r}: {len(a)}" for i, a in zip(graph.inputs, arrays))
        raise InputError(f"the inputs differ in their number of rows ({sizes})")
    return arrays, counts.pop(), cuts


def check_options(pad: Any = None, maxlen: Any = None, truncating: Any = "pre", value: Any = 0.0) -> Options:
    """Options that are used as they are, or InputError."""
    plain = pad is None and maxlen is None and type(truncating) is str and truncating == "pre"
    if plain and type(value) is float and value == 0:
        return PLAIN
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


def by_input(graph: Graph, x: Any) -> list[Any]:
    """What was given for each input, in the order of the inputs."""
    inputs = graph.inputs
    names = [given.name for given in inputs]
    if (nesting := graph.input_nesting) is not None and not (isinstance(x, dict) and set(x) >= set(names)):
        arrays: list[Any] = [None] * len(inputs)
        if _place(nesting, x, arrays):
            return arrays
        if not isinstance(x, (list, tuple)) or len(x) != len(inputs) or not all(hasattr(a, "ndim") for a in x):
            shown = _shown(nesting, names)
            raise InputError(f"the inputs are {shown}, in these lists and dicts, or a dict by name; got {_shape_of(x)}")
    if isinstance(x, dict):
        keys = graph.input_keys or names
        wrong = set(x) ^ set(keys) if not set(x) >= set(names) else set()
        if wrong:
            raise InputError(f"the inputs are {', '.join(map(repr, keys))}; got {', '.join(map(repr, x))}")
        return [x[key] for key in (names if set(x) >= set(names) else keys)]
    if len(inputs) == 1:
        if isinstance(x, (list, tuple)) and len(x) == 1 and _depth(x[0]) >= len(inputs[0].shape):
            return [x[0]]
        if isinstance(x, (list, tuple)) and len(x) > 1 and all(_is_whole(part, inputs[0].shape) for part in x):
            raise InputError(
                f"the model has one input ({names[0]!r}); got {len(x)} arrays, each with all axes of an input: give "
                "one array; np.concatenate joins the rows of several"
            )
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != len(inputs):
        got = f"{len(x)} of them" if isinstance(x, (list, tuple)) else type(x).__name__
        raise InputError(f"the model has {len(inputs)} inputs ({', '.join(map(repr, names))}); got {got}")
    return list(x)


def _place(nesting: Any, x: Any, arrays: list[Any]) -> bool:
    """Put the arrays of lists and dicts inside each other where their numbers are; False if the structure differs."""
    if isinstance(nesting, dict):
        fits = isinstance(x, dict) and set(x) == set(nesting)
        return fits and all([_place(part, x[key], arrays) for key, part in nesting.items()])
    if isinstance(nesting, list):
        fits = isinstance(x, (list, tuple)) and len(x) == len(nesting)
        return fits and all([_place(part, item, arrays) for part, item in zip(nesting, x)])
    arrays[nesting] = x
    return not isinstance(x, dict)


def _shown(nesting: Any, names: list[str]) -> str:
    """The names of the inputs in their lists and dicts."""
    if isinstance(nesting, dict):
        return f"{{{', '.join(f'{key!r}: {_shown(part, names)}' for key, part in nesting.items())}}}"
    if isinstance(nesting, list):
        return f"[{', '.join(_shown(part, names) for part in nesting)}]"
    return names[nesting]


def _shape_of(x: Any) -> str:
    if isinstance(x, dict):
        return f"a dict of {', '.join(map(repr, x))}"
    return f"a {type(x).__name__} of {len(x)}" if isinstance(x, (list, tuple)) else type(x).__name__


def _is_whole(part: Any, shape: Any) -> bool:
    """Whether this is an array with all axes of an input, and not a row with a last axis of size 1 more."""
    if not hasattr(part, "ndim") or part.ndim != len(shape):
        return False
    return part.shape[-1] != 1 or shape[-1] == 1


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
