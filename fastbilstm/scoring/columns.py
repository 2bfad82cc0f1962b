"""Turns columns of a batch into inputs of a model, and outputs of the model into columns.

Nothing is guessed: if it is not clear which columns a model reads, an error names the columns and the option. Imports
NumPy; never imports pyarrow or pandas, even if a batch is theirs.
"""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..layers.base import dtype_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


class AnswerColumn(NamedTuple):
    """A column of answers. `shape`: that of a row, () for one number; TEXT, or TEXTS for a list of texts a row."""

    name: str
    shape: Any


TEXT, TEXTS = "text", "texts"

# ---- which columns ---------------------------------------------------------------------------------------------------


def choose(
    model: Any, names: Sequence[str], columns: Any = None, text: str | None = None
) -> list[tuple[str, list[str]]]:
    """Choose the columns that each input is read from.

    Parameters
    ----------
    model : Model
    names : list of str
        The columns of the batch.
    columns : str, list of str or dict, optional
        See `BatchPredictor`.
    text : str, optional
        The column of raw text.

    Returns
    -------
    list of (name of the input, list of columns)
        One column holds whole values (a sequence a row); several hold one number each.

    Raises
    ------
    InputError
        If a column is missing, or if it is not clear which column to read.
    """
    inputs = [given.name for given in model.inputs]
    if text is not None:
        if columns is not None:
            raise InputError(f"text={text!r} and columns={columns!r} are both given; the model reads one of them")
        if len(inputs) > 1 and getattr(getattr(model, "text", None), "characters", None) is None:
            raise InputError(f"text={text!r}: the model has {len(inputs)} inputs ({_list(inputs)}); text is for one")
        return [(inputs[0], _present(text, names))]
    if columns is None:
        return _by_name(model, inputs, names)
    if isinstance(columns, dict):
        if set(columns) != set(inputs):
            raise InputError(f"columns has the keys {_list(columns)}; the inputs are {_list(inputs)}")
        return [(name, _present(columns[name], names)) for name in inputs]
    if len(inputs) == 1:
        return [(inputs[0], _present(columns, names))]
    columns = [columns] if isinstance(columns, str) else list(columns)
    if len(columns) != len(inputs):
        raise InputError(
            f"columns names {len(columns)} columns ({_list(columns)}); the model has {len(inputs)} inputs "
            f"({_list(inputs)}): one for each, or a dict from input to columns"
        )
    return [(name, _present(column, names)) for name, column in zip(inputs, columns)]


def _by_name(model, inputs, names):
    """The columns that have the names of the inputs; or, for one input, the only column."""
    for wanted in (inputs, model.graph.input_keys or inputs):
        if set(wanted) <= set(names):
            return [(name, [column]) for name, column in zip(inputs, wanted)]
    if len(inputs) > 1:
        missing = [name for name in inputs if name not in names]
        raise InputError(f"the inputs {_list(missing)} have no column of their name; the columns are {_list(names)}")
    if getattr(model, "text", None) is not None:
        raise InputError(
            f"the model reads raw text or its encoded input: name the column with text= (--text-column) or columns= "
            f"(--columns); the columns are {_list(names)}"
        )
    if len(names) == 1:
        return [(inputs[0], list(names))]
    raise InputError(
        f"no column is named as the input {inputs[0]!r}; the columns are {_list(names)}: say with columns= (--columns) "
        "which of them the model reads, or with text= (--text-column) which holds raw text"
    )


def _present(wanted, names):
    """The columns that `wanted` names (a name, a pattern with *, or a list of them); InputError if one is missing."""
    found, known = [], set(names)
    for name in [wanted] if isinstance(wanted, str) else list(wanted):
        matching = [name] if name in known else []
        if not matching and "*" in str(name):
            matching = [column for column in names if fnmatch.fnmatchcase(str(column), name)]
        if not matching:
            raise InputError(f"there is no column {name!r}; the columns are {_list(names)}")
        found += matching
    if not found:
        raise InputError("columns is empty; name at least one or leave it out")
    return found


def _list(names):
    names = list(names)
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"


# ---- values ----------------------------------------------------------------------------------------------------------


def read(columns: list[tuple[str, Any]], given: Any) -> tuple[Any, dict[int, str]]:
    """Read the values of one input from its columns.

    Parameters
    ----------
    columns : list of (name, array or list)
    given : TensorInfo
        The input.

    Returns
    -------
    (ndarray or list of ndarray or None, dict of row to reason)
        An item for each row; rows that hold no value of the input are None and have a reason.
    """
    bad = {}
    if len(columns) > 1:
        stacked = [_scalars(name, values, bad) for name, values in columns]
        return np.stack(stacked, axis=1), bad
    name, values = columns[0]
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values, bad
    convert = _string if given.dtype == "string" else _numbers
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.dtype.kind in "USO":
        return values, bad
    rows = []
    for row, value in enumerate(values):
        try:
            rows.append(convert(value))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            bad[row] = f"column {name!r}: {error}"
            rows.append(None)
    return rows, bad


