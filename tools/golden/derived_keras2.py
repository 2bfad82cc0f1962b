"""Derived cases of Keras 2.0.5, 2.2.4 and 2.3.1: what masked steps emit, and Bidirectional before tf.keras."""

import numpy as np

from . import derived_math as by_hand
from . import old_keras as old
from .derived import MASKS, derived, each, sequences

# The time loop, and Bidirectional.call, of each version; 2.3.1 hands the loop to tf.keras.
LOOP = {
    version: f"keras/backend/tensorflow_backend.py:{n}"
    for version, n in (("2.0.5", 2508), ("2.2.4", 2974), ("2.3.1", 3097))
}
CALL = {"2.0.5": 255, "2.2.4": 485, "2.3.1": 499}


def keras2_file(path, layers, arrays, version, outputs, backend="tensorflow", inputs=None):
    inputs = inputs or [layer["config"]["name"] for layer, nodes in layers if not nodes]
    model = old.functional("model_1", layers, inputs, outputs)
    names = [layer["config"]["name"] for layer, _ in layers]
    old.write_hdf5(path, model, [(name, arrays.get(name, [])) for name in names], version, backend)
    return model


def keras2_initial_state(path, rng, version, rule, backend="tensorflow", **options):
    """Masked LSTM with initial states: what the masked steps before the first token emit tells the versions apart."""
    lstm = old.lstm_weights(rng, 2, 3)
    layers = [
        (old.keras2_input("x", 4, 2), []),
        (old.keras2_input("h", 3), []),
        (old.keras2_input("c", 3), []),
        (old.keras2_layer("Masking", "masking_1", mask_value=0.0), [["x"]]),
        (old.keras2_lstm("lstm_1", 3, return_sequences=True, **options), [["masking_1", "h", "c"]]),
        (old.keras2_lstm("lstm_2", 3, **options), [["masking_1", "h", "c"]]),
    ]
    arrays = {name: old.keras2_lstm_arrays(name, lstm) for name in ("lstm_1", "lstm_2")}
    model = keras2_file(path, layers, arrays, version, ["lstm_1", "lstm_2"], backend)
    x = sequences(rng)
    h, c = rng.standard_normal((2, 5, 3)).astype(np.float32)
    reverse = options.get("go_backwards", False)
    emitted = [
        by_hand.lstm(row, lstm, mask, state, rule=rule, reverse=reverse)[0]
        for row, mask, state in zip(x.tolist(), MASKS, zip(h.tolist(), c.tolist(), strict=True), strict=True)
    ]
    return model, [[x, h, c]], [[np.array(emitted), np.array([steps[-1] for steps in emitted])]]


for _name, _version, _rule, _source, _backend, _options in (
    ("2_0_5", "2.0.5", "state", LOOP["2.0.5"], "tensorflow", {}),
    ("2_2_4", "2.2.4", "state", LOOP["2.2.4"], "tensorflow", {}),
    ("2_2_4_backwards", "2.2.4", "state", LOOP["2.2.4"], "tensorflow", {"go_backwards": True}),
    ("2_2_4_unroll", "2.2.4", "previous", "keras/backend/tensorflow_backend.py:2884", "tensorflow", {"unroll": True}),
    ("2_2_4_theano", "2.2.4", "previous", "keras/backend/theano_backend.py:1533", "theano", {}),
    ("2_3_1", "2.3.1", "previous", LOOP["2.3.1"], "tensorflow", {}),
):
    derived(
        f"keras2_initial_state_{_name}",
        "masked steps before the first token emit the initial h (2.0-2.2.4) or zeros (unrolled, Theano, 2.3)",
        f"keras {_version}",
        _source,
        "LSTM.initial_state",
    )(lambda path, rng, v=_version, r=_rule, b=_backend, o=_options: keras2_initial_state(path, rng, v, r, b, **o))


