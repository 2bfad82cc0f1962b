"""Golden models of merging and attention layers: values, broadcasting, and the masks that go in and come out."""

from .registry import BOTH, KERAS, case, floats, ids, kept, padded

ELEMENTWISE = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
LAYERS = (*ELEMENTWISE, "Concatenate")
OLD = ("3.3", "3.4")


def old(name):
    """Concatenate under masks cannot be built in 3.4.1 (its compute_mask broadcasts to a shape with None)."""
    return OLD[:1] if name == "Concatenate" else OLD


def merge(k, name, *shapes, **options):
    inputs = [k.Input(shape) for shape in shapes]
    return k.Model(inputs, getattr(k.layers, name)(**options)(inputs))


for _name in LAYERS:
    _count = 2 if _name == "Subtract" else 3
    case(
        "merging",
        _name.lower(),
        f"{_count} inputs of one shape",
        [floats(3, 5, 4)] * _count,
        lambda k, n=_name, c=_count: merge(k, n, *[(5, 4)] * c),
    )
for _name in ELEMENTWISE:
    case(
        "merging",
        f"{_name.lower()}_ranks",
        "broadcast over axes of size 1 and over ranks",
        [floats(3, 5, 4), floats(3, 1, 4)],
        lambda k, n=_name: merge(k, n, (5, 4), (1, 4)),
    )
    case(
        "merging",
        f"{_name.lower()}_rank_2",
        "a (B, F) input beside a (B, T, F) one",
        [floats(3, 3, 4), floats(3, 4)],
        lambda k, n=_name: merge(k, n, (3, 4), (4,)),
    )
for _name, _axis, _shapes in (
    ("concatenate_axis_1", 1, [(5, 4), (2, 4)]),
    ("concatenate_axis_2", 2, [(5, 4), (5, 3)]),
    ("concatenate_axis_minus_2", -2, [(5, 4), (2, 4)]),
    ("concatenate_rank_2", -1, [(4,), (3,), (1,)]),
):
    case(
        "merging",
        _name,
        "Concatenate along its axis",
        [floats(3, *shape) for shape in _shapes],
        lambda k, a=_axis, s=_shapes: merge(k, "Concatenate", *s, axis=a),
    )


def other_kept(rng):
    """A mask (B, T) that agrees with `kept` in some rows only."""
    keep = kept()[::-1].copy()
    keep[4, 0] = False
    return keep


def padded_otherwise(rng):
    x = padded(3)(rng)
    y = rng.standard_normal(x.shape).astype("float32")
    y[~other_kept(rng)] = 0
    return y


def masked_merge(k, name, masked, **options):
    """Values of the merge, and what an LSTM after it (which sees its mask) makes of them."""
    inputs = [k.Input((6, 3)) for _ in masked]
    branches = [k.layers.Masking()(x) if m else x for x, m in zip(inputs, masked, strict=True)]
    branches = [k.layers.LSTM(3, return_sequences=True)(x) for x in branches]
    y = getattr(k.layers, name)(**options)(branches)
    return k.Model(inputs, [y, k.layers.LSTM(2, return_sequences=True)(y)])


for _name in LAYERS:
    for _label, _masked in (("two_masks", (True, True)), ("first_mask", (True, False)), ("last_mask", (False, True))):
        case(
            "merging",
            f"{_name.lower()}_{_label}",
            "AND before Keras 3.4, OR after; the values change too",
            [padded(3), padded_otherwise],
            lambda k, n=_name, m=_masked: masked_merge(k, n, m),
            on=(*BOTH, *old(_name)),
        )
for _name in ("Add", "Multiply", "Maximum", "Minimum", "Concatenate"):
    case(
        "merging",
        f"{_name.lower()}_three_masks",
        "three inputs, one without a mask",
        [padded(3), padded_otherwise, padded(3)],
        lambda k, n=_name: masked_merge(k, n, (True, True, False)),
        on=(*BOTH, *old(_name)),
    )
    if _name != "Concatenate":
        case(
            "merging",
            f"{_name.lower()}_all_masks",
            "three inputs, three masks",
            [padded(3), padded_otherwise, padded(3)],
            lambda k, n=_name: masked_merge(k, n, (True, True, True)),
            on=(*BOTH, *OLD),
        )
