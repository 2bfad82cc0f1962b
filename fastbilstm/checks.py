"""Checks of what a user gives that several rooms share: whole numbers, texts, files to read and to write. Imports the
standard library."""

from __future__ import annotations

import errno
import numbers
import os
from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import InputError, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable


@overload
def check_whole(name: str, value: Any, minimum: int = 1) -> int | None: ...
@overload
def check_whole(name: str, value: Any, minimum: int = 1, *, optional: Literal[False]) -> int: ...


def check_whole(name: str, value: Any, minimum: int = 1, optional: bool = True) -> int | None:
    """A whole number as int (or None where it is optional); anything else is refused by the name of the option."""
    if type(value) is int and value >= minimum:
        return value
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least {minimum}")
    return int(value)


def utf8(text: str | bytes, what: str) -> bytes:
    """The bytes of a str; bytes stay. InputError, which begins with `what`, for half of a surrogate pair."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what}: the text {text[:40]!r} has no UTF-8 form ({error.reason})") from error


def read_file(path: str | os.PathLike[str], size: int = -1, name: str | None = None, offset: int = 0) -> bytes:
    """The content of a file, or some bytes of it; `name`: what messages call it.

    Raises
    ------
    UnreadableFileError
        What the system says: it is also FileNotFoundError, IsADirectoryError or PermissionError where one of them fits.
    """
    path = os.fspath(path)
    try:
        if os.path.isdir(path):  # Windows would speak of permissions
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with open(path, "rb") as file:
            if offset:  # else a pipe can be read, too
                file.seek(offset)
            return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise unreadable(path, error, name) from None


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, through links of any kind, or would once it is there."""
    try:
        return os.path.realpath(path) == os.path.realpath(other) or os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is not there, or names no file
        return False


def check_not_read(target: str | os.PathLike[str], sources: Iterable[Any]) -> None:
    """InputError if `target`, a file to be written, is one of `sources`; those that are no paths are passed over."""
    for source in sources:
        if isinstance(source, (str, os.PathLike)) and is_same_file(target, source):
            raise InputError(f"{target}: is read by this very command; write to another file")
