"""Rows of different lengths: how they are read, when they need no padding, how they are grouped and padded.

Where the answer does not depend on masked padding (`padding`), rows of similar lengths are computed together, a group
padded to its own longest row. Else rows are padded as Keras' pad_sequences does, batch after batch. Imports NumPy.
"""

import numpy as np

from ..analysis import padding
from ..errors import InputError
from ..layers.core import check_ids
from .arrays import OTHER_LENGTHS, check_array, expected_row, read_rows, with_last_axis

# A group of rows is closed where its padded timesteps would be more than this many times those of its rows.
MOST_PADDING = 3


class Ragged:
    """Rows of different lengths, one after another; read like an array of which a few rows are taken at a time.

    Attributes
    ----------
    values : ndarray, shape (timesteps of all rows, ...)
    lengths, starts : ndarray, shape (rows,)
        Row k is ``values[starts[k] : starts[k] + lengths[k]]``.
    skipped : ndarray, shape (rows,)
        Timesteps that `truncating` took away before it.
    width : int or None
        Timesteps that every row is padded to; None: each batch to its own longest row, masked.
    side : {"pre", "post"}
    value : float
        What padding holds.
    """

    def __init__(self, values, lengths, skipped):
        self.values, self.lengths, self.skipped = values, lengths, skipped
        self.starts = np.cumsum(lengths) - lengths
        self.width, self.side, self.value = None, "post", 0.0

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, rows):
        """A padded array of the rows of a slice or of an array of row numbers."""
        starts, lengths = self.starts[rows].tolist(), self.lengths[rows].tolist()
        width = self.width or max(lengths, default=1) or 1
        batch = np.full((len(lengths), width, *self.values.shape[1:]), self.value, self.dtype)
        for row, start, length in zip(batch, starts, lengths):
            first = width - length if self.side == "pre" else 0
            row[first : first + length] = self.values[start : start + length]
        return batch

    def taken(self, rows):
        """The Ragged of an array of row numbers."""
        kept = Ragged(self.values, self.lengths[rows], self.skipped[rows])
        kept.starts, kept.width, kept.side, kept.value = self.starts[rows], self.width, self.side, self.value
        return kept

    @property
    def dtype(self):
        """The dtype of the values, or one that holds what padding holds, too."""
        dtype = self.values.dtype
        with np.errstate(all="ignore"):
            fits = dtype.kind == "f" or np.asarray(self.value).astype(dtype) == self.value
        return dtype if fits else np.float64

    @property
    def ndim(self):
        return 1 + self.values.ndim

    @property
    def shape(self):
        """Of the padded array; where each batch has a width of its own, with the mean of the lengths."""
        width = -(-int(self.lengths.sum()) // max(len(self), 1)) if self.width is None else self.width
        return (len(self), width, *self.values.shape[1:])

    def place(self, position):
        """(row, timestep, ...) as the user gave them, of a position in `values`."""
        row = int(np.searchsorted(self.starts, position[0], side="right")) - 1
        return (row, position[0] - int(self.starts[row]) + int(self.skipped[row]), *position[1:])


# ---- reading rows ---------------------------------------------------------------------------------------------------


def read(rows, given, limit, maxlen=None, truncating="pre"):
    """A Ragged of rows (each an array_like), cut to `maxlen`; InputError names the first row that does not fit."""
    what, sizes = f"input {given.name!r}", given.shape[2:]
    arrays = read_rows(rows, given)
    lengths = np.array([len(array) for array in arrays], np.intp)
    skipped = np.zeros(len(arrays), np.intp)
    if maxlen is not None and lengths.max(initial=0) > maxlen:
        if truncating == "pre":
            skipped = np.maximum(lengths - maxlen, 0)
            arrays = [array[-maxlen:] for array in arrays]
        else:
            arrays = [array[:maxlen] for array in arrays]
        lengths = np.minimum(lengths, maxlen)
    filled = [number for number, length in enumerate(lengths.tolist()) if length]
    if not filled:
        kind = np.float32 if given.dtype.startswith("float") and limit is None else np.int32
        values = np.zeros((0, *(size or 1 for size in sizes)), kind)
    else:
        values = with_last_axis(np.concatenate([arrays[number] for number in filled]), given.shape[1:])
        fits = values.ndim == 1 + len(sizes) and 0 not in values.shape
        if not fits or any(e is not None and size != e for size, e in zip(values.shape[1:], sizes)):
            shape = arrays[filled[0]].shape
            raise InputError(f"{what}: row {filled[0]} has shape {shape}; expected {expected_row(given)}")
    found = Ragged(values, lengths, skipped)
    if limit is not None:
        check_ids(values, limit, f"{what}: the token id", found.place)
        if values.dtype.itemsize > 4 and values.dtype.kind in "iu" and given.dtype in ("int32", "float32"):
            found.values = values.astype(np.int32)  # as the input declares, or as few bytes
    return found


# ---- what is done with them -----------------------------------------------------------------------------------------


def check(plan, given, differ, options):
    """(arrays, cuts) of `model_input.check` for what was given for each input; `differ`: which are rows of lengths."""
    inputs = plan.network.graph.inputs
    arrays = [
        _check_input(plan, number, values, unlike, options)
        for number, (values, unlike) in enumerate(zip(given, differ))
    ]
    found = [number for number, array in enumerate(arrays) if isinstance(array, Ragged)]
    cuts_or_pads = options.pad is not None or options.maxlen is not None
    if cuts_or_pads and not found and not any(map(_is_sequence, inputs, plan.id_limits)):
        names = ", ".join(repr(i.name) for i in inputs)
        raise InputError(f"pad= and maxlen= are for sequences; the model has none among its inputs ({names})")
    if not found:
        return arrays, None
    verdict = plan.padding if len(arrays) == 1 else padding.verdict(plan.network, ragged=_alike(arrays, found))
    apart = verdict.free and plan.independent
    if options.pad is not None:
        masked = all(options.value == verdict.values[number] for number in found)
        if not apart or not masked or any(origin is not None for origin in verdict.outputs):
            return arrays, None
    elif not apart:
        raise InputError(_why_not(plan, verdict, inputs[found[0]], arrays[found[0]]))
    for number in found:
        ragged = arrays[number]
        ragged.width, ragged.side, ragged.value = None, "post", verdict.values[number]
    return arrays, [None if origin is None else arrays[origin].lengths for origin in verdict.outputs]


def _alike(arrays, found):
    """Each of the inputs `found` with the first of them whose rows have the same lengths."""
    return {k: next(n for n in found if np.array_equal(arrays[n].lengths, arrays[k].lengths)) for k in found}


def _why_not(plan, verdict, given, rows):
    """Why rows of different lengths need padding, and what to do."""
    low, high = rows.lengths.min(), rows.lengths.max()
    fixed = f" where the model has {given.shape[1]}" if given.shape[1] is not None else ""
    text = f"input {given.name!r}: its rows have {low if low == high else f'{low} to {high}'} timesteps{fixed}, and "
    if plan.stateful:
        text += f"layer {plan.stateful[0].name!r} is stateful: what it remembers would be that of padding"
    elif not verdict.free:
        text += f"{verdict.layer} makes padding matter"
    else:
        text += "rows of a batch depend on each other"
    text += '; pass pad="pre" or pad="post", and maxlen= (--pad, --maxlen), as the model was trained'
    return f"{text}; {OTHER_LENGTHS}" if fixed and low == high else text


def _is_sequence(given, limit):
    """Whether pad and maxlen are about an input even if its rows are all of the length that the model fixes."""
    if given.dtype == "string" or len(given.shape) < 2:
        return False
    return len(given.shape) > 2 or limit is not None or given.shape[1] is None


def _check_input(plan, number, values, differ, options):
    """An array, or a Ragged that is not one: with the width that `pad` asks for, if it does."""
    pad, maxlen, truncating, value = options
    given, limit = plan.network.graph.inputs[number], plan.id_limits[number]
    single, what = len(plan.network.graph.inputs) == 1, f"input {given.name!r}"
    if not differ:
        if (pad is None and maxlen is None) or not _is_sequence(given, limit):
            return check_array(values, given, limit)
        try:
            values = with_last_axis(np.asarray(values), given.shape)
        except ValueError:
            pass  # `read` tells which row
        if isinstance(values, np.ndarray) and (values.ndim != len(given.shape) or values.dtype.kind not in "biuf"):
            return check_array(values, given, limit)
    fixed = given.shape[1]
    rows = read(values, given, limit, maxlen, truncating)
    low, high = (rows.lengths.min(), rows.lengths.max()) if len(rows) else (0, 0)
    if fixed is not None and high > fixed:
        row = int(np.argmax(rows.lengths > fixed))
        raise InputError(
            f"{what}: row {row} has {rows.lengths[row]} timesteps; expected {fixed} at most; maxlen={fixed} cuts "
            f'longer rows (at the front; truncating="post": at the end); {OTHER_LENGTHS}'
        )
    if pad is not None and fixed is not None and maxlen not in (None, fixed) and (single or low != fixed):
        raise InputError(f"{what}: maxlen is {maxlen}; the model has {fixed} timesteps")
    width = (fixed or maxlen or high) if pad is not None else (fixed or high)
    if low == width and len(rows) and width:
        return rows.values.reshape(len(rows), width, *rows.values.shape[1:])
    if pad is None:
        return rows
    if not width:
        raise InputError(f"{what}: no row has a timestep; pass maxlen= to tell how many padding makes")
    if limit is not None and not -1 < value < limit:
        raise InputError(f"{what}: value is {value!r}; expected a token id, 0 to {limit - 1} (input_dim is {limit})")
    rows.width, rows.side, rows.value = int(width), pad, value
    return rows


# ---- groups ---------------------------------------------------------------------------------------------------------


def groups(arrays, size, count):
    """Row numbers of each group: `size` rows at most, of similar lengths; the longest first.

    Rows that make no more than `count` groups are dealt out to them in turn, so that each thread gets as much.
    """
    lengths = sum(np.maximum(array.lengths, 1) for array in arrays if isinstance(array, Ragged))
    order = np.argsort(-lengths, kind="stable")
    if len(order) <= size * count:
        hands = min(count, len(order)) or 1
        return [part for hand in range(hands) for part in _parts(order[hand::hands], lengths, size)]
    return _parts(order, lengths, size)


def _parts(order, lengths, size):
    result, first, total = [], 0, 0
    ordered = lengths[order].tolist()
    for place, length in enumerate(ordered):
        padded = ordered[first] * (place - first + 1)
        if place > first and (place - first == size or padded > MOST_PADDING * (total + length)):
            result.append(order[first:place])
            first, total = place, 0
        total += length
    return [*result, order[first:]]
