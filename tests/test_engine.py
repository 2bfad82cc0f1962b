"""The vector engine: the same bits for a row wherever and however it is computed, on every instruction set.

Batch size, place in the batch, threads, memory budget, repetition; and masked padding where the plan says so.
"""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.tolerances import compare

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)
ROWS, TIMESTEPS, FEATURES = 33, 11, 5


@pytest.fixture(params=_kernels.isas())
def isa(request):
    """Plans made in the test use one instruction set."""
    before = _kernels.isa()
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


# ---- nets -----------------------------------------------------------------------------------------------------------


def lstm(name, units, inbound, **options):
    defaults = {"units": units, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    return mf.layer("LSTM", name, inbound, **(defaults | options))


def bidirectional(name, units, inbound, merge_mode="concat", **options):
    return mf.layer("Bidirectional", name, inbound, layer=lstm("lstm", units, None, **options), merge_mode=merge_mode)


def one(name, features, units):
    return {name: {f"lstm_cell/{role}": shape for role, shape in mf.lstm_weights(features, units).items()}}


def two(name, features, units):
    weights = mf.lstm_weights(features, units)
    return {name: {f"{half}_lstm/{role}": weights[role] for half in ("forward", "backward") for role in weights}}


def gru_weights(features, units, *bias):
    """`bias` is the axis before the units: 2 with reset_after."""
    return {"kernel": (features, 3 * units), "recurrent_kernel": (units, 3 * units), "bias": (*bias, 3 * units)}


def gru(name, units, inbound, **options):
    return lstm(name, units, inbound, reset_after=True, **options) | {"class_name": "GRU"}


def gru_stack():
    """Bidirectional GRU, GRU without reset_after, SimpleRNN."""
    first = mf.layer(
        "Bidirectional", "first", ["embedding"], layer=gru("gru", 17, None, return_sequences=True), merge_mode="concat"
    )
    second = gru("second", 6, ["first"], return_sequences=True)
    second["config"]["reset_after"] = False
    third = mf.layer("SimpleRNN", "third", ["second"], units=9, activation="tanh", use_bias=True)
    halves = {f"{half}_gru/{role}": s for half in ("forward", "backward") for role, s in gru_weights(5, 17, 2).items()}
    plain = {"kernel": (6, 9), "recurrent_kernel": (9, 9), "bias": (9,)}
    return [first, second, third], {"first": halves, "second": gru_weights(34, 6), "third": plain}


def embedding(mask_zero=True):
    layer = mf.embedding("embedding", ["ids"], input_dim=50, output_dim=FEATURES, mask_zero=mask_zero)
    return [mf.input_layer("ids", functional=True), layer], {"embedding": {"embeddings": (50, FEATURES)}}


def masking():
    given = mf.input_layer("ids", (None, None, FEATURES), "float32", functional=True)
    return [given, mf.layer("Masking", "masking", ["ids"], mask_value=0.0)], {"masking": {}}


def dense(units, features, inbound, activation="sigmoid"):
    layer = mf.layer("Dense", "dense", [inbound], units=units, activation=activation)
    return [layer], {"dense": {"kernel": (features, units), "bias": (units,)}}


def batch_normalization(inbound, size):
    layer = mf.layer("BatchNormalization", "bn", [inbound], axis=[-1], epsilon=1e-3, center=True, scale=True)
    return [layer], {"bn": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (size,))}


def pooling(inbound, kind="Average"):
    return [mf.layer(f"Global{kind}Pooling1D", "pooling", [inbound])], {"pooling": {}}


def attention(inbound, use_scale=False):
    layer = mf.layer("Attention", "attention", [inbound, inbound], use_scale=use_scale, score_mode="dot")
    return [layer], {"attention": {"scale": ()} if use_scale else {}}


