"""Readers of files of lines: .csv and .tsv, .jsonl, .txt, packed or not, one chunk of rows after another.

A row that cannot be read stays a row: the chunk holds its number, its line and the reason. It is an error if it is not
certain where rows begin (an open quote). line_files.py gives the bytes. Imports the standard library.
"""

import codecs
import csv
import itertools
import json
import re
from collections import Counter

from ..errors import InputError
from .chunk import CHUNK_BYTES, Chunk

# The column of a .txt file.
TEXT = "text"
# What may stand between the fields of .csv, beside what a user names; the first is preferred.
DELIMITERS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"[^"]*"')
# The most bytes of a line or a field of text.
LINE_BYTES = 64 * 2**20
# The most cells in a chunk of .jsonl. If all rows have the same keys, the limit in bytes is reached first.
MAX_CELLS = 2 * CHUNK_BYTES


class Lines:
    """What the text formats have in common: they decode one line after another and group rows into chunks.

    Subclasses have `rows()`, which yields (line number, row, reason, bytes), and `columns(list of rows)`. The reason
    is None, or says why the row cannot be read.
    """

    keeps, total, names = True, None, None
    # What a user should know of how the file was read, and what may be wrong if a column is missing.
    note = hint = None
    added = ()

    def __init__(self, file, model, delimiter=None):
        """`file`: a LineFile."""
        self.file, self.path, self.model, self.delimiter = file, file.label, model, delimiter
        self.line, self.broken = 0, {}

    def close(self):
        self.file.close()

    @property
    def read(self):
        return self.file.bytes_read()

    def position(self):
        return min(1.0, self.read / max(1, self.file.size)) if self.file.size is not None else 0.0

    def lines(self):
        """Yield decoded lines. Lines that cannot be decoded or hold NUL go to `broken`, by number."""
        encoding = self.file.encoding
        while line := self.file.readline(LINE_BYTES):
            self.line += 1
            if len(line) == LINE_BYTES:
                raise InputError(f"{self.path}: line {self.line} has more than {LINE_BYTES // 2**20} MB")
            if self.line == 1 and encoding == "utf-8":
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                self.broken[self.line] = _undecoded(line, error, encoding)
                text = line.decode(encoding, "replace")
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


def _undecoded(line, error, encoding):
    """Why a line is no text, in words."""
    text = f"is no {encoding.upper()} (byte 0x{line[error.start]:02x} at {error.start} of the line)"
    wide = line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return text + ("; it begins as utf-16 does: --encoding utf-16" if wide else "; --encoding names another encoding")


class Csv(Lines):
    """Reads rows below a header. An empty line is a row only if there is one column.

    `delimiter` None: that of the header. It is a comma if the header has one outside of quotes, else the one of
    DELIMITERS that it has, if it has just one of them, else a comma.
    """

    def __init__(self, file, model, delimiter=None):
        super().__init__(file, model, delimiter)
        path = self.path
        csv.field_size_limit(LINE_BYTES)
        lines = self.lines()
        first = list(itertools.islice(lines, 1))
        others = [mark for mark in DELIMITERS if mark in _QUOTED.sub("", "".join(first))]
        if delimiter is None:
            self.delimiter = others[0] if len(others) == 1 else ","
            if self.delimiter != ",":
                self.note = f"fields are separated by {self.delimiter!r}, as in the header (--delimiter)"
        if others := [mark for mark in others if mark != self.delimiter]:
            self.hint = (
                f"fields were split at {self.delimiter!r}, and the header holds {' and '.join(map(repr, others))}, too "
                "(--delimiter)"
            )
        self.reader = csv.reader(itertools.chain(first, lines), delimiter=self.delimiter, strict=True)
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
            before, given = self.line, self.file.given
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
                split = f" (split at {self.delimiter!r})" if self.note else ""
                reason = reason or f"has {len(row)} fields; the header has {width}{split}"
                row = (row + [""] * width)[:width]
            yield before + 1, row, reason, self.file.given - given

    def columns(self, rows):
        found = zip(*rows) if rows else [()] * len(self.names)
        return {name: list(column) for name, column in zip(self.names, found)}


class JsonLines(Lines):
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


class Text(Lines):
    """Reads each line as a row, empty lines too."""

    names = [TEXT]

    def rows(self):
        for text in self.lines():
            yield self.line, text.rstrip("\r\n"), self.broken.pop(self.line, None), len(text)

    def columns(self, rows):
        return {TEXT: rows}
