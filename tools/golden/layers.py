"""Golden models of the other layers: Embedding, Masking, Dense, norms, pooling, shapes, dropout, TimeDistributed."""

import numpy as np

from .registry import TF_KERAS, case, chain, fixed, floats, ids, kept, padded

# Embedding and Masking.
for _zero in (False, True):
    case(
        "embedding",
        f"mask_zero_{_zero}".lower(),
        "Embedding with and without mask_zero",
        ids(),
        lambda k, z=_zero: chain(
            k, (None,), k.layers.Embedding(11, 4, mask_zero=z), k.layers.LSTM(3, return_sequences=True), dtype="int32"
        ),
    )
    case(
        "embedding",
        f"float_ids_{_zero}".lower(),
        "float ids truncate, but the mask is taken from the ids as given: 0.6 is row 0 and kept",
        fixed([[0.0, 0.6, 1.2, 2.9], [3.0, 0.99, 0.0, 10.9], [-0.0, -0.5, 1.0, 0.0]]),
        lambda k, z=_zero: chain(
            k, (4,), k.layers.Embedding(11, 4, mask_zero=z), k.layers.LSTM(3, return_sequences=True)
        ),
    )
case(
    "embedding",
    "without_dtype",
    "ids in an Input of the default float dtype",
    ids(dtype="int64"),
    lambda k: chain(k, (6,), k.layers.Embedding(11, 4, mask_zero=True), k.layers.GlobalAveragePooling1D()),
)
case(
    "embedding",
    "rank_3",
    "ids (B, S, T)",
    lambda rng: rng.integers(0, 11, (2, 3, 4)).astype("int32"),
    lambda k: chain(k, (3, 4), k.layers.Embedding(11, 5), k.layers.Reshape((12, 5)), k.layers.LSTM(3), dtype="int32"),
)
case(
    "embedding",
    "input_length",
    "input_length and an embeddings constraint and regularizer",
    ids(),
    lambda k: chain(
        k,
        (6,),
        k.layers.Embedding(
            11, 4, input_length=6, embeddings_constraint="max_norm", embeddings_regularizer="l2", mask_zero=True
        ),
        k.layers.LSTM(3),
        dtype="int32",
    ),
    on=(TF_KERAS,),
)


def masking_probe(k, value=0.0, shape=(6, 3)):
    x = k.Input(shape)
    masked = k.layers.Masking(mask_value=value)(x)
    return k.Model(x, [masked, k.layers.LSTM(2, return_sequences=True)(masked)])


case("masking", "zero", "mask_value 0 and what comes out of Masking", padded(3), masking_probe)
case("masking", "value", "mask_value -1", padded(3, value=-1.0), lambda k: masking_probe(k, -1.0))
case("masking", "tenth", "0.1 is compared in float32", padded(3, value=0.1), lambda k: masking_probe(k, 0.1))
case(
    "masking",
    "nan",
    "a NaN row is kept, a row of zeros and NaN too; -0.0 counts as 0",
    fixed([[[0, 0], [np.nan, np.nan], [1, 2]], [[-0.0, 0], [0, np.nan], [0, 1]], [[0, 0], [1, 1], [-0.0, -0.0]]]),
    lambda k: masking_probe(k, shape=(3, 2)),
)
case(
    "masking",
    "nan_elsewhere",
    "mask_value 2: NaN beside masked rows",
    fixed([[[2, 2], [np.nan, 2], [1, 2]], [[2, 2], [2, 2], [0, 1]]]),
    lambda k: masking_probe(k, 2.0, shape=(3, 2)),
)

# Dense on any rank.
for _shape in ((4,), (5, 4), (2, 3, 4)):
    case(
        "dense",
        f"rank_{len(_shape) + 1}",
        "Dense works on the last axis",
        floats(3, *_shape),
        lambda k, s=_shape: chain(
            k, s, k.layers.Dense(5, activation="tanh"), k.layers.Dense(2, use_bias=False, kernel_constraint="max_norm")
        ),
    )

# Normalization.
for _name, _options in {
    "batch": {},
    "batch_no_scale": {"scale": False},
    "batch_no_center": {"center": False},
    "batch_bare": {"scale": False, "center": False},
    "batch_axis_1": {"axis": 1},
    "batch_axis_2": {"axis": 2, "epsilon": 1e-5, "momentum": 0.9},
    "batch_renorm": {"renorm": True, "renorm_clipping": {"rmax": 2.0}},
}.items():
    case(
        "normalization",
        _name,
        "BatchNormalization: statistics, epsilon, axis",
        floats(3, 5, 4),
        lambda k, o=_options: chain(k, (5, 4), k.layers.BatchNormalization(**o)),
    )