NETS = {
    "lstm": [
        embedding(False),
        ([lstm("lstm", 17, ["embedding"])], one("lstm", 5, 17)),
        dense(3, 17, "lstm", "softmax"),
    ],
    "masked lstm": [embedding(), ([lstm("lstm", 17, ["embedding"])], one("lstm", 5, 17)), dense(3, 17, "lstm")],
    "masked stack": [
        embedding(),
        ([bidirectional("first", 17, ["embedding"], "sum", return_sequences=True)], two("first", 5, 17)),
        batch_normalization("first", 17),
        ([bidirectional("second", 6, ["bn"], "ave")], two("second", 17, 6)),
        dense(1, 6, "second"),
    ],
    "gru stack": [embedding(), gru_stack(), dense(2, 9, "third")],
    "tagger": [
        masking(),
        ([bidirectional("first", 9, ["masking"], "mul", return_sequences=True)], two("first", 5, 9)),
        ([bidirectional("second", 4, ["first"], return_sequences=True)], two("second", 9, 4)),
        dense(3, 8, "second", "softmax"),
    ],
    "attention": [
        embedding(),
        ([bidirectional("first", 9, ["embedding"], return_sequences=True)], two("first", 5, 9)),
        attention("first"),
        pooling("attention"),
        dense(20, 18, "pooling", "tanh"),
    ],
    "attention without pooling": [
        embedding(),
        ([bidirectional("first", 9, ["embedding"], return_sequences=True)], two("first", 5, 9)),
        attention("first", use_scale=True),
        ([lstm("lstm", 7, ["attention"])], one("lstm", 18, 7)),
        dense(2, 7, "lstm"),
    ],
    "two towers": [
        embedding(False),
        (
            [
                lstm("forward", 17, ["embedding"], recurrent_activation="hard_sigmoid"),
                lstm("backward", 3, ["embedding"], go_backwards=True, activation="relu"),
                mf.layer("Concatenate", "both", ["forward", "backward"], axis=-1),
            ],
            {**one("forward", 5, 17), **one("backward", 5, 3), "both": {}},
        ),
        dense(2, 20, "both", "elu"),
    ],
    "softmax cell": [
        masking(),
        ([lstm("lstm", 6, ["masking"], activation="softmax", return_sequences=True)], one("lstm", 5, 6)),
        pooling("lstm"),
        dense(70, 6, "pooling", "linear"),
    ],
    "max pooling": [
        embedding(),
        ([bidirectional("first", 9, ["embedding"], return_sequences=True)], two("first", 5, 9)),
        pooling("first", "Max"),
        dense(2, 18, "pooling"),
    ],
    "backwards twice": [
        embedding(),
        ([lstm("first", 9, ["embedding"], return_sequences=True, go_backwards=True)], one("first", 5, 9)),
        ([lstm("second", 9, ["first"])], one("second", 9, 9)),
        dense(2, 9, "second"),
    ],
}


def load(name, **options):
    layers = [layer for part, _ in NETS[name] for layer in part]
    weights = mf.weights_of(**{k: v for _, shapes in NETS[name] for k, v in shapes.items()})
    for roles in weights.values():
        if "moving_variance" in roles:
            roles["moving_variance"] = np.abs(roles["moving_variance"]) + np.float32(0.1)
    content = mf.h5(mf.functional(*layers, inputs=["ids"], outputs=["dense"]), weights)
    return fastbilstm.load(content, **options)


def inputs(name, rows=ROWS, timesteps=TIMESTEPS, seed=0):
    """Rows of all lengths, padded in front with zeros; some have holes, one has no timestep at all."""
    rng = np.random.default_rng(seed)
    keep = np.arange(timesteps) >= timesteps - 1 - np.arange(rows)[:, None] % timesteps
    keep[3::5, ::2] = False
    keep[4 % rows] = False
    if NETS[name][0][0][1]["class_name"] == "Masking":
        return (rng.standard_normal((rows, timesteps, FEATURES)) * keep[..., None]).astype(np.float32)
    return rng.integers(1, 50, (rows, timesteps)) * keep


def same_bits(y, k):
    assert y.dtype == k.dtype == np.float32 and y.shape == k.shape
    np.testing.assert_array_equal(y.view(np.int32), k.view(np.int32))


# ---- tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_agrees_with_the_specification(name, isa):
    x = inputs(name)
    model = load(name)
    assert model.backend == "vector"
    result = compare(model.predict(x), load(name, backend="numpy", dtype="float64").predict(x))
    assert result.ok, result.message


@pytest.mark.parametrize("name", NETS)
def test_a_row_is_the_same_in_every_batch(name, isa):
    x, model = inputs(name), load(name)
    whole = model(x)
    same_bits(model(x), whole)
    for rows in ([0], [32], [4], [1, 0], [7, 8, 9, 10, 11], list(range(32, -1, -1)), [5] * 13):
        same_bits(model(x[rows]), whole[rows])
    for batch_size in (1, 2, 5, 32, 100):
        same_bits(model.predict(x, batch_size=batch_size), whole)
    assert model(x[:0]).shape == (0, *whole.shape[1:])
    assert all(step.layer is not None for step in model._plan.runner.steps) and model._plan.independent


@pytest.mark.parametrize("name", NETS)
def test_threads_and_budget_do_not_change_a_bit(name, isa, monkeypatch):
    from fastbilstm.engine import plan
    from fastbilstm.engine import vector_layers as engine

    x = inputs(name)
    whole = load(name, n_threads=1)(x)
    monkeypatch.setattr(engine, "PARALLEL_WORK", 0)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(plan.threads, "cores", lambda: 8)
    for n_threads in (2, 3, 8):
        model = load(name, n_threads=n_threads)
        same_bits(model(x), whole)
        same_bits(model.predict(x, n_threads=2, batch_size=4), whole)
        same_bits(np.concatenate([model(row[None]) for row in x]), whole)
    same_bits(load(name, memory_budget=0)(x), whole)
    model = load(name)
    for _ in range(3):  # the table of 50 rows is made on the way
        same_bits(np.concatenate([model(row[None]) for row in x]), whole)


