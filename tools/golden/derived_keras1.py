"""Derived cases of Keras 1.2.2: LSTM in twelve arrays, TimeDistributedDense, Merge, Bidirectional, BatchNorm."""

import math

import numpy as np

from . import derived_math as by_hand
from . import old_keras as old
from .derived import MASKS, derived, each, random_dense, sequences

LOOP = "keras/backend/tensorflow_backend.py:2169"


def keras1_stack(path, rng, suffix, consume_less, beside=False):
    lstm, (kernel, bias) = old.lstm_weights(rng, 2, 3), random_dense(rng, 3, 2)
    config = [
        old.keras1_lstm("lstm_1", 3, [None, 4, 2], consume_less=consume_less),
        old.keras1_dense("dense_1", 2, "softmax"),
    ]
    arrays = (
        old.keras1_gpu_arrays("lstm_1", lstm)
        if consume_less == "gpu"
        else old.keras1_lstm_arrays("lstm_1", lstm, suffix)
    )
    layers = [("lstm_1", arrays), ("dense_1", [(f"dense_1_W{suffix}", kernel), (f"dense_1_b{suffix}", bias)])]
    model = {"class_name": "Sequential", "config": config}
    old.write_hdf5(path, model, layers, "1.2.2", beside=beside)
    x = 2 * sequences(rng)
    y = each(x, lambda row, _: by_hand.softmax(by_hand.dense(by_hand.lstm(row, lstm)[1], kernel, bias)))
    return model, [x], [y]


for _name, _suffix, _mode, _beside in (
    ("lstm", ":0", "cpu", False),
    ("lstm_mem", "", "mem", False),
    ("lstm_gpu", ":0", "gpu", False),
    ("lstm_weights_json", ":0", "cpu", True),
):
    derived(
        f"keras1_{_name}",
        "Keras 1 LSTM and Dense: 12 arrays i, c, f, o (3 for consume_less gpu), config a list, hard_sigmoid 0.2x + 0.5",
        "keras 1.2.2",
        "keras/layers/recurrent.py:830, keras/backend/tensorflow_backend.py:2466",
    )(lambda path, rng, s=_suffix, m=_mode, b=_beside: keras1_stack(path, rng, s, m, b))


@derived(
    "keras1_embedding_time_distributed_dense",
    "Embedding(mask_zero), LSTM, TimeDistributedDense",
    "keras 1.2.2",
    f"{LOOP}, keras/layers/core.py:1258",
    "TimeDistributedDense",
)
def keras1_tagger(path, rng):
    table = rng.normal(0, 1, (6, 2)).astype(np.float32)
    lstm, (kernel, bias) = old.lstm_weights(rng, 2, 3), random_dense(rng, 3, 2)
    embedding = old.keras1_layer(
        "Embedding", "embedding_1", [None, 4], "int32", input_dim=6, output_dim=2, init="uniform", input_length=4,
        mask_zero=True, activity_regularizer=None, W_regularizer=None, W_constraint=None, dropout=0.0,
    )  # fmt: skip
    head = old.keras1_dense("timedistributeddense_1", 2, "tanh", "TimeDistributedDense")
    model = {
        "class_name": "Sequential",
        "config": [embedding, old.keras1_lstm("lstm_1", 3, return_sequences=True), head],
    }
    name = "timedistributeddense_1"
    layers = [
        ("embedding_1", [("embedding_1_W:0", table)]),
        ("lstm_1", old.keras1_lstm_arrays("lstm_1", lstm)),
        (name, [(f"{name}_W:0", kernel), (f"{name}_b:0", bias)]),
    ]
    old.write_hdf5(path, model, layers, "1.2.2")
    x = (rng.integers(1, 6, (5, 4)) * np.array(MASKS)).astype(np.int32)

    def answer(row, mask):
        emitted, *_ = by_hand.lstm(table[row].tolist(), lstm, mask)
        return [by_hand.dense(step, kernel, bias, math.tanh) for step in emitted]

    return model, [x], [each(x, answer)]