case(
    "normalization",
    "batch_rank_2",
    "after Dense, without a time axis",
    floats(3, 4),
    lambda k: chain(k, (4,), k.layers.Dense(5), k.layers.BatchNormalization(), k.layers.Activation("relu")),
)
case(
    "normalization",
    "batch_axis_list",
    "tf_keras' axis as a list",
    floats(3, 5, 4),
    lambda k: chain(k, (5, 4), k.layers.BatchNormalization(axis=[2])),
    on=(TF_KERAS,),
)
case(
    "normalization",
    "batch_axes",
    "tf_keras' statistics over two axes",
    floats(3, 5, 4),
    lambda k: chain(k, (5, 4), k.layers.BatchNormalization(axis=[1, 2])),
    on=(TF_KERAS,),
)
for _name, _options in {
    "layer": {},
    "layer_no_scale": {"scale": False},
    "layer_no_center": {"center": False},
    "layer_bare": {"scale": False, "center": False, "epsilon": 1e-6},
    "layer_axis_1": {"axis": 1},
    "layer_axes": {"axis": [1, 2]},
}.items():
    case(
        "normalization",
        _name,
        "LayerNormalization: axis, epsilon, scale and center",
        floats(3, 5, 4),
        lambda k, o=_options: chain(k, (5, 4), k.layers.LayerNormalization(**o)),
    )
case(
    "normalization",
    "layer_rms",
    "rms_scaling: divided by the standard deviation, mean kept",
    floats(3, 5, 4),
    lambda k: chain(k, (5, 4), k.layers.LayerNormalization(rms_scaling=True)),
    on=("3.4", "3.13"),
    tags=("LayerNormalization.rms_scaling",),
)
case(
    "normalization",
    "masked",
    "norms hand masks on and ignore them",
    padded(3),
    lambda k: chain(
        k,
        (None, 3),
        k.layers.Masking(),
        k.layers.BatchNormalization(),
        k.layers.LSTM(4, return_sequences=True),
        k.layers.LayerNormalization(),
        k.layers.LSTM(3),
    ),
)

# Pooling.
for _layer in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
    for _masked in (False, True):
        for _name, _options in {
            "": {},
            "_keepdims": {"keepdims": True},
            "_channels_first": {"data_format": "channels_first"},
        }.items():
            if _masked and _name == "_channels_first":
                continue
            case(
                "pooling",
                ("masked_" * _masked) + _layer.lower() + _name,
                "a fully masked row averages to NaN; the maximum ignores masks",
                padded(3),
                lambda k, n=_layer, o=_options, m=_masked: chain(
                    k,
                    (6, 3),
                    *[k.layers.Masking()] * m,
                    k.layers.LSTM(4, return_sequences=True),
                    getattr(k.layers, n)(**o),
                ),
            )
    case(
        "pooling",
        f"bidirectional_{_layer.lower()}",
        "masked steps of Bidirectional are zeros and take part in the maximum",
        padded(3, batch=5),
        lambda k, n=_layer: chain(
            k,
            (None, 3),
            k.layers.Masking(),
            k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True)),
            getattr(k.layers, n)(),
            k.layers.Dense(2, activation="softmax"),
        ),
    )

# Shapes.
for _name, _build in {
    "flatten": lambda k: [k.layers.Flatten()],
    "flatten_channels_first": lambda k: [k.layers.Flatten(data_format="channels_first")],
    "reshape": lambda k: [k.layers.Reshape((3, 8))],
    "reshape_minus_1": lambda k: [k.layers.Reshape((-1, 2)), k.layers.LSTM(3)],
    "permute": lambda k: [k.layers.Permute((2, 1)), k.layers.LSTM(3)],
    "repeat_vector": lambda k: [k.layers.LSTM(3), k.layers.RepeatVector(4), k.layers.LSTM(2, return_sequences=True)],
}.items():
    case("shape", _name, "order of elements", floats(3, 6, 4), lambda k, b=_build: chain(k, (6, 4), *b(k)))
case(
    "shape",
    "permute_rank_4",
    "Permute of three axes, Flatten of them",
    floats(2, 3, 4, 5),
    lambda k: chain(k, (3, 4, 5), k.layers.Permute((3, 1, 2)), k.layers.Flatten()),
)
for _name, _build in {
    "reshape_masked": lambda k: [k.layers.Reshape((6, 3))],
    "permute_masked": lambda k: [k.layers.Permute((1, 2))],
    "repeat_vector_masked": lambda k: [k.layers.LSTM(4), k.layers.RepeatVector(3)],
}.items():
    case(
        "shape",
        _name,
        "the mask ends here: the LSTM after it reads the padding",
        padded(3),
        lambda k, b=_build: chain(k, (6, 3), k.layers.Masking(), *b(k), k.layers.LSTM(3)),
    )
case(
    "shape",
    "flatten_masked",
    "Flatten after a masked sequence",
    padded(3),
    lambda k: chain(
        k, (6, 3), k.layers.Masking(), k.layers.LSTM(2, return_sequences=True), k.layers.Flatten(), k.layers.Dense(2)
    ),
)


# Layers that do nothing at inference, and hand masks on.
def dropouts(k):
    return [
        k.layers.Dropout(0.5, noise_shape=(None, 1, 3)),
        k.layers.SpatialDropout1D(0.3),
        k.layers.GaussianNoise(0.7),
        k.layers.GaussianDropout(0.4),
        k.layers.AlphaDropout(0.2),
        k.layers.ActivityRegularization(l1=0.1, l2=0.2),
    ]


