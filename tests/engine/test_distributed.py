"""Chains of TimeDistributed layers run as one, and give the numbers of the specification in float64."""

import make_files as mf
import numpy as np
import pytest
from built_nets import LSTM, ROWS, TIMESTEPS, VOCABULARY, Net, check

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

CHARACTERS = 4


def over_timesteps(net, name, on, class_name, weights=(), **options):
    """A TimeDistributed layer around one of that class."""
    return net.add("TimeDistributed", name, on, weights=weights, layer=mf.layer(class_name, name, None, **options))


def embedding(net, name="e", on="x", **options):
    weights = {"embeddings": (VOCABULARY, 3)}
    return over_timesteps(net, name, on, "Embedding", weights, input_dim=VOCABULARY, output_dim=3, **options)


def convolution(net, name, on, **options):
    given = {"filters": 5, "kernel_size": [3], "padding": "same", "activation": "tanh", "use_bias": True} | options
    return over_timesteps(net, name, on, "Conv1D", {"kernel": (3, 3, 5), "bias": (5,)}, **given)


def words(rows=ROWS, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, (rows, TIMESTEPS, CHARACTERS), dtype=np.int32)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "softmax"])
def test_words_of_characters(activation):
    net = Net(ids=True, shape=(None, CHARACTERS))
    convolution(net, "c", embedding(net), activation=activation)
    net.lstm("r", over_timesteps(net, "m", "c", "GlobalMaxPooling1D"), 5)
    model = check(net, "r", x=words(), runs={"e": "in a table of projections", "c": "vector", "m": "vector"})
    assert len(model._plan.runner.steps) == 2
    x = words(40)
    together, alone = model.predict(x), [model.predict(row[np.newaxis]) for row in x]
    assert together.tobytes() == np.concatenate(alone).tobytes()
    with pytest.raises(ValueError, match="token id"):
        model.predict(np.full((1, 2, CHARACTERS), VOCABULARY, np.int32))


def test_what_another_layer_reads_stays():
    net = Net(ids=True, shape=(None, CHARACTERS))
    convolution(net, "c", embedding(net))
    over_timesteps(net, "m", "c", "GlobalMaxPooling1D")
    assert len(check(net, "m", "c", x=words())._plan.runner.steps) == 2
    assert len(check(net, "m", "c", "e", x=words())._plan.runner.steps) == 3


def test_masks_stay():
    net = Net(ids=True, shape=(None, CHARACTERS))
    over_timesteps(net, "m", convolution(net, "c", embedding(net, mask_zero=True)), "GlobalMaxPooling1D")
    check(net, "m", x=words())
    net = Net(ids=True, shape=(None, CHARACTERS))
    lstm = {f"lstm_cell/{role}": shape for role, shape in mf.lstm_weights(3, 4).items()}
    over_timesteps(net, "r", embedding(net, mask_zero=True), "LSTM", lstm, **LSTM, units=4)
    check(net, "r", x=words())


def test_folds_inside():
    net = Net(shape=(None, CHARACTERS, 3))
    convolution(net, "c", "x", activation="linear")
    roles = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (5,))
    over_timesteps(net, "b", "c", "BatchNormalization", roles, axis=[-1], epsilon=1e-3, center=True, scale=True)
    over_timesteps(net, "a", "b", "Activation", activation="relu")
    over_timesteps(net, "p", "a", "MaxPooling1D", pool_size=[2])

    def positive(weights):
        weights["b"]["moving_variance"] = np.abs(weights["b"]["moving_variance"]) + np.float32(0.1)

    model = check(net, "p", edit=positive, runs={"c": "vector", "b": "folded", "a": "folded", "p": "vector"})
    assert len(model._plan.runner.steps) == 1


@pytest.mark.parametrize("timesteps", [1, 7, 300])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_largest_number_of_a_sequence_goes_into_the_convolution(activation, timesteps):
    """And is NaN where one is."""
    net = Net()
    weights = {"kernel": (3, 5, 6), "bias": (6,)}
    options = {"filters": 6, "kernel_size": [3], "padding": "same", "activation": activation, "use_bias": True}
    net.add("GlobalMaxPooling1D", "m", net.add("Conv1D", "c", "x", weights=weights, **options))
    x = np.random.default_rng(timesteps).standard_normal((ROWS, timesteps, 5)).astype(np.float32)
    model = check(net, "m", x=x, runs={"c": "vector", "m": "vector"})
    assert len(model._plan.runner.steps) == 1
    x[1, timesteps // 2, 2] = np.nan
    y = model.predict(x)
    assert np.isnan(y[1]).all() and not np.isnan(np.delete(y, 1, axis=0)).any()
    net = Net()
    kept = net.add("GlobalMaxPooling1D", "m", net.add("Conv1D", "c", "x", weights=weights, **options), keepdims=True)
    assert len(check(net, kept)._plan.runner.steps) == 2
