"""Write HDF5 files as Keras 1.2.2 and Keras 2.0-2.3 wrote them, without that Keras: layouts by hand with h5py.

Layout of 1.2.2: keras/models.py save_model and keras/engine/topology.py save_weights_to_hdf5_group.
"""

import json

import h5py
import numpy as np

GATES_1 = "icfo"  # the order of the twelve arrays of a Keras 1 LSTM (1.2.2 keras/layers/recurrent.py:764)
GATES_2 = "ifco"  # the order of the columns (2.2.4 keras/layers/recurrent.py, and of consume_less='gpu' in Keras 1)


def lstm_weights(rng, features, units):
    """Float32 values as nested lists of Python floats, gate by gate: the form of derived_math.lstm."""

    def draw(scale, *shape):
        return rng.normal(0, scale, shape).astype(np.float32).tolist()

    return {
        "W": {gate: draw(features**-0.5, features, units) for gate in GATES_2},
        "U": {gate: draw((4 * units) ** -0.5, units, units) for gate in GATES_2},
        "b": {gate: draw(0.5, units) for gate in GATES_2},
    }


def keras1_lstm_arrays(name, weights, suffix=":0"):
    return [(f"{name}_{k}_{gate}{suffix}", weights[k][gate]) for gate in GATES_1 for k in "WUb"]


def columns(weights, gates=GATES_2):
    """kernel, recurrent kernel and bias with the gates side by side."""
    return [np.concatenate([weights[k][gate] for gate in gates], -1) for k in "WUb"]


def keras1_gpu_arrays(name, weights):
    return list(zip([f"{name}_{k}:0" for k in "WUb"], columns(weights), strict=True))


def keras2_lstm_arrays(prefix, weights):
    names = [f"{prefix}/{k}:0" for k in ("kernel", "recurrent_kernel", "bias")]
    return list(zip(names, columns(weights), strict=True))


def keras1_layer(class_name, name, shape=None, dtype="float32", **config):
    front = {"name": name, "trainable": True}
    if shape:
        front |= {"batch_input_shape": shape, "input_dtype": dtype}
    return {"class_name": class_name, "config": front | config}


def keras1_lstm(name, units, shape=None, **options):
    config = {
        "return_sequences": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "consume_less": "cpu",
        "input_dim": None,
        "input_length": None,
        "output_dim": units,
        "init": "glorot_uniform",
        "inner_init": "orthogonal",
        "forget_bias_init": "one",
        "activation": "tanh",
        "inner_activation": "hard_sigmoid",
        "W_regularizer": None,
        "U_regularizer": None,
        "b_regularizer": None,
        "dropout_W": 0.0,
        "dropout_U": 0.0,
    }
    return keras1_layer("LSTM", name, shape, **(config | options))


def keras1_dense(name, units, activation="linear", class_name="Dense", shape=None):
    return keras1_layer(
        class_name,
        name,
        shape,
        output_dim=units,
        init="glorot_uniform",
        activation=activation,
        W_regularizer=None,
        b_regularizer=None,
        activity_regularizer=None,
        W_constraint=None,
        b_constraint=None,
        bias=True,
        input_dim=None,
    )


def keras1_merge(name, mode, layers=None, dot_axes=-1):
    config = {
        "name": name,
        "mode": mode,
        "mode_type": "raw",
        "concat_axis": -1,
        "dot_axes": dot_axes,
        "output_shape": None,
        "output_shape_type": "raw",
        "output_mask": None,
        "output_mask_type": "raw",
        "arguments": {},
    }
    if layers:
        config["layers"] = layers
    return {"class_name": "Merge", "config": config}


def keras2_lstm(name, units, shape=None, **options):
    front = {"name": name, "trainable": True}
    if shape:
        front |= {"batch_input_shape": shape, "dtype": "float32"}
    scaling = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"}}
    config = {
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "units": units,
        "activation": "tanh",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": True,
        "kernel_initializer": scaling,
        "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "unit_forget_bias": True,
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "implementation": 1,
    }
    return {"class_name": "LSTM", "config": front | config | options}


def keras2_layer(class_name, name, shape=None, **config):
    front = {"name": name, "trainable": True}
    if shape:
        front |= {"batch_input_shape": shape, "dtype": "float32"}
    return {"class_name": class_name, "config": front | config}


def keras2_input(name, *shape):
    config = {"batch_input_shape": [None, *shape], "dtype": "float32", "sparse": False, "name": name}
    return {"class_name": "InputLayer", "config": config}


def functional(name, layers, inputs, outputs):
    """`layers` are (layer, its inbound nodes); a node is a list of layer names, each taken at node 0, tensor 0."""
    version2 = any("dtype" in layer["config"] for layer, _ in layers)
    configs = []
    for layer, nodes in layers:
        calls = [[[source, 0, 0, {}] if version2 else [source, 0, 0] for source in node] for node in nodes]
        configs.append({"name": layer["config"]["name"], **layer, "inbound_nodes": calls})
    ends = {"input_layers": [[n, 0, 0] for n in inputs], "output_layers": [[n, 0, 0] for n in outputs]}
    return {"class_name": "Model", "config": {"name": name, "layers": configs, **ends}}


def write_hdf5(path, model_config, layers, version, backend="tensorflow", beside=False):
    """`layers`: (layer name, [(weight name, values)]). Keras 1 kept its version at the root only.

    `beside`: weights at the root of the file, architecture in config.json (`save_weights` and `to_json`).
    """
    with h5py.File(path, "w") as file:
        if beside:
            config = model_config | {"keras_version": version}
            path.with_name("config.json").write_text(json.dumps(config))
            group = file
        else:
            file.attrs["keras_version"] = version.encode()
            file.attrs["model_config"] = json.dumps(model_config).encode()
            group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name, _ in layers]
        if not version.startswith("1"):
            file.attrs["backend"] = group.attrs["backend"] = backend.encode()
            group.attrs["keras_version"] = version.encode()
        for name, weights in layers:
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
            for weight, values in weights:
                inner[weight] = np.asarray(values, np.float32)
