"""Narrow weights: float32 arrays as int8, bfloat16 or float16, and back. NumPy alone; knows no layers and no files.

A narrowed array is an ordinary float32 array whose elements the form can hold. Narrowing it again changes nothing, to
the bit: a file may store the codes, the kernels may pack them, and each makes them of the same array by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

FORMS = ("float32", "bfloat16", "float16", "int8")
# Codes of int8 are -127 to 127: -128 is left out, so that -w has a code wherever w has one.
LARGEST = 127


def int8_codes(array: NDArray[np.float32], axis: int | tuple[int, ...]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The codes of an array, and a scale for each slice along `axis`: array is near codes * scale.

    Parameters
    ----------
    array : ndarray, float32
        Finite numbers.
    axis : int or tuple of int
        The axes that share a scale. A kernel (F, U) has a scale for each of its U columns with axis 0, a table of
        embeddings (V, F) one for each of its V rows with axis 1.

    Returns
    -------
    codes : ndarray of the same shape, int8
        rint(array / scale), halves to even, -127 to 127.
    scale : ndarray, float32, size 1 along `axis`
        max|array| / 127, rounded up to 16 significant bits: codes * scale and 127 * scale are exact. 0 where all
        elements are below 2**-100, whose codes are 0.
    """
    largest = np.abs(array).max(axis=axis, keepdims=True, initial=0).astype(np.float64) / LARGEST
    fraction, exponent = np.frexp(largest)
    scale = np.where(largest < 2.0**-107, 0, np.ldexp(np.ceil(np.ldexp(fraction, 16)), exponent - 16))
    codes = np.rint(array / np.where(scale == 0, np.inf, scale))
    return codes.astype(np.int8), scale.astype(np.float32)


def bfloat16_codes(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of the float32 numbers, rounded to the nearest, halves to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), bits >> 16 | 0x40, rounded).astype(np.uint16)


def codes_of(
    array: NDArray[np.float32], form: str, axis: int | tuple[int, ...] = 0
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """(codes, scale or None) of an array in a form other than float32: what `widened` takes."""
    if form == "int8":
        return int8_codes(array, axis)
    return (bfloat16_codes(array) if form == "bfloat16" else array.astype(np.float16)), None


def narrowed(array: NDArray[np.float32], form: str, axis: int | tuple[int, ...] = 0) -> NDArray[np.float32]:
    """The array rounded to a form of FORMS, as float32. `axis` as for int8_codes; the other forms have no scale.

    Raises
    ------
    ValueError
        If the form cannot hold an element: NaN or an infinity in int8, a number above 65,504 in float16, a finite
        number that would become an infinity in bfloat16.
    """
    if form == "float32":
        return array
    if form == "int8" and not np.isfinite(array).all():
        raise ValueError("NaN or infinity, which int8 cannot hold")
    with np.errstate(over="ignore"):
        found = widened(*codes_of(array, form, axis))
    if (np.isinf(found) & ~np.isinf(array)).any():
        raise ValueError(f"{np.abs(array[np.isfinite(array)]).max():g}, which {form} cannot hold")
    return found


def widened(codes: NDArray[Any], scale: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """float32 of what a form stores: int8 with its scale, uint16 (bfloat16) or float16."""
    if scale is not None:
        return codes * scale
    if codes.dtype == np.uint16:
        return (codes.astype(np.uint32) << 16).view(np.float32)
    return codes.astype(np.float32)
