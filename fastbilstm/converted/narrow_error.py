"""What narrow weights cost: a narrowed model beside its float32 twin, rows in, largest differences and labels out.

Imports NumPy; both models are handed in.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, unreadable
from ..inputs import model_input
from ..tolerances import compare
from .narrow_file import Measured
from .self_check import many_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 32
# Rows are probabilities of classes if their sums are this near to 1.
_SUM = 1e-3


def measure(narrow: Any, wide: Any, calibrate: Any = None) -> tuple[Measured, ...]:
    """Compare two models on made-up rows and on those of `calibrate`, if there are some; see `convert`."""
    x = many_rows(narrow)
    found = [_compared(narrow, wide, x, f"{len(x[0])} made-up rows")]
    if calibrate is not None:
        x, title = _read_rows(calibrate)
        try:
            found.append(_compared(narrow, wide, x, title))
        except InputError as error:
            raise InputError(f"calibrate, {title}: {error}") from error
    return tuple(found)


def _compared(narrow: Any, wide: Any, x: Any, rows: str) -> Measured:
    """The answers of two models to `x`, which is what `Model.predict` takes; `rows` says what it is."""
    ours, theirs = (_answers(model, x) for model in (narrow, wide))
    found = [compare(y, k) for y, k in zip(ours, theirs)]
    counts = [flips(y, k, narrow.labels is not None) for y, k in zip(ours, theirs)]
    flipped, labels = (sum(pair[k] for pair in counts) for k in (0, 1))
    return Measured(rows, tuple(c.max_abs for c in found), tuple(c.max_rel for c in found), flipped, labels)


def _answers(model: Any, x: Any) -> list[NDArray[Any]]:
    """The outputs in the order of the graph; rows of different lengths end to end. Stateful layers begin with zeros."""
    plan = model._plan
    arrays, rows, cuts = model_input.check(plan, x)
    size = model_input.fixed_batch(plan) or (_BATCH if plan.independent else max(rows, 1))
    outputs = plan.predict(arrays, size, {}, model.n_threads, None, cuts)
    return [np.concatenate(y) if isinstance(y, list) else y for y in outputs]


def flips(y: NDArray[Any], k: NDArray[Any], named: bool = False) -> tuple[int, int]:
    """(labels that differ, how many there are): of two outputs of one shape.

    The largest of probabilities whose sum is 1 (of any numbers, if the classes are `named`), the side of 0.5 of other
    numbers from 0 to 1, whole numbers themselves. Other outputs have no labels.
    """
    if y.shape != k.shape or y.size == 0 or y.ndim < 2:
        return 0, 0
    if k.dtype.kind in "iub":
        return int((y != k).sum()), y.size
    if k.dtype.kind != "f":
        return 0, 0
    between = bool(((k >= 0) & (k <= 1)).all())
    if k.shape[-1] > 1 and (named or (between and bool((np.abs(k.sum(axis=-1) - 1) < _SUM).all()))):
        differ = y.argmax(axis=-1) != k.argmax(axis=-1)
    elif between:
        differ = (y > 0.5) != (k > 0.5)
    else:
        return 0, 0
    return int(differ.sum()), differ.size


def _read_rows(calibrate: Any) -> tuple[Any, str]:
    """(what `predict` takes, what it is in words) of what `convert` was given: a path of .npy or .npz, or arrays."""
    if not isinstance(calibrate, (str, os.PathLike)):
        return calibrate, "the rows given"
    path = os.fspath(calibrate)
    try:
        found = np.load(path, allow_pickle=False)
        x = {name: found[name] for name in found.files} if hasattr(found, "files") else found
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path}: neither a .npy file of rows nor a .npz keyed by input name ({error}); calibrate takes these"
        ) from error
    return x, f"the rows of {os.path.basename(path)}"
