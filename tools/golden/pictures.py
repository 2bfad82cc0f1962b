"""Golden models of layers over images and signals, of SpectralNormalization and ReversibleEmbedding.

Keras resizes and levels images in float32 whatever the dtype of computation. So these inputs and weights of pixels are
numbers that float32 holds exactly, and the cases have no more pixels than needed.
"""

import numpy as np

from .convolution import beside, each
from .registry import KERAS, TF_KERAS, case, floats, ids


def quarters(*shape):
    return lambda rng: (rng.integers(-16, 17, shape) / 4).astype("float32")


def back(k, shape, make):
    """The layers beside each other, and Dense layers that bring float64 back."""
    x = k.Input(shape)
    return k.Model(x, [k.layers.Dense(1)(layer(x)) for layer in make(k.layers)])


def resized(family, name, why, make, on=(KERAS, TF_KERAS), shape=(4, 8, 1)):
    case(family, name, why, quarters(1, *shape), lambda k: back(k, shape, make), on=on)


resized(
    "shape2",
    "resizing",
    "Resizing by halves and doubles, whose weights are exact; CenterCrop of larger and smaller images",
    lambda L: [
        L.Resizing(2, 4, interpolation="nearest"),
        L.Resizing(8, 4),
        L.Resizing(4, 4, crop_to_aspect_ratio=True),
        L.CenterCrop(3, 5),
        L.CenterCrop(8, 4),
    ],
)
resized(
    "shape2",
    "resizing_keras3",
    "pad_to_aspect_ratio, channels_first, RandomCrop that leaves images as they are",
    lambda L: [
        L.Resizing(2, 4, antialias=True, interpolation="nearest"),
        L.Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=0.5),
        L.Resizing(2, 16, data_format="channels_first", interpolation="nearest"),
        L.RandomCrop(2, 2),
        L.MaxNumBoundingBoxes(3),
    ],
    on=(KERAS,),
    shape=(4, 8, 2),
)
resized(
    "shape2",
    "resizing_tf_keras",
    "means of areas, RandomCrop that resizes",
    lambda L: [L.Resizing(2, 2, interpolation="area"), L.RandomCrop(2, 4)],
    on=(TF_KERAS,),
)
case(
    "shape2",
    "levels",
    "AutoContrast and the histograms of a grid; levels that divide 255",
    lambda rng: rng.permutation(np.repeat([0, 51, 102, 255], 8)).reshape(1, 4, 8, 1).astype("float32"),
    lambda k: back(
        k,
        (4, 8, 1),
        lambda L: [
            L.AutoContrast(),
            L.ContrastLimitedAdaptiveHistogramEqualization(clip_limit=0.0, tile_grid_size=(1, 1)),
            L.Activation("linear"),
        ],
    ),
    on=(KERAS,),
)
each(
    "shape",
    "stft",
    "STFTSpectrogram: modes, windows that overlap, padding, axes",
    (20, 2),
    lambda L: [
        L.STFTSpectrogram("log", 6, 2),
        L.STFTSpectrogram("magnitude", 5, 3, 8, padding="same"),
        L.STFTSpectrogram("psd", 4, expand_dims=True),
        L.STFTSpectrogram("real", 4, 4, window="hamming", scaling="spectrum"),
        L.STFTSpectrogram("imag", 4, 3, data_format="channels_last", padding="same"),
        L.STFTSpectrogram("stft", 7, 2),
    ],
    on=(KERAS,),
)
case(
    "dense",
    "spectral_normalization",
    "SpectralNormalization around Dense, Conv1D and inside TimeDistributed: nothing at inference",
    floats(2, 5, 3),
    lambda k: beside(
        k,
        (5, 3),
        lambda L: [
            L.SpectralNormalization(L.Dense(4, activation="tanh")),
            L.SpectralNormalization(L.Conv1D(2, 3), power_iterations=2),
            L.TimeDistributed(L.SpectralNormalization(L.Dense(2))),
        ],
    ),
    on=(KERAS,),
)


def language_model(k, tied):
    words = k.layers.ReversibleEmbedding(11, 4, tie_weights=tied, mask_zero=True, logit_soft_cap=None if tied else 2.0)
    x = k.Input((None,), dtype="int32")
    return k.Model(x, words(k.layers.LSTM(4, return_sequences=True)(words(x)), reverse=True))


for _tied in (True, False):
    case(
        "embedding",
        f"reversible_{'tied' if _tied else 'own'}",
        "ReversibleEmbedding at both ends of a network, one with logits of its own",
        ids(),
        lambda k, tied=_tied: language_model(k, tied),
        on=(KERAS,),
    )
