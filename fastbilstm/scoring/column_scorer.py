"""ColumnScorer: a batch of columns in, the same batch with the answers out; for files and clusters.

Takes a Model and knows nothing of model files. Imports NumPy, and pyarrow or pandas only for a batch of theirs.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from ..checks import check_whole
from ..errors import InputError
from ..inputs.model_input import check_options
from ..preprocessing.labels import is_tagger, label_answers
from ..preprocessing.tokens import first_timestep
from . import batch_types
from . import columns as tables
from .chunk import Chunk
from .model_options import padding_options, text_method

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, TypeAlias, TypedDict, TypeVar

    from numpy.typing import NDArray

    from ..inputs.model_input import Predictions

    Batch = TypeVar("Batch")
    Columns: TypeAlias = str | Sequence[str] | dict[str, Any]

    class ColumnOptions(TypedDict, total=False):
        """The options of a ColumnScorer for columns."""

        columns: Columns | None
        text: str | None
        output: str
        on_error: Literal["stop", "skip", "null"]
        raw: bool
        empty: Literal["score", "null", "error"]

    class FileOptions(ColumnOptions, total=False):
        """The options of `Model.predict_iter` for files."""

        format: str | None
        delimiter: str | None
        encoding: str
        source_column: str | None


ON_ERROR = ("stop", "skip", "null")
EMPTY = ("score", "null", "error")


class ColumnScorer:
    """Scores batches of columns by a model.

    Parameters
    ----------
    model : Model
    columns : str, list of str or dict, optional
        The columns that the model reads. One name: a column that holds a sequence a row (an array, a list, or text:
        "1 2 3" or a JSON list). Several names for a model with one input: columns of one number each, in this order; a
        name may be a pattern, "step_*". For several inputs a list in their order, or a dict by input name. Default:
        the columns named as the inputs, or the only column.
    text : str, optional
        The column of raw text, for a model with a tokenizer in its file or with a TextVectorization.
    output : str
        The column of the answers: one number a row, or a vector. Several outputs get "<output>_<name of the output>".
        A model with labels gives the label in it, and its probability in "<output>_probability"; a model with a label
        for each timestep gives lists of them.
    raw : bool
        Whether a model with labels gives its output, too, in "<output>_raw".
    batch_size, n_threads, pad, maxlen, truncating
        See `Model.predict`. `pad` needs `maxlen` where the model has no length of its own: a padded length that
        depended on the batch would change the answers.
    on_error : {"stop", "skip", "null"}
        A row that the model refuses: raise InputError, leave it out, or answer NaN (null). `bad_rows` tells which.
    empty : {"score", "null", "error"}
        An empty text, or blanks alone, in the column `text`: score it as any other, answer NaN (null), or treat it as a
        row that the model refuses. `empty_rows` tells which.

    Attributes
    ----------
    source : Model or str
        What was given as `model`; a file by its absolute path.
    in_order : bool
        Whether batches come in order to one process: what a stateful model needs. Files do.
    bad_rows : list of (int, str)
        Rows of the last batch of this object that the model refused, and the reasons.
    empty_rows : list of int
        Rows of the last batch of this object whose text is empty.
    """

    source: Any
    columns: Columns | None
    text: str | None
    output: str
    batch_size: int | None
    n_threads: int | None
    on_error: Literal["stop", "skip", "null"]
    pad: Literal["pre", "post"] | None
    maxlen: int | None
    truncating: Literal["pre", "post"]
    raw: bool = False  # of older pickles, as the next one
    empty: Literal["score", "null", "error"] = "score"
    in_order: bool
    bad_rows: list[tuple[int, str]]
    empty_rows: list[int]

    def __init__(
        self,
        model: Any,
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
    ) -> None:
        for name, value, known in (("on_error", on_error, ON_ERROR), ("empty", empty, EMPTY)):
            if value not in known:
                raise InputError(f"{name} is {value!r}; expected one of {', '.join(map(repr, known))}")
        check_whole("batch_size", batch_size)
        check_whole("n_threads", n_threads)
        check_options(pad, maxlen, truncating)
        if not isinstance(output, str) or not output:
            raise InputError(f"output is {output!r}; expected the name of a column")
        if text is not None and (pad is not None or maxlen is not None):
            raise InputError(
                "pad and maxlen are for encoded sequences; for text they are in the file (convert --maxlen)"
            )
        self.source, self.columns, self.text, self.output = model, columns, text, output
        self.batch_size, self.n_threads, self.on_error = batch_size, n_threads, on_error
        self.pad, self.maxlen, self.truncating = pad, maxlen, truncating
        self.raw, self.empty, self.in_order = bool(raw), empty, False
        self.bad_rows, self.empty_rows = [], []
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The Model, checked against the options when it is first asked for."""
        if self._model is None:
            model = self._open()
            self._check_model(model)
            self._model = model
        return self._model

    def _open(self) -> Any:
        return self.source

    def _check_model(self, model: Any) -> None:
        plan = model._plan
        if plan.stateful and not self.in_order:
            name = plan.stateful[0].name
            raise InputError(f"layer {name!r} is stateful: its answers depend on the order of batches; use predict")
        if self.on_error != "stop" and not plan.independent:
            raise InputError(
                f"on_error={self.on_error!r}: the answers of model {model.name!r} depend on other rows of a batch, so "
                "a row that is left out would change those of others"
            )
        if self.empty == "null" and not plan.independent:
            raise InputError(f"empty='null': the answers of model {model.name!r} depend on other rows of a batch")
        padding_options(model, self.pad, self.maxlen, self.truncating)

    @property
    def output_columns(self) -> list[str]:
        """Names of the columns that a batch gets."""
        return [column.name for column in self.answer_columns]

    @property
    def answer_columns(self) -> list[tables.AnswerColumn]:
        """The columns that a batch gets; what the model gives itself stands last."""
        shapes = [tables.shape_of(self.model, k) for k in range(len(self.model.outputs))]
        raw = list(map(tables.AnswerColumn, self.raw_columns, shapes))
        if not self._labels:
            return raw
        tagger = is_tagger(self.model.outputs[0])
        found = [tables.AnswerColumn(self.output, tables.TEXTS if tagger else tables.TEXT)]
        found += [tables.AnswerColumn(f"{self.output}_probability", (None,) if tagger else ())]
        return found + (raw if self.raw else [])

    @property
    def raw_columns(self) -> list[str]:
        """Names of the columns that hold what the model gives itself."""
        names = tables.output_names(self.model)
        if self._labels:
            return [f"{self.output}_raw"]
        return [self.output] if len(names) == 1 else [f"{self.output}_{name}" for name in names]

    @property
    def _labels(self) -> list[str]:
        return (getattr(self.model, "labels", None) or []) if len(self.model.outputs) == 1 else []

    @overload
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]: ...

    @overload
    def __call__(self, batch: Batch) -> Batch: ...

    def __call__(self, batch: Any) -> Any:
        """Score a batch.

        Parameters
        ----------
        batch : dict of str to array or list, pyarrow RecordBatch or Table, pandas DataFrame
            Or anything else with `__arrow_c_stream__`, such as a DataFrame of polars.

        Returns
        -------
        The same kind, with the columns of the answers added; a pyarrow Table for what has `__arrow_c_stream__`. Vectors
        are 2-D arrays in a dict, lists elsewhere.

        Raises
        ------
        InputError
            If a column is missing or already there, or for a row that the model refuses with on_error="stop".
        """
        if isinstance(batch, Chunk):
            return self._score(batch)
        batch = batch_types.taken(batch)
        kind = batch_types.of(batch)
        self.check_columns(kind.names(batch))
        done = self._score(Chunk(0, kind.rows(batch), batch))
        self.bad_rows, self.empty_rows = sorted(done.bad.items()), sorted(done.empty)
        if done.bad:
            row, reason = self.bad_rows[0]
            text = f"{len(done.bad)} of {done.rows} rows of a batch have no answer; row {row}: {reason}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return self.extend(batch, done)

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise InputError if a batch of these columns cannot be scored."""
        if taken := [name for name in self.output_columns if name in names]:
            raise InputError(f"the batch has a column {taken[0]!r} already; name another with output=")
        tables.choose(self.model, names, self.columns, self.text)

    def extend(self, batch: Any, done: Chunk) -> Any:
        """The batch with the answers of `done`, its chunk, and without the rows that on_error="skip" leaves out."""
        kept = None
        if done.bad and self.on_error == "skip":
            kept = [row for row in range(done.rows) if row not in done.bad]
        shapes = [column.shape for column in self.answer_columns]
        return batch_types.of(batch).extend(batch, done.outputs, shapes, kept, done.unanswered)

    # ---- one chunk ---------------------------------------------------------------------------------------------------

    def _score(self, chunk: Chunk) -> Chunk:
        kind = batch_types.of(chunk.columns)
        bad = dict(chunk.bad)
        inputs = [] if bad and self.on_error == "stop" else self._inputs(kind, chunk, bad)
        empty = self._empty(inputs, bad)
        if bad and self.on_error == "stop":
            self._stop(chunk, bad)
        left_out = empty if self.empty == "null" else set()
        without = left_out.union(bad)
        good = [row for row in range(chunk.rows) if row not in without] if without else None
        outputs = self._predict(inputs, chunk, good, bad)
        without = left_out.union(bad)
        good = [row for row in range(chunk.rows) if row not in without]
        if self._labels:
            if is_tagger(self.model.outputs[0]):
                outputs = [*self._tags(outputs[0], inputs, chunk, good), *outputs]
            else:
                outputs = [*self._label(outputs[0], chunk, good, bad), *outputs]
        without, rows = left_out.union(bad), chunk.rows
        found = {c.name: tables.spread(y, c.shape, rows, good, without) for c, y in zip(self.answer_columns, outputs)}
        return dataclasses.replace(chunk, bad=bad, outputs=found, empty=empty, left_out=left_out)

    def _empty(self, inputs: list[Any], bad: dict[int, str]) -> set[int]:
        """The rows whose text is empty; they are added to `bad` if that is an error."""
        if self.text is None:
            if self.empty != "score":
                raise InputError(f"empty={self.empty!r} (--empty) is for texts: name their column with text=")
            return set()
        empty = tables.empty_rows(inputs[0]) if inputs else set()
        if self.empty == "error":
            for row in empty:
                bad.setdefault(row, f"column {self.text!r}: holds an empty text, which is an error by empty= (--empty)")
        return empty

    def _inputs(self, kind: Any, chunk: Chunk, bad: dict[int, str]) -> list[Any]:
        """The values of each input for every row; rows without a value are added to `bad`."""
        model = self.model
        inputs: list[Any] = []
        if chunk.rows and len(bad) == chunk.rows:
            return inputs
        chosen = tables.choose(model, kind.names(chunk.columns), self.columns, self.text)
        for given, (_, names) in zip(model.inputs, chosen):
            columns = [(name, kind.column(chunk.columns, name)) for name in names]
            if self.text is not None and given.dtype != "string":
                values, found = tables.read_text(*columns[0])
            else:
                values, found = tables.read(columns, given)
            inputs.append(values)
            for row, reason in found.items():
                bad.setdefault(row, reason)
        return inputs

    def _predict(self, inputs: list[Any], chunk: Chunk, good: list[int] | None, bad: dict[int, str]) -> list[Any]:
        """The outputs of the rows `good` (None: all); rows that the model refuses are added to `bad`."""
        if good == [] or chunk.rows == 0:
            return tables.no_rows(self.model)
        try:
            return self._call(inputs, good)
        except InputError as error:
            rows = list(range(chunk.rows)) if good is None else good
            found: dict[int, str] = {}
            if self.model._plan.independent:
                self._search(inputs, rows, found, chunk.first)
            if not found:
                # No single row is wrong: the rows do not fit each other, or the options do not fit.
                where = f"{chunk.span()}: " if chunk.start or chunk.lines or chunk.file else ""
                raise InputError(f"{where}{error}") from error
        if self.on_error == "stop":
            self._stop(chunk, found)
        bad.update(found)
        return self._predict(inputs, chunk, [row for row in rows if row not in found], bad)

    def _search(self, inputs: list[Any], rows: list[int], found: dict[int, str], start: int) -> None:
        """Find the rows that the model refuses, by halving the batch; with on_error="stop" only the first one."""
        if found and self.on_error == "stop":
            return
        try:
            self._call(inputs, rows)
        except InputError as error:
            if len(rows) == 1:
                found[rows[0]] = _of_row(error, start + rows[0])
                return
            half = len(rows) // 2
            self._search(inputs, rows[:half], found, start)
            self._search(inputs, rows[half:], found, start)

    def _call(self, inputs: list[Any], rows: list[int] | None) -> list[Any]:
        model = self.model
        values = [tables.take(column, rows) for column in inputs]
        if self.text is not None and model.inputs[0].dtype != "string":
            result = self._predict_text(inputs[0] if rows is None else [inputs[0][row] for row in rows])
        else:
            x = values[0] if len(values) == 1 else {given.name: x for given, x in zip(model.inputs, values)}
            options = padding_options(model, self.pad, self.maxlen, self.truncating)
            result = model.predict(x, batch_size=self.batch_size, n_threads=self.n_threads, **options)
        return tables.output_list(model, result)

    def _predict_text(self, texts: list[str]) -> Predictions:
        return text_method(self.model)(texts, batch_size=self.batch_size, n_threads=self.n_threads)

    def _label(self, answers: NDArray[Any], chunk: Chunk, good: list[int], bad: dict[int, str]) -> tuple[Any, Any]:
        """Labels and probabilities of the rows `good`; rows whose answers are NaN are added to `bad`."""
        labels, probabilities = np.empty(len(good), object), np.full(len(good), np.nan, answers.dtype)
        if not len(good):
            return labels, probabilities
        try:
            labels[:], probabilities[:] = label_answers(answers, self._labels)
            return labels, probabilities
        except InputError:
            pass
        for k, row in enumerate(good):
            try:
                labels[k : k + 1], probabilities[k : k + 1] = label_answers(answers[k : k + 1], self._labels)
            except InputError as error:
                bad[row] = _of_row(error, chunk.first + row)
        if bad and self.on_error == "stop":
            self._stop(chunk, bad)
        return labels, probabilities

    def _tags(self, answers: Any, inputs: list[Any], chunk: Chunk, good: list[int]) -> tuple[Any, Any]:
        """Tags of the rows `good`, and their probabilities; padding is cut off."""
        from ..converted import answers as reading  # with labels for each timestep alone

        model = self.model
        values = inputs[0 if self.text is not None else reading.words_of(model)]
        rows = [values[row] for row in good]
        if self.text is not None and model.inputs[0].dtype != "string":
            places = reading.token_rows(model, rows)[2]
        elif self.pad is not None:
            width = padding_options(model, self.pad, self.maxlen, self.truncating)["maxlen"]
            begin = [first_timestep(len(row), width, self.pad, self.truncating) for row in rows]
            places = [range(first, first + len(row)) for first, row in zip(begin, rows)]
        else:
            places = [reading.own_timesteps(model, row, len(y)) for row, y in zip(rows, answers)]
        try:
            tags, scores = reading.tag_answers(answers, places, self._labels)
        except InputError as error:
            raise InputError(f"{chunk.place(0)} and on: {error}") from error
        kind = np.float64 if model.dtype == "float64" else np.float32
        return tables.objects(tags), tables.objects([np.array(row, kind) for row in scores])  # None is NaN

    def _stop(self, chunk: Chunk, bad: dict[int, str]) -> NoReturn:
        row = min(bad)
        raise InputError(f"{chunk.place(row)}: {bad[row]}")


def _of_row(error: InputError, row: int) -> str:
    """The message of an error about a batch of one row, with the row number that the user knows."""
    reason = str(error).replace("in the batch of rows 0 to 0: ", "")
    return re.sub(r"\b(row |position \()0\b", rf"\g<1>{row}", reason)