def each_dropout(k):
    x = k.Input((6, 3))
    masked = k.layers.Masking()(x)
    lstm = k.layers.LSTM(2)
    return k.Model(x, [lstm(layer(masked)) for layer in dropouts(k)])


case("dropout", "masks_pass", "identity at inference; masks travel through", padded(3), each_dropout)
case("dropout", "identity", "identity at inference", floats(3, 6, 3), lambda k: chain(k, (6, 3), *dropouts(k)))


# TimeDistributed.
def distributed(k, layer, shape=(5, 4), after=()):
    return chain(k, shape, k.layers.TimeDistributed(layer), *after)


for _name, _shape, _build in (
    ("dense", (5, 4), lambda k: k.layers.Dense(3, activation="tanh")),
    ("dense_rank_4", (5, 2, 4), lambda k: k.layers.Dense(3)),
    ("lstm", (3, 5, 4), lambda k: k.layers.LSTM(2)),
    ("lstm_sequences", (3, 5, 4), lambda k: k.layers.LSTM(2, return_sequences=True, go_backwards=True)),
    ("bidirectional", (3, 5, 4), lambda k: k.layers.Bidirectional(k.layers.LSTM(2), merge_mode="sum")),
    ("flatten", (3, 5, 4), lambda k: k.layers.Flatten()),
    ("batch_normalization", (3, 4), lambda k: k.layers.BatchNormalization()),
    ("average", (3, 5, 4), lambda k: k.layers.GlobalAveragePooling1D()),
    ("dropout", (3, 4), lambda k: k.layers.Dropout(0.2)),
    ("activation", (3, 4), lambda k: k.layers.Activation("softmax")),
):
    case(
        "time_distributed",
        _name,
        "the inner layer at every step",
        floats(2, *_shape),
        lambda k, s=_shape, b=_build: distributed(k, b(k), s),
    )
case(
    "time_distributed",
    "nested_model",
    "a model at every step",
    floats(2, 3, 5, 4),
    lambda k: distributed(
        k, k.Sequential([k.Input((5, 4)), k.layers.LSTM(3), k.layers.Dense(2)]), (3, 5, 4), [k.layers.LSTM(2)]
    ),
)
case(
    "time_distributed",
    "masked_dense",
    "the mask passes TimeDistributed(Dense)",
    padded(3),
    lambda k: chain(
        k, (6, 3), k.layers.Masking(), k.layers.TimeDistributed(k.layers.Dense(4)), k.layers.LSTM(3), k.layers.Dense(2)
    ),
)


def nested_mask(k, pooled):
    """mask (B, S, T) given in the call: each step of the inner LSTM gets its slice."""
    x, keep = k.Input((3, 6, 2)), k.Input((3, 6), dtype="bool")
    y = k.layers.TimeDistributed(k.layers.LSTM(3, return_sequences=True))(x, mask=keep)
    return k.Model([x, keep], k.layers.Flatten()(y) if pooled else y)


def keep_3(rng):
    return np.stack([kept()[:3], kept()[3:]])


case(
    "time_distributed",
    "lstm_with_mask",
    "TimeDistributed(LSTM) with a mask given in the call",
    [floats(2, 3, 6, 2), keep_3],
    lambda k: nested_mask(k, False),
    tags=("TimeDistributed.mask",),
)


def characters(k, inner):
    """ids (B, S, T) -> Embedding(mask_zero) of every character -> TimeDistributed(LSTM): one vector a word."""
    x = k.Input((3, 6), dtype="int32")
    y = k.layers.Embedding(11, 4, mask_zero=True)(x)
    return k.Model(x, k.layers.TimeDistributed(inner(k))(y))


for _name, _inner in (
    ("characters", lambda k: k.layers.LSTM(3)),
    ("characters_bidirectional", lambda k: k.layers.Bidirectional(k.layers.LSTM(3))),
):
    case(
        "time_distributed",
        _name,
        "TimeDistributed(LSTM) over a mask (B, S, T)",
        lambda rng: ids()(rng).reshape(2, 3, 6),
        lambda k, i=_inner: characters(k, i),
    )


def characters_then_words(k):
    x = k.Input((3, 6), dtype="int32")
    y = k.layers.Embedding(11, 4, mask_zero=True)(x)
    y = k.layers.TimeDistributed(k.layers.LSTM(3))(y)
    return k.Model(x, k.layers.LSTM(2, return_sequences=True)(y))


case(
    "time_distributed",
    "characters_then_words",
    "tf_keras reduces the mask (B, S, T) to (B, S); Keras 3 raises",
    lambda rng: ids()(rng).reshape(2, 3, 6),
    characters_then_words,
    on=(TF_KERAS,),
)
case(
    "time_distributed",
    "embedding",
    "TimeDistributed(Embedding(mask_zero)): a mask in tf_keras, none in Keras 3",
    lambda rng: ids()(rng).reshape(2, 3, 6),
    lambda k: chain(
        k,
        (3, 6),
        k.layers.TimeDistributed(k.layers.Embedding(11, 4, mask_zero=True)),
        k.layers.TimeDistributed(k.layers.LSTM(3)),
        dtype="int32",
    ),
)
