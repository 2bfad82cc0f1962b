"""Writers of answers: .npy, .npz, .csv, .tsv, .jsonl and Parquet, in pieces that are only appended.

A writer turns a scored chunk into bytes, one piece for each of its `parts`. At the end it makes the file of the parts.
`state`, plain JSON, holds what the writer needs to resume after an interruption. Imports NumPy; pyarrow for Parquet
only.
"""

import csv
import io
import json
import math
import re
import zipfile

import numpy as np

from ..errors import FastBiLSTMError, InputError
from . import batch_types
from .columns import TEXT, TEXTS
from .line_files import check_packing, pack
from .parquet import import_pyarrow

# The formats of lines, which may be packed and go to standard output.
LINES = ("csv", "tsv", "jsonl")
FORMATS = ("npy", "npz", *LINES, "parquet")
# They hold the outputs of the model alone: a predictor for them has raw=True.
ARRAYS = ("npy", "npz")

# How cells begin that spreadsheets take for formulas; then what begins so but is no formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|-?(inf|nan)")
# Roughly the bytes of a row group of Parquet.
GROUP_BYTES = 32 * 2**20


def make_writer(format, predictor, path, keeps, delimiter=",", escape_formulas=False, packing=None):
    """Make a writer of one of FORMATS. `keeps`: whether the output has the columns of the input, too.

    `delimiter`, for csv. `escape_formulas`, for csv and tsv: put an apostrophe before texts that a spreadsheet would
    compute. `packing`: "gz", "zst" or None, for LINES.
    """
    from . import columns as tables  # saves time at start

    model, skip = predictor.model, predictor.on_error == "skip"
    if format in ARRAYS:
        if format == "npy" and len(model.outputs) > 1:
            raise InputError(
                f"{path}: the model has {len(model.outputs)} outputs, and .npy holds one array; write .npz"
            )
        return _Arrays(format, tables.output_names(model), predictor.raw_columns, model, path, skip)
    names, shapes = map(list, zip(*predictor.answer_columns))
    if format == "parquet":
        import_pyarrow(f"{path}: Parquet")
        return _Parquet(names, shapes, keeps, path, skip)
    check_packing(packing, path)
    if format == "jsonl":
        return _JsonLines(names, shapes, keeps, path, skip, packing)
    delimiter = "\t" if format == "tsv" else delimiter
    return _Csv(names, shapes, keeps, path, skip, packing, delimiter, escape_formulas)


