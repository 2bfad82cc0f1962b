"""Readers of files of rows: .npy, .npz, .csv, .jsonl, .txt and Parquet, one chunk of rows after another.

A row that cannot be read stays a row: the chunk holds its number, its line and the reason. It is an error if it is not
certain where rows begin (an open quote, a damaged archive). Imports NumPy and the standard library; parquet.py reads
Parquet.
"""

import csv
import json
import math
import os
import zipfile
from collections import Counter

import numpy as np

from .. import safe_files
from ..checks import read_file
from ..errors import FileFormatError, InputError, unreadable
from . import columns as tables
from .chunk import CHUNK_BYTES, Chunk
from .parquet import ParquetReader

SUFFIXES = {
    ".npy": "npy",
    ".npz": "npz",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "txt",
    ".parquet": "parquet",
    ".pq": "parquet",
}
FORMATS = ("npy", "npz", "csv", "jsonl", "txt", "parquet")
# The column of a .txt file.
TEXT = "text"
# The most bytes of a line or a field of text.
LINE_BYTES = 64 * 2**20
# The most cells in a chunk of .jsonl. If all rows have the same keys, the limit in bytes is reached first.
MAX_CELLS = 2 * CHUNK_BYTES
# What a compressed array may take in memory at once, for each byte stored, from a size on that does no harm.
MAX_RATIO = 100
FREE_BYTES = 2**20
_MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz", b"PAR1": "parquet"}


def identity_of(path):
    """See `safe_files.identity`."""
    try:
        return safe_files.identity(path)
    except OSError as error:
        raise unreadable(path, error) from None


def format_of(path, given=None):
    """The format of an input: the one given, else that of its first bytes, else that of its suffix."""
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise InputError(f"{path}: is no regular file (a pipe?); write its rows to a file first")
    head = read_file(path, 8)
    by_suffix = given or SUFFIXES.get(os.path.splitext(path)[1].lower())
    if not head:
        raise InputError(f"{path}: is empty; a {'.' + by_suffix if by_suffix else 'file'} without rows has a header")
    by_magic = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if given is None and by_magic is not None:
        return by_magic
    if by_suffix is None:
        raise InputError(f"{path}: its suffix tells no format; give --input-format, one of {', '.join(FORMATS)}")
    if by_suffix in _MAGIC.values() and by_magic != by_suffix:
        raise InputError(f"{path}: is no .{by_suffix} file; it begins with {head!r}")
    return by_suffix


def open_input(path, format, model, columns=None, delimiter=","):
    """Make a reader of `path`.

    A reader has `names` (columns, or None before they are known), `total` (rows, or None), `keeps` (whether columns go
    to the output), `chunks(rows, batch)` and `position()`, the part of the file that has been read, from 0 to 1.
    """
    try:
        if format in ("npy", "npz"):
            return _Arrays(path, format, model, columns)
        if format == "parquet":
            return ParquetReader(path)
        return {"csv": _Csv, "jsonl": _JsonLines, "txt": _Text}[format](path, model, delimiter)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


# ---- arrays ----------------------------------------------------------------------------------------------------------