def read_text(name: str, values: Iterable[Any]) -> tuple[list[Any], dict[int, str]]:
    """The texts of a column, or the tokens of each, and the rows without a text."""
    bad, texts = {}, [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
    for row, text in enumerate(texts):
        if not isinstance(text, str) and not (isinstance(text, list) and all(isinstance(t, str) for t in text)):
            bad[row] = f"column {name!r}: holds {_short(text)}; expected text"
    return texts, bad


def empty_rows(texts: Iterable[Any]) -> set[int]:
    """The rows whose text holds nothing but blanks, or that have no tokens."""
    return {
        row
        for row, text in enumerate(texts)
        if (isinstance(text, str) and not text.strip()) or (isinstance(text, list) and not text)
    }


def _string(value):
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"holds {_short(value)}; expected text")
    return value


def _numbers(value):
    """A row of numbers from an array, a list, or text: '1 2 3' or a JSON list."""
    if isinstance(value, (str, bytes)):
        return _parse(value.decode() if isinstance(value, bytes) else value)
    if value is None:
        raise ValueError("is null; expected numbers")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"holds lists of different lengths ({_short(value)}); expected numbers") from error
    if array.dtype == object and array.ndim:
        array = np.array([np.asarray(item) for item in array.tolist()])
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {_short(value)}; expected numbers")
    return array


def _parse(text):
    text = text.strip()
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"holds {_short(text)}, which is no valid JSON ({error})") from error
        return _numbers(value)
    if "_" in text:
        raise ValueError(f"holds {_short(text)}; expected numbers")
    if "\r" in text.replace("\r\n", ""):
        raise ValueError(f"holds {_short(text)}: a carriage return ends no line here; use \\n or \\r\\n")
    parts = text.split()
    try:
        return np.array(list(map(int, parts)), np.int64)
    except OverflowError as error:
        raise ValueError(f"holds {_short(text)}, an integer beyond 64 bits") from error
    except ValueError:
        pass
    try:
        return np.array(list(map(float, parts)))
    except ValueError as error:
        raise ValueError(f"holds {_short(text)}; expected numbers separated by blanks, or a JSON list") from error


def _scalars(name, values, bad):
    """One number a row."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values
    found = np.zeros(len(values))
    for row, value in enumerate(values):
        try:
            if isinstance(value, (list, tuple, dict)) or value is None or (isinstance(value, str) and "_" in value):
                raise ValueError
            found[row] = float(value)
        except (ValueError, TypeError, OverflowError):
            bad.setdefault(row, f"column {name!r}: holds {_short(value)}; expected a number")
    return found


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def take(values: Any, rows: list[int] | None) -> Any:
    """The rows of one input with these numbers (None: all), as `predict` takes them."""
    if isinstance(values, np.ndarray):
        return values if rows is None else values[rows]
    # A list stays a list, even if all rows have one length: whether a row may be padded must not depend on the others.
    kept = values if rows is None else [values[row] for row in rows]
    if kept and isinstance(kept[0], (str, bytes)):
        strings = np.empty(len(kept), object)
        strings[:] = kept
        return strings
    return kept


def objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """An array of objects, one for each value, lists and arrays among them."""
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    return column


# ---- outputs ---------------------------------------------------------------------------------------------------------


def output_names(model: Any) -> list[str]:
    """The names of the outputs. Several outputs of one layer get numbers; a dict of outputs keeps its keys."""
    if (keys := model.graph.output_keys) is not None:
        return keys
    seen, result = {}, []
    for name in (given.name for given in model.outputs):
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name] - 1}")
    return result


def output_list(model: Any, result: Any) -> list[Any]:
    """The result of `predict` as a list with an item for each output."""
    if model.graph.output_keys is not None:
        return list(result.values())
    if (numbers := model.graph.output_nesting) is not None:
        found = {}
        _unnest(numbers, result, found)
        return [found[number] for number in sorted(found)]
    return [result] if len(model.outputs) == 1 else list(result)


def _unnest(numbers, result, found):
    if isinstance(numbers, dict):
        for key, part in numbers.items():
            _unnest(part, result[key], found)
    elif isinstance(numbers, list):
        for number, part in zip(numbers, result):
            _unnest(number, part, found)
    else:
        found[numbers] = result


def shape_of(model: Any, number: int) -> tuple[int | None, ...]:
    """The shape of a row of an output: () for one number; None for an axis of any size."""
    shape = tuple(model.outputs[number].shape[1:])
    return () if shape == (1,) else shape


def no_rows(model: Any) -> list[NDArray[Any]]:
    """Outputs of no rows."""
    shapes = [(0, *(size or 0 for size in shape_of(model, k))) for k in range(len(model.outputs))]
    return [np.empty(shape, dtype_of(output.dtype)) for shape, output in zip(shapes, model.outputs)]


def spread(values: Any, shape: Any, rows: int, good: Iterable[int], bad: set[int]) -> Any:
    """An output for all rows, made of an output for the rows `good`; rows of `bad` get NaN or None."""
    if shape == () and isinstance(values, np.ndarray):
        values = values.reshape(len(values))
    if not bad:
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        dtype = values.dtype if values.dtype.kind == "f" else np.float64
        whole = np.full((rows, *values.shape[1:]), np.nan, dtype)
    else:
        whole = np.full(rows, None, object)
    for row, value in zip(good, values):
        if row not in bad:
            whole[row] = value
    return whole
