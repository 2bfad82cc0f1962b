"""Golden models of precision on disk: dtype policies, int8 and int4 quantization, LoRA, sharded weights.

Of half-precision models two answers are recorded: that of a float32 (float64) twin with the same weights, which must be
met like any other, and Keras' own ("half"), which is less exact than ours; see fastbilstm.tolerances.
"""

import numpy as np

from .registry import BOTH, KERAS, TF_KERAS, case, chain, floats, ids, kept


def net(k, dtypes=(None,) * 4):
    """Embedding, BiLSTM, BatchNormalization, Dense; a dtype policy for each or None."""
    table, rnn, norm, dense = ({} if dtype is None else {"dtype": dtype} for dtype in dtypes)
    # bfloat16 has no orthogonal initializer.
    lstm = k.layers.LSTM(3, return_sequences=True, recurrent_initializer="glorot_uniform", **rnn)
    return chain(
        k,
        (6,),
        k.layers.Embedding(11, 4, mask_zero=True, **table),
        k.layers.Bidirectional(lstm, **rnn),
        k.layers.BatchNormalization(**norm),
        k.layers.LSTM(4, recurrent_initializer="glorot_uniform", **rnn),
        k.layers.Dense(3, activation="softmax", **dense),
        dtype="int32",
    )


_TWIN = "the answer of a float32 twin, and Keras' own in half precision"
for _policy in ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16"):
    for _form in ("keras", "h5", "weights.h5+json"):
        if _form == "weights.h5+json" and _policy.startswith("mixed"):
            continue
        case(
            "precision",
            f"{_policy}_{_form.split('.')[0]}",
            f"whole model {_policy}: {_TWIN}",
            ids(),
            net,
            policy=_policy,
            reference=net,
            form=_form,
            tags=(f"dtype={_policy}",),
        )
case(
    "precision", "float64", "whole model float64", ids(), net, policy="float64", reference=net, form="weights.h5+json",
    on=(KERAS,), tags=("dtype=float64",),
)  # fmt: skip

_LAYERS = ("float16", "mixed_bfloat16", None, "float64")
for _form in ("keras", "h5"):
    case(
        "precision",
        f"per_layer_{_form}",
        "a policy of its own for each layer",
        ids(),
        lambda k: net(k, _LAYERS),
        reference=net,
        form=_form,
        tags=tuple(f"dtype={dtype}" for dtype in _LAYERS if dtype),
    )


def near(*values):
    """Floats that are exact in both half precisions; masked steps hold one of `values`."""

    def make(rng):
        x = (rng.integers(-32, 33, (6, 6, 2)) / 16).astype(np.float32)
        for number, (row, step) in enumerate(np.argwhere(~kept())):
            x[row, step] = values[number % len(values)]
        return x

    return make


def masking(k, value, precision=None, masks=True):
    """Masking of its own policy, so that the twin of a half-precision model compares as that does, and an LSTM."""
    lstm = k.layers.LSTM(3, recurrent_initializer="glorot_uniform")
    policy = f"mixed_{precision}" if precision else None
    return chain(k, (6, 2), *([k.layers.Masking(value, dtype=policy)] if masks else []), lstm)


for _half, _tenth in (("float16", 0.0999755859375), ("bfloat16", 0.10009765625)):
    for _name, _value, _near, _on, _masks in (
        ("masking", -1.0, (-1.0, -1.0001, -0.9999), BOTH, True),
        ("masking_rounded", 0.1, (0.1, _tenth), (TF_KERAS,), True),
        ("masking_never", 0.1, (_tenth,), (KERAS,), False),
    ):
        case(
            "precision",
            f"{_name}_{_half}",
            "Masking compares inputs rounded to half precision; in Keras 3 with mask_value as float32",
            near(*_near),
            lambda k, value=_value: masking(k, value),
            policy=f"mixed_{_half}",
            reference=lambda k, value=_value, half=_half, masks=_masks: masking(k, value, half, masks),
            on=_on,
            tags=(f"dtype=mixed_{_half}",),
        )

case(
    "precision",
    "half_input",
    "an Input of float16",
    floats(3, 4, 2),
    lambda k: chain(k, (4, 2), k.layers.LSTM(3), k.layers.Dense(2), dtype="float16"),
    reference=lambda k: chain(k, (4, 2), k.layers.LSTM(3), k.layers.Dense(2)),
    form="keras",
    on=BOTH,
)


# ---- int8 and int4 --------------------------------------------------------------------------------------------------


def quantized(k, activation="default", levels=None, nested=False):
    q = k.quantizers
    given = {} if activation == "default" else {"activation_quantizer": activation}
    if levels:
        given = {"activation_quantizer": q.AbsMaxQuantizer(value_range=levels, epsilon=1e-3)}
    layers = [
        k.layers.Dense(5, activation="tanh"),
        k.layers.LSTM(3, return_sequences=True),
        k.layers.Dense(2, use_bias=False),
    ]
    if nested:
        layers = [k.Sequential([k.Input((6, 4)), *layers], name="inside")]
    model = chain(k, (6,), k.layers.Embedding(11, 4, mask_zero=True), *layers, dtype="int32")
    model.quantize("int8", config=q.Int8QuantizationConfig(**given))
    return model


