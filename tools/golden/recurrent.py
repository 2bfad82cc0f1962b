"""Golden models of LSTM: every option, with and without masks, states and every activation."""

from .registry import BOTH, KERAS, TF_KERAS, case, chain, fixed, floats, is_keras3, kept, padded

OPTIONS = {
    "default": {},
    "return_sequences": {"return_sequences": True},
    "return_state": {"return_state": True},
    "sequences_and_state": {"return_sequences": True, "return_state": True},
    "go_backwards": {"go_backwards": True},
    "go_backwards_sequences": {"go_backwards": True, "return_sequences": True, "return_state": True},
    "unroll": {"unroll": True},
    "unroll_sequences": {"unroll": True, "return_sequences": True, "return_state": True},
    "unroll_backwards": {"unroll": True, "go_backwards": True, "return_sequences": True},
    "no_bias": {"use_bias": False, "return_sequences": True},
    "implementation_1": {"implementation": 1, "return_sequences": True},
    "hard_sigmoid": {"recurrent_activation": "hard_sigmoid", "return_sequences": True},
    "relu": {"activation": "relu", "return_sequences": True},
    "linear": {"activation": None, "recurrent_activation": "hard_sigmoid", "return_state": True},
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.2, "return_sequences": True},
    "zero_output": {"zero_output_for_mask": True},
    "zero_output_sequences": {"zero_output_for_mask": True, "return_sequences": True, "return_state": True},
    "zero_output_backwards": {"zero_output_for_mask": True, "go_backwards": True, "return_sequences": True},
    "zero_output_unroll_backwards": {
        "zero_output_for_mask": True,
        "unroll": True,
        "go_backwards": True,
        "return_sequences": True,
    },
    "zero_output_unroll": {"zero_output_for_mask": True, "unroll": True, "return_sequences": True},
    "zero_output_unroll_last": {"zero_output_for_mask": True, "unroll": True},
}


def lstm(k, units, **options):
    if is_keras3(k):
        options.pop("implementation", None)
    return k.layers.LSTM(units, **options)


for _name, _options in OPTIONS.items():
    if not _name.startswith("zero_output"):
        case(
            "lstm",
            _name,
            "option of LSTM, no mask",
            floats(3, 5, 3),
            lambda k, o=_options: chain(k, (5, 3), lstm(k, 4, **o)),
        )
    case(
        "lstm",
        f"masked_{_name}",
        "option of LSTM under every padding pattern",
        padded(3),
        lambda k, o=_options: chain(k, (6, 3), k.layers.Masking(), lstm(k, 4, **o)),
        on=(KERAS,) if _name == "zero_output_unroll_last" else BOTH,  # tf_keras cannot build it
    )

case(
    "lstm",
    "backwards_then_lstm",
    "the mask passed on by go_backwards is not reversed",
    padded(3),
    lambda k: chain(
        k,
        (6, 3),
        k.layers.Masking(),
        k.layers.LSTM(4, go_backwards=True, return_sequences=True),
        k.layers.LSTM(2, return_sequences=True),
        k.layers.LSTM(3),
    ),
)
for _name, _shape, _units in (("one_unit", (4, 5, 3), 1), ("one_step", (2, 1, 3), 4), ("one_row", (1, 5, 1), 3)):
    case(
        "lstm",
        _name,
        "smallest sizes",
        floats(*_shape),
        lambda k, s=_shape, u=_units: chain(k, s[1:], k.layers.LSTM(u, return_sequences=True, return_state=True)),
    )
