"""Golden models of Bidirectional: merge modes, own backward layers, states, masks; and the net made by hand."""

from .registry import BOTH, KERAS, TF_KERAS, case, chain, floats, is_keras3, padded

MODES = ("concat", "sum", "mul", "ave", None)


def bidirectional(k, units=4, merge_mode="concat", **options):
    return k.layers.Bidirectional(k.layers.LSTM(units, **options), merge_mode=merge_mode)


for _mode in MODES:
    for _sequences in (False, True):
        for _masked in (False, True):
            case(
                "bidirectional",
                f"{'masked_' * _masked}{_mode}{'_sequences' * _sequences}".lower(),
                "merge mode",
                padded(3),
                lambda k, mode=_mode, s=_sequences, m=_masked: chain(
                    k, (6, 3), *[k.layers.Masking()] * m, bidirectional(k, 4, mode, return_sequences=s)
                ),
            )

OPTIONS = {
    "return_state": ("concat", {"return_state": True}),
    "return_state_sequences": ("concat", {"return_state": True, "return_sequences": True}),
    "return_state_sum": ("sum", {"return_state": True, "return_sequences": True}),
    "return_state_none": (None, {"return_state": True, "return_sequences": True}),
    "unroll": ("concat", {"unroll": True}),
    "unroll_sequences": ("concat", {"unroll": True, "return_sequences": True}),
    "no_bias": ("ave", {"use_bias": False, "return_sequences": True}),
    "relu": ("mul", {"activation": "relu", "recurrent_activation": "hard_sigmoid", "return_sequences": True}),
    "dropout": ("concat", {"dropout": 0.5, "recurrent_dropout": 0.5, "return_sequences": True}),
    "zero_output": ("concat", {"zero_output_for_mask": True}),
}
for _name, (_mode, _options) in OPTIONS.items():
    for _masked in (False, True):
        case(
            "bidirectional",
            "masked_" * _masked + _name,
            "option of the wrapped LSTM",
            padded(3),
            lambda k, mode=_mode, o=_options, m=_masked: chain(
                k, (6, 3), *[k.layers.Masking()] * m, bidirectional(k, 4, mode, **o)
            ),
        )

for _masked in (False, True):
    case(
        "bidirectional",
        "masked_" * _masked + "go_backwards",
        "LSTM(go_backwards=True) inside: its copy reads forwards; an error in Keras 3",
        padded(3),
        lambda k, m=_masked: chain(
            k, (6, 3), *[k.layers.Masking()] * m, bidirectional(k, 4, go_backwards=True, return_sequences=True)
        ),
        on=(TF_KERAS,),
    )


def own_backward(k, masked, merge_mode="concat", forward=None, **backward):
    sequences = (forward or {}).get("return_sequences", False)
    layer = k.layers.Bidirectional(
        k.layers.LSTM(4, name="there", **(forward or {})),
        backward_layer=k.layers.LSTM(
            backward.pop("units", 4), go_backwards=True, return_sequences=sequences, name="back", **backward
        ),
        merge_mode=merge_mode,
    )
    return chain(k, (6, 3), *[k.layers.Masking()] * masked, layer)


for _masked in (False, True):
    case(
        "bidirectional",
        "masked_" * _masked + "backward_layer_units",
        "backward_layer with its own units, activations and no bias",
        padded(3),
        lambda k, m=_masked: own_backward(
            k,
            m,
            units=2,
            activation="softsign",
            recurrent_activation="hard_sigmoid",
            use_bias=False,
            forward={"return_sequences": True},
        ),
        tags=("Bidirectional.backward_layer",),
    )
    case(
        "bidirectional",
        "masked_" * _masked + "backward_layer_ave",
        "backward_layer, averaged, last outputs only",
        padded(3),
        lambda k, m=_masked: own_backward(k, m, merge_mode="ave", activation="elu"),
        tags=("Bidirectional.backward_layer",),
    )
    case(
        "bidirectional",
        "masked_" * _masked + "backward_layer_none",
        "backward_layer, two outputs of different units",
        padded(3),
        lambda k, m=_masked: own_backward(k, m, merge_mode=None, units=3, forward={"return_sequences": True}),
        tags=("Bidirectional.backward_layer",),
    )


def with_states(k, masked, mode="concat", **options):
    x = k.Input((6, 3), name="x")
    states = [k.Input((4,), name=name) for name in ("fh", "fc", "bh", "bc")]
    sequence = k.layers.Masking()(x) if masked else x
    layer = bidirectional(k, 4, mode, **options)
    return k.Model([x, *states], layer(sequence, initial_state=states))