def keras1_bidirectional(path, rng, merge_mode, return_sequences):
    forward, backward = old.lstm_weights(rng, 2, 3), old.lstm_weights(rng, 2, 3)
    inner = old.keras1_lstm("lstm_1", 3, return_sequences=return_sequences)
    model = {
        "class_name": "Sequential",
        "config": [
            old.keras1_layer("Masking", "masking_1", [None, 4, 2], mask_value=0.0),
            old.keras1_layer("Bidirectional", "bidirectional_1", layer=inner, merge_mode=merge_mode),
        ],
    }
    arrays = old.keras1_lstm_arrays("forward_lstm_1", forward) + old.keras1_lstm_arrays("backward_lstm_1", backward)
    old.write_hdf5(path, model, [("masking_1", []), ("bidirectional_1", arrays)], "1.2.2")
    x = sequences(rng)
    options = {"merge_mode": merge_mode, "sequences": return_sequences}
    return model, [x], [each(x, lambda row, mask: by_hand.bidirectional(row, forward, backward, mask, **options))]


for _mode in ("concat", "sum", "mul", "ave"):
    for _sequences in (True, False):
        derived(
            f"keras1_bidirectional_{_mode}{'_sequences' * _sequences}",
            "Bidirectional of Keras 1 does not zero masked steps: they repeat the state",
            "keras 1.2.2",
            f"keras/layers/wrappers.py:201, {LOOP}",
        )(lambda path, rng, m=_mode, s=_sequences: keras1_bidirectional(path, rng, m, s))


@derived(
    "keras1_merge_towers",
    "Sequential that starts with Merge of two towers",
    "keras 1.2.2",
    "keras/models.py:1019, keras/engine/topology.py:1373",
    "Merge",
)
def keras1_towers(path, rng):
    lstm, first, second = old.lstm_weights(rng, 2, 3), random_dense(rng, 2, 3), random_dense(rng, 6, 2)
    towers = [
        {"class_name": "Sequential", "config": [old.keras1_lstm("lstm_1", 3, [None, 4, 2])]},
        {"class_name": "Sequential", "config": [old.keras1_dense("dense_1", 3, "relu", shape=[None, 2])]},
    ]
    config = [old.keras1_merge("merge_1", "concat", towers), old.keras1_dense("dense_2", 2, "sigmoid")]
    model = {"class_name": "Sequential", "config": config}
    layers = [
        ("lstm_1", old.keras1_lstm_arrays("lstm_1", lstm)),
        ("dense_1", [("dense_1_W:0", first[0]), ("dense_1_b:0", first[1])]),
        ("merge_1", []),
        ("dense_2", [("dense_2_W:0", second[0]), ("dense_2_b:0", second[1])]),
    ]
    old.write_hdf5(path, model, layers, "1.2.2")
    x, v = sequences(rng), rng.standard_normal((5, 2)).astype(np.float32)

    def answer(row, other):
        joined = by_hand.lstm(row, lstm)[1] + by_hand.dense(other, *first, act=lambda z: max(z, 0.0))
        return by_hand.dense(joined, *second, act=by_hand.sigmoid)

    return model, [[x, v]], [each(x, answer, v.tolist())]


