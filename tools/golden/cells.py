"""Golden models of RNN over cells and stacks of cells, and of Bidirectional around GRU, SimpleRNN and RNN.

Layers that do not hide each other stand beside each other in one model, to keep the files few.
"""

from .gru import ALL, BACK, beside, flat_list
from .registry import BOTH, KERAS, TF_KERAS, case, chain, floats, is_keras3, kept, padded

# What an RNN runs, by name: the cell (or list of cells), and the units of its states, a list for each cell of a list.
CELLS = {
    "lstm": (lambda k: k.layers.LSTMCell(2), [2, 2]),
    "gru": (lambda k: k.layers.GRUCell(2), [2]),
    "gru_before": (lambda k: k.layers.GRUCell(3, reset_after=False, use_bias=False), [3]),
    "simple": (lambda k: k.layers.SimpleRNNCell(2, activation="softsign"), [2]),
    "stack": (
        lambda k: [k.layers.LSTMCell(2), k.layers.GRUCell(3, reset_after=False), k.layers.SimpleRNNCell(2)],
        [[2, 2], [3], [2]],
    ),
    "two": (lambda k: [k.layers.GRUCell(3), k.layers.LSTMCell(2, recurrent_activation="hard_sigmoid")], [[3], [2, 2]]),
    "one": (lambda k: [k.layers.GRUCell(3)], [[3]]),
}
GROUPS = {
    "outputs": [{}, {**ALL, **BACK}],
    "unroll": [{"unroll": True, **ALL}],
    "zero_output": [{"zero_output_for_mask": True, **o} for o in ({}, {"return_sequences": True})],
    "zero_output_unroll": [{"zero_output_for_mask": True, "unroll": True, **BACK}],
}
SINGLE, STACKS = ("lstm", "gru_before", "simple"), ("stack", "two", "one")


def rnn(k, name, **options):
    return k.layers.RNN(CELLS[name][0](k), **options)


def usable(k, names, masked):
    """Keras 3 cannot run a stack of one cell under a mask; of the others one for each framework will do."""
    if not masked or names == SINGLE:
        return names
    return ("stack",) if is_keras3(k) else ("two", "one")


ONE = {"cells": (KERAS,), "stacks": (TF_KERAS,)}
for _what, _names in (("cells", SINGLE), ("stacks", STACKS)):
    for _name, _options in GROUPS.items():
        for _masked in (False, True):
            if _masked or _name == "outputs":
                case(
                    "rnn_cell",
                    f"{'masked_' * _masked}{_what}_{_name}",
                    "options of RNN, under every padding pattern" if _masked else "options of RNN, no mask",
                    padded(2, 5),
                    lambda k, names=_names, o=_options, m=_masked: beside(
                        k, [rnn(k, name, **options) for name in usable(k, names, m) for options in o], m
                    ),
                    on=BOTH if _masked and (_what, _name) != ("cells", "unroll") else ONE[_what],
                )
    case(
        "rnn_cell",
        f"masked_{_what}_stateful",
        "the second call starts from the states of the first",
        None,
        lambda k, names=_names: beside(
            k, [rnn(k, name, stateful=True, **ALL) for name in usable(k, names, True)], True, batch=6
        ),
        calls=[padded(2, 5), padded(2, 5)],
        on=BOTH if _what == "stacks" else ONE[_what],
    )


def stacked_in_stack(k):
    inner = k.layers.StackedRNNCells([k.layers.LSTMCell(4), k.layers.GRUCell(3)])
    return k.layers.RNN([inner, k.layers.SimpleRNNCell(2)], return_sequences=True)


case(
    "rnn_cell",
    "nested",
    "a stack in a stack",
    padded(2, 5),
    lambda k: beside(k, [stacked_in_stack(k)], True),
    on=(KERAS,),
)
case(
    "rnn_cell",
    "layers_after_each_other",
    "two cells of a class in a stack, then another RNN and a Dense",
    padded(2, 5),
    lambda k: chain(
        k,
        (None, 2),
        k.layers.Masking(),
        k.layers.RNN([k.layers.LSTMCell(3), k.layers.LSTMCell(3), k.layers.LSTMCell(3)], return_sequences=True),
        k.layers.RNN(k.layers.GRUCell(3)),
        k.layers.Dense(2),
    ),
    on=(TF_KERAS,),
)


