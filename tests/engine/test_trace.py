"""What `Model.trace` shows of a net: the outputs of all layers, states and gates of each timestep, attention scores.

Expected values come from Keras: models with an output for each layer, `return_state` after each timestep, and
`return_attention_scores`. Without TensorFlow, what must hold between the tensors is checked.
"""

import numpy as np
import pytest
from engine_nets import NETS, inputs, load

import fastbilstm
from fastbilstm import InputError


def close(y, k):
    np.testing.assert_allclose(y, k, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NETS)
def test_the_last_tensor_is_the_output(name):
    """Of the specification, beside the kernels; every name can be asked for, alone and together."""
    model, x = load(name), inputs(name)
    names = model.trace(x)
    found = model.trace(x, names)
    assert list(found) == names and len(set(names)) == len(names)
    close(found[names[-1]], model.predict(x))
    for one in names[:: max(1, len(names) // 4)]:
        np.testing.assert_array_equal(model.trace(x, one), found[one])


def test_states_and_gates_fit_each_other():
    """c = f c + i g, h = o tanh(c), from timestep to timestep; masked ones stay, with gates of 0."""
    model, x = load("masked lstm"), inputs("masked lstm")
    found = model.trace(x, [f"lstm/{end}" for end in ("h", "c", "gate_i", "gate_f", "gate_c", "gate_o")])
    h, c, i, f, g, o = found.values()
    before = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
    kept = (x != 0)[:, :, np.newaxis]
    close(c, np.where(kept, f * before + i * g, before))
    close(np.where(kept, h, 0), np.where(kept, o * np.tanh(c), 0))
    assert not i[~kept[..., 0]].any() and i[kept[..., 0]].all()
    close(h[:, -1], model.trace(x, "lstm"))


def test_both_directions_at_the_timestep_that_was_read():
    model, x = load("attention"), inputs("attention")
    y, forward, backward = model.trace(x, ["first", "first/forward/h", "first/backward/h"]).values()
    kept = (x != 0)[:, :, np.newaxis]
    close(np.where(kept, y, 0), np.where(kept, np.concatenate([forward, backward], axis=2), 0))


def test_attention_scores():
    """Softmax of the products, zeros for masked keys; the model does not return them."""
    model, x = load("attention"), inputs("attention", rows=5)
    y, scores, after = model.trace(x, ["first", "attention/scores", "attention"]).values()
    assert scores.shape == (5, 11, 11)
    rows = (x != 0).any(1)
    close(scores[rows].sum(2), 1)
    close((scores * (x == 0)[:, np.newaxis])[rows], 0)
    close(np.where((x != 0)[..., np.newaxis], scores @ y, 0), after)


def test_what_does_not_fit_is_told():
    model, x = load("masked lstm"), inputs("masked lstm")
    with pytest.raises(InputError, match=r"no tensor 'lstm/gate_z'; there are embedding, lstm, lstm/h, lstm/c"):
        model.trace(x, "lstm/gate_z")
    with pytest.raises(InputError, match="different lengths"):
        model.trace([[1, 2], [3]], "lstm")
    with pytest.raises(InputError, match="token id"):
        model.trace(np.full((2, 3), 50), "lstm")


# ---- beside Keras ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras", reason="needs Keras and TensorFlow")


def converted(keras, model, folder):
    for layer in model.layers:
        layer.set_weights([w + np.random.default_rng(1).normal(0, 0.2, w.shape) for w in layer.get_weights()])
    model.save(folder / "m.keras")
    return fastbilstm.load(folder / "m.keras")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_states_are_those_of_keras(kind, go_backwards, keras, tmp_path):
    """The states after t timesteps are what `return_state` gives for the first t (of the end, backwards)."""
    layers = keras.layers
    given = keras.Input((None, 3))
    y = layers.Masking()(given)
    y = getattr(layers, kind)(4, go_backwards=go_backwards, return_state=True, name="rnn")(y)
    reference = keras.Model(given, y)
    model = converted(keras, reference, tmp_path)
    x = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
    x[0, :2], x[1, 3:] = 0, 0
    names = ["h", "c"] if kind == "LSTM" else ["h"]
    found = model.trace(x, [f"rnn/{name}" for name in names])
    for t in range(5):
        part = x[:, t:] if go_backwards else x[:, : t + 1]
        for name, k in zip(names, reference.predict(part, verbose=0)[1:], strict=True):
            close(found[f"rnn/{name}"][:, t], k)


def test_outputs_of_layers_and_heads_are_those_of_keras(keras, tmp_path):
    """A shared layer, a model inside a model, TimeDistributed, attention over heads with its scores."""
    layers = keras.layers
    inner_in = keras.Input((6, 4))
    inner = keras.Model(
        inner_in, layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(inner_in), name="inner"
    )
    given = keras.Input((6, 4))
    dense = layers.Dense(4, activation="tanh", name="shared")
    first = dense(given)
    second = dense(first)
    y = inner(second)
    heads = layers.MultiHeadAttention(2, 3, name="heads")
    y, scores = heads(y, y, return_attention_scores=True)
    y = layers.TimeDistributed(layers.Dense(2), name="each")(y)
    silent = keras.Model(given, y)
    model = converted(keras, silent, tmp_path)
    x = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)
    telling = keras.Model(given, [first, second, scores, y]).predict(x, verbose=0)
    names = ["shared", "shared#2", "heads/scores", "each"]
    assert {"inner/both", "inner/both/forward/h", "inner/both/backward/gate_r"} <= set(model.trace(x))
    for name, k in zip(names, telling, strict=True):
        close(model.trace(x, name), k)


def test_stacked_cells(keras, tmp_path):
    layers = keras.layers
    given = keras.Input((5, 2))
    cells = [layers.LSTMCell(3), layers.GRUCell(4)]
    reference = keras.Model(given, layers.RNN(cells, return_state=True, name="rnn")(given))
    model = converted(keras, reference, tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    _, *states = (np.asarray(k) for k in keras.tree.flatten(reference.predict(x, verbose=0)))
    names = ["rnn/cell_0/h", "rnn/cell_0/c", "rnn/cell_1/h"]
    for name, k in zip(names, states, strict=True):
        close(model.trace(x, name)[:, -1], k)
