"""BatchPredictor: scores batches with a model file, which it loads once in each process.

`fastbilstm predict`, Dask, Ray Data's `map_batches` and Spark's `mapInArrow` call it. Imports NumPy.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..layers.plugins import check_plugins, load_plugins
from ..loading import load
from ..model import Model
from ..scoring.column_scorer import ColumnScorer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    from typing_extensions import Unpack

    from ..scoring.column_scorer import Columns

    class LoadOptions(TypedDict, total=False):
        """The options of `load` that a BatchPredictor takes."""

        config: dict[str, Any] | str | os.PathLike[str] | None
        outputs: str | Sequence[str] | None
        any_length: bool
        inference: bool
        dtype: Literal["float32", "float64"] | None
        backend: Literal["auto", "vector", "blas", "numpy"]
        memory_budget: int | None
        check: bool
        weights: Literal["float32", "bfloat16", "float16", "int8"] | None


_LOAD_OPTIONS = {
    *("config", "outputs", "any_length", "inference", "dtype", "backend", "memory_budget", "check", "weights"),
}


class BatchPredictor(ColumnScorer):
    """Scores batches of columns; the form in which engines for many machines take a model.

    Parameters
    ----------
    model : str, PathLike or Model
        A file as `fastbilstm.load` takes it, loaded once in each process when the first batch comes (processes share
        the pages of large converted files), or a Model, which is pickled whole.
    columns, text, output, batch_size, n_threads, on_error, pad, maxlen, truncating, raw, empty
        See `ColumnScorer`.
    plugins : list of str
        Modules, or paths of .py files, that call `register_layer`; imported in each process before the file is loaded.
    **load_options
        `config`, `outputs`, `any_length`, `inference`, `dtype`, `backend`, `memory_budget`, `check`, `weights` of
        `fastbilstm.load`.

    Attributes
    ----------
    load_options, plugins
        Those that were given.
    source, bad_rows, empty_rows, in_order, model, output_columns
        See `ColumnScorer`.
    """

    load_options: LoadOptions
    plugins: Sequence[str] = ()  # of older pickles

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        columns: Columns | None = None,
        text: str | None = None,
        output: str = "prediction",
        batch_size: int | None = None,
        n_threads: int | None = None,
        on_error: Literal["stop", "skip", "null"] = "stop",
        pad: Literal["pre", "post"] | None = None,
        maxlen: int | None = None,
        truncating: Literal["pre", "post"] = "pre",
        raw: bool = False,
        empty: Literal["score", "null", "error"] = "score",
        plugins: Sequence[str] = (),
        **load_options: Unpack[LoadOptions],
    ) -> None:
        unknown = sorted(set(load_options) - _LOAD_OPTIONS)
        if unknown:
            raise TypeError(
                f"unknown options {', '.join(unknown)}; those of load are {', '.join(sorted(_LOAD_OPTIONS))}"
            )
        if isinstance(model, Model):
            if load_options or plugins:
                given = ", ".join([*load_options, *(["plugins"] if plugins else [])])
                raise InputError(f"{given}: options of load; they need the path of a file")
        else:
            model = os.path.abspath(os.fsdecode(os.fspath(model)))
        super().__init__(
            model,
            columns=columns,
            text=text,
            output=output,
            batch_size=batch_size,
            n_threads=n_threads,
            on_error=on_error,
            pad=pad,
            maxlen=maxlen,
            truncating=truncating,
            raw=raw,
            empty=empty,
        )
        self.load_options, self.plugins = load_options, check_plugins(plugins)

    @property
    def model(self) -> Model:
        """The Model, loaded and checked against the options when it is first asked for."""
        model: Model = super().model
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "bad_rows": [], "empty_rows": []}

    def __dask_tokenize__(self) -> Any:
        """For the names of Dask's tasks: the options, and the state of the file or the Model."""
        from dask.base import normalize_token  # an optional package

        stamp = None if isinstance(self.source, Model) else _stamp(self.source)
        return normalize_token((type(self).__name__, stamp, self.__getstate__()))

    def __repr__(self) -> str:
        return f"<fastbilstm.BatchPredictor of {self.source}>"

    def _open(self) -> Model:
        load_plugins(self.plugins)
        return self.source if isinstance(self.source, Model) else _load_once(self.source, self.load_options)


# ---- models of this process ------------------------------------------------------------------------------------------

# How many models are kept; the least recently used is dropped. A model may take gigabytes.
_KEPT = 4


class _Entry:
    """The model of one state of a file. A thread loads it under the lock; others that need the file wait."""

    def __init__(self, stamp: tuple[int, int, int] | None) -> None:
        self.stamp, self.lock = stamp, threading.Lock()
        self.model: Model | None = None


_entries: dict[tuple[str, str], _Entry] = {}
_entries_lock = threading.Lock()


def _after_fork() -> None:
    """After a fork the child has no other threads: make the locks free, and load anew what was being loaded."""
    global _entries, _entries_lock
    kept, _entries, _entries_lock = _entries, {}, threading.Lock()
    for key, entry in kept.items():
        if entry.model is not None:
            _entries[key] = fresh = _Entry(entry.stamp)
            fresh.model = entry.model


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is replaced."""
    try:
        state = os.stat(path)
        return state.st_mtime_ns, state.st_size, state.st_ino
    except OSError:
        return None  # load tells what is wrong


def _load_once(path: str, options: LoadOptions) -> Model:
    """The model of a file. It is loaded once in a process, and again if the file changes or was dropped."""
    stamp, key = _stamp(path), (path, repr(sorted(options.items())))
    with _entries_lock:
        for other in [other for other, entry in _entries.items() if other[0] == path and entry.stamp != stamp]:
            del _entries[other]
        entry = _entries.pop(key, None) or _Entry(stamp)
        _entries[key] = entry
        while len(_entries) > _KEPT:
            del _entries[next(iter(_entries))]
    with entry.lock:
        if entry.model is None:
            entry.model = load(path, **options)
        return entry.model
