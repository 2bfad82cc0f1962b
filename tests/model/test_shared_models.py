"""Keras files from public repositories against what Keras answered, and the ones that must be refused, with the reason.

Expected values: `<file>.golden.npz` (tf_keras 2.21 computed them), `*_inputs_and_outputs.h5` and `predictions.npy` (the
framework that wrote the model did), the predictions that were published as .csv.
"""

import h5py
import numpy as np
import pytest
from shared import shared_file

import fastbilstm
from fastbilstm.tolerances import compare

EXAMPLES = "models/dl4j/examples"
FLATTEN_LSTM = f"{EXAMPLES}/simple_flatten_lstm/simple_flatten_lstm_tf_keras_2"
SIMPLE_LSTM = f"{EXAMPLES}/simple_lstm/simple_lstm"
SENTIMENT = "models/sentiment_web_api/bidirectional_lstm_softmax"
SIMPLE_RNN = f"{EXAMPLES}/simple_rnn/simple_rnn_tf_keras_2"
FLATTEN_RNN = f"{EXAMPLES}/simple_flatten_rnn/simple_flatten_rnn_tf_keras_2"

# File (without models/), the architecture of files that hold weights only, the file whose golden answers hold for it.
GOLDEN = [
    (f"{EXAMPLES}/functional_lstm/lstm_functional_tf_keras_2.h5", None, None),
    (f"{EXAMPLES}/masking/masking_two_lstm.h5", None, None),
    (f"{EXAMPLES}/masking/masking_zero_lstm.h5", None, None),
    (f"{FLATTEN_LSTM}_model.h5", None, None),
    (f"{FLATTEN_LSTM}_weights.h5", f"{FLATTEN_LSTM}_config.json", f"{FLATTEN_LSTM}_model.h5"),
    (f"{SIMPLE_LSTM}_tf_keras_2_model.h5", None, None),
    (
        f"{SIMPLE_LSTM}_tf_keras_2_weights.h5",
        f"{SIMPLE_LSTM}_tf_keras_2_config.json",
        f"{SIMPLE_LSTM}_tf_keras_2_model.h5",
    ),
    *((f"models/dl4j/tfkeras/{name}.h5", None, None) for name in ("misc_0", "rnn_13", "rnn_142", "rnn_181")),
    *((f"models/dl4j/tfkeras/{name}.h5", None, None) for name in ("rnn_223", "rnn_230", "rnn_37", "rnn_61", "rnn_84")),
    ("models/dl4j/tfkeras/issue_9349.hdf5", None, None),
    *(
        (f"models/dl4j/weights/{name}_{backend}_2.h5", None, None)
        for name in ("lstm", "embedding_lstm", "bidirectional_lstm", "bidirectional_lstm_no_return_sequences")
        for backend in ("tensorflow", "theano")
    ),
    *((f"models/dl4j/tfkeras/{name}.h5", None, None) for name in ("rnn_0", "rnn_121", "rnn_200", "rnn_26")),
    *(
        row
        for stem in (SIMPLE_RNN, FLATTEN_RNN)
        for row in (
            (f"{stem}_model.h5", None, None),
            (f"{stem}_weights.h5", f"{stem}_config.json", f"{stem}_model.h5"),
        )
    ),
    ("models/dot_res_lstm/gru.h5", None, None),
    ("models/dl4j/weights/keras-attention.h5", None, None),
    ("models/dot_res_lstm/bilstm.h5", None, None),
    ("models/dot_res_lstm/dot_res_lstm-29-0.84.hdf5", None, None),
    ("models/dot_res_lstm/lstm.h5", None, None),
    ("models/predictive_maintenance/binary_model.h5", None, None),
    ("models/predictive_maintenance/regression_model.h5", None, None),
    (f"{SENTIMENT}_weights.h5", f"{SENTIMENT}_architecture.json", None),
]  # fmt: skip


def load(name, config=None, **options):
    config = shared_file(config) if config else None
    return fastbilstm.load(shared_file(name), config=config, **options)


def check(y, k):
    result = compare(y, k, "float32")
    assert result.ok, result.message


