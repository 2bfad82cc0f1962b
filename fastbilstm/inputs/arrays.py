"""One array for one input: its dtype, its shape and its token ids are checked. Imports NumPy."""

import numpy as np

from ..checks import utf8
from ..errors import InputError
from ..layers.core import check_ids

# What to do about rows that have other timesteps than the model fixes.
OTHER_LENGTHS = (
    "load(..., any_length=True) (--any-length) takes other timesteps, as Keras 3 does, and stream() takes them in "
    "pieces"
)


def check_array(values, given, limit):
    """An array of numbers (or `bytes`) that fits an input, or InputError; `limit`: how many token ids there are."""
    what = f"input {given.name!r}"
    try:
        array = np.asarray(values)
    except ValueError as error:
        if given.dtype != "string" and isinstance(values, (list, tuple)):
            read_rows(values, given)  # tells which row is none
        raise InputError(f"{what}: its rows are no array: inside them sizes differ ({error})") from error
    if given.dtype == "string":
        array = _as_strings(array, what)
    elif array.dtype.kind not in "biuf":
        raise InputError(f"{what}: has dtype {array.dtype}; expected numbers")
    array = with_last_axis(array, given.shape)
    sizes = list(zip(array.shape[1:], given.shape[1:]))
    rank = len(given.shape)
    if array.ndim != rank or any(expected is not None and size != expected for size, expected in sizes):
        expected = ("rows", *("any" if size is None else size for size in given.shape[1:]))
        text = f"{what}: has shape {array.shape}; expected ({', '.join(map(str, expected))})"
        others = array.ndim == rank and all(b in (None, a) for a, b in sizes[1:])
        raise InputError(f"{text}; {OTHER_LENGTHS}" if others and (rank > 2 or limit is not None) else text)
    if 0 in array.shape[1:]:
        raise InputError(f"{what}: has shape {array.shape}; an axis of size 0 (no timesteps) has no answer")
    if limit is not None and given.dtype == "string":
        raise InputError(f"{what}: holds strings, and an Embedding reads it; expected numbers")
    if limit is not None:
        check_ids(array, limit, f"{what}: the token id")
    return array


def with_last_axis(array, shape):
    """Add or remove a last axis of size 1 where that makes an array fit, as Keras does."""
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        return array[..., 0]
    if array.ndim == len(shape) - 1 and shape[-1] == 1:
        return array[..., np.newaxis]
    return array


def read_rows(rows, given):
    """The rows (each an array_like) of a sequence input as arrays of numbers; InputError names the first that fails.

    They may differ in length; after the first axis all have one shape.
    """
    what = f"input {given.name!r}"
    expected = expected_row(given)
    arrays, first = [], None
    for number, row in enumerate(rows):
        try:
            array = np.asarray(row)
        except ValueError as error:
            raise InputError(f"{what}: row {number} is no array: inside it sizes differ ({error})") from error
        if array.ndim == 0 or (array.size and array.dtype.kind not in "biuf"):
            shown = repr(row) if len(repr(row)) < 60 else f"{repr(row)[:56]} ..."
            raise InputError(f"{what}: row {number} is {shown}; expected numbers, an array of shape {expected}")
        arrays.append(array)
    for number, array in enumerate(arrays):
        if not len(array):
            continue  # a row of no timesteps tells neither dtype nor features
        first = number if first is None else first
        if array.shape[1:] != arrays[first].shape[1:]:
            raise InputError(
                f"{what}: row {number} has shape {array.shape} and row {first} {arrays[first].shape}; "
                f"expected {expected}, the same after the first axis"
            )
    return arrays


def expected_row(given):
    """The shape of a row of an input, in words: '(any, 3)'."""
    sizes = given.shape[2:]
    return f"({', '.join('any' if size is None else str(size) for size in (None, *sizes))}{'' if sizes else ','})"


def _as_strings(array, what):
    """Text as an array of `bytes` in UTF-8, from str or bytes."""
    if array.dtype.kind not in "USO":
        raise InputError(f"{what}: has dtype {array.dtype}; expected strings")
    found = array.ravel().tolist()
    for item in found:
        if not isinstance(item, (str, bytes)):
            raise InputError(f"{what}: holds {item!r}; expected strings")
    strings = np.empty(len(found), object)
    strings[:] = [utf8(item, what) for item in found]
    return strings.reshape(array.shape)
