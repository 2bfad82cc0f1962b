"""Tables of other packages by Arrow's C stream (`__arrow_c_stream__`): of polars, DuckDB, pandas, pyarrow and others.

Nothing is imported but pyarrow, where a stream is opened.
"""

import contextlib

from ..errors import InputError
from .chunk import Chunk
from .parquet import import_pyarrow, of_rows


def is_stream(given):
    """Whether an object gives an Arrow C stream."""
    return hasattr(given, "__arrow_c_stream__")


def open_stream(given):
    """A pyarrow RecordBatchReader over an object that gives an Arrow C stream."""
    name = type(given).__name__
    pyarrow = import_pyarrow(f"a {name} (__arrow_c_stream__)")
    if not hasattr(pyarrow.RecordBatchReader, "from_stream"):
        raise InputError(f"a {name} (__arrow_c_stream__) needs pyarrow 15; this is {pyarrow.__version__}")
    with _telling(pyarrow, f"a {name} gives no table of columns"):
        return pyarrow.RecordBatchReader.from_stream(given)


def table(given):
    """All of an object that gives an Arrow C stream, as a pyarrow Table."""
    stream, pyarrow = open_stream(given), import_pyarrow("a batch")
    with _telling(pyarrow, f"the rows of a {type(given).__name__} cannot be read"):
        batches = [_plain(pyarrow, batch) for batch in stream]
        return pyarrow.Table.from_batches(batches or [_plain(pyarrow, _no_rows(pyarrow, stream.schema))])


@contextlib.contextmanager
def _telling(pyarrow, what):
    """Turn the errors of a stream, whose package chooses them, into ours."""
    try:
        yield
    except MemoryError:
        raise
    except (pyarrow.ArrowException, TypeError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{what} ({error})") from error


def _no_rows(pyarrow, schema):
    return pyarrow.record_batch([pyarrow.array([], field.type) for field in schema], schema=schema)


def _plain(pyarrow, batch):
    """The batch with categories decoded and views of text (of polars) as text, which every function of Arrow takes."""
    arrays = []
    for array in batch.columns:
        if pyarrow.types.is_dictionary(array.type):
            values = array.dictionary.cast(_without_views(pyarrow, array.dictionary.type))
            array = pyarrow.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
        kind = _without_views(pyarrow, array.type)
        arrays.append(array if kind == array.type else array.cast(kind))
    return pyarrow.record_batch(arrays, names=batch.schema.names)


def _without_views(pyarrow, kind):
    """The type that holds the same values without views; inside lists, too."""
    is_view = {"is_string_view": pyarrow.large_string, "is_binary_view": pyarrow.large_binary}
    for name, plain in is_view.items():
        if getattr(pyarrow.types, name, lambda kind: False)(kind):  # not in pyarrow 15
            return plain()
    for is_list, make in (
        (pyarrow.types.is_list, pyarrow.list_),
        (pyarrow.types.is_large_list, pyarrow.large_list),
    ):
        if is_list(kind):
            inner = _without_views(pyarrow, kind.value_type)
            return kind if inner == kind.value_type else make(inner)
    return kind


class StreamReader:
    """A reader (see `readers.open_input`) of an object that gives an Arrow C stream."""

    keeps, note, hint, added, total, format = True, None, None, (), None, "arrow"

    def __init__(self, given):
        self.name, self.pyarrow, self.stream = type(given).__name__, import_pyarrow("Arrow"), open_stream(given)
        self.names = list(self.stream.schema.names)
        if len(set(self.names)) < len(self.names):
            raise InputError(f"two columns of the {self.name} have the same name ({', '.join(self.names)})")

    def chunks(self, rows, batch):
        start, batches = 0, of_rows(self._batches(), rows)
        while True:
            with _telling(self.pyarrow, f"the {self.name} cannot be read from row {start} on"):
                found = next(batches, None)
            if found is None:
                break
            yield Chunk(start, found.num_rows, found)
            start += found.num_rows
        if not start:
            yield Chunk(0, 0, _plain(self.pyarrow, _no_rows(self.pyarrow, self.stream.schema)))

    def _batches(self):
        for batch in self.stream:
            batch.validate()
            yield _plain(self.pyarrow, batch)

    def position(self):
        return 0.0
