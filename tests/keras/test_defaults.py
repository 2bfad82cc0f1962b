"""Options that a config lacks: what Keras takes for them, in each version.

Live Keras is asked through `from_config`: of each class that it shares with the registry, each key of a saved config is
left out in turn. What older releases take is from the constructors of their source.
"""

import inspect

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError
from fastbilstm.graph import KerasVersion
from fastbilstm.keras.layer_config import LayerReader
from fastbilstm.keras.rebuilt_in_keras import CLASSES
from fastbilstm.layers import REGISTRY

# What the constructors of Keras ask for, by the name of the argument.
NEEDED = {
    **{"activation": "relu", "units": 3, "input_dim": 5, "output_dim": 3, "rate": 0.3, "stddev": 0.2, "factor": 0.1},
    **{"height_factor": 0.1, "width_factor": 0.1, "axes": 1, "target_shape": (3, 2), "dims": (2, 1), "n": 2},
    **{"filters": 2, "kernel_size": 2, "equation": "abc,cd->abd", "output_shape": (None, 4), "num_heads": 2},
    **{"key_dim": 3, "head_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2, "pool_size": 3},
    **{"output_size": 3, "scale": 2.0, "num_bins": 4, "num_tokens": 5, "bin_boundaries": [0.0, 1.0]},
    **{"height": 3, "width": 2, "max_number": 4},
}
# What None stands for in an option, by the other ones.
NONE_IS = {
    "strides": lambda config: config.get("pool_size"),
    "value_dim": lambda config: config["key_dim"],
    "sequence_length": lambda config: config["fft_length"],
    "max_freq": lambda config: float(int(config["sampling_rate"] / 2)),
}
INNER = {
    "layer": lambda layers: layers.LSTM(3, return_sequences=True),
    "cell": lambda layers: layers.LSTMCell(3),
    "cells": lambda layers: [layers.GRUCell(3)],
}


def made(layers, cls):
    """A layer of Keras with the arguments that its constructor needs, and two that have None for a default."""
    given = {}
    for key, parameter in inspect.signature(cls.__init__).parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if key in ("num_tokens", "bin_boundaries") or (needed and key != "self"):
            given[key] = INNER[key](layers) if key in INNER else NEEDED[key]
    if cls.__name__ == "RandomPosterization":
        given["factor"] = 4
    return cls(**given)


def read(k, class_name, config):
    """What fastbilstm makes of a config: the layer, or an error's words."""
    reader = LayerReader(KerasVersion.parse(k.__version__), "model")
    # Without calls: of an Attention with one tensor the reader would say that it is a class of its author.
    entry = {"module": "keras.layers", "class_name": class_name, "config": config, "inbound_nodes": []}
    try:
        layer = reader.read_layer(entry, ())
    except FileFormatError as error:
        return str(error)
    return str(reader.problems) if reader.problems else layer


def described(layer):
    """All that a layer computes from, without names, which Keras numbers, and in float32, which tf_keras stores."""
    config = dict(layer.config)
    config |= {key: NONE_IS[key](config) for key in NONE_IS if key in config and config[key] is None}
    config = {key: np.float32(value) if isinstance(value, float) else value for key, value in config.items()}
    return layer.class_name, config, [described(inner) for inner in layer.layers]


def filled(k, cls, config):
    """The config with what Keras itself takes for options that it lacks; None where Keras refuses it."""
    try:
        try:
            layer = cls.from_config(dict(config))
        except KeyError:  # some read an option before the constructor is called, which has a default
            layer = cls(**config)
    except (TypeError, ValueError):
        return None
    return k.layers.serialize(layer)["config"]


@pytest.mark.parametrize("class_name", sorted(CLASSES))
def test_what_live_keras_takes(class_name):
    found = 0
    for framework in ("keras", "tf_keras"):
        k = pytest.importorskip(framework)
        cls = getattr(k.layers, class_name, None)
        if cls is None:
            continue
        full = k.layers.serialize(made(k.layers, cls))["config"]
        for key in full:
            if (class_name, key) == ("Discretization", "bin_boundaries"):
                continue  # no option with a default: what it learned in adapt()
            config = {name: value for name, value in full.items() if name != key}
            ours, theirs = read(k, class_name, config), filled(k, cls, config)
            if theirs is not None:
                assert not isinstance(ours, str), f"{framework} takes {theirs.get(key)} for {key}: {ours}"
                assert described(ours) == described(read(k, class_name, theirs)), (framework, key)
            elif key in REGISTRY[class_name].options or key in INNER:
                assert isinstance(ours, str), f"{framework} refuses {class_name} without {key}"
                assert key in ours
            found += 1
    assert found


LAYERS = {
    "LSTM": {"units": 3},
    "GRU": {"units": 3},
    "Bidirectional": {"layer": {"class_name": "LSTM", "config": {"units": 3}}},
    "RNN": {"cell": {"class_name": "GRUCell", "config": {"units": 3}}},
    "ConvLSTM2D": {"filters": 2, "kernel_size": 2},
    "BatchNormalization": {},
    "AveragePooling1D": {},
    "Conv1D": {"filters": 2, "kernel_size": 2},
}
# keras 1.0.0 to 2.3.1: layers/recurrent.py, convolutional_recurrent.py, normalization.py. TensorFlow 1.4 to 2.2, which
# call themselves 2.0.8-tf to 2.3.0-tf: python/keras/layers/recurrent.py and recurrent_v2.py.
OLDER = [
    *[("LSTM", version, "recurrent_activation", "hard_sigmoid") for version in ("1.2.2", "2.2.4", "2.1.6-tf")],
    *[("LSTM", version, "recurrent_activation", "sigmoid") for version in ("2.3.0", "2.3.0-tf", "2.4.0", "3.0.0")],
    *[("LSTM", version, "activation", "tanh") for version in ("1.0.0", "2.2.4", "2.1.6-tf", "2.15.0")],
    *[("LSTM", version, "use_bias", True) for version in ("1.0.0", "2.2.4", "2.1.6-tf", "2.15.0")],
    *[("GRU", version, "recurrent_activation", "hard_sigmoid") for version in ("1.2.2", "2.2.4", "2.1.6-tf")],
    *[("GRU", version, "reset_after", False) for version in ("1.2.2", "2.2.4", "2.3.1", "2.1.6-tf")],
    *[("GRU", version, "reset_after", True) for version in ("2.3.0-tf", "2.4.0", "2.15.0", "3.0.0")],
    *[("ConvLSTM2D", version, "recurrent_activation", "hard_sigmoid") for version in ("1.2.2", "2.3.1", "2.15.0")],
    *[("BatchNormalization", version, "epsilon", 1e-6) for version in ("1.0.0", "1.0.7")],
    *[("BatchNormalization", version, "epsilon", 1e-5) for version in ("1.0.8", "1.1.2")],
    *[("BatchNormalization", version, "epsilon", 1e-3) for version in ("1.2.0", "2.0.0", "3.0.0")],
    *[("AveragePooling1D", version, "pool_size", [2]) for version in ("1.2.2", "2.2.4", "2.15.0")],
    *[("Conv1D", version, "strides", [1]) for version in ("1.2.2", "2.2.4", "2.15.0")],
    *[("Bidirectional", version, "merge_mode", "concat") for version in ("1.2.2", "2.2.4", "2.15.0")],
]


@pytest.mark.parametrize(("class_name", "version", "option", "value"), OLDER)
def test_what_older_versions_take(class_name, version, option, value):
    config = dict(LAYERS[class_name])
    if version.startswith("1"):
        names = {"units": "output_dim", "filters": "nb_filter", "kernel_size": "filter_length"}
        config = {names.get(key, key): given for key, given in config.items()}
        if class_name == "ConvLSTM2D":
            config.update(nb_row=2, nb_col=2, dim_ordering="tf")
            del config["filter_length"]
        elif class_name == "Bidirectional":
            config["layer"] = {"class_name": "LSTM", "config": {"output_dim": 3}}
    reader = LayerReader(KerasVersion.parse(version), "model")
    layer = reader.read_layer({"class_name": class_name, "config": {**config, "trainable": True}}, ())
    assert not reader.problems
    assert layer.config[option] == value


UNKNOWN = [
    ("LSTM", "2.2.4-tf", "recurrent_activation", "hard_sigmoid, from 2.0 on it is sigmoid"),
    ("GRU", "2.2.4-tf", "recurrent_activation", "hard_sigmoid, from 2.0 on it is sigmoid"),
    ("RNN", "2.2.4-tf", "recurrent_activation", "hard_sigmoid, from 2.0 on it is sigmoid"),
    ("BatchNormalization", None, "epsilon", "does not say its release"),
    ("AveragePooling2D", "1.2.2", "data_format", "settings of the machine"),
]


@pytest.mark.parametrize(("class_name", "version", "option", "words"), UNKNOWN)
def test_what_the_file_cannot_tell_is_refused(class_name, version, option, words):
    reader = LayerReader(KerasVersion.parse(version), "m.h5")
    config = {"name": "a", **LAYERS.get(class_name, {})}
    with pytest.raises(FileFormatError, match=rf"m.h5: layer '.*option '{option}' is missing: .*{words}"):
        reader.read_layer({"class_name": class_name, "config": config}, ())


BARE = (
    mf.layer("Embedding", "embedding", input_dim=7, output_dim=4, mask_zero=True),
    mf.layer("LSTM", "lstm", units=3),
    mf.layer("Dense", "dense", units=2, activation="sigmoid"),
)


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("version", [mf.KERAS2, mf.KERAS3])
def test_a_model_of_bare_layers(version, trainable):
    """Without the options that have defaults, and without `trainable`, a file gives the bits of one that holds all."""
    layers = [{**entry, "config": dict(entry["config"])} for entry in BARE]
    for entry in layers:
        if not trainable:
            del entry["config"]["trainable"]
    model = fastbilstm.load(mf.h5(mf.sequential(mf.input_layer(), *layers), version=version))
    expected = fastbilstm.load(mf.h5(version=version)).predict(mf.IDS)
    np.testing.assert_array_equal(model.predict(mf.IDS), expected)
    assert np.ptp(expected) > 0.1