case(
    "lstm",
    "wide",
    "more units and features than one vector register, free length",
    floats(5, 12, 19),
    lambda k: chain(k, (None, 19), k.layers.LSTM(37, return_sequences=True), k.layers.LSTM(21)),
)
case(
    "lstm",
    "constraints_and_regularizers",
    "constraints, regularizers and initializers are read and ignored",
    floats(3, 5, 3),
    lambda k: chain(
        k,
        (5, 3),
        k.layers.LSTM(
            4,
            kernel_regularizer=k.regularizers.L1L2(0.01, 0.02),
            recurrent_regularizer="l2",
            bias_regularizer=k.regularizers.L1(0.1),
            activity_regularizer=k.regularizers.L2(0.1),
            kernel_constraint=k.constraints.MaxNorm(2.0),
            recurrent_constraint=k.constraints.UnitNorm(),
            bias_constraint=k.constraints.NonNeg(),
            kernel_initializer=k.initializers.HeNormal(seed=1),
            recurrent_initializer="glorot_normal",
            unit_forget_bias=False,
        ),
    ),
)
case(
    "lstm",
    "nan_and_inf",
    "NaN and inf pass through; other rows are untouched",
    lambda rng: _with_nan(rng),
    lambda k: chain(k, (5, 3), k.layers.LSTM(4, return_sequences=True)),
)


def _with_nan(rng):
    x = rng.standard_normal((4, 5, 3)).astype("float32")
    x[1, 2, 0] = float("nan")
    x[2, 3, 1] = float("inf")
    return x


# Stateful: two calls, the second starts where the first ended.
for _name, _options in {
    "stateful": {},
    "stateful_sequences": {"return_sequences": True, "return_state": True},
    "stateful_backwards": {"go_backwards": True, "return_sequences": True},
    "stateful_unroll": {"unroll": True},
}.items():
    for _masked in (False, True):
        case(
            "lstm",
            ("masked_" if _masked else "") + _name,
            "the second call starts from the states of the first",
            None,
            lambda k, o=_options, m=_masked: chain(
                k, (6, 3), *[k.layers.Masking()] * m, k.layers.LSTM(4, stateful=True, **o), batch=6
            ),
            calls=[padded(3), padded(3)],
        )


# Initial states.
def with_states(k, masked, layer_options, timesteps=6):
    x = k.Input((timesteps, 3), name="x")
    h, c = k.Input((4,), name="h"), k.Input((4,), name="c")
    sequence = k.layers.Masking()(x) if masked else x
    y = k.layers.LSTM(4, **layer_options)(sequence, initial_state=[h, c])
    return k.Model([x, h, c], y)


for _name, _options in {
    "initial_state": {},
    "initial_state_sequences": {"return_sequences": True, "return_state": True},
    "initial_state_backwards": {"go_backwards": True, "return_sequences": True},
    "initial_state_unroll": {"unroll": True, "return_sequences": True, "return_state": True},
    "initial_state_zero_output": {"zero_output_for_mask": True, "return_sequences": True},
}.items():
    for _masked in (False, True):
        case(
            "lstm",
            ("masked_" if _masked else "") + _name,
            "nonzero initial states; Keras 3 then drops an implicit mask",
            [padded(3), floats(6, 4), floats(6, 4)],
            lambda k, o=_options, m=_masked: with_states(k, m, o),
            tags=("LSTM.initial_state",),
        )


def masked_downstream(k):
    """Initial state given, mask present: the mask still reaches the layers after the LSTM."""
    x, h, c = k.Input((6, 3)), k.Input((4,)), k.Input((4,))
    y = k.layers.LSTM(4, return_sequences=True)(k.layers.Masking()(x), initial_state=[h, c])
    return k.Model([x, h, c], k.layers.GlobalAveragePooling1D()(y))


case(
    "lstm",
    "initial_state_then_pooling",
    "the mask passes an LSTM with initial_state even where that LSTM ignores it",
    [padded(3, batch=5), floats(5, 4), floats(5, 4)],
    masked_downstream,
    tags=("LSTM.initial_state",),
)


def explicit_mask(k):
    """`mask=` given in the call, together with the initial states."""
    x, h, c = k.Input((6, 3)), k.Input((4,)), k.Input((4,))
    keep = k.Input((6,), dtype="bool")
    y = k.layers.LSTM(4, return_sequences=True, return_state=True)(x, mask=keep, initial_state=[h, c])
    return k.Model([x, h, c, keep], y)


