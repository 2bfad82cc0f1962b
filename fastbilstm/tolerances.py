"""When two results count as the same number: the constants and the one comparison used everywhere.

Imports NumPy only. The rules are stated for `y` (ours) against `k` (Keras').
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# float32: |y - k| <= RELATIVE * max(|k|, FLOOR * max|k| of that output), element by element.
FLOAT32_RELATIVE = 1e-5
FLOAT32_FLOOR = 0.1
# float64 (Keras run in float64): max|y - k| <= FLOAT64_RELATIVE * max|k| of that output.
FLOAT64_RELATIVE = 1e-12
# Keras computing in half precision (policies float16, mixed_float16, bfloat16, mixed_bfloat16), where we compute in
# float32: max|y - k| <= HALF_RELATIVE * max|k|. The error is Keras'; a float32 twin of the model is met as above.
HALF_RELATIVE = {"float16": 5e-3, "bfloat16": 5e-2}
# An int8 Dense rounds its input to 255 steps, as Keras does. Equal inputs give equal steps, and the tolerances above
# hold; an input within a rounding error of the middle between two steps may take the other one, which moves the
# outputs by up to one step (1/127 of the row's largest input) times the kernel.
# Some models magnify rounding errors, so that two right float32 outputs differ by more than FLOAT32_RELATIVE. An output
# may be this many times further from Keras than NumPy in float32 is from float64 in the same model ("rounding",
# relative to max|k|), if NumPy is near enough.
ROUNDINGS, MOST_ROUNDING = 8, 1e-3
# int8 kernels round states and inputs to 127 steps, beside the weights. How far that takes an output from the
# specification with the same weights is measured at conversion, and so is how far narrow weights take it from float32,
# both relative to max|k|. Another CPU or release may be this many times further away, and no further than a half.
NARROW_ROOM, MOST_NARROW = 4, 0.5
# On the IMDB models (400 timesteps) two correct float32 engines drift apart: bound on the probabilities.
IMDB_PROBABILITY = 3e-5


def narrow_error(measured: float) -> float:
    """The error that is allowed, relative to max|k|, where `measured` was found at conversion; see NARROW_ROOM."""
    return min(NARROW_ROOM * measured, MOST_NARROW)


@dataclass(frozen=True)
class Comparison:
    """Outcome of `compare`.

    Attributes
    ----------
    ok : bool
        Whether all elements are within the tolerance.
    max_abs, max_rel : float
        The largest absolute error, and that over max|k|.
    where : tuple of int
        The element of the largest error, or of the one that is furthest out of the tolerance.
    message : str
        The outcome in a sentence.
    """

    ok: bool
    max_abs: float
    max_rel: float
    where: tuple[int, ...]
    message: str


def compare(
    y: ArrayLike,
    k: ArrayLike,
    dtype: Literal["float32", "float64"] = "float32",
    rounding: float = 0.0,
    at_least: float = 0.0,
) -> Comparison:
    """Compare an output with Keras' by the project's tolerance for `dtype`.

    Parameters
    ----------
    y, k : array_like
        Our output and Keras', of one shape.
    dtype : {"float32", "float64"}
        The precision both were computed in.
    rounding : float
        For float32: how far NumPy's float32 is from float64 in this model, relative to max|k|; see ROUNDINGS.
    at_least : float
        An error that is allowed in any case, relative to max|k|; see `narrow_error`.

    Returns
    -------
    Comparison
    """
    y, k = np.asarray(y), np.asarray(k)
    if y.shape != k.shape:
        return Comparison(False, np.inf, np.inf, (), f"shape {y.shape}, expected {k.shape}")
    if y.size == 0:
        return Comparison(True, 0.0, 0.0, (), "empty")
    if "O" in (y.dtype.kind, k.dtype.kind):
        bad = y != k
        where = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else ()
        return Comparison(not bad.any(), float(bad.any()), float(bad.any()), where, f"{bad.sum()} strings differ")
    if k.dtype.kind == "b" or y.dtype.kind == "b":
        bad = y.astype(bool) != k.astype(bool)
        where = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else ()
        return Comparison(not bad.any(), float(bad.any()), float(bad.any()), where, f"{bad.sum()} booleans differ")
    y, k = y.astype(np.float64), k.astype(np.float64)
    special = ~np.isfinite(k) | ~np.isfinite(y)
    same_special = (np.isnan(y) & np.isnan(k)) | (y == k)
    if not same_special[special].all():
        where = tuple(int(i) for i in np.argwhere(special & ~same_special)[0])
        return Comparison(False, np.inf, np.inf, where, f"at {where}: {y[where]}, expected {k[where]}")
    y, k = np.where(special, 0.0, y), np.where(special, 0.0, k)
    error = np.abs(y - k)
    peak = np.abs(k).max()
    if dtype == "float32":
        allowed = FLOAT32_RELATIVE * np.maximum(np.abs(k), FLOAT32_FLOOR * peak)
        if rounding <= MOST_ROUNDING:
            allowed = np.maximum(allowed, ROUNDINGS * rounding * peak)
    elif dtype == "float64":
        allowed = np.full(k.shape, FLOAT64_RELATIVE * peak)
    else:
        raise ValueError(f"dtype is {dtype!r}; expected 'float32' or 'float64'")
    allowed = np.maximum(allowed, at_least * peak)
    worst = np.unravel_index(np.argmax(error - allowed), error.shape)
    where = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
    max_abs = float(error.max())
    max_rel = max_abs / peak if peak else (0.0 if max_abs == 0 else np.inf)
    ok = bool((error <= allowed).all())
    at = tuple(int(i) for i in worst)
    message = f"largest error {max_abs:.3g} ({max_rel:.3g} of max|k|)"
    if not ok:
        message += f"; at {at}: {y[worst]:.9g}, expected {k[worst]:.9g}, allowed error {allowed[worst]:.3g}"
    return Comparison(ok, max_abs, float(max_rel), where if ok else at, message)
