"""Work that grows with the size of a file and not with its square or with a number in it: calls are counted.

Architectures of twice the layers may take twice the calls of functions, from the config to the first prediction.
"""

import sys

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.converted import fbl_file
from fastbilstm.graph import KerasVersion
from fastbilstm.keras.config import ConfigReader

LAYERS = 100


def count_calls(function):
    """(calls of functions, Python's and built-in ones, while `function` runs; its result)."""
    count = 0

    def note(*_):
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        result = function()
    finally:
        sys.setprofile(None)
    return count, result


def start(functional=True):
    return mf.input_layer("x", (None, 4), "float32", functional)


def relu(name, *inbound):
    return mf.layer("Activation", name, inbound or None, activation="relu")


def before(number):
    return f"a{number - 1}" if number else "x"


def chain_of_dense(n):
    return mf.sequential(start(False), *(mf.dense(f"d{k}", units=4) for k in range(n)))


def chain_of_calls(n):
    return mf.functional(start(), *(relu(f"a{k}", before(k)) for k in range(n)), inputs=["x"], outputs=[before(n)])


def calls_of_one_layer(n):
    layer = mf.dense("d", ["x"], units=4)
    layer["inbound_nodes"] = [[["x", 0, 0, {}]], *([["d", k, 0, {}]] for k in range(n - 1))]
    config = mf.functional(start(), layer, inputs=["x"], outputs=["d"])
    config["config"]["output_layers"] = [["d", n - 1, 0]]
    return config


def many_into_one(n):
    parts = [relu(f"a{k}", "x") for k in range(n)]
    end = mf.layer("Add", "add", [f"a{k}" for k in range(n)])
    return mf.functional(start(), *parts, end, inputs=["x"], outputs=["add"])


def folded(n):
    norm = {"axis": [1], "momentum": 0.9, "epsilon": 1e-3, "center": True, "scale": True}
    layers = [mf.dense(f"d{k}", units=4, activation="linear") for k in range(n)]
    layers = [
        part for k, dense in enumerate(layers) for part in (dense, mf.layer("BatchNormalization", f"b{k}", **norm))
    ]
    return mf.sequential(start(False), *layers)


def models_inside(n):
    def model(k):
        inner = mf.functional(start(), relu("a0", "x"), inputs=["x"], outputs=["a0"])
        inner["config"]["name"] = f"a{k}"
        return inner | {"name": f"a{k}", "inbound_nodes": [[[before(k), 1 if k else 0, 0, {}]]]}

    config = mf.functional(start(), *map(model, range(n)), inputs=["x"], outputs=[before(n)])
    config["config"]["output_layers"] = [[before(n), 1, 0]]
    return config


def calls_from_config_to_answer(config):
    """(calls to read, to compile, to predict, to read the converted file) of an architecture with weights of 1."""
    reader = ConfigReader(KerasVersion("tf_keras", (2, 15)), "net")
    reading, graph = count_calls(lambda: reader.read_model(config["class_name"], config["config"]))
    assert not reader.problems
    roles = {name: role for _, layer in graph.walk() for role, name in layer.weights.items()}
    tensors = {name: np.ones((4, 4) if role == "kernel" else 4, "f4") for name, role in roles.items()}
    compiling, model = count_calls(lambda: fastbilstm.Model(graph, tensors))
    predicting, _ = count_calls(lambda: model.predict(np.zeros((1, 4), "f4")))
    content = fbl_file.to_bytes(graph, tensors)
    return reading, compiling, predicting, count_calls(lambda: fbl_file.read(content, "net"))[0]


KINDS = [chain_of_dense, chain_of_calls, calls_of_one_layer, many_into_one, folded, models_inside]


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_layers_take_twice_the_calls(kind):
    few, many = (calls_from_config_to_answer(kind(n)) for n in (LAYERS, 2 * LAYERS))
    ratios = [b / a for a, b in zip(few, many)]
    assert max(ratios) < 2.3, ratios
