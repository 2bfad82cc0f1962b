"""Kinds of batches that BatchPredictor takes: dict of columns, pyarrow RecordBatch and Table, pandas DataFrame.

Each kind has the same four functions: names(batch), rows(batch), column(batch, name) -> array or list, and
extend(batch, outputs, shapes, kept, bad) -> a batch of the same kind with the columns `outputs` added, whose shapes
are those of AnswerColumn. It has the rows `kept` (None: all), and null in rows of `bad`. Imports NumPy, and pyarrow or
pandas only for a batch of theirs.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np

from ..errors import InputError
from .arrow_streams import is_stream, table
from .columns import TEXT, TEXTS, objects


def of(batch: Any) -> Any:
    """The kind of a batch."""
    if isinstance(batch, dict):
        return Columns
    pyarrow, pandas = sys.modules.get("pyarrow"), sys.modules.get("pandas")
    if pyarrow is not None and isinstance(batch, (pyarrow.RecordBatch, pyarrow.Table)):
        return Arrow
    if pandas is not None and isinstance(batch, pandas.DataFrame):
        return Pandas
    raise InputError(
        f"the batch is of type {type(batch).__name__}; expected a dict of columns, a pyarrow RecordBatch or Table, "
        "a pandas DataFrame, or what has __arrow_c_stream__"
    )


def taken(batch: Any) -> Any:
    """A batch as one of the kinds: what only gives an Arrow C stream becomes a pyarrow Table."""
    pandas = sys.modules.get("pandas")
    if isinstance(batch, dict) or (pandas is not None and isinstance(batch, pandas.DataFrame)) or not is_stream(batch):
        return batch
    pyarrow = sys.modules.get("pyarrow")
    known = pyarrow is not None and isinstance(batch, (pyarrow.RecordBatch, pyarrow.Table))
    return batch if known else table(batch)


class Columns:
    """A dict from name to array or list."""

    names = list

    @staticmethod
    def with_texts(batch, rows, texts):
        """The batch with columns that hold one text, or null, in all rows."""
        return {**batch, **{name: [text] * rows for name, text in texts.items()}}

    @staticmethod
    def rows(batch):
        counts = {name: len(column) for name, column in batch.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"the columns differ in their number of rows ({counts})")
        return next(iter(counts.values()), 0)

    @staticmethod
    def column(batch, name):
        return batch[name]

    @staticmethod
    def extend(batch, outputs, shapes, kept, bad):
        found = {**batch, **{name: _array(values) for name, values in outputs.items()}}
        if kept is None:
            return found
        return {name: _rows(column, kept) for name, column in found.items()}


class Arrow:
    """A pyarrow RecordBatch or Table."""

    @staticmethod
    def with_texts(batch, rows, texts):
        """The batch with columns that hold one text, or null, in all rows."""
        import pyarrow as pa

        columns = [*batch.columns, *(pa.array([text] * rows, pa.string()) for text in texts.values())]
        return type(batch).from_arrays(columns, names=[*batch.schema.names, *texts])

    @staticmethod
    def names(batch):
        return list(batch.schema.names)

    @staticmethod
    def rows(batch):
        return batch.num_rows

    @staticmethod
    def column(batch, name):
        column = batch.column(name)
        if not isinstance(batch, sys.modules["pyarrow"].RecordBatch):
            column = column.combine_chunks()
            if hasattr(column, "chunks"):  # a table without rows, and pyarrow before 15
                column = column.chunk(0) if column.num_chunks else []
        return from_arrow(column)

    @staticmethod
    def extend(batch, outputs, shapes, kept, bad):
        import pyarrow as pa

        names, arrays = list(batch.schema.names), list(batch.columns)
        fields = list(batch.schema)
        for number, (name, values) in enumerate(outputs.items()):
            array = to_arrow(values, shapes[number], bad)
            names.append(name)
            arrays.append(array)
            fields.append(pa.field(name, array.type))
        found = type(batch).from_arrays(arrays, schema=pa.schema(fields, batch.schema.metadata))
        return found if kept is None else found.take(pa.array(kept, pa.int64()))


class Pandas:
    """A pandas DataFrame."""

    @staticmethod
    def names(batch):
        return list(batch.columns)

    @staticmethod
    def rows(batch):
        return len(batch)

    @staticmethod
    def column(batch, name):
        column = batch[name]
        return column.to_numpy() if getattr(column.dtype, "kind", "O") in "biuf" else column.tolist()

    @staticmethod
    def extend(batch, outputs, shapes, kept, bad):
        import pandas as pd

        added = {}
        for (name, values), shape in zip(outputs.items(), shapes):
            values = _array(values)
            if values.ndim > 1 or (values.dtype == object and shape not in (TEXT, TEXTS)):
                rows = (None if row in bad else np.asarray(value).tolist() for row, value in enumerate(values))
                values = objects(list(rows))
            added[name] = pd.Series(values, index=batch.index, dtype=values.dtype)
        found = batch.assign(**added)
        return found if kept is None else found.iloc[kept]


def _array(values):
    """A column of outputs as an array; if rows differ in length, as an array of objects."""
    return values if isinstance(values, np.ndarray) else objects(values)


def _rows(column, kept):
    return column[kept] if isinstance(column, np.ndarray) else [column[row] for row in kept]


def from_arrow(column):
    """A pyarrow Array -> an array of numbers, or a list with an item for each row; lists of numbers become arrays."""
    import pyarrow as pa

    kind = getattr(column, "type", None)
    if kind is None:
        return column
    if isinstance(column, pa.ExtensionArray):
        if hasattr(column, "to_numpy_ndarray"):
            return column.to_numpy_ndarray()
        column, kind = column.storage, column.storage.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if numeric and not column.null_count:
        return column.to_numpy(zero_copy_only=False)
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if listed and not column.null_count:
        values = column.flatten()
        inner = values.type
        if (pa.types.is_integer(inner) or pa.types.is_floating(inner)) and not values.null_count:
            numbers = values.to_numpy(zero_copy_only=False)
            if pa.types.is_fixed_size_list(kind):
                return numbers.reshape(len(column), kind.list_size)
            offsets = column.offsets.to_numpy() - (column.offsets[0].as_py() if len(column) else 0)
            return [numbers[a:b] for a, b in itertools.pairwise(offsets)]
    return column.to_pylist()


def to_arrow(values, shape, bad):
    """A column of answers -> a pyarrow Array of numbers, nested lists of numbers, or text; null in rows of `bad`."""
    import pyarrow as pa

    mask = np.array([row in bad for row in range(len(values))]) if bad else None
    if shape in (TEXT, TEXTS):
        return pa.array(list(values), pa.string() if shape == TEXT else pa.list_(pa.string()))
    values = _array(values)
    if values.dtype != object and values.ndim == 1:
        return pa.array(values, mask=mask)
    sample = next((np.asarray(value).dtype for value in values if value is not None), np.dtype(np.float32))
    kind = pa.from_numpy_dtype(sample)
    for _ in shape:
        kind = pa.list_(kind)
    rows = [None if row in bad else np.asarray(value).tolist() for row, value in enumerate(values)]
    return pa.array(rows, kind)


def pandas_dtype(shape: Any, kind: np.dtype[Any]) -> Any:
    """The pandas dtype of a column of answers, declared as Arrow writes it; `kind`: the dtype of numbers in it."""
    if shape == ():
        return kind
    import pandas as pd

    try:
        import pyarrow as pa
    except ImportError:
        return np.dtype(object)
    if shape == TEXT:
        return pd.StringDtype("pyarrow")
    inner = pa.string() if shape == TEXTS else pa.from_numpy_dtype(kind)
    for _ in (None,) if shape == TEXTS else shape:
        inner = pa.list_(inner)
    return pd.ArrowDtype(inner)
