"""Rows of a batch that are equal: logs and short texts repeat, and a row's bits depend on the row alone.

A key of each row says which rows may be equal; those are compared. Imports NumPy; knows nothing of layers.
"""

import numpy as np

# Rows with one key that are compared with each other; further ones count as different. So do all that are left, once
# rows with one key were found so many times oftener different than equal: looking for more would cost time alone.
MOST_COMPARED, MOST_DIFFERENT = 8, 64
# Timesteps that a key reads of a row of an array: ends, where texts are, and some between them.
_ENDS, _BETWEEN = 8, 16
# Multiplications for each number that a key reads, below which keys would cost more than 1 per cent of the time.
WORTH_KEYS = 7500
# Multiplications of all rows, for the calls that do not depend on their number.
WORTH_LOOKING = 500_000_000
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ROWS = 4096


class Taken:
    """Some rows of an array, of which a few are read at a time: copying all may cost more than equal ones save."""

    def __init__(self, array, rows):
        self.array, self.rows, self.ndim, self.dtype = array, rows, array.ndim, array.dtype
        self.shape = (len(rows), *array.shape[1:])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, chunk):
        return self.array[self.rows[chunk]]


def worth_looking(arrays, work):
    """Whether keys are cheap beside `work` multiplications a row."""
    if not all(array.dtype.kind in "fiub" for array in arrays) or work * len(arrays[0]) < WORTH_LOOKING:
        return False
    return work >= WORTH_KEYS * sum(map(_numbers, arrays))


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
    different = 0
    for row in np.flatnonzero(alike).tolist():
        known = kinds.setdefault(keys[row], [])
        same = next((other for other in known if all(_same(array, row, other) for array in arrays)), None)
        if same is not None:
            first[row], different = same, different - 1
            continue
        different += len(known)
        if different > MOST_DIFFERENT:
            break
        if len(known) < MOST_COMPARED:
            known.append(row)
    firsts, places = np.unique(first, return_inverse=True)
    return (firsts, places) if len(firsts) < len(keys) else None


def _read(array):
    """(rows, numbers) that keys read of an array: of some timesteps a number each, of another feature each."""
    if not array.size:
        return np.zeros((len(array), 0), array.dtype)
    x = array.reshape(len(array), array.shape[1] if array.ndim > 1 else 1, -1)
    timesteps, features = x.shape[1:]
    at = np.arange(timesteps)
    if timesteps > 2 * _ENDS + _BETWEEN:
        between = np.linspace(_ENDS, timesteps - _ENDS, _BETWEEN, endpoint=False).astype(np.intp)
        at = np.concatenate([at[:_ENDS], between, at[-_ENDS:]])
    return x[:, at, at % features]


def _numbers(array):
    """How many a key reads of a row, roughly."""
    if array.ndim < 2:
        return 1
    return min(array.shape[1], 2 * _ENDS + _BETWEEN) if isinstance(array, np.ndarray) else array.shape[1]


def _keys(array):
    """(rows,) uint64."""
    if isinstance(array, np.ndarray):
        x = _read(array)
        weights = np.arange(1, x.shape[1] + 1, dtype=np.uint64) * _ODD | np.uint64(1)
        parts = [(_whole(x[k : k + _ROWS]) * weights).sum(axis=1, dtype=np.uint64) for k in range(0, len(x), _ROWS)]
        return np.concatenate(parts)
    values = array.values
    mixed = _whole(values if values.ndim == 1 else values[(slice(None), *[0] * (values.ndim - 1))]) * _ODD
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
