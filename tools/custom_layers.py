"""Examples of `fastbilstm.register_layer`: an attention-weighted average, and a CRF that gives the best tags.

Copy what you need beside your own code and adapt names and options to the class in your file. Importing this module
registers nothing; `register()` does.
"""

import numpy as np

import fastbilstm


def attention_weighted_average(x, mask, weights, config):
    """The mean of the timesteps, weighted by softmax(x.W) (DeepMoji's layer, and many like it).

    x (B, T, F), mask (B, T) or None, W (F, 1) -> (B, F); with return_attention also the weights (B, T).
    """
    logits = (x @ weights["W"])[:, :, 0]
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    if mask is not None:
        scores = scores * mask
    attention = scores / (scores.sum(axis=1, keepdims=True) + np.asarray(1e-7, x.dtype))
    average = np.sum(x * attention[:, :, np.newaxis], axis=1)
    return [average, attention] if config["return_attention"] else average


def attention_shape(shape, config):
    batch, timesteps, features = shape
    return [(batch, features), (batch, timesteps)] if config["return_attention"] else (batch, features)


def viterbi(x, mask, weights, config):
    """The best sequence of tags of a linear-chain CRF, for each row.

    x (B, T, K) energies of the tags, transitions (K, K) from the tag before to the tag, left and right (K,) energies of
    the first and of the last tag -> tags (B, T). Masked timesteps, which must be at the end, get tag 0.
    """
    transitions, batch, timesteps = weights["transitions"], len(x), x.shape[1]
    keep = np.ones((batch, timesteps), bool) if mask is None else mask
    score = x[:, 0] + weights["left_boundary"]
    before = np.zeros(x.shape, np.int32)
    for t in range(1, timesteps):
        through = score[:, :, np.newaxis] + transitions
        before[:, t] = np.argmax(through, axis=1)
        score = np.where(keep[:, t, np.newaxis], np.max(through, axis=1) + x[:, t], score)
    tag = np.argmax(score + weights["right_boundary"], axis=1)
    tags = np.zeros((batch, timesteps), np.int32)
    rows = np.arange(batch)
    for t in range(timesteps - 1, -1, -1):
        tags[:, t] = np.where(keep[:, t], tag, 0)
        tag = np.where(keep[:, t], before[rows, t, tag], tag)
    return tags


def crf_weights(config):
    units = config["units"]
    return {"transitions": (units, units), "left_boundary": (units,), "right_boundary": (units,)}


def register():
    """Make both classes known; call it before `load`."""
    fastbilstm.register_layer(
        "AttentionWeightedAverage",
        attention_weighted_average,
        weights={"W": (None, 1)},
        options={"return_attention": False},
        output_shape=attention_shape,
    )
    fastbilstm.register_layer(
        "CRF",
        viterbi,
        weights=crf_weights,
        options=("units",),
        output_shape=lambda shape, config: shape[:2],
    )
