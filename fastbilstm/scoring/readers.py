"""Readers of files of rows, one chunk of rows after another: which reader a file needs, and that of .npy and .npz.

line_readers.py reads .csv, .tsv, .jsonl and .txt, parquet.py Parquet. Imports NumPy.
"""

import math
import os
import zipfile

import numpy as np

from .. import safe_files
from ..checks import read_file
from ..errors import FileFormatError, InputError, unreadable
from . import columns as tables
from .chunk import CHUNK_BYTES, Chunk
from .line_files import PACKED, STANDARD, LineFile, packing_of, split_suffix
from .line_readers import Csv, JsonLines, Text
from .parquet import ParquetReader

SUFFIXES = {
    ".npy": "npy",
    ".npz": "npz",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "txt",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# The formats of lines, which may be packed and come from standard input.
LINES = ("csv", "tsv", "jsonl", "txt")
FORMATS = ("npy", "npz", *LINES, "parquet")
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
    """The format of an input: the one given, else that of its first bytes, else that of its suffix.

    None for standard input if no format is given: its first bytes tell it when it is read.
    """
    if path == STANDARD:
        if given not in (None, *LINES):
            raise InputError(f"standard input holds lines ({', '.join(LINES)}); give the path of a file of .{given}")
        return given
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise InputError(
            f"{path}: is no regular file (a pipe?); write its rows to a file first, or give them as standard input (-)"
        )
    head = read_file(path, 8)
    suffix, named = split_suffix(path)
    by_suffix, packing = given or SUFFIXES.get(suffix), packing_of(head)
    if not head:
        raise InputError(f"{path}: is empty; a {'.' + by_suffix if by_suffix else 'file'} without rows has a header")
    if named is not None and packing != named:
        raise InputError(f"{path}: is no .{named} file; it begins with {head!r}")
    by_magic = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if given is None and by_magic is not None:
        return by_magic
    if by_suffix is None:
        raise InputError(f"{path}: its suffix tells no format; give --input-format, one of {', '.join(FORMATS)}")
    if packing is not None and by_suffix not in LINES:
        suffixes = " and ".join(PACKED)
        raise InputError(f"{path}: of the formats in {suffixes}, only {', '.join(LINES)} are read; unpack it first")
    if by_suffix in _MAGIC.values() and by_magic != by_suffix:
        raise InputError(f"{path}: is no .{by_suffix} file; it begins with {head!r}")
    return by_suffix


def open_input(path, format, model, columns=None, delimiter=None, encoding="utf-8"):
    """Make a reader of `path`; `delimiter` and `encoding` are of formats of lines (see `Csv` and `LineFile`).

    A reader has `format`, `names` (columns, or None before they are known), `total` (rows, or None), `keeps` (whether
    columns go to the output), `chunks(rows, batch)`, `position()`, the part of the file that has been read, from 0 to
    1, for the user a `note` and a `hint` for a column that is missing, each None or text, and `added`, the columns that
    are not in the file and that no model reads unless they are named.
    """
    try:
        if format in ("npy", "npz"):
            reader = _Arrays(path, format, model, columns)
        elif format == "parquet":
            reader = ParquetReader(path)
        else:
            file = LineFile(path, encoding)
            # Of standard input. No header of a .csv file begins with a bracket.
            format = format or ("jsonl" if file.head()[:1] in (b"{", b"[") else "csv")
            if format == "tsv":
                delimiter = delimiter or "\t"
            reader = {"csv": Csv, "tsv": Csv, "jsonl": JsonLines, "txt": Text}[format](file, model, delimiter)
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    reader.format = format
    return reader


# ---- arrays ----------------------------------------------------------------------------------------------------------


class _Arrays:
    """Reads a .npy file, or the arrays of a .npz that the model needs, piece by piece."""

    keeps, note, hint, added = False, None, None, ()

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
