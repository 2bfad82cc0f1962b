"""Memory of a prediction is used again when its last reader is done: no bit changes, and depth costs no memory."""

import random

import numpy as np
import pytest
from built_nets import FEATURES, TIMESTEPS, Net
from kernel_cases import same_bits

import fastbilstm

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)
from fastbilstm.engine.vector_layers import Context  # noqa: E402

ROWS = 3


def scratch_bytes(model, rows):
    """Bytes of the memory that the predictions in Python keep, and of the arena of the tape."""
    model.predict(rows), model.predict(rows), model.predict(rows)
    plan = model._plan
    (arena,), (scratch,) = plan.replay.arenas, plan.scratches
    scratch.join_slabs()
    return scratch.nbytes, arena.nbytes


def deep(kind, depth):
    net, last = Net(shape=(64, 32)), "x"
    for number in range(depth):
        name = f"layer{number}"
        if kind == "Dense":
            last = net.dense(name, last, 32, 32, "tanh")
        elif kind == "LSTM":
            last = net.lstm(name, last, 32, 32, return_sequences=True)
        else:
            weights = {"kernel": (3, 32, 32), "bias": (32,)}
            options = {"filters": 32, "kernel_size": [3], "padding": "same", "activation": "relu", "use_bias": True}
            options |= {"strides": [1], "dilation_rate": [1], "groups": 1, "data_format": "channels_last"}
            last = net.add("Conv1D", name, last, weights=weights, **options)
    return fastbilstm.load(net.content(last), backend="vector", n_threads=1)


@pytest.mark.parametrize("kind", ["Dense", "Conv1D", "LSTM"])
def test_depth_costs_no_memory(kind):
    x = np.random.default_rng(0).standard_normal((8, 64, 32)).astype(np.float32)
    few, many = (scratch_bytes(deep(kind, depth), x) for depth in (3, 12))
    assert few == many
    assert max(few) <= 8 * x.nbytes


# ---- graphs ---------------------------------------------------------------------------------------------------------


def random_net(rng):
    """A graph whose layers read any one or two tensors of those before: (net, names of its outputs)."""
    net, there = Net(shape=(TIMESTEPS, FEATURES)), ["x"]
    for number in range(rng.randint(8, 20)):
        name, on = f"l{number}", rng.choice(there[-4:])
        other = rng.choice(there)
        kind = rng.choice(
            ["dense", "merge", "lstm", "bidirectional", "activation", "view", "join", "norm", "attention"]
        )
        if kind == "dense":
            net.dense(name, on, FEATURES, FEATURES, rng.choice(["tanh", "softmax", "linear"]))
        elif kind == "merge":
            net.add(rng.choice(["Add", "Multiply", "Maximum", "Average"]), name, on, other)
        elif kind == "lstm":
            net.lstm(name, on, FEATURES, FEATURES, return_sequences=True, go_backwards=rng.random() < 0.3)
        elif kind == "bidirectional":
            mode = rng.choice(["sum", "mul", "ave"])
            net.bidirectional(name, on, FEATURES, FEATURES, mode, return_sequences=True)
        elif kind == "activation":
            net.add("Activation", name, on, activation=rng.choice(["relu", "sigmoid", "softmax"]))
        elif kind == "view":
            net.add("Reshape", f"{name}_flat", on, target_shape=[TIMESTEPS * FEATURES])
            net.add("Reshape", name, f"{name}_flat", target_shape=[TIMESTEPS, FEATURES])
        elif kind == "join":
            net.add("Concatenate", f"{name}_wide", on, other, axis=-1)
            net.dense(name, f"{name}_wide", 2 * FEATURES, FEATURES)
        elif kind == "norm":
            weights = dict.fromkeys(("gamma", "beta"), (FEATURES,))
            options = {"axis": [-1], "epsilon": 1e-3, "center": True, "scale": True}
            net.add("LayerNormalization", name, on, weights=weights, **options)
        else:
            net.add("Attention", name, on, other, use_scale=False, score_mode="dot")
        there.append(name)
    return net, list(dict.fromkeys([there[-1], rng.choice(there[1:])]))


def arrays_of(y):
    return y if isinstance(y, list) else [y]


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_have_the_same_bits_without_reuse(seed, monkeypatch):
    net, outputs = random_net(random.Random(seed))
    content = net.content(*outputs)
    x = np.random.default_rng(seed).standard_normal((ROWS, TIMESTEPS, FEATURES)).astype(np.float32)
    held, array = [], Context.array

    def keeping(self, *shape, **options):
        held.append(array(self, *shape, **options))
        return held[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Context, "array", keeping)
        without = fastbilstm.load(content, backend="vector")
        expected = arrays_of(without.predict(x))
    model = fastbilstm.load(content, backend="vector")
    for _ in range(4):  # in Python, recorded, from the tape
        for y, k in zip(arrays_of(model.predict(x)), expected, strict=True):
            same_bits(y, k)
    assert [len(tapes) for tapes in model._plan.replay.tapes.by_shape.values()] == [1]
    (all_held,), (scratch,) = without._plan.scratches, model._plan.scratches
    assert scratch.nbytes <= all_held.nbytes