def test_long_sequences_in_slices(isa):
    """More timesteps than a slice of projections holds, and more rows than a chunk."""
    for name in ("lstm", "masked stack", "gru stack", "tagger"):
        x = inputs(name, rows=40, timesteps=700)
        whole = load(name, memory_budget=0)(x)
        exact = load(name, backend="numpy", dtype="float64")(x)
        assert np.abs(whole - exact).max() <= 2e-6 * np.abs(exact).max()
        same_bits(load(name, memory_budget=0)(x[11:12]), whole[11:12])


def test_memory_does_not_grow_with_time():
    """No sequence is returned and none is masked: buffers for 10,000 timesteps are those for 2,000."""
    sizes = []
    for timesteps in (2000, 10_000):
        for budget in (None, 0):
            model = load("two towers", memory_budget=budget, n_threads=1)
            model.predict(inputs("two towers", 8, timesteps))
            (scratch,) = model._plan.scratches
            sizes.append(scratch.nbytes)
    assert sizes[:2] == sizes[2:] and max(sizes) < 2_000_000, sizes


PADDING = {
    "lstm": "no masks: every timestep counts",
    "masked lstm": "to the bit",
    "masked stack": "to the bit",
    "gru stack": "to the bit",
    "tagger": "depends on the amount of padding (a sequence is returned)",
    "attention": "to the bit",
    "attention without pooling": "to the bit",
    "two towers": "no masks: every timestep counts",
    "softmax cell": "to the bit",
    "max pooling": "depends on the amount of padding (layer 'pooling' (GlobalMaxPooling1D))",
    "backwards twice": "depends on the amount of padding (layer 'first' (LSTM))",
}


@pytest.mark.parametrize("name", NETS)
def test_padding(name, isa):
    model, x = load(name), inputs(name)
    text = []
    model.summary(text.append)
    assert PADDING[name] in text[0]
    x = x[np.arange(ROWS) != 4]  # a mean over no timestep is NaN, with any padding
    whole = model(x)
    wider = lambda before, after: np.pad(x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))  # noqa: E731
    if "to the bit" in PADDING[name]:
        for before, after in ((1, 0), (0, 1), (3, 4), (100, 0), (0, 333)):
            same_bits(model(wider(before, after)), whole)
        spread = np.repeat(x, 3, axis=1)
        spread[:, np.arange(spread.shape[1]) % 3 != 1] = 0
        same_bits(model(spread), whole)
    elif name != "tagger":
        assert np.abs(model(wider(3, 4)) - whole).max() > 1e-4


def test_what_is_exempt_is_marked():
    layers = [
        *embedding()[0],
        lstm("lstm", 4, ["embedding"]),
        mf.layer("LayerNormalization", "norm", ["lstm"], axis=[-1]),
    ]
    shapes = {**embedding()[1], **one("lstm", 5, 4), "norm": {"gamma": (4,), "beta": (4,)}}
    content = mf.h5(mf.functional(*layers, outputs=["norm"]), mf.weights_of(**shapes))
    text = []
    fastbilstm.load(content).summary(text.append)
    assert "run by NumPy, where the last bits of a row may depend on the batch: norm" in text[0]
    assert "does not depend on the amount of masked padding, up to rounding" in text[0]


def test_summary_tells_what_was_planned():
    text = []
    load("masked stack").summary(text.append)
    load("masked stack", memory_budget=0).summary(text.append)
    rows = {line.split()[0]: line for line in text[0].splitlines() if line.strip()}
    assert "in a table of projections" in rows["embedding"] and "folded" in rows["bn"] and "vector" in rows["first"]
    assert "rows read in place" in text[1]
    load("attention").summary(text.append)
    assert "mean over queries first" in text[2]


def test_bad_options():
    for options, words in (
        ({"memory_budget": -1}, "memory_budget is -1; expected a number of bytes"),
        ({"memory_budget": 1.5}, "memory_budget is 1.5"),
        ({"backend": "vector", "dtype": "float64"}, "backend 'vector' computes in float32, not in float64"),
        ({"backend": "fast"}, "expected one of auto, vector, blas, numpy"),
        ({"n_threads": 0}, "n_threads is 0; expected a whole number of at least 1"),
        ({"n_threads": True}, "n_threads is True"),
    ):
        with pytest.raises((ValueError, fastbilstm.InputError), match=words):
            load("lstm", **options)
    with pytest.raises(fastbilstm.InputError, match="n_threads is 'two'"):
        load("lstm").predict(inputs("lstm"), n_threads="two")
    with pytest.raises(ValueError, match="instruction set 'mmx' .* expected one of"):
        _kernels.use("mmx")


def test_ids_out_of_range_inside_the_engine():
    """Where an Embedding does not read the input itself nothing is checked beforehand."""
    model = load("lstm")
    for bad in (np.array([[1, 50]]), np.array([[2**31 + 1, 0]]), np.array([[-1, 3]])):
        with pytest.raises(
            fastbilstm.InputError, match=r"layer 'embedding' .*token id at position|input 'ids' has dtype"
        ):
            model._plan.run([bad], {})
