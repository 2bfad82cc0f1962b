"""Checks of what a user gives that several rooms share: whole numbers, texts, targets. Imports the standard
library."""

from __future__ import annotations

import numbers
import os
from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import InputError

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


def check_not_read(target: str | os.PathLike[str], sources: Iterable[str | os.PathLike[str] | None]) -> None:
    """InputError if `target`, a file to be written, is one of `sources`, the files that are read (None: no file)."""
    for source in sources:
        if source is None or not os.path.exists(target) or not os.path.exists(source):
            continue
        if os.path.samefile(target, source):
            raise InputError(f"{target}: is read by this very command; write to another file")
