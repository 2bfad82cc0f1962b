"""`fastbilstm.dask`: predictions for Dask collections (DataFrame, Bag, Array).

The chunks of a file are in dask_chunks.py. Imports NumPy and this package; Dask is imported where it is used. Each
worker loads a model once.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from ..errors import FileFormatError, InputError, MissingExtraError
from ..scoring import batch_types, columns
from ..scoring.chunk import Chunk
from ..scoring.model_options import padding_options, text_method
from .batch_predictor import BatchPredictor
from .dask_chunks import WorkerPredictor, import_dask, naming_worker, predict_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask.array import Array
    from dask.bag import Bag
    from dask.dataframe import DataFrame
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ..model import Model
    from ..scoring.column_scorer import ColumnOptions
    from .batch_predictor import LoadOptions

    class PredictOptions(ColumnOptions, LoadOptions, total=False):
        """The options of `predict`."""

        batch_size: int | None
        pad: Literal["pre", "post"] | None
        maxlen: int | None
        truncating: Literal["pre", "post"]
        plugins: Sequence[str]


__all__ = ["predict", "predict_chunks"]

# Sizes that are tried for the free axes of a model, to find the dtypes of its outputs.
_FREE_SIZES = (12, *range(1, 9))


@overload
def predict(
    model: str | os.PathLike[str] | Model | BatchPredictor,
    collection: DataFrame,
    *,
    n_threads: int = 1,
    **options: Unpack[PredictOptions],
) -> DataFrame: ...


@overload
def predict(
    model: str | os.PathLike[str] | Model | BatchPredictor,
    collection: Bag,
    *,
    n_threads: int = 1,
    **options: Unpack[PredictOptions],
) -> Bag: ...


@overload
def predict(
    model: str | os.PathLike[str] | Model | BatchPredictor,
    collection: Array | list[Array] | tuple[Array, ...] | dict[str, Array],
    *,
    n_threads: int = 1,
    **options: Unpack[PredictOptions],
) -> Array | Any: ...


def predict(
    model: str | os.PathLike[str] | Model | BatchPredictor,
    collection: Any,
    *,
    n_threads: int = 1,
    **options: Unpack[PredictOptions],
) -> Any:
    """Score a Dask collection: lazily, partition by partition, on whatever runs Dask.

    Parameters
    ----------
    model : str, PathLike, Model or BatchPredictor
        A path is loaded once in each worker process (a converted file is memory-mapped, so that the processes of a
        machine share it) and here; the file must be the same everywhere. A Model travels to each worker, whole.
    collection : dask DataFrame, Bag or Array, or a list or dict of Arrays
        A DataFrame with columns as `BatchPredictor` takes them. A Bag of dicts (a row each), of sequences, or of texts.
        An Array (rows, ...) of numbers, or (rows,) of texts; several inputs as a list, or a dict by input name. Axes
        other than the rows become one chunk; chunks may be of unknown size.
    n_threads : int
        Threads of a task. Dask runs a task on each thread of a worker, hence 1.
    **options
        `columns`, `text`, `output`, `batch_size`, `on_error`, `pad`, `maxlen`, `truncating`, `raw`, `empty`, `plugins`
        and the options of `load`; see `BatchPredictor`. The first three name columns of a DataFrame or keys of the
        dicts in a Bag.

    Returns
    -------
    dask DataFrame, Bag or Array, or a list or dict of Arrays
        A DataFrame with the columns of the answers added. A Bag of the dicts with the answers added, or else of the
        answers (a dict of them where there are several), as Python numbers and lists. Arrays as `Model.predict` gives.
        A row has the bits that `Model.predict` gives it on the worker's CPU.

    Raises
    ------
    FileFormatError
        If the file cannot be read, here or on a worker, or is another one there.
    InputError
        At the call: if a column is missing, the rows of an Array do not fit, the model is stateful, or its answers
        depend on other rows. On compute(): for a row that the model refuses; names the partition and the row in it.
    TypeError
        If the collection is of another type.
    MissingExtraError
        If Dask is not installed.

    Warns
    -----
    RuntimeWarning
        On compute(), for each partition with rows that were left out or have no answer (on_error).
    """
    dask, base = import_dask("dask"), import_dask("dask.base")
    if not isinstance(model, BatchPredictor):
        model = BatchPredictor(model, n_threads=n_threads, **options)
    elif options:
        raise InputError(f"{', '.join(options)}: given beside a BatchPredictor, which has its own options")
    predictor = WorkerPredictor(model, n_threads)
    if not predictor.model._plan.independent:
        name = predictor.model.name
        raise InputError(f"the answers of model {name!r} depend on other rows of a batch; partitions would change them")
    arrays = _is(collection, "array", "Array") or (isinstance(collection, (list, tuple, dict)) and len(collection) > 0)
    predictor.raw |= arrays  # which get the outputs as `Model.predict` gives them
    # One task holds the predictor, and each worker keeps its result. Else every task would have a copy.
    shared = dask.delayed(predictor, name=f"fastbilstm-predictor-{base.tokenize(predictor)}", traverse=False)
    if arrays:
        return _arrays(predictor, shared, collection)
    if _is(collection, "dataframe", "DataFrame"):
        return _frame(predictor, shared, collection)
    if _is(collection, "bag", "Bag"):
        return _bag(shared, collection)
    raise _wrong_type(collection)


def _is(collection: Any, module: str, name: str) -> bool:
    """Whether this is a Dask collection; it cannot be one if its module has not been imported."""
    found = sys.modules.get(f"dask.{module}")
    return found is not None and isinstance(collection, getattr(found, name))


def _wrong_type(collection: Any) -> TypeError:
    kind = type(collection)
    return TypeError(
        f"the collection is of type {kind.__module__}.{kind.__qualname__}; expected a dask DataFrame, Bag or Array, or "
        "a list or dict of Arrays"
    )


def _score(predictor: BatchPredictor, chunk: Chunk, where: str) -> Chunk:
    """On a worker: score a partition. Errors and warnings say which partition and row they are about."""
    try:
        done = predictor(chunk)
    except (FileFormatError, MissingExtraError) as error:
        raise naming_worker(error) from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if done.bad:
        text = f"{where}: {len(done.bad)} of {done.rows} rows have no answer"
        text += f"; {done.place(min(done.bad))}: {done.bad[min(done.bad)]}"
        # The clients of the scheduler show it.
        import_dask("distributed").warn(text, RuntimeWarning)
    return done


def _frame(predictor: BatchPredictor, shared: Any, collection: Any) -> Any:
    meta = collection._meta
    predictor.check_columns(list(meta.columns))
    kinds = _dtypes(predictor)
    known = dict(zip(predictor.raw_columns, kinds))  # the probability of a label has the dtype of the only output
    dtypes = {c.name: batch_types.pandas_dtype(c.shape, known.get(c.name, kinds[0])) for c in predictor.answer_columns}
    nothing = {name: np.empty(0, object) for name in dtypes}
    meta = predictor.extend(meta, Chunk(0, 0, meta, outputs=nothing)).astype(dtypes)
    return collection.map_partitions(_frame_partition, shared, dtypes, meta=meta)


def _frame_partition(
    frame: Any, predictor: BatchPredictor, dtypes: dict[str, Any], partition_info: dict[str, Any] | None = None
) -> Any:
    where = f"partition {partition_info['number'] if partition_info else 0} (its rows counted from 0)"
    done = _score(predictor, Chunk(0, len(frame), frame), where)
    return predictor.extend(frame, done).astype(dtypes)


def _dtypes(predictor: BatchPredictor) -> list[np.dtype[Any]]:
    """The dtype of each output, found by a run without rows; float if whole numbers may be null."""
    model, first = predictor.model, None
    kinds = [object if given.dtype == "string" else given.dtype for given in model.inputs]
    for free in _FREE_SIZES:
        shapes = [(0, *(free if size is None else size for size in given.shape[1:])) for given in model.inputs]
        try:
            x = [np.empty(shape, kind) for shape, kind in zip(shapes, kinds)]
            result = model.predict(x, predictor.batch_size, n_threads=predictor.n_threads)
        except InputError as error:
            first = first or error
            continue
        return [_nullable(predictor, y.dtype) for y in columns.output_list(model, result)]
    assert first is not None  # there are sizes to try
    raise first


def _nullable(predictor: BatchPredictor, dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64) if "null" in (predictor.on_error, predictor.empty) and dtype.kind in "biu" else dtype


def _bag(shared: Any, collection: Any) -> Any:
    numbers = import_dask("dask.bag").from_sequence(range(collection.npartitions), partition_size=1)
    return collection.map_partitions(_bag_partition, numbers, shared)


def _bag_partition(rows: Iterable[Any], number: Iterable[int], predictor: BatchPredictor) -> list[Any]:
    rows, where = list(rows), f"partition {next(iter(number))} (its rows counted from 0)"
    kinds = {dict if isinstance(row, dict) else str if isinstance(row, str) else list for row in rows}
    if len(kinds) > 1:
        raise InputError(
            f"{where}: holds {', '.join(sorted(kind.__name__ for kind in kinds))}; expected rows of one kind"
        )
    if not rows:
        return []
    kind, single = kinds.pop(), predictor.model.inputs[0]
    if kind is dict:
        names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
        batch = {name: [row.get(name) for row in rows] for name in names}
        try:
            predictor.check_columns(names)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    else:
        predictor = _one_column(predictor, "text" if kind is str else single.name, kind is str)
        batch = {predictor.text or predictor.columns: rows}
    done = _score(predictor, Chunk(0, len(rows), batch), where)
    outputs = done.outputs or {}
    without = done.unanswered
    answers = [[_plain(y, row in without) for row, y in enumerate(outputs[name])] for name in predictor.output_columns]
    found = [dict(zip(predictor.output_columns, values)) for values in zip(*answers)]
    if kind is dict:
        found = [{**row, **answer} for row, answer in zip(rows, found)]
    elif len(answers) == 1:
        found = answers[0]
    if predictor.on_error == "skip":
        found = [answer for row, answer in enumerate(found) if row not in done.bad]
    return found


def _plain(value: Any, bad: bool) -> Any:
    """An answer as a Python number, text or list; None for a row without an answer."""
    return None if bad else value.tolist() if hasattr(value, "tolist") else value


def _one_column(predictor: BatchPredictor, name: str, text: bool) -> BatchPredictor:
    """The predictor for values without column names: texts, or values of the only input."""
    if len(predictor.model.inputs) > 1:
        given = ", ".join(repr(given.name) for given in predictor.model.inputs)
        raise InputError(f"the model has several inputs ({given}); name the values of each: a Bag of dicts")
    if predictor.columns is not None or predictor.text is not None:
        raise InputError("columns and text name keys of dicts; the collection holds none")
    predictor = copy.copy(predictor)
    predictor.text, predictor.columns = (name, None) if text else (None, name)
    return predictor


def _arrays(predictor: BatchPredictor, shared: Any, given: Any) -> Any:
    da = import_dask("dask.array")
    model, inputs = predictor.model, [i.name for i in predictor.model.inputs]
    if predictor.on_error == "skip":
        raise InputError("on_error='skip' leaves out rows, an Array keeps them; choose 'stop' or 'null'")
    if predictor.columns is not None or predictor.text is not None:
        raise InputError("columns and text name columns of a DataFrame or keys of dicts; an Array has none")
    if isinstance(given, dict):
        if set(given) != set(inputs):
            raise InputError(f"the inputs are {_quoted(inputs)}; got {_quoted(given)}")
        given = [given[name] for name in inputs]
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    for array in given:
        if not _is(array, "array", "Array"):
            raise _wrong_type(array)
    if len(given) != len(inputs):
        raise InputError(f"the model has {len(inputs)} inputs ({_quoted(inputs)}); got {len(given)} Arrays")
    given = _aligned(given, inputs)
    text = given[0].dtype.kind in "UO" and model.inputs[0].dtype != "string"
    outputs = _array_outputs(predictor, given, text)
    rows, ends = given[0].chunks[0], np.cumsum(given[0].chunks[0])
    # For each block: its number, and its first and last row if they are known.
    places = [
        (k, -1 if np.isnan(b) else b - n, -1 if np.isnan(b) else b - 1) for k, (n, b) in enumerate(zip(rows, ends))
    ]
    operands, axis = [], itertools.count(1)
    for array in (*given, da.from_array(np.array(places, np.int64), chunks=(1, 3))):
        operands += [array, (0, *itertools.islice(axis, array.ndim - 1))]
    plain = {"align_arrays": False, "concatenate": True, "dtype": object, "meta": np.empty(0, object)}
    blocks = da.blockwise(_block, (0,), shared, None, outputs, None, text, None, *operands, **plain)
    found = []
    for number, (shape, dtype) in enumerate(outputs):
        options: dict[str, Any] = {
            "chunks": (rows, *((size,) for size in shape)),
            "new_axis": list(range(1, 1 + len(shape))) or None,
        }
        options |= {"dtype": dtype, "meta": np.empty((0,) * (1 + len(shape)), dtype)}
        found.append(blocks.map_blocks(_take_output, number, **options))
    return model._pack(found)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _aligned(given: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """The Arrays in blocks of whole rows; each block has the same rows in all Arrays."""
    arrays = []
    for array, name in zip(given, names):
        if array.ndim == 0 or np.isnan(array.shape[1:]).any():
            raise InputError(f"input {name!r}: has shape {array.shape}; expected rows first, and rows of known shape")
        arrays.append(array.rechunk(dict.fromkeys(range(1, array.ndim), -1)) if array.ndim > 1 else array)
    first, counts = arrays[0], [len(array.chunks[0]) for array in arrays]
    if not any(np.isnan(array.shape[0]) for array in arrays):
        sizes = {name: array.shape[0] for name, array in zip(names, arrays)}
        if len(set(sizes.values())) > 1:
            raise InputError(f"the inputs differ in their number of rows ({sizes})")
        return [array.rechunk({0: first.chunks[0]}) for array in arrays]
    if len(set(counts)) > 1:
        raise InputError(f"Arrays with rows of unknown number have {counts} blocks of rows; call compute_chunk_sizes()")
    return arrays


def _array_outputs(
    predictor: BatchPredictor, given: Sequence[Any], text: bool
) -> list[tuple[tuple[Any, ...], np.dtype[Any]]]:
    """(shape of a row, dtype) of each output; raises InputError if the rows do not fit the model."""
    model = predictor.model
    if text:
        _one_column(predictor, "text", True)
        shapes = [output.shape[1:] for output in model.outputs]
        if given[0].ndim != 1 or any(None in shape for shape in shapes):
            raise InputError("texts are an Array (rows,), for a model whose answers have one shape; else use a Bag")
        text_method(model)
        return list(zip(shapes, _dtypes(predictor)))
    x = [np.empty((0, *array.shape[1:]), array.dtype) for array in given]
    options = padding_options(model, predictor.pad, predictor.maxlen, predictor.truncating)
    options |= {"batch_size": predictor.batch_size, "n_threads": predictor.n_threads}
    result = columns.output_list(model, model.predict(x[0] if len(x) == 1 else x, **options))
    return [(y.shape[1:], _nullable(predictor, y.dtype)) for y in result]


def _block(
    predictor: BatchPredictor, outputs: Sequence[tuple[tuple[Any, ...], np.dtype[Any]]], text: bool, *operands: Any
) -> list[NDArray[Any]]:
    *arrays, place = operands
    number, start, last = place[0].tolist()
    where = f"block {number} ({'its rows counted from 0' if start < 0 else f'rows {start} to {last} of the Array'})"
    names = [given.name for given in predictor.model.inputs]
    if text:
        predictor, names = _one_column(predictor, "text", True), ["text"]
    rows = len(arrays[0])
    done = _score(predictor, Chunk(max(start, 0), rows, dict(zip(names, arrays))), where)
    found = []
    raw = [(done.outputs or {})[name] for name in predictor.raw_columns]
    for (shape, dtype), y in zip(outputs, raw):
        # Without rows, the size of free axes is not known.
        empty = len(done.unanswered) == rows
        found.append(np.full((rows, *shape), np.nan, dtype) if empty else np.reshape(y, (rows, *shape)).astype(dtype))
    return found


def _take_output(block: Sequence[Any], number: int) -> Any:
    return block[number]