def keras1_merge(path, rng, mode):
    """Two masked LSTMs merged, then an LSTM that sees the merged mask (all of the masks: Merge.compute_mask)."""
    a, b = old.lstm_weights(rng, 2, 3), old.lstm_weights(rng, 2, 3)
    last = old.lstm_weights(rng, 6 if mode == "concat" else 3, 2)
    layers = []
    for side in ("1", "2"):
        layers += [
            (old.keras1_layer("InputLayer", f"input_{side}", [None, 4, 2], sparse=False), []),
            (old.keras1_layer("Masking", f"masking_{side}", mask_value=0.0), [[f"input_{side}"]]),
            (old.keras1_lstm(f"lstm_{side}", 3, return_sequences=True), [[f"masking_{side}"]]),
        ]
    layers += [
        (old.keras1_merge("merge_1", mode), [["lstm_1", "lstm_2"]]),
        (old.keras1_lstm("lstm_3", 2), [["merge_1"]]),
    ]
    model = old.functional("model_1", layers, ["input_1", "input_2"], ["merge_1", "lstm_3"])
    weights = {"lstm_1": a, "lstm_2": b, "lstm_3": last}
    names = [layer["config"]["name"] for layer, _ in layers]
    arrays = [(n, old.keras1_lstm_arrays(n, weights[n]) if n in weights else []) for n in names]
    old.write_hdf5(path, model, arrays, "1.2.2")
    x, y = sequences(rng), sequences(rng)[::-1].copy()
    merged, ends = [], []
    for row, other, mask, its in zip(x.tolist(), y.tolist(), MASKS, MASKS[::-1], strict=True):
        pairs = zip(by_hand.lstm(row, a, mask)[0], by_hand.lstm(other, b, its)[0], strict=True)
        merged.append([by_hand.merge(p, q, mode) for p, q in pairs])
        ends.append(by_hand.lstm(merged[-1], last, [p and q for p, q in zip(mask, its, strict=True)])[1])
    return model, [[x, y]], [[np.array(merged), np.array(ends)]]


for _mode in ("sum", "mul", "ave", "concat"):
    derived(
        f"keras1_merge_{_mode}",
        "functional Merge under two masks: the masks are ANDed",
        "keras 1.2.2",
        f"keras/engine/topology.py:1373 and :1509, {LOOP}",
        "Merge",
    )(lambda path, rng, m=_mode: keras1_merge(path, rng, m))


def keras1_pairs(path, rng, mode):
    """Merge of two vectors, unmasked: max and dot."""
    layers = [(old.keras1_layer("InputLayer", f"input_{k}", [None, 3], sparse=False), []) for k in (1, 2)]
    layers += [(old.keras1_merge("merge_1", mode, dot_axes=-1 if mode == "max" else [1, 1]), [["input_1", "input_2"]])]
    model = old.functional("model_1", layers, ["input_1", "input_2"], ["merge_1"])
    old.write_hdf5(path, model, [(layer["config"]["name"], []) for layer, _ in layers], "1.2.2")
    x, y = rng.standard_normal((2, 5, 3)).astype(np.float32)

    def answer(row, other):
        if mode == "max":
            return by_hand.merge(row, other, "max")
        return [sum(u * v for u, v in zip(row, other, strict=True))]

    return model, [[x, y]], [each(x, answer, y.tolist())]


for _mode in ("max", "dot"):
    derived(
        f"keras1_merge_{_mode}",
        "Merge of two vectors",
        "keras 1.2.2",
        "keras/engine/topology.py:1373",
        "Merge",
    )(lambda path, rng, m=_mode: keras1_pairs(path, rng, m))


@derived(
    "keras1_batch_normalization",
    "BatchNormalization(mode=0): running_std holds the variance",
    "keras 1.2.2",
    "keras/layers/normalization.py:127",
)
def keras1_norm(path, rng):
    config = {"epsilon": 0.01, "mode": 0, "axis": -1, "gamma_regularizer": None, "beta_regularizer": None}
    layer = old.keras1_layer("BatchNormalization", "bn", [None, 4, 3], **config, momentum=0.9)
    model = {"class_name": "Sequential", "config": [layer]}
    names = ("gamma", "beta", "running_mean", "running_std")
    values = [rng.uniform(0.3, 1.5, 3).astype(np.float32).tolist() for _ in names]
    old.write_hdf5(path, model, [("bn", [(f"bn_{n}:0", v) for n, v in zip(names, values, strict=True)])], "1.2.2")
    x = rng.standard_normal((5, 4, 3)).astype(np.float32)
    rows = each(x, lambda row, _: [by_hand.batch_normalization(step, *values, 0.01) for step in row])
    return model, [x], [rows]
