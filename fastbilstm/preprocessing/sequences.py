"""pad_sequences, and checks that the rest of preprocessing shares. Imports NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..checks import check_whole
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Side = Literal["pre", "post"]

SIDES = ("pre", "post")
# NumPy 1 makes whole numbers of Python that a type does not hold others, where NumPy 2 raises OverflowError.
_WRAPS = np.__version__.startswith("1.")


def check_side(name: str, value: Side) -> Side:
    """`padding` or `truncating`."""
    if value not in SIDES:
        raise InputError(f"{name} is {value!r}; expected 'pre' or 'post'")
    return value


def check_texts(texts: Iterable[Any], kinds: tuple[type, ...] = (str,)) -> list[Any]:
    """A list of texts; raises InputError with the number of the first row that is none."""
    if isinstance(texts, (str, bytes)):
        raise InputError(f"one text was given, {texts[:40]!r}; expected a list of texts: put it in brackets")
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        raise InputError(f"the texts are an array of shape {texts.shape}; expected one axis, a text a row")
    try:
        texts = list(texts)
    except TypeError:
        raise InputError(f"the texts are of type {type(texts).__name__}; expected a list of str") from None
    for row, text in enumerate(texts):
        if not isinstance(text, kinds):
            raise InputError(f"row {row} is {str(text)[:40]!r} of type {type(text).__name__}; expected a text (str)")
    return texts


def check_rows(rows: Iterable[Any]) -> list[Any]:
    """A list of texts, or of lists of tokens; raises InputError with the number of the first row of another kind."""
    rows = list(rows) if isinstance(rows, tuple) else rows
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], (list, tuple)):
        return check_texts(rows)
    for number, row in enumerate(rows):
        if not isinstance(row, (list, tuple)):
            raise InputError(f"row {number} is of type {type(row).__name__}; expected a list of tokens, as row 0")
        for token in row:
            if not isinstance(token, str):
                raise InputError(f"row {number}: its token {token!r} is of type {type(token).__name__}; expected str")
    return [list(row) for row in rows]


def pad_sequences(
    sequences: Sequence[ArrayLike] | NDArray[Any],
    maxlen: int | None = None,
    dtype: DTypeLike = "int32",
    padding: Side = "pre",
    truncating: Side = "pre",
    value: float | str = 0.0,
) -> NDArray[Any]:
    """Cut or fill sequences to one length, as `keras.utils.pad_sequences` does.

    Parameters
    ----------
    sequences : sequence of sequences
        Token ids, or frames: the axes after the first are the same for all.
    maxlen : int, optional
        Timesteps of the result; default those of the longest sequence.
    dtype : str or dtype
        Of the result. As in Keras the default is int32, which cuts fractions off: give "float32" for frames, and
        `object` for texts of different lengths.
    padding, truncating : {"pre", "post"}
        Where values are filled in, and where they are cut off.
    value : float or str
        What is filled in.

    Returns
    -------
    ndarray, (len(sequences), maxlen, ...)

    Raises
    ------
    InputError
        If an argument or a sequence does not fit; names the position of the sequence. Whole numbers that `dtype` does
        not hold are refused too, where Keras lets arrays wrap around.
    """
    check_side("padding", padding)
    check_side("truncating", truncating)
    maxlen = check_whole("maxlen", maxlen, 1)
    if not hasattr(sequences, "__len__") or isinstance(sequences, (str, bytes)):
        raise InputError(f"sequences is of type {type(sequences).__name__}; expected a list of sequences")
    try:
        dtype = np.dtype(dtype)
    except TypeError as error:
        raise InputError(f"dtype is {dtype!r}, which NumPy does not know ({error})") from None
    if isinstance(value, str) and dtype.kind not in "OUS":
        raise InputError(f"value is {value!r} and dtype is {dtype}; set dtype=object for texts")
    lengths, shape = [], None
    for position, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__") or isinstance(sequence, (str, bytes)) or getattr(sequence, "ndim", 1) == 0:
            raise InputError(f"the sequence at position {position} is {str(sequence)[:40]!r}; expected a list or array")
        lengths.append(len(sequence))
        if shape is None and lengths[-1]:
            shape = np.shape(sequence[0])
    if maxlen is None:
        if not lengths:
            raise InputError("there are no sequences, so no longest one; give maxlen")
        maxlen = max(lengths)
    shape = shape or ()
    try:
        y = np.full((len(lengths), maxlen, *shape), value, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"value is {value!r}, which dtype {dtype} does not hold ({error})") from None
    for position, (sequence, length) in enumerate(zip(sequences, lengths)):
        if not length:
            continue
        kept = _cast(sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen], dtype, position)
        if kept.shape[1:] != shape:
            raise InputError(
                f"the sequence at position {position} has steps of shape {kept.shape[1:]}, those before it {shape}"
            )
        if padding == "pre":
            y[position, maxlen - len(kept) :] = kept
        else:
            y[position, : len(kept)] = kept
    return y


def _cast(sequence: Any, dtype: np.dtype[Any], position: int) -> Any:
    if getattr(sequence, "dtype", None) == dtype:
        return sequence
    try:
        with np.errstate(invalid="raise"):
            if _WRAPS and dtype.kind in "iu":
                sequence = np.asarray(sequence)
            kept = np.asarray(sequence, dtype)
    except (ValueError, TypeError, OverflowError, FloatingPointError) as error:
        raise InputError(f"the sequence at position {position} is no {dtype} array ({error})") from None
    if dtype.kind in "iu" and isinstance(sequence, np.ndarray) and sequence.dtype.kind in "iu":
        if not np.can_cast(sequence.dtype, dtype) and not np.array_equal(kept, sequence):
            raise InputError(f"the sequence at position {position} holds numbers that {dtype} does not hold")
    return kept
