"""Derived cases of GRU and SimpleRNN of Keras 1.2.2 and 2.2.4: arrays gate by gate, what masked steps emit."""

import math

import numpy as np

from . import derived_math as by_hand
from . import old_keras as old
from .derived import MASKS, derived, each, random_dense, sequences

GRU_1 = "keras/layers/recurrent.py:530"  # GRU.step of Keras 1.2.2
LOOP_1 = "keras/backend/tensorflow_backend.py:2169"
LOOP_2 = "keras/backend/tensorflow_backend.py:2974"
GATES = {"GRU": "zrh", "SimpleRNN": "h"}


def weights_of(rng, kind, features, units):
    """Float32 values as nested lists of Python floats, gate by gate."""

    def draw(scale, *shape):
        return rng.normal(0, scale, shape).astype(np.float32).tolist()

    return {
        "W": {gate: draw(features**-0.5, features, units) for gate in GATES[kind]},
        "U": {gate: draw((4 * units) ** -0.5, units, units) for gate in GATES[kind]},
        "b": {gate: draw(0.5, units) for gate in GATES[kind]},
    }


def step(kind, x, h, weights):
    """One timestep: GRU h = z h + (1 - z) tanh(x.W + b + (r h).U), with hard_sigmoid gates; SimpleRNN tanh(...)."""

    def z(gate, state):
        parts = by_hand.row_times(x, weights["W"][gate]), by_hand.row_times(state, weights["U"][gate])
        return [a + b + c for a, b, c in zip(*parts, weights["b"][gate], strict=True)]

    if kind == "SimpleRNN":
        return [math.tanh(v) for v in z("h", h)]
    update = [by_hand.hard_sigmoid(v) for v in z("z", h)]
    reset = [by_hand.hard_sigmoid(v) for v in z("r", h)]
    new = [math.tanh(v) for v in z("h", [r * v for r, v in zip(reset, h, strict=True)])]
    return [u * v + (1 - u) * n for u, v, n in zip(update, h, new, strict=True)]


def run(kind, x, weights, mask=None, h=None, reverse=False):
    """One row: (outputs in processing order, h). A masked step emits the state (1.2.2 and 2.2.4, TensorFlow)."""
    h = h or [0.0] * len(weights["b"]["h"])
    emitted = []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        if mask is None or mask[t]:
            h = step(kind, x[t], h, weights)
        emitted.append(h)
    return emitted, h


def keras1_layer(kind, name, units, shape=None, **options):
    layer = old.keras1_lstm(name, units, shape, **options)
    layer["class_name"] = kind
    del layer["config"]["forget_bias_init"]
    if kind == "SimpleRNN":
        del layer["config"]["inner_activation"]
    return layer


def keras1_arrays(kind, name, weights, consume_less="cpu"):
    """W, U, b gate by gate; side by side for consume_less="gpu" and for SimpleRNN."""
    if consume_less == "gpu" or kind == "SimpleRNN":
        return list(zip([f"{name}_{k}:0" for k in "WUb"], old.columns(weights, GATES[kind]), strict=True))
    return [(f"{name}_{k}_{gate}:0", weights[k][gate]) for gate in GATES[kind] for k in "WUb"]


def keras1_stack(path, rng, kind, consume_less):
    """Masking, two layers (the second reads backwards), Dense."""
    first, second = weights_of(rng, kind, 2, 3), weights_of(rng, kind, 3, 2)
    kernel, bias = random_dense(rng, 2, 2)
    model = {
        "class_name": "Sequential",
        "config": [
            old.keras1_layer("Masking", "masking_1", [None, 4, 2], mask_value=0.0),
            keras1_layer(kind, "rnn_1", 3, return_sequences=True, consume_less=consume_less),
            keras1_layer(kind, "rnn_2", 2, go_backwards=True, consume_less=consume_less),
            old.keras1_dense("dense_1", 2, "softmax"),
        ],
    }
    layers = [
        ("masking_1", []),
        ("rnn_1", keras1_arrays(kind, "rnn_1", first, consume_less)),
        ("rnn_2", keras1_arrays(kind, "rnn_2", second, consume_less)),
        ("dense_1", [("dense_1_W:0", kernel), ("dense_1_b:0", bias)]),
    ]
    old.write_hdf5(path, model, layers, "1.2.2")
    x = sequences(rng)

    def answer(row, mask):
        emitted, _ = run(kind, row, first, mask)
        _, h = run(kind, emitted, second, mask, reverse=True)
        return by_hand.softmax(by_hand.dense(h, kernel, bias))

    return model, [x], [each(x, answer)]


