"""One cell object several times in a stack, or in several layers: .keras and .weights.h5 store its weights once."""

import h5py
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError

keras = pytest.importorskip("keras", reason="needs Keras and TensorFlow")
tf_keras = pytest.importorskip("tf_keras", reason="needs tf_keras")

STEPS = np.array([[[1.0], [2.0]]], np.float32)
WEIGHTS = [np.array([[0.5, 0.5, 1, 0.5]]), np.array([[0.1, 0.2, 0.3, 0.4]]), np.zeros(4)]


def stack_of_one(framework):
    cell = framework.layers.LSTMCell(1)
    stack = framework.layers.StackedRNNCells([cell, cell])
    model = framework.Sequential([framework.layers.Input((2, 1)), framework.layers.RNN(stack, name="rnn")])
    model.set_weights(WEIGHTS)
    return model


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_a_cell_twice(framework, tmp_path):
    stack_of_one(framework).save(tmp_path / "net.keras")
    model = fastbilstm.load(tmp_path / "net.keras")
    np.testing.assert_allclose(model.predict(STEPS), [[0.2196856]], atol=2e-7)
    assert [array.shape for array in model.get_weights()] == [(1, 4), (1, 4), (4,)]
    lines = []
    model.summary(lines.append)
    row = next(line for line in lines[0].splitlines() if line.startswith("rnn "))
    assert " 12 " in row
    again = fastbilstm.convert(tmp_path / "net.keras", tmp_path / "net.fbl")
    np.testing.assert_array_equal(again.predict(STEPS), model.predict(STEPS))


@pytest.mark.parametrize("order", ["cdc", "ccd", "cdd"])
@pytest.mark.parametrize("both", [False, True], ids=["RNN", "Bidirectional"])
def test_among_other_cells(order, both, tmp_path):
    cells = {"c": keras.layers.LSTMCell(3, bias_initializer="ones"), "d": keras.layers.LSTMCell(3)}
    given, layer = keras.Input((4, 3)), keras.layers.RNN([cells[name] for name in order], return_sequences=True)
    model = keras.Model(given, keras.layers.Bidirectional(layer)(given) if both else layer(given))
    model.save(tmp_path / "net.keras")
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    found = fastbilstm.load(tmp_path / "net.keras").predict(x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-6)


def test_h5_does_not_tell(tmp_path):
    """Keras cannot load it, either."""
    stack_of_one(keras).save(tmp_path / "net.h5")
    with pytest.raises(ValueError, match=r"expects 6 weight"):
        keras.models.load_model(tmp_path / "net.h5")
    with pytest.raises(FileFormatError, match="'rnn.*holds 3 arrays for it, the architecture needs 6"):
        fastbilstm.load(tmp_path / "net.h5")


def three_rnn(k):
    """One cell in three RNN."""
    cell, given = k.layers.LSTMCell(3), k.Input((4, 3))
    x = given
    for _ in range(3):
        x = k.layers.RNN(cell, return_sequences=True)(x)
    return k.Model(given, x)


def in_a_stack(k):
    """Cells in an RNN of their own and, in another order, in a stack; beside a cell of the same options."""
    cells = [k.layers.LSTMCell(3), k.layers.GRUCell(3), k.layers.LSTMCell(3)]
    given = k.Input((4, 3))
    first = k.layers.RNN(cells[0], return_sequences=True)(given)
    second = k.layers.RNN(cells[1:], return_sequences=True)(first)
    return k.Model(given, k.layers.RNN([cells[1], cells[0]])(second))


def a_stack_twice(k):
    stack, given = k.layers.StackedRNNCells([k.layers.GRUCell(3), k.layers.SimpleRNNCell(3)]), k.Input((4, 3))
    return k.Model(given, k.layers.RNN(stack)(k.layers.RNN(stack, return_sequences=True)(given)))


def in_a_nested_model(k):
    cell, given, inside = k.layers.SimpleRNNCell(3), k.Input((4, 3)), k.Input((4, 3))
    inner = k.Model(inside, k.layers.RNN(cell, return_sequences=True)(inside))
    return k.Model(given, k.layers.RNN(cell)(inner(given)))


def a_dense_in_two_wrappers(k):
    dense, given = k.layers.Dense(3, activation="tanh"), k.Input((4, 3))
    return k.Model(given, k.layers.TimeDistributed(dense)(k.layers.TimeDistributed(dense)(given)))


@pytest.mark.parametrize("make", [three_rnn, in_a_stack, a_stack_twice, in_a_nested_model, a_dense_in_two_wrappers])
@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_in_several_layers(framework, make, tmp_path):
    """Keras itself loads only the .h5 of such a model, where it makes several objects of it."""
    model = make(framework)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.5, array.shape) for array in model.get_weights()])
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    (tmp_path / "net.json").write_text(model.to_json())
    model.save_weights(tmp_path / "net.weights.h5")
    for name in ("net.keras", "net.h5", "net.weights.h5"):
        if name != "net.weights.h5":
            model.save(tmp_path / name)
        config = tmp_path / "net.json" if name == "net.weights.h5" else None
        found = fastbilstm.load(tmp_path / name, config=config)
        np.testing.assert_allclose(found.predict(x), expected, atol=1e-6)
        assert name == "net.h5" or len(found.get_weights()) == len(model.get_weights())
    fastbilstm.convert(tmp_path / "net.keras", tmp_path / "net.fbl")
    np.testing.assert_allclose(fastbilstm.load(tmp_path / "net.fbl", check=True).predict(x), expected, atol=1e-6)


def test_a_cell_that_could_be_one_of_two_is_refused(tmp_path):
    """Bidirectional copies its layer with the cell, under the same name; the file does not say which is meant."""
    cell, given = keras.layers.LSTMCell(3), keras.Input((4, 3))
    x = keras.layers.RNN(cell, return_sequences=True)(given)
    x = keras.layers.Bidirectional(keras.layers.RNN(cell, return_sequences=True), merge_mode="sum")(x)
    keras.Model(given, keras.layers.RNN(cell)(x)).save(tmp_path / "net.keras")
    with pytest.raises(FileFormatError, match=r"no weights for layer 'lstm_cell\w*' \(LSTMCell\), .*; several layers"):
        fastbilstm.load(tmp_path / "net.keras")


def test_a_group_that_is_missing_is_refused(tmp_path):
    given = keras.Input((4, 3))
    x = keras.layers.RNN(keras.layers.LSTMCell(3), return_sequences=True)(given)
    model = keras.Model(given, keras.layers.RNN(keras.layers.LSTMCell(3))(x))
    model.save_weights(tmp_path / "net.weights.h5")
    (tmp_path / "net.json").write_text(model.to_json())
    with h5py.File(tmp_path / "net.weights.h5", "a") as file:
        del file["layers/rnn_1/cell"]
    with pytest.raises(FileFormatError, match=r"no weights for layer 'lstm_cell\w*' \(LSTMCell\), .*; no other layer"):
        fastbilstm.load(tmp_path / "net.weights.h5", config=tmp_path / "net.json")
