"""SeveralFiles: reads files one after another as if they were one. Imports the standard library.

Chunks do not cross files, so that the batches are those of each file alone.
"""

import dataclasses
import os

from ..errors import InputError
from . import batch_types


class SeveralFiles:
    """A reader (see `readers.open_input`) of several sources, or of one that adds columns.

    `open_one(path)` makes the reader of a file.
    """

    keeps, total = True, None

    def __init__(self, sources, open_one):
        self.sources, self.open_one = sources, open_one
        self.sizes = [os.path.getsize(source.path) for source in sources]
        self.reader, self.number = open_one(sources[0].path), 0
        self.format, self.note, self.hint = self.reader.format, self.reader.note, self.reader.hint
        self.delimiter = getattr(self.reader, "delimiter", None)
        self.added = tuple(sources[0].columns)
        self.first_names, self.names = self.reader.names, None
        if self.first_names is not None:
            self._check(sources[0], self.first_names)
            self.names = [*self.first_names, *sources[0].columns]

    def _check(self, source, names):
        """Refuse a column that is there already, and a file without the columns of the first one."""
        if taken := next((name for name in source.columns if name in names), None):
            raise _taken(source, taken)
        first = self.sources[0]
        for mine, other in ((names, self.first_names), (source.columns, first.columns)):
            if sorted(map(str, mine or ())) != sorted(map(str, other or ())):
                raise InputError(f"{source.path}: has the columns {_list(mine)}; {first.path} has {_list(other)}")

    def chunks(self, rows, batch):
        start, empty = 0, None
        for number, source in enumerate(self.sources):
            if number:
                self.number, self.reader = number, self.open_one(source.path)
                if self.first_names is not None:
                    self._check(source, self.reader.names)
            before = sum(self.sizes[:number])
            for chunk in self.reader.chunks(rows, batch):
                if taken := next((name for name in source.columns if name in _names(chunk)), None):
                    raise _taken(source, taken)
                columns = batch_types.of(chunk.columns).with_texts(chunk.columns, chunk.rows, source.columns)
                place = {"start": start, "read": before + chunk.read, "file": source.path, "file_start": chunk.start}
                chunk = dataclasses.replace(chunk, columns=columns, **place)
                if chunk.rows:
                    yield chunk
                    start += chunk.rows
                else:
                    empty = empty or chunk
            self.reader.close()
        if not start:
            yield empty

    def position(self):
        """The part of all bytes that has been read."""
        done = sum(self.sizes[: self.number]) + self.reader.position() * self.sizes[self.number]
        return min(1.0, done / max(1, sum(self.sizes)))


def _names(chunk):
    return batch_types.of(chunk.columns).names(chunk.columns)


def _taken(source, name):
    return InputError(f"{source.path}: has a column {name!r} already; name another with --source-column")


def _list(names):
    return ", ".join(map(repr, names or ())) or "none"