for _kind, _name, _mode in (("GRU", "gru", "cpu"), ("GRU", "gru_gpu", "gpu"), ("SimpleRNN", "simple_rnn", "cpu")):
    derived(
        f"keras1_{_name}",
        "Keras 1: 9 arrays z, r, h of a GRU (3 for consume_less gpu), 3 of a SimpleRNN",
        "keras 1.2.2",
        f"{GRU_1}, {LOOP_1}",
    )(lambda path, rng, k=_kind, m=_mode: keras1_stack(path, rng, k, m))


@derived(
    "keras1_bidirectional_gru",
    "Bidirectional of Keras 1: 18 arrays, masked steps repeat the state",
    "keras 1.2.2",
    f"keras/layers/wrappers.py:201, {LOOP_1}",
)
def keras1_bidirectional(path, rng):
    forward, backward = weights_of(rng, "GRU", 2, 3), weights_of(rng, "GRU", 2, 3)
    inner = keras1_layer("GRU", "gru_1", 3, return_sequences=True)
    model = {
        "class_name": "Sequential",
        "config": [
            old.keras1_layer("Masking", "masking_1", [None, 4, 2], mask_value=0.0),
            old.keras1_layer("Bidirectional", "bidirectional_1", layer=inner, merge_mode="concat"),
        ],
    }
    arrays = keras1_arrays("GRU", "forward_gru_1", forward) + keras1_arrays("GRU", "backward_gru_1", backward)
    old.write_hdf5(path, model, [("masking_1", []), ("bidirectional_1", arrays)], "1.2.2")
    x = sequences(rng)

    def answer(row, mask):
        there, back = run("GRU", row, forward, mask)[0], run("GRU", row, backward, mask, reverse=True)[0]
        return [[*a, *b] for a, b in zip(there, back[::-1], strict=True)]

    return model, [x], [each(x, answer)]


def keras2_layer(kind, name, units, **options):
    layer = old.keras2_lstm(name, units, **options)
    layer["class_name"] = kind
    del layer["config"]["unit_forget_bias"]
    if kind == "SimpleRNN":
        del layer["config"]["recurrent_activation"], layer["config"]["implementation"]
    return layer


def keras2_arrays(kind, name, weights):
    names = [f"{name}/{k}:0" for k in ("kernel", "recurrent_kernel", "bias")]
    return list(zip(names, old.columns(weights, GATES[kind]), strict=True))


def keras2_model(path, rng, kind, as_cell):
    """A layer with an initial state under masks; or RNN over its cell, which Keras 2.2.4 computes alike."""
    weights = weights_of(rng, kind, 2, 3)
    layer = keras2_layer(kind, "rnn_1", 3, return_sequences=True)
    if as_cell:
        loop = ("return_sequences", "return_state", "go_backwards", "stateful")
        config = layer["config"]
        cell = {key: value for key, value in config.items() if key not in loop and key != "activity_regularizer"}
        outer = {key: config[key] for key in loop} | {"unroll": False}
        cell = {"class_name": f"{kind}Cell", "config": cell | {"name": "cell_1"}}
        layer = old.keras2_layer("RNN", "rnn_1", cell=cell, **outer)
    layers = [
        (old.keras2_input("x", 4, 2), []),
        (old.keras2_input("h", 3), []),
        (old.keras2_layer("Masking", "masking_1", mask_value=0.0), [["x"]]),
        (layer, [["masking_1", "h"]]),
    ]
    model = old.functional("model_1", layers, ["x", "h"], ["rnn_1"])
    arrays = {"rnn_1": keras2_arrays(kind, "rnn_1", weights)}
    names = [item["config"]["name"] for item, _ in layers]
    old.write_hdf5(path, model, [(name, arrays.get(name, [])) for name in names], "2.2.4")
    x, h = sequences(rng), rng.standard_normal((5, 3)).astype(np.float32)
    rows = [run(kind, row, weights, m, s)[0] for row, m, s in zip(x.tolist(), MASKS, h.tolist(), strict=True)]
    return model, [[x, h]], [np.array(rows)]


for _kind, _name, _cell in (
    ("GRU", "gru", False),
    ("SimpleRNN", "simple_rnn", False),
    ("GRU", "gru_cell", True),
):
    derived(
        f"keras2_initial_state_{_name}_2_2_4",
        "masked steps emit the state; no reset_after in the config: without it",
        "keras 2.2.4",
        f"{LOOP_2}, keras/layers/recurrent.py",
        f"{'RNN' if _cell else _kind}.initial_state",
    )(lambda path, rng, k=_kind, c=_cell: keras2_model(path, rng, k, c))
