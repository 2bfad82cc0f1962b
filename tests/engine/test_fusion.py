"""What the engine drops, folds and fuses gives the numbers of the specification in float64.

Each net is small and built by hand; `runs` names what became of its layers, so that a fold that no longer happens, or
happens where it must not, is seen even if the numbers agree.
"""

import itertools

import make_files as mf
import numpy as np
import pytest
from built_nets import FEATURES, ROWS, TIMESTEPS, VOCABULARY, Net, check, labels

import fastbilstm
from fastbilstm.tolerances import compare

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)


# ---- folding --------------------------------------------------------------------------------------------------------


def test_batch_normalization_beside_dense():
    net = Net()
    net.dense("d", net.bn("before", "x"), activation="tanh")
    check(net, "d", runs={"before": "folded", "d": "vector"})
    net = Net()
    net.bn("after", net.dense("d", "x"), 4)
    check(net, "after", runs={"after": "folded", "d": "vector"})
    net = Net()
    last = net.dense("last", net.bn("b", net.dense("first", net.bn("a", "x"), units=6), 6), 6, activation="sigmoid")
    check(net, last, runs={"a": "folded", "b": "folded"})


def test_batch_normalization_after_an_activation_is_not_folded():
    net = Net()
    net.bn("after", net.dense("d", "x", activation="relu"), 4)
    check(net, "after", runs={"after": "vector", "d": "vector"})


def convolution(net, name, on, features=FEATURES, filters=4, activation="linear", **options):
    given = {"kernel_size": [3], "filters": filters, "activation": activation, "padding": "same", "use_bias": True}
    weights = {"kernel": (3, features, filters), "bias": (filters,)}
    return net.add("Conv1D", name, on, weights=weights, **given | options)


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_activations_and_batch_normalization_after_a_product(kind):
    net = Net()
    first = net.dense("p", "x") if kind == "dense" else convolution(net, "p", "x")
    last = net.add("Activation", "a", net.bn("b", first, 4), activation="tanh")
    check(net, last, runs={"p": "vector", "b": "folded", "a": "folded"})
    # What another layer reads, too, stays as it is.
    check(net, last, "p", runs={"b": "vector", "a": "vector"})
    net = Net()
    first = net.dense("p", "x", activation="relu") if kind == "dense" else convolution(net, "p", "x", activation="relu")
    check(net, net.add("Activation", "a", first, activation="tanh"), runs={"a": "vector"})


@pytest.mark.parametrize("pooling", ["MaxPooling1D", "AveragePooling1D"])
def test_a_pooling_goes_into_the_convolution_before_it(pooling):
    for padding, strides, together in (("valid", None, True), ("same", [3], True), ("valid", [2], False)):
        net = Net()
        convolution(net, "c", "x", activation="relu")
        net.add(pooling, "p", "c", pool_size=[3], strides=strides, padding=padding)
        model = check(net, "p", runs={"c": "vector", "p": "vector"})
        assert len(model._plan.runner.steps) == (1 if together else 2), (padding, strides)
        model = check(net, "p", "c")  # which is read twice
        assert len(model._plan.runner.steps) == 2
    net = Net()
    convolution(net, "c", "x")
    net.add("Activation", "a", net.bn("b", "c", 4), activation="relu")
    net.add(pooling, "p", "a", pool_size=[2])
    assert len(check(net, net.lstm("r", "p", 4), runs={"a": "folded"})._plan.runner.steps) == 2


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("pooled", [False, True])
def test_an_embedding_goes_into_the_convolution_after_it(padding, pooled):
    for mask_zero in (False, True):
        net = Net(ids=True)
        last = convolution(net, "c", net.embedding(mask_zero=mask_zero), activation="relu", padding=padding)
        if pooled:
            last = net.add("MaxPooling1D", "p", "c", pool_size=[2])
        check(net, net.lstm("r", last, 4), runs={"c": "vector"})
    model = fastbilstm.load(net.content("r"))
    assert (labels(model)["embedding"] == "in a table of projections") == (padding != "causal")
    # The table is made once enough tokens were read; the bits stay.
    if padding != "causal":
        x = net.input(40)
        first = model.predict(x)
        for _ in range(3):
            assert np.array_equal(model.predict(x), first)
        assert model._plan.runner.is_settled()
        x[3, 2] = VOCABULARY
        with pytest.raises(fastbilstm.InputError, match="token id"):
            model.predict(x)


