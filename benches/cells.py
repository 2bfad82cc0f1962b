"""What is measured: the cells of the table, with the ratios to reach, and the inputs they are measured on.

Reviews are the 200 of IMDB that tests/golden/demo holds as token ids. Where more are needed, the others are made of
these by a seed: each has the length of one of them, and ids drawn from all of theirs. Imports NumPy. Knows nothing of
engines.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nets import NETS, VOCABULARY

DEMO = Path(__file__).resolve().parents[1] / "tests" / "golden" / "demo"
BATCHES = (1, 32)
PADDED = 400
START = 1  # the token id that each review begins with

AS_CONVERTED, HAND_MADE, ANY = "as converted", "hand-made", "any"


@dataclass(frozen=True)
class Cell:
    """`floor`: ms on one thread at batch 1 and 32, where known. `ratio`: form of the rival -> threads -> what to reach
    at both.
    """

    name: str
    title: str
    floor: tuple | None
    ratio: dict
    timesteps: int = 400
    real: bool = False


def _ratio(one, two):
    return {ANY: {1: one, 2: two}}


_MASKED = {AS_CONVERTED: {1: (25, 6), 2: (25, 6)}, HAND_MADE: {1: (2, 2), 2: (2, 2)}}
CELLS = {
    cell.name: cell
    for cell in (
        Cell("lstm64", "Embedding(5000, 128), LSTM(64), Dense", (0.35, 6.5), _ratio((2, 2.5), (1.8, 2.5))),
        Cell("bilstm64", "BiLSTM(64)", (0.67, 12.5), _ratio((2, 2.5), (3, 3.5))),
        Cell("stack", "BiLSTM(64) + BiLSTM(32)", (1.1, 25), _ratio((1.8, 2), (2.5, 2.5))),
        Cell("attention", "BiLSTM(64) + Attention + mean", (1.3, 27), _ratio((1.7, 2.2), (2, 2.5))),
        Cell("two_lstms", "two LSTM(64), one go_backwards, Concatenate", (0.67, 12.5), _ratio((2, 2.5), (3, 3.5))),
        Cell("gru64", "Embedding(5000, 128), GRU(64), Dense", None, _ratio((2, 2), (2, 2))),
        Cell("bigru64", "BiGRU(64)", None, _ratio((2, 2), (2, 2))),
        Cell("masked_stack", "mask_zero stack, real lengths, pre-padded", (0.6, 14), _MASKED, real=True),
        Cell("tagger", "300 floats, BiLSTM(256) x 2, Dense(17)", (10, 185), _ratio((1, 1), (1.3, 1)), timesteps=100),
    )
}
REVIEWS_CELL, START_CELL, REAL_REVIEWS = "reviews", "start", 200
REVIEWS_RATIO, START_RATIO, MEMORY_RATIO = 3, 1.2, 1.5


def reviews(rows, seed=0):
    """`rows` lists of token ids (int32 arrays) of 35 to 925 timesteps: the committed reviews, then made ones."""
    with np.load(DEMO / "reviews.npz") as file:
        ids, offsets = file["ids"].astype(np.int32), file["offsets"]
    real = np.split(ids, offsets[1:-1])
    if rows <= len(real):
        return real[:rows]
    rng, words = np.random.default_rng(seed), ids[ids != START]
    lengths = rng.choice(np.diff(offsets), rows - len(real))
    made = np.split(rng.choice(words, lengths.sum()), np.cumsum(lengths)[:-1])
    for review in made:
        review[0] = START
    return real + made


def pad(rows, width=PADDED):
    """(rows, width) int32, padded and cut in front, as Keras' `pad_sequences(maxlen=width)` does."""
    padded = np.zeros((len(rows), width), np.int32)
    for target, row in zip(padded, rows):
        row = row[-width:]
        target[width - len(row) :] = row
    return padded


def cell_input(cell, batch, seed=1):
    """The input of a cell: random ids or floats; of the masked cell reviews, at batch 1 one of mean length."""
    net, rng = NETS[cell.name], np.random.default_rng([seed, batch])
    if cell.real:
        rows = pad(reviews(REAL_REVIEWS))
        if batch > 1:
            return rows[rng.permutation(len(rows))[:batch]]
        lengths = (rows != 0).sum(axis=1)
        return rows[[np.argmin(np.abs(lengths - lengths.mean()))]]
    if net.features is None:
        return rng.integers(1, VOCABULARY, (batch, cell.timesteps), dtype=np.int32)
    return rng.standard_normal((batch, cell.timesteps, net.features)).astype(np.float32)
