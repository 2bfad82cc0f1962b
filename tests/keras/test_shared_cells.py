"""One cell object several times in a stack: Keras 3 and tf_keras store its weights once in .keras."""

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