def test_a_pooled_sequence_that_is_too_short():
    net = Net()
    convolution(net, "c", "x", padding="valid")
    net.add("MaxPooling1D", "p", "c", pool_size=[3])
    for backend in ("vector", "numpy"):
        model = fastbilstm.load(net.content("p"), backend=backend)
        assert model.predict(np.zeros((1, 5, FEATURES), np.float32)).shape == (1, 1, 4)
        for timesteps, layer in ((4, "'p'"), (2, "'c'")):
            with pytest.raises(fastbilstm.InputError, match=layer):
                model.predict(np.zeros((1, timesteps, FEATURES), np.float32))


def test_batch_normalization_without_scale_center_or_bias():
    for scale, center in itertools.product([False, True], repeat=2):
        net = Net()
        net.dense("d", net.bn("before", "x", scale=scale, center=center), activation="tanh")
        dropped = [role for role, kept in (("gamma", scale), ("beta", center)) if not kept]
        for role in dropped:
            del net.weights["before"][role]
        net.layers[-1]["config"]["use_bias"] = False
        del net.weights["d"]["bias"]
        check(net, "d", runs={"before": "folded"})


@pytest.mark.parametrize("kind", ["lstm", "bidirectional"])
def test_batch_normalization_and_dense_before_a_recurrent_layer(kind):
    for sequences, masked in itertools.product([False, True], repeat=2):
        net = Net()
        on = net.add("Masking", "masking", "x", mask_value=0.0) if masked else "x"
        getattr(net, kind)("r", net.bn("b", on), return_sequences=sequences)
        x = net.input()
        x[2, :3] = x[4] = x[5, 1] = 0
        check(net, "r", runs={"b": "folded", "r": "vector"}, x=x)
    net = Net(ids=True)
    getattr(net, kind)("r", net.bn("b", net.embedding(mask_zero=True)))
    check(net, "r", runs={"embedding": "in a table of projections", "b": "folded", "r": "vector"})
    net = Net()
    getattr(net, kind)("r", net.dense("d", "x", units=9), 9)
    check(net, "r", runs={"d": "folded", "r": "vector"})


@pytest.mark.parametrize("kind", ["lstm", "bidirectional", "dense"])
def test_chains_before_a_layer(kind):
    """What is folded into a layer that is folded itself comes along."""
    for first in ("bn", "dense"):
        net = Net()
        on = net.bn("first", "x") if first == "bn" else net.dense("first", "x", units=FEATURES)
        getattr(net, kind)("r", net.bn("b", net.dense("d", on, units=9), 9), 9)
        check(net, "r", runs={"r": "vector"})
        net = Net()
        on = net.bn("first", "x") if first == "bn" else net.dense("first", "x", units=30)
        getattr(net, kind)("r", net.dense("d", on, FEATURES if first == "bn" else 30, units=9), 9)
        check(net, "r", runs={"first": "folded", "r": "vector"})


def test_dense_before_dense_where_it_is_less_work():
    net = Net()
    net.dense("second", net.dense("first", "x", units=40), 40, activation="tanh")
    check(net, "second", runs={"first": "folded", "second": "vector"})
    net = Net(shape=(None, 40))
    net.dense("second", net.dense("first", "x", 40, units=2), 2, units=40, activation="tanh")
    check(net, "second", runs={"first": "vector", "second": "vector"})


def test_batch_normalization_over_another_axis_is_not_folded():
    net = Net(shape=(TIMESTEPS, FEATURES))
    net.dense("d", net.bn("b", "x", TIMESTEPS, axis=1), activation="tanh")
    check(net, "d", runs={"b": "vector", "d": "vector"})
    net = Net(shape=(FEATURES, FEATURES))  # the size alone does not tell
    net.lstm("r", net.bn("b", "x", axis=1))
    check(net, "r", runs={"b": "vector"})


def test_batch_normalization_far_from_zero_is_not_folded():
    """The mean is a thousand deviations away: taken off a sum of products, its rounding would show."""
    net = Net()
    net.dense("d", net.bn("b", "x"), activation="tanh")

    def far(weights):
        weights["b"]["moving_mean"][2] = 1000 * np.sqrt(weights["b"]["moving_variance"][2])

    x = net.input()
    x[..., 2] += 500
    check(net, "d", runs={"b": "vector"}, edit=far, x=x)


