"""Lists and dicts inside each other as inputs and outputs of functional models: Keras' structure."""

import numpy as np
import pytest

import fastbilstm
from fastbilstm import InputError
from fastbilstm.scoring.columns import output_list, output_names

keras = pytest.importorskip("keras", reason="needs Keras and TensorFlow")

X, Y = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
STRUCTURES = {
    "a dict of lists": (lambda a, b: {"p": [a, b]}, lambda g, h: [h, [g, h]]),
    "lists in a list": (lambda a, b: [[b], a], lambda g, h: {"z": [h, g], "o": g}),
    "a dict in a dict": (lambda a, b: {"y": {"b": b}, "a": a}, lambda g, h: {"y": {"r": h}, "o": [g]}),
    "a dict in a list": (lambda a, b: [a, {"b": b}], lambda g, h: [{"h": h, "g": g}, h]),
}


def same(found, expected):
    """Whether two structures are the same and hold the same arrays."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    return np.allclose(found, expected, atol=1e-6)


def saved(name, path):
    given, ends = STRUCTURES[name]
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model(given(a, b), ends(keras.layers.Dense(2)(a), keras.layers.Dense(1)(b)))
    model.save(path)
    return model


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_is_that_of_keras(name, tmp_path):
    theirs = saved(name, tmp_path / "net.keras")
    model, (given, _) = fastbilstm.load(tmp_path / "net.keras"), STRUCTURES[name]
    assert [i.name for i in model.inputs] == [tensor.name for tensor in theirs.inputs]
    x = given(X, Y)
    expected = theirs.predict(x, verbose=0)
    for found in (model.predict(x), model(x), model.predict({"a": X, "b": Y})):
        assert same(found, expected)
    out = model.predict(given(X * 0, Y * 0))
    assert model.predict(x, out=out) is out and same(out, expected)
    assert len(output_list(model, out)) == len(output_names(model)) == len(model.outputs)
    again = fastbilstm.convert(tmp_path / "net.keras", tmp_path / "net.fbl")
    assert same(again.predict(x), expected) and again.self_check()


def test_another_structure_is_refused(tmp_path):
    saved("a dict of lists", tmp_path / "net.keras")
    model = fastbilstm.load(tmp_path / "net.keras")
    for x, got in (({"p": X}, "a dict of 'p'"), (X, "ndarray"), ({"q": [X, Y]}, "a dict of 'q'")):
        with pytest.raises(InputError, match=rf"the inputs are {{'p': \[a, b\]}}, in these lists and dicts.*got {got}"):
            model.predict(x)
    with pytest.raises(InputError, match="expected a list of 2"):
        model.predict({"p": [X, Y]}, out=[np.zeros((3, 1), np.float32), np.zeros((3, 2), np.float32)])
