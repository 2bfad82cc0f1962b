"""The files that an input names: one, several, a pattern, or a folder of Parquet files. Imports the standard library.

Each source may add columns to its rows: the name of the file, and what a folder such as year=2024 says.
"""

from __future__ import annotations

import errno
import glob
import os
import urllib.parse
from typing import NamedTuple

from ..errors import FolderError, InputError
from .line_files import STANDARD

# The column that tells the file of a row, where several files or a pattern are given.
SOURCE_COLUMN = "source"
_PARQUET = (".parquet", ".pq")
# What Hive and Spark name the folder of rows whose column is null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


class Source(NamedTuple):
    """A file, and the columns that it adds to each of its rows."""

    path: str
    columns: dict[str, str | None]


def find(given: list[str], source_column: str | None = None) -> list[Source]:
    """The files of paths, patterns and folders.

    Several paths are read in their order; the files of a pattern or a folder are sorted by name. `source_column`: the
    column for the names of files, "" for none; None: SOURCE_COLUMN for several paths and for a pattern, else none.
    """
    found: list[Source] = []
    named = len(given) > 1
    for path in given:
        if path == STANDARD:
            if len(given) > 1:
                raise InputError("-: standard input is read alone, without other files")
            found.append(Source(path, {}))
        elif os.path.isdir(path):
            found += _parts(path)
        elif glob.has_magic(path) and not os.path.lexists(path):
            matching = sorted(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))
            if not matching:
                raise InputError(f"{path}: no file matches the pattern")
            found += [Source(name, {}) for name in matching]
            named = True
        else:
            found.append(Source(path, {}))
    column = source_column if source_column is not None else SOURCE_COLUMN * named
    if not column:
        return found
    if taken := next((source.path for source in found if column in source.columns), None):
        raise InputError(f"{taken}: the folders give a column {column!r} already; name another with --source-column")
    return [Source(path, {**columns, column: path}) for path, columns in found]


def _parts(folder: str) -> list[Source]:
    """The Parquet files of a folder and those below it. Names with _ or . in front are no data, as for Spark."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(("_", ".")))
        found += [
            os.path.join(place, name)
            for name in names
            if name.lower().endswith(_PARQUET) and not name.startswith(("_", "."))
        ]
    if not found:
        raise FolderError(
            f"{folder}: is a folder; expected a file, a folder with .parquet files, or a pattern in quotes, such as "
            f"'{os.path.join(folder, '*.csv')}'",
            errno.EISDIR,
            os.strerror(errno.EISDIR),
            folder,
        )
    return [Source(path, _partition(os.path.relpath(os.path.dirname(path), folder))) for path in sorted(found)]


def _partition(place: str) -> dict[str, str | None]:
    """{"year": "2024"} of the folders "year=2024"."""
    pairs = [part.partition("=") for part in place.split(os.sep)]
    values = {urllib.parse.unquote(key): urllib.parse.unquote(value) for key, equals, value in pairs if equals}
    return {key: None if value == _NULL else value for key, value in values.items()}
