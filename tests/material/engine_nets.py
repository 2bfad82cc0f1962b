"""Nets that the vector engine runs whole, by name, with inputs for them; for tests that compare bits."""

import make_files as mf
import numpy as np

import fastbilstm

ROWS, TIMESTEPS, FEATURES = 33, 11, 5


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
    "wide": [embedding(), ([lstm("lstm", 104, ["embedding"])], one("lstm", 5, 104)), dense(3, 104, "lstm")],
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