class _Arrays:
    """.npy: the answers alone; .npz: an array for each output, by its name."""

    def __init__(self, format, keys, names, model, path, skip):
        self.format, self.path, self.skip = format, path, skip
        self.keys, self.names = keys, names
        self.outputs, self.parts = model.outputs, len(keys)
        self.state = {"rows": 0, "arrays": None}

    def encode(self, chunk):
        kept = [row for row in range(chunk.rows) if row not in chunk.bad] if self.skip and chunk.bad else None
        arrays = [self._array(chunk, name, number, kept) for number, name in enumerate(self.names)]
        found = [[a.dtype.str, list(a.shape[1:])] for a in arrays]
        pieces = [a.tobytes() for a in arrays]
        if self.state["arrays"] is None:
            self.state["arrays"] = found
            pieces = [self._header(number, 0) + piece for number, piece in enumerate(pieces)]
        elif len(arrays[0]) and found != self.state["arrays"]:
            raise InputError(
                f"{chunk.span()}: the answers are of shape and type {found}, those "
                f"before them of {self.state['arrays']}; {self.path} holds one array (.jsonl and .parquet hold any)"
            )
        self.state["rows"] += len(arrays[0])
        return pieces

    def _array(self, chunk, name, number, kept):
        values = chunk.outputs[name]
        if not isinstance(values, np.ndarray) or values.dtype == object:
            raise InputError(
                f"{chunk.span()}: rows have answers of different lengths, which "
                f"{self.path} cannot hold; write .jsonl or .parquet"
            )
        values = values if kept is None else values[kept]
        # The shape is that of `predict`: one number a row is (rows, 1).
        return values.reshape(-1, 1) if len(self.outputs[number].shape) == 2 and values.ndim == 1 else values

    def _header(self, number, rows):
        """The header that np.save writes; NumPy leaves room for any number of rows."""
        kind, shape = self.state["arrays"][number]
        header = io.BytesIO()
        fields = {"descr": kind, "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(header, fields)
        return header.getvalue()

    def assemble(self, files, create):
        for number in range(self.parts):
            header = self._header(number, self.state["rows"])
            if len(header) != len(self._header(number, 0)):
                raise FastBiLSTMError(f"{self.path}: this NumPy leaves no room for the number of rows in a .npy header")
            files[number].seek(0)
            files[number].write(header)
            files[number].flush()
        if self.format == "npy":
            return False
        with zipfile.ZipFile(create(), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for key, file in zip(self.keys, files):
                file.seek(0)
                with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                    while block := file.read(2**20):
                        member.write(block)
        return True


class _Rows:
    """What the formats with columns have in common."""

    parts = 1

    def __init__(self, names, shapes, keeps, path, skip, packing=None):
        self.names, self.shapes, self.keeps, self.path, self.skip = names, shapes, keeps, path, skip
        self.packing, self.state = packing, {}

    def kept(self, chunk):
        return [row for row in range(chunk.rows) if not (self.skip and row in chunk.bad)]

    def given(self, chunk):
        """The columns of the input that the output keeps, as lists."""
        if not self.keeps:
            return {}
        return chunk.columns if isinstance(chunk.columns, dict) else chunk.columns.to_pydict()

    def check(self, names):
        """Refuse a column of the input that has the name of a column of the answers."""
        if taken := [name for name in self.names if name in names]:
            raise InputError(f"the input has a column {taken[0]!r} already; name another with --output-column")

    def assemble(self, files, create):
        """Turn the parts into the file: see `Partial.finish`. It is packed at the end, so that a run can be resumed."""
        if self.packing is None:
            return False
        files[0].seek(0)
        pack(files[0], create(), self.packing, self.path)
        return True


def _plain(value, text):
    """A number, or nested numbers, with the fewest digits that read back the same: as text, or as JSON with null."""
    if isinstance(value, (list, np.ndarray)) and np.ndim(value):
        return [_plain(item, text) for item in value]
    if isinstance(value, np.floating):
        shortest = str(value)
        return shortest if text else (float(shortest) if math.isfinite(value) else None)
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if text else value


def _unknown(value):
    """For json: converts values of Parquet that JSON has no type for."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__name__ in ("Decimal", "UUID", "timedelta", "Timedelta"):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    raise InputError(f"a column holds a value of type {type(value).__name__}, which only .parquet can hold")


def _json(value):
    return json.dumps(value, ensure_ascii=False, default=_unknown)


class _Csv(_Rows):
    def __init__(self, names, shapes, keeps, path, skip, packing, delimiter, escape_formulas):
        super().__init__(names, shapes, keeps, path, skip, packing)
        self.delimiter, self.escape_formulas = delimiter, escape_formulas

    def encode(self, chunk):
        given, head = self.given(chunk), []
        if "columns" not in self.state:
            self.check(given)
            self.state["columns"] = list(given)
            head = [[*given, *self.names]]
        names = self.state["columns"]
        known = set(names)
        if more := [name for name in given if name not in known]:
            raise InputError(
                f"{chunk.span()}: a row has {more[0]!r}, which those before have not, and the "
                f"header of {self.path} is written; write .jsonl"
            )
        columns = [list(map(_cell, given[name])) if name in given else [""] * chunk.rows for name in names]
        columns += [self._answers(chunk, name, number) for number, name in enumerate(self.names)]
        rows = list(zip(*columns))
        rows = [*head, *(rows if len(kept := self.kept(chunk)) == len(rows) else [rows[row] for row in kept])]
        if self.escape_formulas:
            rows = [list(map(_escaped, row)) for row in rows]
        return [self._text(rows).encode("utf-8", "backslashreplace")]

    def _text(self, rows):
        text, options = io.StringIO(), {"delimiter": self.delimiter, "lineterminator": "\n"}
        csv.writer(text, **options).writerows(rows)
        if "\r" not in text.getvalue():
            return text.getvalue()
        # Some versions of the module leave a carriage return bare, and readers begin a row there.
        text = io.StringIO()
        for row in rows:
            quoting = csv.QUOTE_ALL if any("\r" in str(cell) for cell in row) else csv.QUOTE_MINIMAL
            csv.writer(text, quoting=quoting, **options).writerow(row)
        return text.getvalue()

    def _answers(self, chunk, name, number):
        values = chunk.outputs[name]
        if self.shapes[number] == TEXT:
            column = list(values)
        elif self.shapes[number] == () and isinstance(values, np.ndarray):
            column = list(map(str, values))
        else:
            column = [_json(_plain(value, False)) for value in values]
        unanswered = chunk.unanswered
        return ["" if row in unanswered else value for row, value in enumerate(column)] if unanswered else column


def _escaped(cell):
    """A cell, with an apostrophe before a text that a spreadsheet might compute; numbers stay as they are."""
    formula = isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def _cell(value):
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    found = _json(value)
    return found[1:-1] if found.startswith('"') else found


class _JsonLines(_Rows):
    def encode(self, chunk):
        given = self.given(chunk)
        self.check(given)
        answers = {
            name: list(chunk.outputs[name])
            if shape in (TEXT, TEXTS)
            else [_plain(value, False) for value in chunk.outputs[name]]
            for name, shape in zip(self.names, self.shapes)
        }
        lines, unanswered = [], chunk.unanswered
        for row in self.kept(chunk):
            found = {name: column[row] for name, column in given.items()}
            found.update({name: None if row in unanswered else column[row] for name, column in answers.items()})
            lines.append(_json(found) + "\n")
        return ["".join(lines).encode("utf-8", "backslashreplace")]


class _Parquet(_Rows):
    """The parts are an Arrow stream, since Parquet, which ends in a table of contents, cannot be appended to."""

    def encode(self, chunk):
        import pyarrow as pa

        rows = chunk.columns if self.keeps else {}
        self.check(batch_types.of(rows).names(rows))
        if isinstance(rows, dict):
            rows = self._batch(pa, rows, chunk)
        kept = self.kept(chunk)
        kept = kept if len(kept) < chunk.rows else None
        found = batch_types.Arrow.extend(rows, chunk.outputs, self.shapes, kept, chunk.unanswered)
        schema = pa.schema(
            [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in found.schema]
        )
        head = b""
        if "schema" not in self.state:
            head = schema.serialize().to_pybytes()
            self.state["schema"] = head.hex()
        schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(self.state["schema"])))
        try:
            table = pa.Table.from_batches([found]).select(schema.names).cast(schema)
        except (pa.ArrowException, KeyError) as error:
            raise InputError(
                f"{chunk.span()}: the columns or their types differ from those before ({error})"
            ) from error
        batches = table.combine_chunks().to_batches()
        return [head + b"".join(batch.serialize().to_pybytes() for batch in batches if batch.num_rows)]

    def _batch(self, pa, columns, chunk):
        arrays = []
        for name, values in columns.items():
            try:
                arrays.append(_arrow(pa, values, chunk.bad))
            except pa.ArrowException as error:
                raise InputError(
                    f"{chunk.span()}: column {name!r} holds values of different types, which {self.path} cannot hold "
                    f"({error}); write .jsonl"
                ) from error
        return pa.record_batch(arrays, names=list(columns))

    def assemble(self, files, create):
        import pyarrow as pa

        import_pyarrow(self.path)
        files[0].flush()
        with pa.OSFile(files[0].name) as source, pa.ipc.open_stream(source) as stream:
            with pa.parquet.ParquetWriter(create(), stream.schema) as writer:
                group, size = [], 0
                for batch in stream:
                    group.append(batch)
                    size += batch.nbytes
                    if size >= GROUP_BYTES:
                        writer.write_table(pa.Table.from_batches(group))
                        group, size = [], 0
                if group:
                    writer.write_table(pa.Table.from_batches(group))
        return True


def _arrow(pa, values, bad):
    """A column that goes along; what a bad row holds is left out where no type fits it and the others."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        if not bad:
            raise
        return pa.array([None if row in bad else value for row, value in enumerate(values)])