for _label, _masked in (("two_masks", (True, True)), ("first_mask", (True, False))):
    case(
        "merging",
        f"concatenate_time_{_label}",
        "axis 1: the masks are concatenated",
        [padded(3), padded_otherwise],
        lambda k, m=_masked: masked_merge(k, "Concatenate", m, axis=1),
        on=(*BOTH, "3.3") if all(_masked) else (KERAS, "3.3"),  # tf_keras cannot build the other
    )


def embeddings_summed(k):
    """Two token inputs, embedded with masks and added: the classical tagger's front."""
    words, tags = k.Input((6,), dtype="int32"), k.Input((6,), dtype="int32")
    y = k.layers.Add()(
        [k.layers.Embedding(11, 4, mask_zero=True)(words), k.layers.Embedding(5, 4, mask_zero=True)(tags)]
    )
    return k.Model([words, tags], k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(y))


case("merging", "embeddings_summed", "masks of two embeddings meet", [ids(11), ids(5)], embeddings_summed)

for _name, _axes, _shapes, _normalize in (
    ("dot_rank_2", 1, [(4,), (4,)], False),
    ("dot_rank_2_normalize", -1, [(4,), (4,)], True),
    ("dot_features", 2, [(5, 4), (3, 4)], False),
    ("dot_features_normalize", 2, [(5, 4), (3, 4)], True),
    ("dot_time", 1, [(5, 4), (5, 3)], False),
    ("dot_minus_one", -1, [(5, 4), (3, 4)], False),
    ("dot_pair", (2, 1), [(5, 4), (4, 3)], False),
    ("dot_pair_normalize", (1, 2), [(4, 5), (3, 4)], True),
    ("dot_ranks", (2, 1), [(5, 4), (4,)], False),
):
    case(
        "merging",
        _name,
        "Dot over its axes",
        [floats(3, *shape) for shape in _shapes],
        lambda k, a=_axes, s=_shapes, n=_normalize: merge(k, "Dot", *s, axes=a, normalize=n),
    )


def masked_dot(k):
    """Luong attention made of layers; Dot has no mask."""
    x = k.Input((6, 3))
    h = k.layers.LSTM(4, return_sequences=True)(k.layers.Masking()(x))
    weights = k.layers.Activation("softmax")(k.layers.Dot(axes=2)([h, h]))
    y = k.layers.Dot(axes=(2, 1))([weights, h])
    return k.Model(x, [y, k.layers.LSTM(2)(y)])


case("merging", "dot_masked", "attention made of Dot: masks end there", padded(3), masked_dot)


# Attention.
def attention(k, name="Attention", three=False, causal=False, scores=False, **options):
    shapes = [(4, 3), (6, 3), (6, 3)][: 3 if three else 2]
    inputs = [k.Input(shape) for shape in shapes]
    call = {"use_causal_mask": True} if causal else {}
    call |= {"return_attention_scores": True} if scores else {}
    return k.Model(inputs, getattr(k.layers, name)(**options)(inputs, **call))


_qv = [floats(5, 4, 3), floats(5, 6, 3)]
for _name, _options in {
    "attention": {},
    "attention_scale": {"use_scale": True},
    "attention_concat": {"score_mode": "concat"},
    "attention_concat_scale": {"score_mode": "concat", "use_scale": True},
    "attention_three": {"three": True},
    "attention_causal": {"causal": True},
    "attention_scores": {"scores": True},
    "attention_dropout": {"dropout": 0.5},
    "additive": {"name": "AdditiveAttention"},
    "additive_no_scale": {"name": "AdditiveAttention", "use_scale": False},
    "additive_three": {"name": "AdditiveAttention", "three": True},
    "additive_causal": {"name": "AdditiveAttention", "causal": True},
    "additive_scores": {"name": "AdditiveAttention", "scores": True},
}.items():
    _inputs = [*_qv, floats(5, 6, 3)] if _options.get("three") else _qv
    case(
        "attention",
        _name,
        "option of the attention layers",
        _inputs,
        lambda k, o=_options: attention(k, **o),
        tags=("Attention.use_causal_mask",) * bool(_options.get("causal")),
    )