for _name, _mode, _options in (
    ("initial_state", "concat", {}),
    ("initial_state_sequences", "concat", {"return_sequences": True, "return_state": True}),
    ("initial_state_none", None, {"return_sequences": True}),
):
    for _masked in (False, True):
        case(
            "bidirectional",
            "masked_" * _masked + _name,
            "the list of initial states is split in halves",
            [padded(3)] + [floats(6, 4)] * 4,
            lambda k, mode=_mode, o=_options, m=_masked: with_states(k, m, mode, **o),
            tags=("Bidirectional.initial_state",),
        )


def encoder_decoder(k):
    source, target = k.Input((None, 3)), k.Input((None, 2))
    _, *states = bidirectional(k, 4, return_state=True)(source)
    y = bidirectional(k, 4, return_sequences=True)(target, initial_state=states)
    return k.Model([source, target], y)


case(
    "bidirectional",
    "encoder_decoder",
    "states of one Bidirectional start another",
    [floats(2, 5, 3), floats(2, 4, 2)],
    encoder_decoder,
    tags=("Bidirectional.initial_state",),
)

for _name, _masked, _options in (
    ("stateful", False, {}),
    ("stateful_sequences", False, {"return_sequences": True}),
    ("stateful_state", False, {"return_state": True}),
    ("masked_stateful", True, {}),
    ("masked_stateful_sequences", True, {"return_sequences": True}),
):
    case(
        "bidirectional",
        _name,
        "both halves keep their states between calls",
        None,
        lambda k, o=_options, m=_masked: chain(
            k, (6, 3), *[k.layers.Masking()] * m, bidirectional(k, 4, stateful=True, **o), batch=6
        ),
        calls=[padded(3), padded(3)],
        on=(TF_KERAS,) if _name == "stateful_state" else BOTH,  # Keras 3 cannot build it: TypeError in compute_mask
    )

case(
    "bidirectional",
    "stack",
    "stacked, masks reach the second",
    padded(3),
    lambda k: chain(
        k,
        (None, 3),
        k.layers.Masking(),
        bidirectional(k, 5, "sum", return_sequences=True),
        bidirectional(k, 3, "concat", return_sequences=True),
        bidirectional(k, 2, "ave"),
    ),
)
for _masked in (False, True):
    case(
        "bidirectional",
        "masked_" * _masked + "time_major",
        "first axis is time, in both halves",
        lambda rng: padded(3)(rng).transpose(1, 0, 2).copy(),
        lambda k, m=_masked: chain(
            k,
            (6, 3),
            *[k.layers.Masking()] * m,
            bidirectional(k, 4, time_major=True, return_sequences=True),
            batch=6,
        ),
        on=(TF_KERAS,),
        form="h5",
    )


def made_by_hand(k, masked):
    """LSTM and LSTM(go_backwards=True) side by side: the backward half stays in reversed order."""
    x = k.Input((None, 3))
    sequence = k.layers.Masking()(x) if masked else x
    there = k.layers.LSTM(4, return_sequences=True)(sequence)
    back = k.layers.LSTM(4, return_sequences=True, go_backwards=True)(sequence)
    y = k.layers.Concatenate()([there, back])
    return k.Model(x, [y, k.layers.LSTM(2)(y)])


for _masked in (False, True):
    case(
        "bidirectional",
        "masked_" * _masked + "made_by_hand",
        "a bidirectional net made by hand: the backward half stays in reversed order",
        padded(3),
        lambda k, m=_masked: made_by_hand(k, m),
    )

# Files of Keras 3.0 to 3.3: Keras 3.0-3.2 cannot load its own .keras with Bidirectional.
for _name, _masked in (("old_keras3", False), ("masked_old_keras3", True)):
    case(
        "bidirectional",
        _name,
        "early Keras 3 .keras: complete on disk though 3.0-3.3.2 refuse to load it",
        padded(3),
        lambda k, m=_masked: chain(
            k,
            (6, 3),
            *[k.layers.Masking()] * m,
            bidirectional(k, 4, "sum", return_sequences=True),
            bidirectional(k, 3),
            k.layers.Dense(2),
        ),
        on=("3.0", "3.3", "3.4"),
        form="keras",
    )


def keras3_only(k):
    assert is_keras3(k)
    return chain(k, (None, 3), bidirectional(k, 4, use_cudnn=False, seed=3, dropout=0.1))


case("bidirectional", "seed_and_cudnn", "seed and use_cudnn change nothing", floats(2, 5, 3), keras3_only, on=(KERAS,))