def nested_states(k, sizes, batch=None):
    """Inputs for states, nested as the framework takes them, and flat."""
    flat, nested = [], []
    for size in sizes:
        inputs = [k.Input((n,), batch_size=batch) for n in (size if isinstance(size, list) else [size])]
        flat += inputs
        nested.append(inputs if len(inputs) > 1 or (isinstance(size, list) and is_keras3(k)) else inputs[0])
    return nested, flat


def with_states(k, name, masked, wrap=lambda k, layer: layer, times=1, explicit=False, batch=None, **options):
    x = k.Input((5, 2), batch_size=batch)
    states, flat = nested_states(k, CELLS[name][1] * times, batch)
    keep = [k.Input((5,), dtype="bool")] if explicit else []
    layer = wrap(k, rnn(k, name, **{**ALL, **options}))
    call = {"mask": keep[0]} if explicit else {}
    y = layer(k.layers.Masking()(x) if masked else x, initial_state=states, **call)
    return k.Model([x, *flat, *keep], flat_list(y))


def state_inputs(name, times=1, batch=6):
    return [floats(batch, size) for size in flat_list(CELLS[name][1]) * times]


for _name in ("gru", "stack"):
    case(
        "rnn_cell",
        f"masked_initial_state_{_name}",
        "initial states, nested by cell",
        [padded(2, 5), *state_inputs(_name)],
        lambda k, name=_name: with_states(k, name, True),
        tags=("RNN.initial_state",),
    )
case(
    "rnn_cell",
    "explicit_mask",
    "mask= given in the call, with initial states",
    [floats(6, 5, 2), *state_inputs("stack"), lambda rng: kept(6, 5)],
    lambda k: with_states(k, "stack", False, explicit=True),
    tags=("RNN.initial_state", "RNN.mask"),
    on=(KERAS,),
)
case(
    "rnn_cell",
    "stateful_initial_state",
    "tf_keras uses given initial states only while the recorded ones are zero, Keras 3 always",
    None,
    lambda k: with_states(k, "gru", False, stateful=True, batch=2),
    calls=[[floats(2, 5, 2), *state_inputs("gru", batch=2)]] * 2,
    tags=("RNN.initial_state",),
)


def encoder_decoder(k):
    source, target = k.Input((None, 3)), k.Input((None, 2))
    cells = lambda: [k.layers.LSTMCell(4), k.layers.GRUCell(3)]  # noqa: E731
    _, *states = k.layers.RNN(cells(), return_state=True)(source)
    y = k.layers.RNN(cells(), return_sequences=True)(target, initial_state=states)
    return k.Model([source, target], k.layers.Dense(2)(y))


case(
    "rnn_cell",
    "encoder_decoder",
    "the states of one stack start another",
    [floats(3, 5, 3), floats(3, 4, 2)],
    encoder_decoder,
    tags=("RNN.initial_state",),
    on=(KERAS,),
)
case(
    "rnn_cell",
    "masked_time_major",
    "first axis is time; Keras 3 has no such option",
    lambda rng: padded(2, 5)(rng).transpose(1, 0, 2).copy(),
    lambda k: beside(k, [rnn(k, name, time_major=True, **BACK) for name in ("simple", "stack")], True, (6, 2), 5),
    on=(TF_KERAS,),
    form="h5",
)

# ---- Bidirectional --------------------------------------------------------------------------------------------------

LAYERS = {
    "gru": lambda k, **o: k.layers.GRU(2, **o),
    "gru_before": lambda k, **o: k.layers.GRU(1, reset_after=False, **o),
    "simple": lambda k, **o: k.layers.SimpleRNN(2, **o),
    "cell": lambda k, **o: rnn(k, "lstm", **o),
    "stack": lambda k, **o: rnn(k, "two", **o),
}
MODES = ("concat", "sum", "mul", "ave", None)


def both_ways(k, names, merge_mode="concat", **options):
    return [k.layers.Bidirectional(LAYERS[name](k, **options), merge_mode=merge_mode) for name in names]


