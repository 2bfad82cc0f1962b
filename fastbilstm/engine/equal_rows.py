"""Rows of a batch that are equal: logs and short texts repeat, and a row's bits depend on the row alone.

A key of each row says which rows may be equal; those are compared. Imports NumPy; knows nothing of layers.
"""

import numpy as np

# Rows with one key that are compared with each other; further ones count as different.
MOST_COMPARED = 8
# Multiplications for each number that a key reads, below which keys would cost more than 1 per cent of the time.
WORTH_KEYS = 7500
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ROWS = 4096


def worth_looking(arrays, work):
    """Whether keys are cheap beside `work` multiplications a row."""
    return all(array.dtype.kind in "fiub" for array in arrays) and work >= WORTH_KEYS * sum(map(_numbers, arrays))


def find(arrays):
    """(the number of the first of each kind of row, for each row the place of its kind), or None if all rows differ.

    arrays: for each input an array or a `ragged.Ragged`, of as many rows.
    """
    keys = sum(_keys(array) * (_ODD + np.uint64(2 * number)) for number, array in enumerate(arrays))
    order = np.argsort(keys, kind="stable")
    repeats = keys[order][1:] == keys[order][:-1]
    if not repeats.any():
        return None
    first, kinds = np.arange(len(keys)), {}
    alike = np.zeros(len(keys), bool)
    alike[order[1:][repeats]] = alike[order[:-1][repeats]] = True
    for row in np.flatnonzero(alike).tolist():
        known = kinds.setdefault(keys[row], [])
        same = next((other for other in known if all(_same(array, row, other) for array in arrays)), None)
        if same is not None:
            first[row] = same
        elif len(known) < MOST_COMPARED:
            known.append(row)
    firsts, places = np.unique(first, return_inverse=True)
    return (firsts, places) if len(firsts) < len(keys) else None


def _first_numbers(array):
    """The numbers that a key reads: the first one of each timestep."""
    return array if array.ndim < 3 else array[(..., *[0] * (array.ndim - 2))]


def _numbers(array):
    """How many a key reads of a row, roughly."""
    return 1 if array.ndim < 2 else array.shape[1]


def _keys(array):
    """(rows,) uint64."""
    if isinstance(array, np.ndarray):
        x = _first_numbers(array).reshape(len(array), -1)
        weights = np.arange(1, x.shape[1] + 1, dtype=np.uint64) * _ODD | np.uint64(1)
        parts = [(_whole(x[k : k + _ROWS]) * weights).sum(axis=1, dtype=np.uint64) for k in range(0, len(x), _ROWS)]
        return np.concatenate(parts)
    mixed = _whole(_first_numbers(array.values[np.newaxis])[0]) * _ODD
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed ^ (mixed >> np.uint64(29)), dtype=np.uint64)])
    lengths = array.lengths.astype(np.uint64)
    return sums[array.starts + array.lengths] - sums[array.starts] + lengths * np.uint64(0xD6E8FEB86659FD93)


def _whole(x):
    """Numbers as uint64, of the same bits where the bits are the same."""
    if x.dtype.kind == "f":
        x = np.ascontiguousarray(x)
        x = x.view(f"u{x.dtype.itemsize}")
    return x.astype(np.uint64)


def _same(array, row, other):
    """Whether two rows have the same bits."""
    return _row(array, row).tobytes() == _row(array, other).tobytes()


def _row(array, row):
    if isinstance(array, np.ndarray):
        return array[row]
    return array.values[array.starts[row] : array.starts[row] + array.lengths[row]]