@pytest.mark.parametrize("name, config, golden", GOLDEN, ids=[row[0].removeprefix("models/") for row in GOLDEN])
def test_golden(name, config, golden):
    with np.load(shared_file(f"{golden or name}.golden.npz")) as npz:
        inputs = [npz[f"in{i}"] for i in range(sum(key.startswith("in") for key in npz))]
        expected = [npz[f"out{i}"] for i in range(sum(key.startswith("out") for key in npz))]
    y = load(name, config).predict(inputs)
    outputs = y if isinstance(y, list) else [y]
    assert len(outputs) == len(expected) > 0
    for y, k in zip(outputs, expected):
        check(y, k)


@pytest.mark.parametrize("kind", ["model", "weights"])
@pytest.mark.parametrize("stem", [FLATTEN_LSTM, f"{SIMPLE_LSTM}_tf_keras_1", f"{SIMPLE_LSTM}_th_keras_1",
                                  SIMPLE_RNN, FLATTEN_RNN],
                         ids=lambda stem: stem.rpartition("/")[2])  # fmt: skip
def test_inputs_and_outputs_of_the_writer(stem, kind):
    """What Keras 1.2.2 or 2.1.3 predicted, and what it computed at every layer on the way."""
    config = None if kind == "model" else f"{stem}_config.json"
    with h5py.File(shared_file(f"{stem}_inputs_and_outputs.h5")) as file:
        (x,) = (dataset[()] for dataset in file["inputs"].values())
        (prediction,) = (dataset[()] for dataset in file["predictions"].values())
        activations = {name: dataset[()] for name, dataset in file["activations"].items()}
    check(load(f"{stem}_{kind}.h5", config).predict(x), prediction)
    assert len(activations) == (3 if stem == FLATTEN_RNN else 2)
    for layer, k in activations.items():
        check(load(f"{stem}_{kind}.h5", config, outputs=[layer]).predict(x), k)


@pytest.mark.parametrize("case", ["b1", "b3", "b8"])
def test_crf_of_keras_contrib(case):
    """A tagger of Keras 2.2.0 that ends in keras_contrib's CRF, trained with its loss; one-hot tags."""
    with np.load(shared_file("models/crf/keras_contrib_crf.npz")) as npz:
        x, k = npz[f"{case}.in0"], npz[f"{case}.out64_0"]
    y = load("models/crf/keras_contrib_crf.h5").predict(x)
    assert y.shape == k.shape and np.array_equal(y, k)


def test_full_configs():
    """283 sequences of 4 timesteps through an LSTM stack of Keras 2.0.8 on Theano."""
    folder = "models/dl4j/fullconfigs"
    expected = np.load(shared_file(f"{folder}/predictions.npy"))
    files = [shared_file(f"{folder}/data/sequences/{k}.csv") for k in range(len(expected))]
    x = np.stack([np.loadtxt(file, delimiter=";", ndmin=2)[:, :12] for file in files]).astype(np.float32)
    y = load(f"{folder}/lstm_th_keras_2_weights.h5", f"{folder}/lstm_th_keras_2_config.json").predict(x)
    assert y.shape == (283, 1)
    check(y[:, 0], expected)


# ---- predictive maintenance: aircraft engines ----------------------------------------------------------------------

ENGINES = "models/predictive_maintenance"
CYCLES = 50


def engine_inputs():
    """Sensor readings as the published notebook prepares them: (engines with 50 cycles, 50, 25) float32.

    Columns of the files: id, cycle, 3 settings, 21 sensors. Input: settings, the scaled cycle, sensors, each scaled to
    0..1 by its range in PM_train.
    """
    train, test = (np.genfromtxt(shared_file(f"{ENGINES}/PM_{part}.txt"))[:, :26] for part in ("train", "test"))
    order = [2, 3, 4, 1, *range(5, 26)]
    low, high = train[:, order].min(axis=0), train[:, order].max(axis=0)
    scaled = (test[:, order] - low) / np.where(high > low, high - low, 1)
    rows = [scaled[test[:, 0] == engine] for engine in np.unique(test[:, 0])]
    return np.stack([row[-CYCLES:] for row in rows if len(row) >= CYCLES]).astype(np.float32)


def published(name):
    """One prediction an engine; the first line is the header that pandas wrote."""
    return np.loadtxt(shared_file(f"{ENGINES}/{name}"), skiprows=1)


