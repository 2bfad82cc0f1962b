"""Rows of different lengths, and the arrays they are padded to. Imports NumPy only."""

import numpy as np

VOCABULARY, FEATURES = 30, 3
LENGTHS = (5, 1, 9, 3, 9, 2, 7)
WIDTH = 11


def token_rows(lengths=LENGTHS, seed=0):
    """Rows of ids, one of them with masked holes at both ends and inside."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, VOCABULARY, length).tolist() for length in lengths]
    rows[2][0] = rows[2][3] = rows[2][-1] = 0
    return rows


def frame_rows(mask_value, lengths=LENGTHS, seed=1):
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((length, FEATURES)).astype("f4") for length in lengths]
    rows[2][[0, 3, -1]] = mask_value
    return rows


def padded(rows, side, value=0, width=WIDTH):
    """The array that pad_sequences makes of rows no longer than `width`."""
    rows = [np.asarray(row) for row in rows]
    whole = np.full((len(rows), width, *rows[0].shape[1:]), value, rows[0].dtype)
    for target, row in zip(whole, rows):
        target[width - len(row) if side == "pre" else 0 :][: len(row)] = row
    return whole


def cut(y, lengths, side):
    """The timesteps of each row in an answer to a padded array."""
    return [row[len(row) - n :] if side == "pre" else row[:n] for row, n in zip(y, lengths)]
