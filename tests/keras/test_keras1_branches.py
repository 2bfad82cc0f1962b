"""Sequential of Keras 1 that begins with Merge: a layer that stands in two branches is one layer.

Source: keras 1.2.2, models.py, Sequential.add, flattened_layers and from_config (get_or_create_layer).
"""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError

RNG = np.random.default_rng(9)
A, B = (RNG.standard_normal((3, size)).astype(np.float32) for size in (4, 5))
SHAPES = {
    "first": {"kernel": (4, 3), "bias": (3,)},
    "second": {"kernel": (5, 3), "bias": (3,)},
    "both": {"kernel": (3, 2), "bias": (2,)},
    "end": {"kernel": (4, 1), "bias": (1,)},
}


def dense1(name, units, features=None):
    """Dense as Keras 1 writes it."""
    shape = {} if features is None else {"batch_input_shape": [None, features], "input_dtype": "float32"}
    return mf.layer("Dense", name, output_dim=units, activation="tanh", bias=True, init="glorot_uniform", **shape)


def branch(*layers):
    return {"class_name": "Sequential", "config": list(layers)}


def merged(*branches):
    merge = mf.layer("Merge", "merge", mode="concat", concat_axis=-1, layers=list(branches))
    return {"class_name": "Sequential", "config": [merge, dense1("end", 1)]}


def twin(pairs):
    """The functional model of tf.keras: `pairs` are (layer, what it is called on, number of that call)."""
    layers = [mf.input_layer(f"{n}_input", (None, s), "float32", functional=True) for n, s in pairs["inputs"]]
    for name, sources in pairs["calls"].items():
        layer = mf.dense(name, [], units=SHAPES[name]["bias"][0], activation="tanh")
        layer["inbound_nodes"] = [[[source, 0, 0, {}]] for source in sources]
        layers.append(layer)
    merge = mf.layer("Concatenate", "merge", [], axis=-1)
    merge["inbound_nodes"] = [[[name, number, 0, {}] for name, number in pairs["merge"]]]
    end = mf.dense("end", ["merge"], units=1, activation="tanh")
    inputs = [f"{name}_input" for name, _ in pairs["inputs"]]
    return mf.functional(*layers, merge, end, inputs=inputs, outputs=("end",))


def test_one_layer_in_two_branches():
    one, two = dense1("first", 3, 4), dense1("second", 3, 5)
    arrays = mf.weights_of(**SHAPES)
    model = fastbilstm.load(
        mf.h5(merged(branch(one, dense1("both", 2)), branch(two, dense1("both", 2))), arrays, "1.2.2")
    )
    calls = {"first": ["first_input"], "second": ["second_input"], "both": ["first", "second"]}
    inputs = [("first", 4), ("second", 5)]
    expected = twin({"inputs": inputs, "calls": calls, "merge": [("both", 0), ("both", 1)]})
    assert [given.name for given in model.inputs] == ["first_input", "second_input"]
    assert [layer.name for layer in model.layers].count("both") == 1
    np.testing.assert_array_equal(model.predict([A, B]), fastbilstm.load(mf.h5(expected, arrays)).predict([A, B]))


@pytest.mark.parametrize("whole", [False, True], ids=["first layer", "whole branch"])
def test_branches_that_begin_with_one_layer_have_one_input(whole):
    """Keras 1 gives the second branch the tensors of the first."""
    shapes = {name: SHAPES[name] for name in ("first", "both", "end")} | {"second": {"kernel": (3, 2), "bias": (2,)}}
    shapes = {
        name: shapes[name] for name in (("first", "both", "end") if whole else ("first", "both", "second", "end"))
    }
    one, other = branch(dense1("first", 3, 4), dense1("both", 2)), branch(dense1("first", 3, 4), dense1("second", 2))
    arrays = mf.weights_of(**shapes)
    model = fastbilstm.load(mf.h5(merged(one, one if whole else other), arrays, "1.2.2"))
    h = np.tanh(A @ arrays["first"]["kernel"] + arrays["first"]["bias"])
    ends = [np.tanh(h @ arrays[n]["kernel"] + arrays[n]["bias"]) for n in ("both", "both" if whole else "second")]
    expected = np.tanh(np.concatenate(ends, -1) @ arrays["end"]["kernel"] + arrays["end"]["bias"])
    assert [given.name for given in model.inputs] == ["first_input"]
    np.testing.assert_allclose(model.predict(A), expected, atol=1e-6)


def test_two_layers_of_one_name_are_refused():
    one, two = branch(dense1("first", 3, 4), dense1("both", 2)), branch(dense1("second", 3, 5), dense1("both", 3))
    with pytest.raises(FileFormatError, match="two layers share the name 'both'"):
        fastbilstm.load(mf.h5(merged(one, two), mf.weights_of(**SHAPES), "1.2.2"))
