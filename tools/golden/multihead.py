"""Golden models of MultiHeadAttention and GroupQueryAttention: options, axes, all kinds of masks, Transformers."""

from .registry import BOTH, KERAS, TF_KERAS, case, chain, floats, ids, is_keras3


def pairs(rng):
    """Masks (B, T, S) for attention_mask, one row of them without any key."""
    keep = rng.random((3, 4, 4)) < 0.6
    keep[1, 2] = False
    return keep


def several(k, *options, shape=(4, 5), **call):
    """Some MultiHeadAttention layers over one sequence."""
    x = k.Input(shape)
    found = [k.layers.MultiHeadAttention(*args, **given)(x, x, **call) for args, given in options]
    return k.Model(x, [y for ys in found for y in (ys if isinstance(ys, (list, tuple)) else [ys])])


case(
    "mha",
    "options",
    "value_dim, use_bias, output_shape of one and two axes, dropout",
    floats(3, 4, 5),
    lambda k: several(
        k,
        ((2, 3), {}),
        ((1, 4), {"value_dim": 2, "use_bias": False}),
        ((3, 2), {"output_shape": 4}),
        ((2, 2), {"output_shape": (2, 3), "value_dim": 1, "dropout": 0.2}),
    ),
)
case(
    "mha",
    "scores",
    "return_attention_scores, with and without a causal mask",
    floats(3, 4, 5),
    lambda k: several(
        k, ((2, 3), {}), ((1, 2), {"use_bias": False}), return_attention_scores=True, use_causal_mask=True
    ),
)
case("mha", "causal", "use_causal_mask", floats(3, 4, 5), lambda k: several(k, ((2, 3), {}), use_causal_mask=True))


def cross(k, **call):
    query, value, key = k.Input((3, 5)), k.Input((4, 2)), k.Input((4, 3))
    y = k.layers.MultiHeadAttention(2, 3)(query, value, key, **call)
    if is_keras3(k):
        z = k.layers.MultiHeadAttention(2, 2, value_dim=3)(query=query, value=value, **call)
    else:
        z = k.layers.MultiHeadAttention(2, 2, value_dim=3)(query, value=value, **call)
    return k.Model([query, value, key], [y, z])


CROSS = [floats(3, 3, 5), floats(3, 4, 2), floats(3, 4, 3)]
case("mha", "cross", "query, value and key of different sizes; key not given", CROSS, cross)
case("mha", "cross_causal", "a causal mask that is not square", CROSS, lambda k: cross(k, use_causal_mask=True))


def over_axes(k):
    x = k.Input((2, 3, 4))
    layers = [
        k.layers.MultiHeadAttention(2, 3, attention_axes=(2,)),
        k.layers.MultiHeadAttention(2, 2, attention_axes=(1, 2), output_shape=3),
        k.layers.MultiHeadAttention(1, 2, attention_axes=1, dropout=0.1),
        k.layers.MultiHeadAttention(2, 2),
    ]
    scores = k.layers.MultiHeadAttention(2, 2, attention_axes=(2,))(x, x, return_attention_scores=True)
    return k.Model(x, [*(layer(x, x) for layer in layers), *scores])


case("mha", "axes", "attention_axes of inputs with 4 axes", floats(3, 2, 3, 4), over_axes)


def given_mask(k):
    x, keep = k.Input((4, 3)), k.Input((4, 4), dtype="bool")
    y = k.layers.MultiHeadAttention(2, 2)(x, x, attention_mask=keep)
    z = k.layers.MultiHeadAttention(2, 2)(x, x, attention_mask=keep, return_attention_scores=True)
    w = k.layers.MultiHeadAttention(1, 3, dropout=0.3)(x, x, attention_mask=keep, use_causal_mask=True)
    return k.Model([x, keep], [y, *z, w])


case("mha", "attention_mask", "a mask (B, T, S) with a row without any key", [floats(3, 4, 3), pairs], given_mask)


def implicit(k, **options):
    i, j = k.Input((6,), dtype="int32"), k.Input((6,), dtype="int32")
    x, e = k.layers.Embedding(11, 4, mask_zero=True)(i), k.layers.Embedding(11, 4, mask_zero=True)(j)
    own = k.layers.MultiHeadAttention(2, 2, **options)(x, x)
    both = k.layers.MultiHeadAttention(2, 2, **options)(own, e)
    third = k.layers.MultiHeadAttention(1, 2, **options)(both, e, own, return_attention_scores=True)
    return k.Model([i, j], [own, both, *third, k.layers.GlobalAveragePooling1D()(both), k.layers.LSTM(2)(third[0])])


TWO_IDS = [ids(), ids()]
case("mha", "masks", "masks of query, value and key; where a query has no key at all", TWO_IDS, implicit)
case("mha", "masks_dropout", "the same with dropout", TWO_IDS, lambda k: implicit(k, dropout=0.1))
case(
    "mha",
    "masks_robust",
    "tf.keras' softmax_robust_masking",
    TWO_IDS,
    lambda k: implicit(k, softmax_robust_masking=True),
    on=(TF_KERAS,),
)