def test_nothing_is_folded_into_shared_layers():
    net = Net()
    first, second = net.bn("a", "x"), net.bn("b", "x")
    net.dense("d", None, calls=[[first], [second]], activation="tanh")
    check(net, ("d", 0, 0), ("d", 1, 0), runs={"a": "vector", "b": "vector", "d": "vector"})
    net = Net()
    first, second = net.dense("one", "x"), net.dense("two", "x")
    net.lstm("r", None, 4, calls=[[first], [second]])
    check(net, ("r", 0, 0), ("r", 1, 0), runs={"one": "vector", "two": "vector", "r": "vector"})
    # What is read twice stays, whether by layers or as a result.
    net = Net()
    net.bn("b", "x")
    net.dense("one", "b", activation="tanh"), net.dense("two", "b")
    check(net, "one", "two", runs={"b": "vector"})
    check(net, "one", "b", runs={"b": "vector"})
    # The linear Dense is called twice, each result with a layer of its own.
    net = Net()
    net.dense("shared", None, calls=[["x"], ["x"]], units=FEATURES)
    net.layers[-1]["inbound_nodes"][1] = [["b", 0, 0, {}]]
    net.bn("b", "shared")
    net.lstm("r", None, calls=[["shared"]])
    net.layers[-1]["inbound_nodes"] = [[["shared", 1, 0, {}]]]
    check(net, "r", runs={"b": "vector", "shared": "vector"})


# ---- shared, dropped, nested ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, pytest.param(2)])
def test_a_shared_stateful_lstm_has_one_state(n_threads, monkeypatch):
    """Its second call begins where the first one ended, whichever of two threads would come first."""
    from fastbilstm.engine import vector_layers as engine

    monkeypatch.setattr(engine, "PARALLEL_WORK", 0)
    net = Net(batch=ROWS)
    net.lstm("r", None, calls=[["x"], ["x"]], stateful=True)
    content, x = net.content(("r", 0, 0), ("r", 1, 0)), net.input()
    model = fastbilstm.load(content, n_threads=n_threads)
    exact = fastbilstm.load(content, backend="numpy", dtype="float64")
    for _ in range(2):
        for y, k in zip(model.predict(x), exact.predict(x), strict=True):
            assert compare(y, k).ok
    model.reset_states(), exact.reset_states()
    for y, k in zip(model.predict(x), exact.predict(x), strict=True):
        assert compare(y, k).ok


def test_an_embedding_read_by_two_layers():
    net = Net(ids=True)
    e = net.embedding(mask_zero=True)
    net.lstm("one", e), net.bidirectional("two", e, return_sequences=True), net.dense("three", e)
    model = check(net, "one", "two", "three")
    assert labels(model)["one"] == labels(model)["two"] == "vector"
    check(net, "one", "embedding")
    with pytest.raises(fastbilstm.InputError, match="token id"):
        model.predict(np.full((1, 3), VOCABULARY, np.int32))


def tagger(kind, places, wide=8, **options):
    """Embeddings and other features of the same ids, joined in an order, before a recurrent layer."""
    net = Net(ids=True)
    net.embedding("narrow")
    net.dense("dense", "narrow", units=3)
    weights = {"embeddings": (VOCABULARY, wide)}
    net.add("Embedding", "wide", "x", weights=weights, input_dim=VOCABULARY, output_dim=wide, **options)
    parts = {"wide": wide, "narrow": FEATURES, "dense": 3}
    net.add("Concatenate", "joined", *places, axis=-1)
    size = sum(parts[place] for place in places)
    getattr(net, kind)("r", net.bn("b", "joined", size), size, return_sequences=True)
    return net