class _Arrays:
    """Reads a .npy file, or the arrays of a .npz that the model needs, piece by piece."""

    keeps = False

    def __init__(self, path, format, model, columns):
        self.path, self.read, self.archive, self.size = path, 0, None, os.path.getsize(path)
        try:
            if format == "npy":
                self.file = open(path, "rb")
                sizes = {model.inputs[0].name: self.size}
                files, stored = {model.inputs[0].name: self.file}, sizes
                if len(model.inputs) > 1:
                    names = ", ".join(given.name for given in model.inputs)
                    raise InputError(f"{path}: a .npy file holds one input; give a .npz keyed by input name ({names})")
            else:
                self.archive = zipfile.ZipFile(path)
                members = {i.filename.removesuffix(".npy"): i for i in self.archive.infolist()}
                chosen = tables.choose(model, list(members), columns)
                wanted = dict.fromkeys(name for _, found in chosen for name in found)
                sizes = {name: members[name].file_size for name in wanted}
                files = {name: self.archive.open(members[name]) for name in wanted}
                size = os.path.getsize(path)
                stored = {name: min(members[name].compress_size, size) for name in wanted}
            self.members = {
                name: _Member(file, sizes[name], stored[name], f"{path}, {name}") for name, file in files.items()
            }
        except (InputError, FileFormatError) as error:
            raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # of zipfile, zlib, struct, tokenize and ast, from any damaged byte
            names = ", ".join(given.name for given in model.inputs)
            raise InputError(
                f"{path}: neither a .npy file nor a .npz keyed by input name ({names}), without pickles ({error})"
            ) from error
        self.names = list(self.members)
        counts = {name: member.rows for name, member in self.members.items()}
        if len(set(counts.values())) > 1:
            sizes = ", ".join(f"{name!r}: {count}" for name, count in counts.items())
            raise InputError(f"{path}: the inputs differ in their number of rows ({sizes})")
        self.total = next(iter(counts.values()))

    def chunks(self, rows, batch):
        width = max(1, sum(member.row_bytes for member in self.members.values()))
        rows = max(batch, min(rows, CHUNK_BYTES // width) // batch * batch)
        for start in range(0, max(self.total, 1), rows):
            count = min(rows, self.total - start)
            try:
                columns = {name: member.next(count) for name, member in self.members.items()}
            except (InputError, MemoryError):
                raise
            except Exception as error:  # of zipfile and zlib
                raise InputError(
                    f"{self.path}: cannot be read from row {start} on ({error}); is it damaged?"
                ) from error
            self.read = start + count
            yield Chunk(start, count, columns, read=self._bytes_read())

    def _bytes_read(self):
        """The bytes read so far; of an archive all bytes, since its arrays are stored one by one but read together."""
        (member,) = self.members.values() if self.archive is None else [None]
        return self.size if member is None or member.whole is not None else member.file.tell()

    def position(self):
        return self.read / max(1, self.total)


class _Member:
    """One array, read from a stream of bytes."""

    def __init__(self, file, size, stored, label):
        version = np.lib.format.read_magic(file)
        if version > (2, 0):
            raise InputError(f"{label}: an array of version {version} holds no plain numbers or text")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, self.dtype = read_header(file)
        if self.dtype.hasobject:
            raise InputError(f"{label}: holds pickled objects, which are not read; .npy and .npz hold numbers or text")
        if not shape:
            raise InputError(f"{label}: holds a single number; expected rows")
        if not all(0 <= length < 2**63 for length in shape):
            raise InputError(f"{label}: has the shape {str(shape)[:80]}")
        self.rows, self.shape, self.file = shape[0], shape[1:], file
        self.stored, self.label = stored, label
        self.row_bytes = self.dtype.itemsize * math.prod(self.shape)
        here, expected = file.tell(), self.row_bytes * self.rows
        if size - here < expected:
            raise InputError(
                f"{label}: is truncated: an array of shape {shape} has {expected} bytes, here are {size - here}"
            )
        # In Fortran order each row is spread over the whole file, so the whole array is read.
        self.whole, self.next_row = None, 0
        if fortran and self.row_bytes * self.rows:
            self.check_size(expected)
            flat = np.frombuffer(file.read(expected), self.dtype)
            self.whole = flat.reshape(shape, order="F")

    def check_size(self, size):
        """Refuse to unpack so many bytes at once from far fewer."""
        if size > max(FREE_BYTES, MAX_RATIO * self.stored):
            raise InputError(f"{self.label}: claims {size} bytes where the file stores {self.stored}; refused")

    def next(self, rows):
        if self.whole is not None:
            self.next_row += rows
            return self.whole[self.next_row - rows : self.next_row]
        self.check_size(rows * self.row_bytes - CHUNK_BYTES)
        content = self.file.read(rows * self.row_bytes)
        if len(content) != rows * self.row_bytes:
            raise EOFError("the file ends early")
        return np.frombuffer(content, self.dtype).reshape(rows, *self.shape)


# ---- lines of text ---------------------------------------------------------------------------------------------------


class _Lines:
    """What the text formats have in common: they decode one line after another and group rows into chunks.

    Subclasses have `rows()`, which yields (line number, row, reason, bytes), and `columns(list of rows)`. The reason
    is None, or says why the row cannot be read.
    """

    keeps, total, names = True, None, None

    def __init__(self, path, model, delimiter):
        self.path, self.model, self.delimiter = path, model, delimiter
        self.file = open(path, "rb")
        self.size = os.fstat(self.file.fileno()).st_size
        self.line, self.broken, self.read = 0, {}, 0

    def position(self):
        return min(1.0, self.read / max(1, self.size))

    def lines(self):
        """Yield decoded lines. Lines that are not UTF-8 or hold NUL go to `broken`, by number."""
        while True:
            try:
                line = self.file.readline(LINE_BYTES)
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not line:
                return
            self.line += 1
            if len(line) == LINE_BYTES:
                raise InputError(f"{self.path}: line {self.line} has more than {LINE_BYTES // 2**20} MB")
            self.read += len(line)
            if self.line == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                self.broken[self.line] = f"is no UTF-8 (byte 0x{line[error.start]:02x} at {error.start} of the line)"
                text = line.decode("utf-8", "replace")
            if "\0" in text:
                self.broken.setdefault(self.line, "holds a NUL byte")
                text = text.replace("\0", "\ufffd")
            yield text

    def chunks(self, rows, batch):
        start, kept, lines, bad, held = 0, [], [], {}, 0
        for line, row, reason, size in self.rows():
            if reason is not None:
                bad[len(kept)] = reason
            kept.append(row)
            lines.append(line)
            held += size
            if len(kept) == rows or (held >= CHUNK_BYTES and len(kept) % batch == 0):
                yield Chunk(start, len(kept), self.columns(kept), lines, bad, self.read)
                start, kept, lines, bad, held = start + len(kept), [], [], {}, 0
        if kept or not start:
            yield Chunk(start, len(kept), self.columns(kept), lines, bad, self.read)


class _Csv(_Lines):
    """Reads rows below a header. An empty line is a row only if there is one column."""

    def __init__(self, path, model, delimiter):
        super().__init__(path, model, delimiter)
        csv.field_size_limit(LINE_BYTES)
        self.reader = csv.reader(self.lines(), delimiter=delimiter, strict=True)
        self.names = self._next()
        if self.broken:
            raise InputError(f"{path}: the header (line 1) {self.broken[min(self.broken)]}")
        if not self.names:
            raise InputError(f"{path}: its first line is empty; expected the names of the columns")
        doubled = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if doubled:
            raise InputError(f"{path}: the header names {', '.join(map(repr, doubled))} twice")

    def _next(self):
        before = self.line
        try:
            return next(self.reader, None)
        except csv.Error as error:
            raise InputError(
                f"{self.path}: no valid CSV from line {before + 1} to line {self.line} ({error}); where the next row "
                "begins is uncertain, so nothing after it can be skipped"
            ) from error

    def rows(self):
        width = len(self.names)
        while True:
            before, read = self.line, self.read
            row = self._next()
            if row is None:
                return
            reason = None
            if self.broken:
                reason = next((why for line, why in self.broken.items() if before < line <= self.line), None)
                self.broken.clear()
            if not row:
                if width > 1:
                    continue
                row = [""]
            if len(row) != width:
                reason = reason or f"has {len(row)} fields; the header has {width}"
                row = (row + [""] * width)[:width]
            yield before + 1, row, reason, self.read - read

    def columns(self, rows):
        found = zip(*rows) if rows else [()] * len(self.names)
        return {name: list(column) for name, column in zip(self.names, found)}


class _JsonLines(_Lines):
    """Reads one object from each line, or one list, which is then the only column. Empty lines are no rows."""

    def rows(self):
        name = self.model.inputs[0].name
        for text in self.lines():
            if not text.strip():
                continue
            reason, row = self.broken.pop(self.line, None), None
            if reason is None:
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    reason = f"is no valid JSON ({error})"
                if isinstance(row, list):
                    row = {name: row}
                elif reason is None and not isinstance(row, dict):
                    reason, row = f"is JSON of type {type(row).__name__}; expected an object or a list", None
            yield self.line, row, reason, len(text)

    def columns(self, rows):
        names = dict.fromkeys(self.names or ())
        for row in rows:
            names.update(dict.fromkeys(row or ()))
        self.names = list(names)
        if len(rows) * len(names) > MAX_CELLS:
            raise InputError(
                f"{self.path}: the rows up to line {self.line} have {len(names)} different keys, far more than a row "
                "has; expected columns"
            )
        return {name: [None if row is None else row.get(name) for row in rows] for name in names}


class _Text(_Lines):
    """Reads each line as a row, empty lines too."""

    names = [TEXT]

    def rows(self):
        for text in self.lines():
            yield self.line, text.rstrip("\r\n"), self.broken.pop(self.line, None), len(text)

    def columns(self, rows):
        return {TEXT: rows}
