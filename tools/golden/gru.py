"""Golden models of GRU and SimpleRNN: every option, masked or not, states, and weights in cuDNN's layout.

Layers that do not hide each other stand beside each other in one model, to keep the files few.
"""

import json

import h5py

from .registry import BOTH, KERAS, TF_KERAS, case, chain, floats, is_keras3, kept, padded


def beside(k, layers, masked, shape=(5, 2), batch=None):
    """Each layer over the same sequence; all their outputs, flat."""
    x = k.Input(shape, batch_size=batch)
    sequence = k.layers.Masking()(x) if masked else x
    return k.Model(x, [y for layer in layers for y in flat_list(layer(sequence))])


def flat_list(value):
    if isinstance(value, list | tuple):
        return [item for part in value for item in flat_list(part)]
    return [value]


def options_of(k, kind):
    """Options that Keras stores and that change nothing, where a framework has them."""
    return {} if is_keras3(k) else {"implementation": 1} if kind == "GRU" else {}


ALL = {"return_sequences": True, "return_state": True}
BACK = {"go_backwards": True, "return_sequences": True}
# Several layers a model, by what they have in common.
GROUPS = {
    "outputs": [{}, ALL],
    "directions": [{"go_backwards": True, "return_state": True}, BACK],
    "unroll": [{"unroll": True}, {**ALL, **BACK, "unroll": True}],
    "zero_output": [{"zero_output_for_mask": True, **o} for o in ({}, {"return_sequences": True})],
    "zero_output_unroll": [
        {"zero_output_for_mask": True, "unroll": True, **o} for o in ({"return_sequences": True}, BACK)
    ],
    "weights": [
        {"use_bias": False, **ALL},
        {"dropout": 0.3, "recurrent_dropout": 0.2, "return_sequences": True},
        {"kernel_regularizer": "l2", "bias_constraint": "non_neg", "return_sequences": True},
    ],
}
UNMASKED = ("outputs",)
# Where both frameworks are alike one of them will do.
ONE = {"GRU": (KERAS,), "SimpleRNN": (TF_KERAS,)}
KINDS = {"GRU": "gru", "SimpleRNN": "simple_rnn"}


def variants(kind):
    """The kinds of a layer's step: GRU with and without reset_after."""
    return [{"reset_after": True}, {"reset_after": False}] if kind == "GRU" else [{}]


def layers_of(k, kind, options):
    make = getattr(k.layers, kind)
    return [make(3 - n, **v, **o) for n, v in enumerate(variants(kind)) for o in options]


for _kind, _family in KINDS.items():
    for _name, _options in GROUPS.items():
        for _masked in (False, True):
            if _masked or _name in UNMASKED:
                case(
                    _family,
                    "masked_" * _masked + _name,
                    "options, under every padding pattern" if _masked else "options, no mask",
                    padded(2, 5),
                    lambda k, kind=_kind, o=_options, m=_masked: beside(k, layers_of(k, kind, o), m),
                    on=BOTH if _masked and _name not in ("weights", "unroll") else ONE[_kind],
                )
    case(
        _family,
        "stack",
        "sizes: one unit, more units and features than a vector register; the mask of a layer that reads backwards",
        padded(5, 5),
        lambda k, kind=_kind: chain(
            k,
            (None, 5),
            k.layers.Masking(),
            getattr(k.layers, kind)(17, return_sequences=True, **options_of(k, kind)),
            getattr(k.layers, kind)(1, return_sequences=True, go_backwards=True),
            getattr(k.layers, kind)(3, return_sequences=True),
            k.layers.GlobalAveragePooling1D(),
        ),
        on=ONE[_kind],
    )
    # Stateful: two calls, the second starts where the first ended.
    case(
        _family,
        "masked_stateful",
        "the second call starts from the states of the first",
        None,
        lambda k, kind=_kind: beside(
            k,
            layers_of(k, kind, [{"stateful": True, **o} for o in ({**ALL, "go_backwards": True}, {"unroll": True})]),
            True,
            batch=6,
        ),
        calls=[padded(2, 5), padded(2, 5)],
    )


def with_states(k, kind, masked, options, batch=None, explicit=False):
    x, h = k.Input((5, 2), batch_size=batch, name="x"), k.Input((2,), batch_size=batch, name="h")
    keep = [k.Input((5,), dtype="bool", name="keep")] if explicit else []
    sequence = k.layers.Masking()(x) if masked else x
    call = {"mask": keep[0]} if explicit else {}
    outputs = []
    for variant in variants(kind):
        for option in options:
            layer = getattr(k.layers, kind)(2, **variant, **option)
            # A state alone, and in a list.
            outputs += flat_list(layer(sequence, initial_state=[h] if len(outputs) % 2 else h, **call))
    sequences = [y for y in outputs if len(y.shape) == 3]
    return k.Model([x, h, *keep], [*outputs, *map(k.layers.GlobalAveragePooling1D(), sequences[:1])])