@pytest.mark.parametrize("kind", ["lstm", "bidirectional"])
@pytest.mark.parametrize("places", [("wide", "dense"), ("dense", "wide"), ("narrow", "wide", "dense")])
def test_an_embedding_joined_to_other_features_is_projected(kind, places):
    runs = {"wide": "in a table of projections", "joined": "rows read in place", "b": "folded", "r": "vector"}
    net = tagger(kind, places)
    model = check(net, "r", runs=runs)
    x = net.input(40)
    first = model.predict(x)  # before there is a table
    together, alone = model.predict(x), [model.predict(row[np.newaxis]) for row in x]
    assert model._plan.runner.is_settled() and first.tobytes() == together.tobytes()
    assert together.tobytes() == np.concatenate(alone).tobytes()
    with pytest.raises(fastbilstm.InputError, match="token id"):
        model.predict(np.full((1, 3), VOCABULARY, np.int32))


def test_joined_features_that_are_read_twice_or_masked_stay():
    assert labels(check(tagger("lstm", ("wide", "dense")), "r", "joined"))["wide"] == "vector"
    assert labels(check(tagger("lstm", ("wide", "dense"), mask_zero=True), "r"))["wide"] == "vector"
    net = Net(ids=True)
    net.embedding()
    net.add("Concatenate", "joined", "embedding", "embedding", axis=1)
    assert labels(check(net, net.lstm("r", "joined")))["embedding"] == "vector"
    net = Net()
    net.dense("d", "x", units=3)
    net.add("Concatenate", "joined", "x", "d", axis=-1)
    check(net, net.lstm("r", "joined", FEATURES + 3), runs={"joined": "vector"})


@pytest.mark.parametrize("kind", ["heads", "groups", "gated", "masked"])
def test_attention_of_an_embedded_sequence_reads_tables(tmp_path, kind):
    keras = pytest.importorskip("keras", reason="needs Keras")
    layers = keras.layers
    given = keras.Input((12,), dtype="int32")
    x = layers.Embedding(VOCABULARY, 8, mask_zero=kind == "masked")(given)
    gate = {"use_gate": True} if kind == "gated" else {}
    heads = layers.GroupQueryAttention(3, 4, 2) if kind == "groups" else layers.MultiHeadAttention(2, 3, **gate)
    silent = keras.Model(given, layers.add([x, heads(x, x)]))
    silent.save(tmp_path / "m.keras")
    model = fastbilstm.load(tmp_path / "m.keras", backend="vector")
    plain = fastbilstm.load(tmp_path / "m.keras", backend="vector", memory_budget=0)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (9, 12)).astype(np.int32)
    attention = next(step.layer for step in model._plan.runner.steps if hasattr(step.layer, "tables"))
    attention.pending_table.tokens_to_read = VOCABULARY  # which is small
    first = model.predict(ids[:1])
    assert not attention.tables and attention.pending_table.is_pending
    assert first.tobytes() == plain.predict(ids[:1]).tobytes()
    for _ in range(4):
        y = model.predict(ids)
        assert y.tobytes() == plain.predict(ids).tobytes()
    assert set(attention.tables) == {"query", "key", "value"} and model._plan.runner.is_settled()
    np.testing.assert_allclose(y, silent.predict(ids, verbose=0), rtol=1e-5, atol=1e-6)
    assert not any(getattr(step.layer, "tables", None) for step in plain._plan.runner.steps)
    with pytest.raises(fastbilstm.InputError, match="token id"):
        model.predict(np.full((9, 12), VOCABULARY, np.int32))


@pytest.mark.parametrize("n", [1, 3, 80])
@pytest.mark.parametrize("kind", ["lstm", "bidirectional"])
def test_a_repeated_vector_is_projected_once(kind, n):
    net = Net()
    net.lstm("code", "x", units=4)
    net.add("RepeatVector", "repeat", "code", n=n)
    getattr(net, kind)("r", net.bn("b", "repeat", 4), 4, return_sequences=True)
    net.dense("out", "r", 3 if kind == "lstm" else 6)
    model = check(net, "out", runs={"repeat": "rows read in place", "b": "folded", "r": "vector"})
    assert len(model._plan.runner.steps) == 3
    x = net.input(40)
    together, alone = model.predict(x), [model.predict(row[np.newaxis]) for row in x]
    assert together.tobytes() == np.concatenate(alone).tobytes()
    check(net, "out", "repeat")  # which is a result, too


def test_an_input_of_an_embedding_used_elsewhere():
    """By another Embedding, and as a result."""
    net = Net(ids=True)
    net.lstm("r", net.embedding(mask_zero=True), return_sequences=True)
    net.embedding("other", "x")
    net.add("Add", "sum", "embedding", "other")
    net.lstm("last", "sum")
    check(net, "r", "last", "x", runs={"r": "vector", "last": "vector"})


