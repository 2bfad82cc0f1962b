"""The loop over chunks: scores rows of a file or an iterator in threads, and yields results in order; `predict_iter`.

Takes a model. Knows neither how it was loaded nor which machine computes.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .. import safe_files
from ..engine import threads
from ..errors import FastBiLSTMError, InputError
from ..inputs.model_input import fixed_batch
from . import batch_types, readers
from .arrow_streams import StreamReader, is_stream
from .column_scorer import ColumnScorer
from .columns import choose
from .line_files import STANDARD
from .line_readers import TEXT
from .model_options import padding_options
from .several_files import SeveralFiles
from .sources import find

if TYPE_CHECKING:
    from collections.abc import Iterator

# The most rows in a chunk of a file.
CHUNK_ROWS = 1024
# The options of `predict_iter` that say how files are read.
_READING = ("format", "delimiter", "encoding", "source_column")
# The most threads that each work on a chunk: more would only hold more chunks in memory.
_MAX_WORKERS = 8


def share_threads(model, n_threads=None):
    """(workers, threads of each worker) for a sequence of chunks.

    Several workers, each with a chunk and one thread, are fastest. If rows or backend do not allow it, one works.
    """
    total = min(n_threads or model.n_threads, threads.cores())
    if model._plan.stateful or model.backend != "vector":
        return 1, total
    workers = min(total, _MAX_WORKERS)
    return workers, total // workers


def run(function, chunks, workers=1):
    """Call `function` for each of `chunks` in threads; yields the results in order.

    At most `workers` + 2 chunks are read ahead of the results. The error of a chunk is raised when its result is due.
    If the caller stops (also by Ctrl-C), chunks that have not begun are dropped.
    """
    pool, waiting, chunks = ThreadPoolExecutor(workers, "fastbilstm-chunks"), deque(), iter(chunks)
    try:
        while True:
            for chunk in itertools.islice(chunks, workers + 2 - len(waiting)):
                waiting.append(pool.submit(function, chunk))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Scores:
    """Scores the rows of a reader, for `fastbilstm predict` and `Model.predict_iter`.

    Parameters
    ----------
    predictor : ColumnScorer
        Its `columns` and `text` are chosen by the columns of the rows.
    reader
        See `readers.open_input`.
    """

    def __init__(self, predictor, reader):
        self.predictor, self.reader, self._identities = predictor, reader, {}

    def results(self, start=0, n_threads=None, run_elsewhere=None):
        """Scored chunks in order, from row `start` on, at which a chunk must begin.

        `run_elsewhere(predictor, chunks)` scores the chunks on other machines and yields the results in order. Raises
        InputError at the end if a file was replaced meanwhile, as the rows may come from both files.
        """
        yield from self._results(start, n_threads, run_elsewhere)
        for path, identity in self._identities.items():
            if not safe_files.is_still(path, identity):
                raise InputError(f"{path}: was changed or replaced while its rows were read; begin anew")

    def _results(self, start, n_threads, run_elsewhere):
        predictor, model = self.predictor, self.predictor.model
        # The answers of some models depend on the other rows: use the same batches as one call of predict.
        batch = predictor.batch_size or fixed_batch(model._plan) or 32
        chunks = self.reader.chunks(max(batch, CHUNK_ROWS // batch * batch), batch)
        chunks = itertools.dropwhile(lambda chunk: chunk.rows and chunk.start < start, chunks)
        first = next(chunks, None)
        if first is None:
            return iter(())
        self._settle(first)
        chunks = itertools.chain([first], chunks)
        if run_elsewhere is not None:
            predictor.n_threads = n_threads or 1
            return run_elsewhere(predictor, chunks)
        workers, each = share_threads(model, n_threads)
        if self.reader.total is not None and self.reader.total <= first.rows:
            workers, each = 1, n_threads
        predictor.n_threads = each
        return run(predictor, chunks, workers)

    def _settle(self, chunk):
        """Choose the columns once, by the first chunk: a later chunk may have other columns."""
        predictor = self.predictor
        names = batch_types.of(chunk.columns).names(chunk.columns)
        if not names and chunk.rows and len(chunk.bad) == chunk.rows:
            return  # .jsonl without a row that can be read
        if predictor.columns is None:
            names = [name for name in names if name not in self.reader.added]
        try:
            chosen = dict(choose(predictor.model, names, predictor.columns, predictor.text))
        except InputError as error:
            if self.reader.hint is None:
                raise
            raise InputError(f"{error}; {self.reader.hint}") from error
        if predictor.text is None:
            predictor.columns = chosen


class FileScores(Scores):
    """Scores the rows of files.

    Parameters
    ----------
    predictor : ColumnScorer
        See `Scores`.
    sources : list of Source
        Several are read as one file.
    format : str, optional
        One of `readers.FORMATS`; default: from content and suffix.
    delimiter, encoding : str, optional
        See `readers.open_input`.
    """

    def __init__(self, predictor, sources, format=None, delimiter=None, encoding="utf-8"):
        model = predictor.model
        paths = [source.path for source in sources]
        identities = {path: readers.identity_of(path) for path in paths if path != STANDARD}
        format = _common_format(paths, format)
        if format == "txt" and predictor.columns is None and predictor.text is None:
            if getattr(model, "text", None) is not None or any(given.dtype == "string" for given in model.inputs):
                predictor.text = TEXT

        def open_one(path):
            return readers.open_input(path, format, model, predictor.columns, delimiter, encoding)

        several = len(sources) > 1 or sources[0].columns
        if several and format not in (*readers.LINES, "parquet"):
            raise InputError(
                f"{paths[0]}: of formats with rows of columns ({', '.join(readers.LINES)}, parquet), several files are "
                "read and --source-column is known; .npy and .npz are read one at a time"
            )
        if model._plan.stateful and len(paths) > 1:
            name = model._plan.stateful[0].name
            raise InputError(f"layer {name!r} is stateful: its answers depend on all rows before; give one file")
        super().__init__(predictor, SeveralFiles(sources, open_one) if several else open_one(paths[0]))
        self._identities = identities


def _common_format(paths, given):
    """The format of all files; .csv and .tsv are two."""
    formats = {path: readers.format_of(path, given) for path in paths}
    first = formats[paths[0]]
    if other := next((path for path, format in formats.items() if format != first), None):
        raise InputError(f"{other}: is read as .{formats[other]}, {paths[0]} as .{first}; give files of one format")
    return first


def predict_iter(
    model: Any,
    source: Any,
    batch_size: int | None = None,
    n_threads: int | None = None,
    *,
    pad: Any = None,
    maxlen: int | None = None,
    truncating: Any = "pre",
    **options: Any,
) -> Iterator[Any]:
    """See `Model.predict_iter`."""
    paths = _paths(source)
    if paths or is_stream(source):
        padding = {"pad": pad, "maxlen": maxlen, "truncating": truncating}
        reading = {name: options.pop(name) for name in _READING if name in options}
        if reading and not paths:
            raise InputError(f"{', '.join(reading)}: options for files; a {type(source).__name__} is given")
        scorer = ColumnScorer(model, batch_size=batch_size, n_threads=n_threads, **padding, **options)
        scorer.in_order = True
        if not paths:
            return _file_batches(Scores(scorer, StreamReader(source)), n_threads)
        sources = find(paths, reading.pop("source_column", None))
        return _file_batches(FileScores(scorer, sources, **reading), n_threads)
    if options:
        raise InputError(f"{', '.join(options)}: options for files; chunks of arrays have no columns")
    padding = padding_options(model, pad, maxlen, truncating)
    workers, each = share_threads(model, n_threads)

    def predict(numbered):
        number, x = numbered
        try:
            return model.predict(x, batch_size=batch_size, n_threads=each, **padding)
        except FastBiLSTMError as error:
            raise type(error)(f"chunk {number}: {error}") from error

    return run(predict, enumerate(source), workers)


def _paths(source):
    """The paths of a source that names files, else []."""
    given = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(given, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in given):
        return []
    return list(map(os.fsdecode, given))


def _file_batches(scores, n_threads):
    """Yield batches with the columns that are kept and those of the answers; warn of bad rows at the end."""
    predictor, count, first = scores.predictor, 0, None
    for chunk in scores.results(n_threads=n_threads):
        given = chunk.columns if scores.reader.keeps else {}
        names = batch_types.of(given).names(given)
        if names:
            predictor.check_columns(names)
        if chunk.bad:
            row = min(chunk.bad)
            count, first = count + len(chunk.bad), first or f"{chunk.place(row)}: {chunk.bad[row]}"
        yield predictor.extend(given, chunk)
    if count:
        warnings.warn(f"{count} rows have no answer; {first}", RuntimeWarning, stacklevel=2)