@derived(
    "keras2_stateful_2_2_4",
    "stateful: in the second call masked steps emit the state kept from the first",
    "keras 2.2.4",
    LOOP["2.2.4"],
)
def keras2_stateful(path, rng):
    lstm = old.lstm_weights(rng, 2, 3)
    config = [
        old.keras2_layer("Masking", "masking_1", [5, 4, 2], mask_value=0.0),
        old.keras2_lstm("lstm_1", 3, [5, 4, 2], return_sequences=True, stateful=True),
    ]
    model = {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": config}}
    layers = [("masking_1", []), ("lstm_1", old.keras2_lstm_arrays("lstm_1", lstm))]
    old.write_hdf5(path, model, layers, "2.2.4")
    calls, answers, states = [sequences(rng), sequences(rng)], [], [None] * 5
    for x in calls:
        results = [by_hand.lstm(row, lstm, m, s) for row, m, s in zip(x.tolist(), MASKS, states, strict=True)]
        answers.append(np.array([emitted for emitted, *_ in results]))
        states = [(h, c) for _, h, c in results]
    return model, calls, answers


def keras2_bidirectional(path, rng, version, merge_mode, return_sequences, go_backwards=False):
    """2.0.5 has its Sequential config as a list, 2.2.4 as a dict; two outputs need a functional model."""
    forward, backward = old.lstm_weights(rng, 2, 3), old.lstm_weights(rng, 2, 3)
    inner = old.keras2_lstm("lstm_1", 3, return_sequences=return_sequences, go_backwards=go_backwards)
    config = [
        old.keras2_layer("Masking", "masking_1", [None, 4, 2], mask_value=0.0),
        old.keras2_layer("Bidirectional", "bidirectional_1", layer=inner, merge_mode=merge_mode),
    ]
    listed = version.startswith("2.0")
    model = {
        "class_name": "Sequential",
        "config": config if listed else {"name": "sequential_1", "layers": config},
    }
    layers = ["masking_1", "bidirectional_1"]
    if merge_mode is None:
        front = [(old.keras2_input("input_1", 4, 2), []), (config[0], [["input_1"]]), (config[1], [["masking_1"]])]
        model = old.functional("model_1", front, ["input_1"], ["bidirectional_1"])
        model["config"]["output_layers"] = [["bidirectional_1", 0, 0], ["bidirectional_1", 0, 1]]
        layers.insert(0, "input_1")
    prefix = "bidirectional_1"
    arrays = old.keras2_lstm_arrays(f"{prefix}/forward_lstm_1", forward)
    arrays += old.keras2_lstm_arrays(f"{prefix}/backward_lstm_1", backward)
    old.write_hdf5(path, model, [(name, arrays if name == prefix else []) for name in layers], version)
    x = sequences(rng)
    options = {"merge_mode": merge_mode, "sequences": return_sequences}
    options["rule"] = "previous" if version.startswith("2.3") else "state"
    if go_backwards:  # the "forward" half reads backwards and stays reversed, the other reads forwards and is flipped

        def answer(row, mask):
            there = by_hand.lstm(row, forward, mask, reverse=True)[0]
            back = by_hand.lstm(row, backward, mask)[0][::-1]
            return [by_hand.merge(p, q, merge_mode) for p, q in zip(there, back, strict=True)]

        return model, [x], [each(x, answer)]
    pairs = zip(x.tolist(), MASKS, strict=True)
    rows = [by_hand.bidirectional(row, forward, backward, mask, **options) for row, mask in pairs]
    if merge_mode is None:
        return model, [x], [[np.array([row[k] for row in rows]) for k in (0, 1)]]
    return model, [x], [np.array(rows)]


for _version, _mode, _sequences in (
    ("2.0.5", "concat", True),
    ("2.0.5", "sum", False),
    ("2.2.4", "concat", True),
    ("2.2.4", "mul", True),
    ("2.2.4", None, True),
    ("2.2.4", "ave", False),
    ("2.3.1", "concat", True),
    ("2.3.1", "sum", True),
):
    derived(
        f"keras2_bidirectional_{_version.replace('.', '_')}_{str(_mode).lower()}{'_sequences' * _sequences}",
        "Bidirectional before tf.keras: masked steps are not zeroed",
        f"keras {_version}",
        f"keras/layers/wrappers.py:{CALL[_version]}, {LOOP[_version]}",
    )(lambda path, rng, v=_version, m=_mode, s=_sequences: keras2_bidirectional(path, rng, v, m, s))
derived(
    "keras2_bidirectional_2_2_4_go_backwards",
    "Bidirectional(LSTM(go_backwards=True)): the copy reads forwards",
    "keras 2.2.4",
    "keras/layers/wrappers.py:367",
)(lambda path, rng: keras2_bidirectional(path, rng, "2.2.4", "concat", True, True))