def test_dropped_layers():
    net = Net()
    on = net.add("Dropout", "dropout", "x", rate=0.5)
    net.lstm("r", on, return_sequences=True)
    net.add("SpatialDropout1D", "spatial", "r", rate=0.5)
    net.add("Activation", "linear", "spatial", activation="linear")
    net.add("GaussianNoise", "noise", "linear", stddev=1.0)
    net.dense("d", "noise", 3)
    net.add("Dropout", "last", "d", rate=0.1)
    dropped = dict.fromkeys(("dropout", "spatial", "linear", "noise", "last"), "dropped")
    check(net, "last", "noise", "dropout", runs=dropped)
    net = Net(ids=True)
    net.add("Dropout", "dropout", net.embedding(mask_zero=True), rate=0.5)
    net.bidirectional("r", net.add("Dropout", "again", "dropout", rate=0.5))
    check(net, "r", runs={"embedding": "in a table of projections", "dropout": "dropped", "r": "vector"})


def nested(net, *outputs):
    """The net as a model inside another one: its config entry, to be called on a tensor of the same shape."""
    config = mf.functional(*net.layers, inputs=["x"], outputs=list(outputs))["config"] | {"name": "inner"}
    return {"class_name": "Functional", "name": "inner", "config": config}


def test_a_model_inside_a_model():
    inner = Net(ids=True)
    inner.dense("d", inner.bn("b", inner.lstm("lstm", inner.embedding(mask_zero=True)), 3), 3, activation="tanh")
    net = Net(ids=True)
    net.layers.append(nested(inner, "d") | {"inbound_nodes": [[["x", 0, 0, {}]], [["x", 0, 0, {}]]]})
    net.dense("out", None, 4, calls=[["inner"]])
    net.layers[-1]["inbound_nodes"] = [[["inner", 1, 0, {}]]]
    weights = mf.weights_of(**inner.weights, **net.weights)
    weights["b"]["moving_variance"] = np.abs(weights["b"]["moving_variance"])
    # One group of the file holds all arrays of a model inside.
    roles = {f"{layer}/{role}": array for layer in inner.weights for role, array in weights[layer].items()}
    config = mf.functional(*net.layers, inputs=["x"], outputs=["out"])
    content, x = mf.h5(config, {"inner": roles, "out": weights["out"]}), net.input()
    exact = fastbilstm.load(content, backend="numpy", dtype="float64").predict(x)
    for budget in (None, 0):
        model = fastbilstm.load(content, memory_budget=budget)
        for _ in range(2):
            assert compare(model.predict(x), exact).ok
    assert labels(model)["inner"] == "vector"
    (runner,) = {step.layer for step in model._plan.runner.steps if step.layer.name == "inner"}
    assert runner.labels == {0: "rows read in place", 1: "vector", 2: "folded", 3: "vector"}


@pytest.mark.parametrize("kind", ["ids of three axes", "one head"])
def test_attention_that_the_kernel_never_computes_waits_for_no_table(tmp_path, kind):
    """Keras 3 may add the bias of one head along another axis. Predictions are recorded, with the same numbers."""
    keras = pytest.importorskip("keras", reason="needs Keras")
    layers = keras.layers
    given = keras.Input((12,) if kind == "one head" else (4, 3), dtype="int32")
    x = layers.Embedding(VOCABULARY, 8)(given)
    heads = (
        layers.MultiHeadAttention(1, 3) if kind == "one head" else layers.MultiHeadAttention(2, 3, attention_axes=[2])
    )
    silent = keras.Model(given, layers.add([x, heads(x, x)]))
    silent.set_weights([np.random.default_rng(k).normal(0, 1, w.shape) for k, w in enumerate(silent.get_weights())])
    silent.save(tmp_path / "m.keras")
    model = fastbilstm.load(tmp_path / "m.keras", backend="vector")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (2, *given.shape[1:])).astype(np.int32)
    y = model.predict(ids)
    np.testing.assert_allclose(y, silent.predict(ids, verbose=0), rtol=1e-5, atol=1e-5)
    for _ in range(10):
        assert np.array_equal(model.predict(ids), y)
    assert model._plan.runner.is_settled()
