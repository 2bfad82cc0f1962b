"""What is measured: the cells of the table in three families, ratios to reach, and the inputs they are measured on.

Reviews are the 200 of IMDB that tests/golden/demo holds as token ids. Where more are needed, the others are made of
these by a seed: each has the length of one of them, and ids drawn from all of theirs. Imports NumPy. Knows nothing of
engines.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nets import AROUND, NETS, SHORT, VOCABULARY, Input

DEMO = Path(__file__).resolve().parents[1] / "tests" / "golden" / "demo"
BATCHES = {"long": (1, 32), "short": (1, 8), "around": (1, 8, 32)}  # of each family
REVIEW_BATCHES = (32, 64)  # of rivals, in the call with all reviews
PADDED = 400
START = 1  # the token id that each review begins with

AS_CONVERTED, HAND_MADE, ANY = "as converted", "hand-made", "any"


@dataclass(frozen=True)
class Cell:
    """`products`: multiplications that a row needs: of kernels, scores and weighted sums. A product with an embedding
    is in a table, and a tile of 3 x 3 taps with many channels takes 16 for 36. `ratio`: form of the rival -> threads ->
    what to reach at each batch, where an aim is set.
    """

    name: str
    title: str
    products: int | None = None
    ratio: dict | None = None
    timesteps: int = 400
    real: bool = False
    family: str = "long"


def _ratio(one, two):
    return {ANY: {1: one, 2: two}}


def _lstm(units, features=0, timesteps=400, gates=4):
    """Products of a row in an LSTM, or with three gates in a GRU."""
    return timesteps * (features + units) * gates * units


def _short(kind, units, timesteps, features):
    title = f"{kind.upper()}({units}) on {timesteps} x {features}, Dense"
    products = _lstm(units, features, timesteps, 4 if kind == "lstm" else 3)
    name = f"{kind}{units}_{timesteps}x{features}"
    return Cell(name, title, products, _ratio((2, 2), (2, 2)), timesteps=timesteps, family="short")


_AROUND = {
    "captcha": (
        "captcha 200 x 50: two Conv2D and MaxPooling2D, Dense, BiLSTM(128), BiLSTM(64), Dense",
        200 * 50 * 9 * 32
        + 100 * 25 * 16 * 32 * 64 // 4
        + 50 * (768 * 64 + 128 * 21)
        + 2 * _lstm(128, 64, 50)
        + 2 * _lstm(64, 256, 50),
    ),
    "conv_lstm": ("400 tokens: Embedding, Conv1D(64, 5), MaxPooling1D(4), LSTM(70), Dense", _lstm(70, 64, 99)),
    "activity": (
        "128 x 9: two Conv1D(64), MaxPooling1D, BatchNormalization, LSTM(100), two Dense",
        126 * 27 * 64 + 124 * 192 * 64 + _lstm(100, 64, 62) + 100 * 106,
    ),
    "transformer": (
        "100 tokens: MultiHeadAttention(4, 16), Dense(128), LayerNormalization, BiLSTM(64), Dense",
        100 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * 100 * 100 * 64 + 2 * _lstm(64, 64, 100),
    ),
    "stacked_cells": ("100 x 16: RNN of two LSTMCell(64), Dense", _lstm(64, 16, 100) + _lstm(64, 64, 100)),
    "lstm_norm": ("100 x 16: LSTM(64) and LayerNormalization twice, Dense", _lstm(64, 16, 100) + _lstm(64, 64, 100)),
    "pictures": (
        "32 x 32 x 3: Conv2D(32), Conv2D(64), Conv2D(64), MaxPooling2D, two Dense",
        30 * 30 * 27 * 32 + (13 * 13 * 32 * 64 + 4 * 4 * 64 * 64) * 16 // 4 + 1024 * 64 + 640,
    ),
    "entities": (
        "50 words of 12 characters: TimeDistributed Conv1D(30), BiLSTM(100), Dense",
        2 * _lstm(100, 30, 50) + 50 * 200 * 9,
    ),
    "autoencoder": (
        "60 x 8: LSTM(64), RepeatVector, LSTM(64), Dense",
        _lstm(64, 8, 60) + 64 * 256 + _lstm(64, 0, 60) + 60 * 64 * 8,
    ),
    "translation": (
        "16 x 71 and 59 x 93: LSTM(256), its states to another LSTM(256), Dense",
        _lstm(256, 71, 16) + _lstm(256, 93, 59) + 59 * 256 * 93,
    ),
}
_MASKED = {AS_CONVERTED: {1: (25, 6), 2: (25, 6)}, HAND_MADE: {1: (2, 2), 2: (2, 2)}}
_ATTENTION = 2 * _lstm(64) + 400 * 400 * 128
_TAGGER = 2 * _lstm(256, 300, 100) + 2 * _lstm(256, 512, 100) + 100 * 512 * 17
CELLS = {
    cell.name: cell
    for cell in (
        Cell("lstm64", "Embedding(5000, 128), LSTM(64), Dense", _lstm(64), _ratio((2, 2.5), (1.8, 2.5))),
        Cell("bilstm64", "BiLSTM(64)", 2 * _lstm(64), _ratio((2, 2.5), (3, 3.5))),
        Cell("stack", "BiLSTM(64) + BiLSTM(32)", 2 * _lstm(64) + 2 * _lstm(32, 128), _ratio((1.8, 2), (2.5, 2.5))),
        Cell(
            "attention", "BiLSTM(64) + Attention + mean", 2 * _lstm(64) + 400 * 400 * 128, _ratio((1.7, 2.2), (2, 2.5))
        ),
        Cell("two_lstms", "two LSTM(64), one go_backwards, Concatenate", 2 * _lstm(64), _ratio((2, 2.5), (3, 3.5))),
        Cell("gru64", "Embedding(5000, 128), GRU(64), Dense", _lstm(64, gates=3), _ratio((2, 2), (2, 2))),
        Cell("bigru64", "BiGRU(64)", 2 * _lstm(64, gates=3), _ratio((2, 2), (2, 2))),
        Cell("masked_stack", "mask_zero stack, real lengths, pre-padded", None, _MASKED, real=True),
        Cell("tagger", "300 floats, BiLSTM(256) x 2, Dense(17)", _TAGGER, _ratio((1, 1), (1.3, 1)), timesteps=100),
        *(_short(kind, *sizes) for kind in ("lstm", "gru") for sizes in SHORT),
        *(Cell(name, *about, _ratio((1.2,) * 3, (1.2,) * 3), family="around") for name, about in _AROUND.items()),
    )
}
REVIEWS_CELL, START_CELL, REAL_REVIEWS = "reviews", "start", 200
# Nets whose recurrent layers have 100 timesteps at most, which may be unrolled.
UNROLLED = ("tagger", *(c.name for c in CELLS.values() if c.family != "long" and c.name != "pictures"))
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


def as_tuple(x):
    """The arrays of an input: `x` is one, or a tuple of them for a net with several inputs."""
    return x if isinstance(x, tuple) else (x,)


def first_rows(x, rows):
    return tuple(array[:rows] for array in x) if isinstance(x, tuple) else x[:rows]


def write_input(path, x):
    with open(path, "wb") as file:
        np.savez(file, *as_tuple(x))


def read_input(path):
    with np.load(path) as file:
        x = tuple(file.values())
    return x if len(x) > 1 else x[0]


def cell_input(cell, batch, seed=1):
    """The input of a cell: random ids or floats; of the masked cell reviews, at batch 1 one of mean length."""
    rng = np.random.default_rng([seed, batch])
    if cell.real:
        rows = pad(reviews(REAL_REVIEWS))
        if batch > 1:
            return rows[rng.permutation(len(rows))[:batch]]
        lengths = (rows != 0).sum(axis=1)
        return rows[[np.argmin(np.abs(lengths - lengths.mean()))]]
    x = tuple(one.random(rng, batch) for one in inputs(cell.name))
    return x if len(x) > 1 else x[0]


def inputs(net):
    """The inputs of a net, as `nets.Input`."""
    if net in AROUND:
        return AROUND[net]
    features, timesteps = NETS[net].features, CELLS[net].timesteps if net in CELLS else PADDED
    return (Input((timesteps, features)) if features else Input((timesteps,), VOCABULARY),)


def litert_files(net):
    """Kind of file -> (rows, whether recurrent layers are unrolled): LiteRT's files have fixed shapes."""
    batches = BATCHES[CELLS[net].family] if net in CELLS else REVIEW_BATCHES
    files = {f"{batch}.tflite": (batch, False) for batch in batches}
    return files | {f"unrolled.{batch}.tflite": (batch, True) for batch in batches if net in UNROLLED}