for _name, _options, _forms, _why in (
    ("int8", {}, ("keras", "h5", "weights.h5+json"), "int8 weights; inputs quantized at each call"),
    ("int8_weights", {"activation": None}, ("keras",), "int8 weights, inputs as they are"),
    ("int8_levels", {"levels": (-63, 63)}, ("keras",), "inputs quantized to fewer levels"),
):
    for _form in _forms:
        case(
            "precision",
            f"{_name}_{_form.split('.')[0]}",
            _why,
            ids(),
            lambda k, options=_options: quantized(k, **options),
            on=(KERAS,),
            form=_form,
            tags=("quantization=int8",),
        )
for _form in ("keras", "h5"):
    case(
        "precision",
        f"int8_nested_{_form}",
        "quantized layers inside a nested model",
        ids(),
        lambda k: quantized(k, nested=True),
        on=(KERAS,),
        form=_form,
        tags=("quantization=int8",),
    )
case(
    "precision",
    "int8_wide",
    "sums of products beyond 2**24; a row of zeros",
    lambda rng: np.concatenate([np.zeros((1, 1300)), np.ones((1, 1300)), rng.integers(-7, 8, (2, 1300)) / 7]).astype(
        np.float32
    ),
    lambda k: _wide(k),
    on=(KERAS,),
    form="keras",
    tags=("quantization=int8",),
)


def _wide(k):
    model = chain(k, (1300,), k.layers.Dense(3))
    model.quantize("int8")
    return model


def tagger(k, settings):
    """All classes that are quantized, in one network; ReversibleEmbedding at both ends."""
    words = k.layers.ReversibleEmbedding(11, 4, tie_weights=False)
    ids = k.Input((6,), dtype="int32")
    x = k.layers.Concatenate()([words(ids), k.layers.Embedding(11, 3)(ids)])
    x = k.layers.Reshape((6, 6))(k.layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="e")(x))
    x = k.layers.Dense(4, activation="tanh")(k.layers.LSTM(5, return_sequences=True)(x))
    model = k.Model(ids, words(x, reverse=True))
    model.quantize(config=settings(k.quantizers))
    return model


for _name, _mode, _settings, _form, _why in (
    ("int8_tagger", "int8", lambda q: q.Int8QuantizationConfig(), "keras", "all classes with int8 weights"),
    (
        "int4",
        "int4",
        lambda q: q.Int4QuantizationConfig(block_size=None),
        "keras",
        "int4 weights, a scale for each unit",
    ),
    ("int4_groups", "int4", lambda q: q.Int4QuantizationConfig(block_size=3), "keras", "int4 weights in groups"),
    ("int4_groups_h5", "int4", lambda q: q.Int4QuantizationConfig(block_size=3), "h5", "int4 weights in groups"),
    (
        "int4_inputs",
        "int4",
        lambda q: q.Int4QuantizationConfig(activation_quantizer=q.AbsMaxQuantizer(), block_size=-1),
        "keras",
        "int4 weights; inputs quantized at each call",
    ),
):
    case(
        "precision",
        _name,
        _why,
        ids(),
        lambda k, settings=_settings: tagger(k, settings),
        on=(KERAS,),
        form=_form,
        tags=(f"quantization={_mode}",),
    )


# ---- LoRA: what is saved is merged -----------------------------------------------------------------------------------


def adapted(k, rank, int8=False):
    model = chain(
        k, (6,), k.layers.Embedding(11, 4), k.layers.LSTM(3, return_sequences=True), k.layers.Dense(3), dtype="int32"
    )
    if int8:
        model.quantize("int8")
    if rank:
        model.layers[1].enable_lora(rank)
        model.layers[3].enable_lora(rank, lora_alpha=3.0)
    return model


for _int8 in (False, True):
    case(
        "precision",
        "lora_int8" if _int8 else "lora",
        "LoRA matrices are merged into what is saved",
        ids(),
        lambda k, int8=_int8: adapted(k, 2, int8),
        reference=lambda k, int8=_int8: adapted(k, 0, int8),
        reference_loads=True,
        on=(KERAS,),
        form="weights.h5+json",
        tags=("lora_rank", *(("quantization=int8",) if _int8 else ())),
    )


# ---- sharded weights ------------------------------------------------------------------------------------------------


def several(k):
    x = k.Input((5, 3))
    tower = k.Sequential([k.Input((5, 4)), k.layers.Dense(3), k.layers.LSTM(2, return_sequences=True)], name="tower")
    y = k.layers.Bidirectional(k.layers.LSTM(2, return_sequences=True, recurrent_initializer="glorot_uniform"))(x)
    y = k.layers.TimeDistributed(k.layers.Dense(4))(k.layers.BatchNormalization()(tower(y)))
    y = k.layers.Dense(2, name="odd_name")(k.layers.Dense(3)(y))
    model = k.Model(x, y)
    model.compile("adam", "mse")
    return model


for _name, _build, _inputs, _options in (
    ("several", several, floats(3, 5, 3), {}),
    ("tokens", net, ids(), {}),
    ("quantized", quantized, ids(), {"tags": ("quantization=int8",)}),
    ("bfloat16", net, ids(), {"policy": "bfloat16", "reference": net, "tags": ("dtype=bfloat16",)}),
):
    case(
        "sharded",
        _name,
        "an index and shards no larger than the largest array",
        _inputs,
        _build,
        on=(KERAS,),
        form="weights.json+json",
        **_options,
    )