for _masked in (False, True):
    for _sequences in (False, True):
        case(
            "bidirectional_rnn",
            f"{'masked_' * _masked}modes{'_sequences' * _sequences}",
            "every merge mode of GRU, RNN(stack)",
            padded(2, 5),
            lambda k, s=_sequences, m=_masked: beside(
                k,
                [
                    layer
                    for mode in MODES
                    for layer in both_ways(k, ("gru", "stack") if mode == "sum" else ("gru",), mode, return_sequences=s)
                ],
                m,
            ),
            on=BOTH if _masked and _sequences else (TF_KERAS,) if _sequences else (KERAS,),
        )
    for _name, _kinds, _options in (
        ("states", ("gru", "stack"), {**ALL}),
        ("unroll", ("gru_before", "simple"), {"unroll": True, "return_sequences": True}),
        ("zero_output", ("gru_before", "cell"), {"zero_output_for_mask": True, "return_state": True}),
        ("stateful", ("simple", "stack"), {"stateful": True}),
    ):
        if not _masked:
            continue
        case(
            "bidirectional_rnn",
            "masked_" * _masked + _name,
            "option of the wrapped layer",
            padded(2, 5),
            lambda k, kinds=_kinds, o=_options, m=_masked: beside(
                k, both_ways(k, kinds, **o), m, batch=6 if "stateful" in o else None
            ),
            calls=[padded(2, 5)] * 2 if _name == "stateful" else None,
            on={"unroll": (KERAS,), "stateful": (TF_KERAS,)}.get(_name, BOTH),
        )
    case(
        "bidirectional_rnn",
        "masked_" * _masked + "go_backwards",
        "a layer that reads backwards inside: its copy reads forwards; an error in Keras 3",
        padded(2, 5),
        lambda k, m=_masked: beside(k, both_ways(k, ("gru", "stack"), go_backwards=True, return_sequences=True), m),
        on=(TF_KERAS,),
    )
    for _name, _cells in (("gru", "gru"), ("stack", "two")):
        if not _masked:
            continue
        case(
            "bidirectional_rnn",
            f"{'masked_' * _masked}initial_state_{_name}",
            "the list of initial states is split in halves",
            [padded(2, 5), *state_inputs(_cells, 2)],
            lambda k, c=_cells, m=_masked: with_states(
                k, c, m, lambda k, layer: k.layers.Bidirectional(layer, merge_mode="sum"), times=2
            ),
            tags=("Bidirectional.initial_state",),
        )


def own_backward(k, masked):
    """Backward layers of another class, other units and options."""
    sequences = {"return_sequences": True}
    pairs = [
        (k.layers.GRU(2, **sequences), k.layers.SimpleRNN(3, "relu", go_backwards=True, **sequences), "concat"),
        (k.layers.SimpleRNN(2), k.layers.GRU(2, reset_after=False, use_bias=False, go_backwards=True), "ave"),
        (rnn(k, "lstm"), rnn(k, "gru", go_backwards=True), "mul"),
        (rnn(k, "two", **sequences), k.layers.LSTM(3, go_backwards=True, **sequences), None),
    ]
    return beside(k, [k.layers.Bidirectional(a, backward_layer=b, merge_mode=mode) for a, b, mode in pairs], masked)


case(
    "bidirectional_rnn",
    "masked_backward_layer",
    "backward_layer of its own class, units and options",
    padded(2, 5),
    lambda k: own_backward(k, True),
    tags=("Bidirectional.backward_layer",),
)


def encoder_decoder_both(k):
    source, target = k.Input((None, 3)), k.Input((None, 2))
    layer = lambda **o: k.layers.Bidirectional(k.layers.GRU(4, **o))  # noqa: E731
    _, *states = layer(return_state=True)(source)
    return k.Model([source, target], layer(return_sequences=True)(target, initial_state=states))


case(
    "bidirectional_rnn",
    "encoder_decoder",
    "states of both directions start another layer",
    [floats(3, 5, 3), floats(3, 4, 2)],
    encoder_decoder_both,
    tags=("Bidirectional.initial_state",),
    on=(TF_KERAS,),
)
case(
    "bidirectional_rnn",
    "stack_of_layers",
    "stacked layers of each class: masks reach the last",
    padded(2, 5),
    lambda k: chain(
        k,
        (None, 2),
        k.layers.Masking(),
        *both_ways(k, ("gru", "simple"), "sum", return_sequences=True),
        *both_ways(k, ("stack",), return_sequences=True),
        *both_ways(k, ("cell",)),
        k.layers.Dense(2),
    ),
    on=(KERAS,),
)