def encoder_decoder(k, kind):
    source, target = k.Input((None, 3), name="source"), k.Input((None, 2), name="target")
    make = getattr(k.layers, kind)
    _, h = make(4, return_state=True, name="encoder")(source)
    y, _ = make(4, return_sequences=True, return_state=True, name="decoder")(target, initial_state=[h])
    return k.Model([source, target], k.layers.Dense(3, activation="softmax", name="words")(y))


for _kind, _family in KINDS.items():
    case(
        _family,
        "masked_initial_state",
        "nonzero initial states; Keras 3 then drops an implicit mask, and still passes it on",
        [padded(2, 5), floats(6, 2)],
        lambda k, kind=_kind: with_states(
            k,
            kind,
            True,
            [{**ALL, **BACK}, {"unroll": True}, {"zero_output_for_mask": True, "return_sequences": True}],
        ),
        tags=(f"{_kind}.initial_state",),
    )
    case(
        _family,
        "explicit_mask",
        "mask= given in the call is honoured with initial_state by both frameworks",
        [floats(6, 5, 2), floats(6, 2), lambda rng: kept(6, 5)],
        lambda k, kind=_kind: with_states(k, kind, False, [ALL], explicit=True),
        tags=(f"{_kind}.initial_state", f"{_kind}.mask"),
        on=ONE[_kind],
    )
    case(
        _family,
        "encoder_decoder",
        "the state of one layer starts another",
        [floats(3, 5, 3), floats(3, 4, 2)],
        lambda k, kind=_kind: encoder_decoder(k, kind),
        tags=(f"{_kind}.initial_state",),
        on=ONE[_kind],
    )
    case(
        _family,
        "stateful_initial_state",
        "tf_keras uses a given initial_state only while the recorded one is zero, Keras 3 always",
        None,
        lambda k, kind=_kind: with_states(k, kind, False, [{**ALL, "stateful": True}], batch=2),
        calls=[[floats(2, 5, 2), floats(2, 2)]] * 2,
        tags=(f"{_kind}.initial_state",),
    )
    case(
        _family,
        "masked_time_major",
        "first axis is time; Keras 3 has no such option",
        lambda rng: padded(2, 5)(rng).transpose(1, 0, 2).copy(),
        lambda k, kind=_kind: beside(
            k,
            layers_of(k, kind, [{"time_major": True, **o} for o in ({}, {**ALL, **BACK})]),
            True,
            shape=(6, 2),
            batch=5,
        ),
        on=(TF_KERAS,),
        form="h5",
    )

# Every activation, as the cell's and as the gates'. Unbounded ones over few steps.
SHARED = "relu elu selu softplus softsign gelu sigmoid hard_sigmoid linear mish softmax".split()
KERAS3 = (
    "leaky_relu relu6 celu squareplus soft_shrink sparse_plus silu tanh_shrink sparse_sigmoid "
    "hard_silu hard_tanh hard_shrink log_sigmoid sparsemax"
).split()


def activated(k, kind, names):
    layers = []
    for number, name in enumerate(names):
        gates = {"recurrent_activation": names[number - 1], "reset_after": bool(number % 2)} if kind == "GRU" else {}
        layers.append(getattr(k.layers, kind)(2, activation=name, **gates))
    return beside(k, layers, False, (3, 2))


for _kind, _family in KINDS.items():
    for _name, _names, _on in (("shared", SHARED, (TF_KERAS,)), ("keras3", KERAS3, (KERAS,))):
        case(
            _family,
            f"activations_{_name}",
            "activation of the cell, of the gates",
            floats(3, 3, 2),
            lambda k, kind=_kind, names=_names: activated(k, kind, names),
            on=_on,
        )


# cuDNN layers run on GPUs only; tf_keras itself converts their weights for the GRU that answers.
def cudnn(k, kind, bidirectional):
    layer = k.layers.CuDNNGRU if kind == "cudnn" else k.layers.GRU
    if bidirectional:
        body = [
            k.layers.Bidirectional(layer(4, return_sequences=True)),
            k.layers.Bidirectional(layer(4), merge_mode="sum"),
        ]
    else:
        body = [layer(5, return_sequences=True, go_backwards=True), layer(4)]
    return k.Sequential([k.Input((4, 3)), *body, k.layers.Dense(2)])


def call_it_gru(path):
    """The same weights under the architecture of GRU layers, as when they were trained on a GPU."""

    def change(value):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                change(item)
        if isinstance(value, dict) and value.get("class_name") == "CuDNNGRU":
            value["class_name"] = "GRU"
            value["config"] |= {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
            value["config"] |= {"unroll": False, "dropout": 0.0, "recurrent_dropout": 0.0, "reset_after": True}

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


for _bidirectional in (False, True):
    for _suffix, _rewrite in (("", None), ("_as_gru", call_it_gru)) if _bidirectional else (("", None),):
        case(
            "gru",
            ("cudnn_bidirectional" if _bidirectional else "cudnn") + _suffix,
            "weights in cuDNN's layout",
            floats(3, 4, 3),
            lambda k, b=_bidirectional: cudnn(k, "cudnn", b),
            reference=lambda k, b=_bidirectional: cudnn(k, "gru", b),
            reference_loads=True,
            rewrite=_rewrite,
            on=(TF_KERAS,),
            form="h5",
            tags=("CuDNNGRU",),
        )