case(
    "lstm",
    "explicit_mask",
    "mask= given in the call is honoured with initial_state by both frameworks",
    [floats(6, 6, 3), floats(6, 4), floats(6, 4), lambda rng: kept()],
    explicit_mask,
    tags=("LSTM.initial_state", "LSTM.mask"),
)


def encoder_decoder(k):
    source, target = k.Input((None, 3), name="source"), k.Input((None, 2), name="target")
    _, h, c = k.layers.LSTM(4, return_state=True, name="encoder")(source)
    y = k.layers.LSTM(4, return_sequences=True, name="decoder")(target, initial_state=[h, c])
    return k.Model([source, target], k.layers.Dense(3, activation="softmax", name="words")(y))


case(
    "lstm",
    "encoder_decoder",
    "states of one LSTM start another",
    [floats(3, 5, 3), floats(3, 4, 2)],
    encoder_decoder,
    tags=("LSTM.initial_state",),
)


def stateful_with_initial_state(k):
    x, h, c = k.Input((4, 3), batch_size=2), k.Input((4,), batch_size=2), k.Input((4,), batch_size=2)
    y = k.layers.LSTM(4, stateful=True, return_state=True)(x, initial_state=[h, c])
    return k.Model([x, h, c], y)


case(
    "lstm",
    "stateful_initial_state",
    "tf_keras uses a given initial_state only while the recorded one is zero, Keras 3 always",
    None,
    stateful_with_initial_state,
    calls=[[floats(2, 4, 3), floats(2, 4), floats(2, 4)]] * 2,
    tags=("LSTM.initial_state",),
)

# time_major exists in tf.keras only, and Keras 3 cannot load such a file.
for _name, _options in {
    "time_major": {},
    "time_major_sequences": {"return_sequences": True, "return_state": True},
    "time_major_backwards": {"return_sequences": True, "go_backwards": True},
    "time_major_unroll": {"return_sequences": True, "unroll": True},
}.items():
    for _masked in (False, True):
        case(
            "lstm",
            ("masked_" if _masked else "") + _name,
            "first axis is time; Keras 3 has no such option",
            lambda rng: padded(3)(rng).transpose(1, 0, 2).copy(),
            lambda k, o=_options, m=_masked: chain(
                k, (6, 3), *[k.layers.Masking()] * m, k.layers.LSTM(4, time_major=True, **o), batch=6
            ),
            on=(TF_KERAS,),
            form="h5",
        )

# Every activation, as the cell's and as the gates'. Unbounded ones over few steps.
SHARED = ("relu elu selu softplus softsign gelu tanh sigmoid exponential hard_sigmoid linear mish softmax").split()
KERAS3 = (
    "leaky_relu relu6 celu squareplus soft_shrink sparse_plus silu tanh_shrink sparse_sigmoid "
    "hard_silu hard_tanh hard_shrink log_softmax log_sigmoid sparsemax"
).split()
for _name in [*SHARED, "swish", *KERAS3]:
    _on = BOTH if _name in SHARED else (TF_KERAS,) if _name == "swish" else (KERAS,)
    _steps = {"exponential": 2, "log_softmax": 3}.get(_name, 5)
    case(
        "lstm_activation",
        _name,
        "activation of the cell, of the gates",
        floats(3, _steps, 3),
        lambda k, a=_name, t=_steps: two_lstms(k, a, t),
        on=_on,
    )


def two_lstms(k, activation, timesteps):
    x = k.Input((timesteps, 3))
    cell = k.layers.LSTM(4, activation=activation, return_sequences=True)(x)
    gates = k.layers.LSTM(4, recurrent_activation=activation, return_sequences=True)(x)
    return k.Model(x, [cell, gates])


case(
    "lstm",
    "saturated",
    "gates far in the flat parts of sigmoid and tanh, and of both hard_sigmoids",
    fixed([[[-40.0, 3.0], [25.0, -9.0], [0.0, 100.0]], [[2.4, -2.6], [3.1, 1e-3], [-1e4, 1e4]]]),
    lambda k: chain(
        k,
        (3, 2),
        k.layers.LSTM(4, return_sequences=True),
        k.layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True),
    ),
)