def test_published_regression():
    y = load(f"{ENGINES}/regression_model.h5").predict(engine_inputs())
    check(y[:, 0], published("submit_test.csv"))


def test_published_classes():
    y = load(f"{ENGINES}/binary_model.h5").predict(engine_inputs())
    assert np.array_equal(y[:, 0] > 0.5, published("binary_submit_test.csv") == 1)


# ---- what must be refused ------------------------------------------------------------------------------------------

LAMBDA = [
    (f"{EXAMPLES}/lambda/model_lambda.h5", ["lambda_3", "lambda_4"]),
    (f"{EXAMPLES}/lambda/sequential_lambda.h5", ["lambda_1", "lambda_2"]),
]


@pytest.mark.parametrize("name, layers", LAMBDA, ids=[row[0].removeprefix("models/") for row in LAMBDA])
def test_lambda_is_refused_with_the_reason(name, layers):
    with pytest.raises(fastbilstm.UnsupportedLayerError) as caught:
        load(name)
    found = caught.value.problems
    assert [problem.split("'")[1] for problem in found] == layers
    assert all("(Lambda)" in problem and "would run Python code from the file" in problem for problem in found)


# ---- Keras 1.2.2 files without expected values ---------------------------------------------------------------------

KERAS1 = [
    (name, backend, rows)
    for name, rows in [
        ("lstm", (3, 6)),
        ("embedding_lstm", (3, 10, 6)),
        ("bidirectional_lstm", (3, 4, 20)),
        ("bidirectional_lstm_no_return_sequences", (3, 20)),
    ]
    for backend in ("tensorflow", "theano")
]


@pytest.mark.parametrize("name, backend, shape", KERAS1, ids=[f"{row[0]}-{row[1]}" for row in KERAS1])
def test_keras1_twin_of_a_keras2_file(name, backend, shape):
    """The same net in Keras 1.2.2: its 12 gate arrays, joined as Keras 2 stores them, are what the model holds."""
    path = shared_file(f"models/dl4j/weights/{name}_{backend}_1.h5")
    model = fastbilstm.load(path)
    with np.load(shared_file(f"models/dl4j/weights/{name}_{backend}_2.h5.golden.npz")) as npz:
        y = model.predict(npz["in0"])
    assert y.shape == shape and np.isfinite(y).all()

    with h5py.File(path) as file:
        groups = file["model_weights"]
        stored = {array: groups[layer][array][()] for layer in groups for array in groups[layer]}
    recurrent = [w for layer in model.layers if layer.class_name != "Embedding" for w in layer.get_weights()]
    expected = []
    for direction in ("forward_", "backward_") if name.startswith("bidirectional") else ("",):
        for matrix in "WUb":
            keys = [next(k for k in stored if k.startswith(direction) and k.split(":")[0].endswith(f"_{matrix}_{gate}"))
                    for gate in "ifco"]  # fmt: skip
            expected.append(np.concatenate([stored[key] for key in keys], axis=-1))
    assert len(recurrent) == len(expected)
    for ours, theirs in zip(recurrent, expected):
        assert np.array_equal(ours, theirs)


# ---- SavedModel folders and checkpoints ----------------------------------------------------------------------------

OTHER_FORMS = [
    *(f"savedmodel/{name}" for name in ("anomaly_lstm", "giaan_lstm", "hidroml_lstm", "hotel_savedmodel")),
    *(f"savedmodel/{name}" for name in ("humidity_lstm", "iteam1_gru", "jacarpe7_lstm", "jiahui_lstm")),
    *("savedmodel/osmarluiz_lstm", "savedmodel/sailesh_bilstm", "checkpoint/gru_model", "checkpoint/lstm_model"),
]


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_saved_models_and_checkpoints(name):
    """TensorFlow 2.1 to 2.13; `hotel_savedmodel` is given texts."""
    answers = shared_file(f"models/{name}.npz")
    path = answers.with_suffix("")
    model = fastbilstm.load(path, config=f"{path}.json" if name.startswith("checkpoint") else None)
    with np.load(answers) as npz:
        cases = {key.rpartition("out0")[0] for key in npz if key.endswith("out0")}
        assert cases
        for case in cases:
            model.reset_states()
            x = npz["texts"] if "texts" in npz else npz[f"{case}in0"]
            check(model.predict(x), npz[f"{case}out0"])