def masked_attention(k, query_masked, value_masked, name="Attention", causal=False, three=False, **options):
    """Queries and values with implicit masks, then an LSTM that sees the mask that comes out."""
    inputs = [k.Input((6, 3)), k.Input((6, 3))]
    branches = [k.layers.Masking()(x) if m else x for x, m in zip(inputs, (query_masked, value_masked), strict=True)]
    branches = [k.layers.LSTM(3, return_sequences=True)(x) for x in branches]
    if three:
        branches.append(k.layers.Dense(3)(branches[1]))
    y = getattr(k.layers, name)(**options)(branches, **({"use_causal_mask": True} if causal else {}))
    return k.Model(inputs, [y, k.layers.LSTM(2, return_sequences=True)(y)])


for _layer in ("Attention", "AdditiveAttention"):
    _short = "attention" if _layer == "Attention" else "additive"
    for _label, _options in {
        "query_mask": {"query_masked": True, "value_masked": False},
        "value_mask": {"query_masked": False, "value_masked": True},
        "two_masks": {"query_masked": True, "value_masked": True},
        "masks_causal": {"query_masked": True, "value_masked": True, "causal": True},
        "masks_three": {"query_masked": True, "value_masked": True, "three": True},
    }.items():
        case(
            "attention",
            f"{_short}_{_label}",
            "value mask lowers scores, query mask zeroes rows",
            [padded(3), padded_otherwise],
            lambda k, n=_layer, o=_options: masked_attention(k, name=n, **o),
            # Keras 3.3 broadcasts a value mask (B, Tv) along the wrong axes unless it is causal: it raises or is wrong.
            on=(*BOTH, "3.3") if (_short, _label) == ("attention", "masks_causal") else BOTH,
        )
case(
    "attention",
    "concat_masks",
    "score_mode concat under masks",
    [padded(3), padded_otherwise],
    lambda k: masked_attention(k, True, True, score_mode="concat", use_scale=True),
)


def self_attention(k, masked):
    """The guide's net: BiLSTM, attention of it with itself, mean."""
    tokens = k.Input((None,), dtype="int32")
    x = k.layers.Embedding(50, 8, mask_zero=masked)(tokens)
    x = k.layers.Bidirectional(k.layers.LSTM(6, return_sequences=True))(x)
    x = k.layers.GlobalAveragePooling1D()(k.layers.Attention()([x, x]))
    return k.Model(tokens, k.layers.Dense(1, activation="sigmoid")(x))


for _masked in (False, True):
    case(
        "attention",
        "masked_" * _masked + "self",
        "BiLSTM with attention to itself; Keras 3 cannot load the .h5",
        ids(50, 7, batch=5),
        lambda k, m=_masked: self_attention(k, m),
        form="h5",
    )


def explicit_masks(k):
    """mask=[query mask, value mask] given in the call."""
    query, value = k.Input((4, 3)), k.Input((6, 3))
    query_mask, value_mask = k.Input((4,), dtype="bool"), k.Input((6,), dtype="bool")
    y = k.layers.Attention()([query, value], mask=[query_mask, value_mask])
    return k.Model([query, value, query_mask, value_mask], y)


case(
    "attention",
    "explicit_masks",
    "masks given in the call",
    [floats(6, 4, 3), floats(6, 6, 3), lambda rng: kept(6, 4), lambda rng: kept(6, 6)],
    explicit_masks,
    tags=("Attention.mask",),
)
