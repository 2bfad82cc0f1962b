"""Golden models of TimeDistributed around everything: layers of every family, models, itself; masked or not."""

import numpy as np

from .registry import KERAS, TF_KERAS, case, chain, floats, ids, kept


def sequential(k, *layers):
    return k.Sequential([k.Input((6, 2)), *layers])


def functional(k):
    """Two branches over the steps of one sequence."""
    x = k.Input((6, 2))
    y = k.layers.GRU(3, return_sequences=True)(x)
    return k.Model(x, k.layers.Add()([y, k.layers.Dense(3)(x)]))


def with_mask_inside(k):
    return sequential(k, k.layers.Masking(), k.layers.GRU(3))


# Layers over one sequence of the outer sequence: (6, 2) at each of 3 steps.
TAKE_MASKS = {
    "gru": lambda k: k.layers.GRU(3),
    "simple_rnn": lambda k: k.layers.SimpleRNN(3, return_sequences=True, go_backwards=True),
    "bidirectional": lambda k: k.layers.Bidirectional(k.layers.GRU(3, return_sequences=True), merge_mode="ave"),
    "bidirectional_last": lambda k: k.layers.Bidirectional(k.layers.LSTM(3)),
    "stack": lambda k: k.layers.RNN([k.layers.LSTMCell(3), k.layers.GRUCell(2)], return_sequences=True),
    "dense": lambda k: k.layers.Dense(3, activation="tanh"),
    "average": lambda k: k.layers.GlobalAveragePooling1D(),
    "normalization": lambda k: k.layers.LayerNormalization(),
    "model": lambda k: sequential(k, k.layers.GRU(3, return_sequences=True), k.layers.Dense(2)),
    "functional": functional,
    "distributed": lambda k: k.layers.TimeDistributed(k.layers.Dense(2)),
}
OTHERS = {
    "reshape": lambda k: k.layers.Reshape((4, 3)),
    "permute": lambda k: k.layers.Permute((2, 1)),
    "maximum": lambda k: k.layers.GlobalMaxPooling1D(),
    "flatten": lambda k: sequential(k, k.layers.Flatten(), k.layers.Dense(3), k.layers.RepeatVector(2)),
    "mask_inside": with_mask_inside,
}


def words(rng):
    """(2, 3, 6, 2) with rows of zeros in every padding pattern."""
    x = rng.standard_normal((6, 6, 2)).astype("float32")
    x[~kept()] = 0
    return x.reshape(2, 3, 6, 2)


def distributed(k, makers, shape, masked):
    x = k.Input(shape)
    sequence = k.layers.Masking()(x) if masked else x
    return k.Model(x, [k.layers.TimeDistributed(make(k))(sequence) for make in makers.values()])


def split(makers):
    """Half of the makers each, so that no model grows large."""
    items = list(makers.items())
    return (dict(items[0::2]), dict(items[1::2]))


for _part, _makers in enumerate(split(TAKE_MASKS | OTHERS)):
    case(
        "time_distributed_any",
        f"layers_{_part}",
        "a layer or model at every step; no mask",
        words,
        lambda k, makers=_makers: distributed(k, makers, (3, 6, 2), False),
        on=((KERAS,), (TF_KERAS,))[_part],
    )
for _part, _makers in enumerate(split(TAKE_MASKS)):
    for _steps in (3, None) if _part == 0 else (3,):
        case(
            "time_distributed_any",
            f"masked_layers_{_part}{'_free' * (_steps is None)}",
            "a mask (B, S, T): each step of the wrapped layer gets its slice",
            words,
            lambda k, makers=_makers, steps=_steps: distributed(k, makers, (steps, 6, 2), True),
            # Keras 3 runs a free number of steps in another way than a fixed one; tf_keras does not.
            on=(KERAS, TF_KERAS) if _steps else (KERAS,),
        )


def after(k, inner, shape=(6, 3)):
    """The mask (B, S) goes through TimeDistributed to an LSTM behind it."""
    return chain(
        k,
        shape,
        k.layers.Masking(),
        k.layers.TimeDistributed(inner),
        k.layers.LSTM(3, return_sequences=True),
        k.layers.Dense(2),
    )


def steps_masked(rng):
    x = rng.standard_normal((6, 6, 3)).astype("float32")
    x[~kept()] = 0
    return x


for _name, _make in {
    "dense_model": lambda k: k.Sequential([k.Input((3,)), k.layers.Dense(4, activation="relu"), k.layers.Dense(2)]),
    "normalization": lambda k: k.layers.BatchNormalization(),
}.items():
    case(
        "time_distributed_any",
        f"mask_after_{_name}",
        "the mask passes on behind a layer or model applied to every step",
        steps_masked,
        lambda k, make=_make: after(k, make(k)),
    )


def characters(k, inner, behind=True):
    """ids (B, S, T) -> a model of characters at every word -> what reads the words."""
    x = k.Input((None, 6), dtype="int32")
    y = k.layers.TimeDistributed(inner)(x)
    return k.Model(x, k.layers.Bidirectional(k.layers.GRU(2, return_sequences=True))(y) if behind else y)


def character_model(k, *layers):
    return k.Sequential([k.Input((6,), dtype="int32"), k.layers.Embedding(11, 4, mask_zero=True), *layers])


def word_ids(rng):
    return ids()(rng).reshape(2, 3, 6)


case(
    "time_distributed_any",
    "character_model",
    "a model of Embedding(mask_zero) and Bidirectional at every word: its mask stays inside",
    word_ids,
    lambda k: characters(k, character_model(k, k.layers.Bidirectional(k.layers.GRU(3)))),
)
case(
    "time_distributed_any",
    "character_model_sequences",
    "tf_keras hands the mask of the model inside on, Keras 3 does not",
    word_ids,
    lambda k: k.Model(
        *(
            lambda m: (
                m.input,
                k.layers.TimeDistributed(k.layers.SimpleRNN(2))(m.output),
            )
        )(characters(k, character_model(k, k.layers.GRU(3, return_sequences=True)), False))
    ),
)
case(
    "time_distributed_any",
    "embedding_twice",
    "TimeDistributed(TimeDistributed(...)) over ids of rank 4",
    lambda rng: ids(batch=4)(rng).reshape(2, 2, 3, 2)[:, :, :, :],
    lambda k: chain(
        k,
        (2, 3, 2),
        k.layers.TimeDistributed(k.layers.TimeDistributed(k.layers.Embedding(11, 3))),
        k.layers.TimeDistributed(k.layers.TimeDistributed(k.layers.GRU(2))),
        k.layers.TimeDistributed(k.layers.LSTM(3)),
        dtype="int32",
    ),
)


def call_mask(k):
    """mask (B, S, T) given in the call, to a model and to TimeDistributed twice."""
    x, keep = k.Input((3, 6, 2)), k.Input((3, 6), dtype="bool")
    layers = [sequential(k, k.layers.GRU(3)), k.layers.Bidirectional(k.layers.SimpleRNN(2))]
    return k.Model([x, keep], [k.layers.TimeDistributed(layer)(x, mask=keep) for layer in layers])


case(
    "time_distributed_any",
    "mask_in_call",
    "mask= given in the call",
    [floats(2, 3, 6, 2), lambda rng: np.stack([kept()[:3], kept()[3:]])],
    call_mask,
    tags=("TimeDistributed.mask",),
    on=(KERAS, TF_KERAS),
)
