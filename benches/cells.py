"""What is measured: the cells of the table, with the ratios to reach, and the inputs they are measured on.

Real reviews come from the shared folder (FASTBILSTM_SHARED, by default ../shared beside the project). Imports NumPy.
Knows nothing of engines.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nets import NETS, VOCABULARY

SHARED = Path(os.environ.get("FASTBILSTM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
REVIEWS = SHARED / "imdb" / "imdb_5000.npz"
BATCHES = (1, 32)
PADDED = 400

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
REVIEWS_CELL, START_CELL = "reviews", "start"
REVIEWS_RATIO, START_RATIO, MEMORY_RATIO = 3, 1.2, 1.5


def missing_data(net):
    """Why the cell of that net cannot be measured here, or None."""
    needed = [SHARED / NETS[net].trained, REVIEWS] if NETS[net].trained else []
    for path in needed:
        if not path.exists():
            return f"{path.relative_to(SHARED)} of the shared folder is missing (FASTBILSTM_SHARED)"
    return None


def read_reviews(rows=None):
    """The first test reviews as (rows, 400) int32, padded and cut in front, as `pad_sequences(maxlen=400)` does."""
    with np.load(REVIEWS) as file:
        ids, offsets = file["test_ids"], file["test_offsets"]
    count = len(offsets) - 1 if rows is None else min(rows, len(offsets) - 1)
    padded = np.zeros((count, PADDED), np.int32)
    for row in range(count):
        review = ids[offsets[row] : offsets[row + 1]][-PADDED:]
        padded[row, PADDED - len(review) :] = review
    return padded


def cell_input(cell, batch, seed=1):
    """The input of a cell: random ids or floats; of the masked cell real reviews, at batch 1 one of mean length."""
    net, rng = NETS[cell.name], np.random.default_rng([seed, batch])
    if cell.real:
        reviews = read_reviews(1000)
        if batch > 1:
            return reviews[rng.permutation(len(reviews))[:batch]]
        lengths = (reviews != 0).sum(axis=1)
        return reviews[[np.argmin(np.abs(lengths - lengths.mean()))]]
    if net.features is None:
        return rng.integers(1, VOCABULARY, (batch, cell.timesteps), dtype=np.int32)
    return rng.standard_normal((batch, cell.timesteps, net.features)).astype(np.float32)