def read_again(k):
    """Layers that read a tensor whose mask MultiHeadAttention has taken off."""
    i = k.Input((6,), dtype="int32")
    x = k.layers.Embedding(11, 4, mask_zero=True)(i)
    d = k.layers.Dropout(0.5)(x)
    a = k.layers.MultiHeadAttention(2, 2)(d, d)
    b = k.layers.MultiHeadAttention(2, 2)(x, x)
    c = k.layers.Multiply()([x, a])
    m = k.layers.Maximum()([k.layers.Dense(4)(x), b])
    return k.Model(i, [a, b, c, m, k.layers.GlobalAveragePooling1D()(c), k.layers.Add()([x, c])])


case("mha", "read_again", "Keras 3.8 and later take masks off for good; Dropout gives its input on", ids(), read_again)


def inside(k):
    i = k.Input((6,), dtype="int32")
    x = k.layers.Embedding(11, 4, mask_zero=True)(i)
    u = k.Input((6, 4))
    block = k.Model(u, k.layers.Add()([u, k.layers.MultiHeadAttention(2, 2)(u, u)]))
    a = block(x)
    b = block(a)
    return k.Model(i, [a, b, k.layers.Multiply()([x, a]), k.layers.MultiHeadAttention(1, 2)(x, b)])


case("mha", "nested", "a block that is a model, called twice", ids(), inside)


def encoder(k, dropout=0.0, blocks=2):
    i = k.Input((6,), dtype="int32")
    x = k.layers.Embedding(11, 4, mask_zero=True)(i)
    for _ in range(blocks):
        h = k.layers.MultiHeadAttention(2, 2, dropout=dropout)(x, x)
        x = k.layers.LayerNormalization()(k.layers.Add()([x, k.layers.Dropout(0.1)(h)]))
        h = k.layers.Dense(4)(k.layers.Dense(6, activation="relu")(x))
        x = k.layers.LayerNormalization()(k.layers.Add()([x, h]))
    return k.Model(i, [x, k.layers.Dense(3, activation="softmax")(k.layers.GlobalAveragePooling1D()(x))])


for _form, _on in (("h5", BOTH), ("keras", (KERAS,)), ("weights.h5+json", (TF_KERAS,))):
    case("mha", f"encoder_{_form[:5]}", "two Transformer encoder blocks and a mean", ids(), encoder, form=_form, on=_on)


def decoder(k):
    i, j = k.Input((4,), dtype="int32"), k.Input((6,), dtype="int32")
    x, memory = k.layers.Embedding(11, 4, mask_zero=True)(i), k.layers.Embedding(11, 3, mask_zero=True)(j)
    for _ in range(2):
        x = k.layers.Add()([x, k.layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True)])
        x = k.layers.Add()([x, k.layers.MultiHeadAttention(2, 2)(x, memory)])
    return k.Model([i, j], k.layers.Dense(5)(x))


case("mha", "decoder", "two Transformer decoder blocks over one memory", [ids(timesteps=4), ids()], decoder)
case(
    "mha",
    "gate_and_window",
    "Keras 3's use_gate and sliding_window",
    floats(3, 5, 4),
    lambda k: several(
        k, ((2, 2), {"use_gate": True}), ((2, 2), {"sliding_window": 2, "use_gate": True, "dropout": 0.1}), shape=(5, 4)
    ),
    on=(KERAS,),
)


def groups(k):
    i = k.Input((6,), dtype="int32")
    x = k.layers.Embedding(11, 4, mask_zero=True)(i)
    a = k.layers.GroupQueryAttention(2, 4, 2)(x, x)
    b = k.layers.GroupQueryAttention(3, 2, 1, use_bias=False, sliding_window=3)(a, x, use_causal_mask=True)
    c = k.layers.GroupQueryAttention(2, 2, 2, use_gate=True, dropout=0.1)(x, x, b, return_attention_scores=True)
    return k.Model(i, [a, b, *c, k.layers.GlobalAveragePooling1D()(a)])


for _form in ("h5", "keras"):
    case("mha", f"groups_{_form}", "GroupQueryAttention", ids(), groups, on=(KERAS,), form=_form)
case(
    "mha",
    "free_length",
    "a free time axis",
    floats(2, 5, 3),
    lambda k: several(k, ((2, 2), {}), shape=(None, 3)),
)
case(
    "mha",
    "in_front",
    "a BiLSTM behind the attention",
    floats(2, 5, 3),
    lambda k: chain(
        k,
        (None, 3),
        lambda x: k.layers.MultiHeadAttention(2, 2)(x, x),
        k.layers.Bidirectional(k.layers.LSTM(2)),
    ),
)
case(
    "mha",
    "one_column",
    "heads of one column, as many as timesteps: Keras 3 adds such a bias along the timesteps",
    floats(2, 3, 4),
    lambda k: several(k, ((3, 1), {}), shape=(3, 4)),
)
