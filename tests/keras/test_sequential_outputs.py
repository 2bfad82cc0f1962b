"""Sequential models of Keras 3 whose last layer gives several tensors: all of them are outputs, in Keras' structure."""

import json

import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError

X = np.array([[[1.0], [2.0]]], np.float32)


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras", reason="needs Keras and TensorFlow")


def same(keras, y, k):
    y, k = keras.tree.flatten(y), keras.tree.flatten(k)
    assert len(y) == len(k)
    for a, b in zip(y, k):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_the_three_numbers(keras, tmp_path):
    layers = keras.layers
    model = keras.Sequential([keras.Input((2, 1)), layers.LSTM(1, return_state=True)])
    model.set_weights([np.array([[0.5, 0.5, 1, 0.5]]), np.array([[0.1, 0.2, 0.3, 0.4]]), np.zeros(4)])
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        found = fastbilstm.load(tmp_path / name)
        np.testing.assert_allclose(np.ravel(found.predict(X)), [0.5924925, 0.5924925, 1.0655249], atol=1e-7)
        assert len(found.outputs) == 3


ENDS = {
    "directions": lambda L: [L.Bidirectional(L.LSTM(2), merge_mode=None)],
    "directions and states": lambda L: [L.Bidirectional(L.LSTM(2, return_state=True), merge_mode=None)],
    "states of both": lambda L: [L.Bidirectional(L.GRU(2, return_state=True))],
    "a cell": lambda L: [L.RNN(L.LSTMCell(2), return_state=True)],
    "cells": lambda L: [L.RNN([L.LSTMCell(2), L.GRUCell(3)], return_state=True)],
    "GRU": lambda L: [L.Dense(2), L.GRU(3, return_state=True, return_sequences=True)],
    "joined again": lambda L: [L.Bidirectional(L.LSTM(2), merge_mode=None), L.Concatenate(), L.Dense(2)],
}


@pytest.mark.parametrize("end", ENDS)
def test_structures_are_those_of_keras(end, keras, tmp_path):
    model = keras.Sequential([keras.Input((4, 3)), *ENDS[end](keras.layers)])
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    model.save(tmp_path / "m.keras")
    y, k = fastbilstm.load(tmp_path / "m.keras").predict(x), model.predict(x, verbose=0)
    lists = lambda part: [lists(p) for p in part] if isinstance(part, list | tuple) else part.shape  # noqa: E731
    assert lists(y) == lists(k)
    same(keras, y, k)


def test_inside_another_model(keras, tmp_path):
    """As an encoder: a functional model reads the output and one of the states; a Sequential ends in it, too."""
    layers = keras.layers
    given = keras.Input((4, 3))
    encoder = keras.Sequential([given, layers.LSTM(2, return_state=True)])
    read = keras.Input((4, 3))
    y, _, c = encoder(read)
    two = {"a": layers.Dense(2)(read), "b": layers.LSTM(2)(read)}
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    for number, model in enumerate(
        [
            keras.Model(read, [layers.Add()([y, c]), y]),
            keras.Sequential([keras.Input((4, 3)), encoder]),
            keras.Sequential([keras.Input((4, 3)), keras.Model(read, two)]),
        ]
    ):
        model.save(tmp_path / f"{number}.keras")
        y = fastbilstm.load(tmp_path / f"{number}.keras").predict(x)
        same(keras, y, model.predict(x, verbose=0))


def test_a_recurrent_layer_on_several_tensors_is_refused(keras, tmp_path):
    """Keras cannot build it; its states are no initial states."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((4, 3)), layers.LSTM(2, return_state=True, return_sequences=True)])
    config = json.loads(model.to_json())
    entries = config["config"]["layers"]
    entries.append({**entries[1], "config": {**entries[1]["config"], "name": "second"}})
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(FileFormatError, match="called with 3 tensors"):
        fastbilstm.load(tmp_path / "m.weights.h5", config=config)
