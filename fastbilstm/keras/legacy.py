"""Older dialects: Keras 1's names and weights, CuDNN layers, renamed options -> the names of today's Keras.

Knows no files: it is given config dictionaries and arrays. Sources: keras 1.2.2, layers/recurrent.py and
layers/core.py; keras 2.2.4, engine/saving.py (preprocess_weights_for_loading).
"""

import numpy as np

from ..errors import FileFormatError

# Keras 1 option -> Keras 2 option, for all layers that have it.
_KERAS1_OPTIONS = {
    "output_dim": "units",
    "inner_activation": "recurrent_activation",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "U_constraint": "recurrent_constraint",
    "b_constraint": "bias_constraint",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "forget_bias_init": "unit_forget_bias",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "consume_less": "implementation",
    "bias": "use_bias",
    "p": "rate",
    "sigma": "stddev",
}
# Keras 1's Merge layer and its modes.
_MERGE_MODES = {
    "sum": "Add",
    "mul": "Multiply",
    "concat": "Concatenate",
    "ave": "Average",
    "max": "Maximum",
    "dot": "Dot",
}
ALIASES = {
    "GlobalAvgPool1D": "GlobalAveragePooling1D",
    "GlobalMaxPool1D": "GlobalMaxPooling1D",
    "GroupedQueryAttention": "GroupQueryAttention",
}


def modernize(class_name, config, version):
    """Translate one layer's class name and config to today's names.

    Returns
    -------
    (str, dict)
        A class or option that has no counterpart is returned as it is, so that the reader refuses it by its own name.
    """
    config = dict(config)
    class_name = ALIASES.get(class_name, class_name)
    if class_name in ("CuDNNLSTM", "CuDNNGRU"):
        config.update(activation="tanh", recurrent_activation="sigmoid", use_bias=True)
        class_name = class_name[len("CuDNN") :]
    if version.framework == "keras1":
        class_name, config = _keras1(class_name, config)
    if class_name == "BatchNormalization":
        for key in ("virtual_batch_size", "adjustment"):
            if config.get(key) is None:
                config.pop(key, None)
    if class_name == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    for key in ("alpha", "theta", "max_value", "negative_slope"):
        # Keras 2 stored some of these as 0-d arrays: {"type": "ndarray", "value": 0.3}.
        value = config.get(key)
        if isinstance(value, dict) and value.get("type") == "ndarray" and np.ndim(value.get("value")) == 0:
            config[key] = value["value"]
    return class_name, config


def _keras1(class_name, config):
    if class_name == "Merge":
        return _keras1_merge(config)
    renames = dict(_KERAS1_OPTIONS)
    if class_name == "Embedding":
        del renames["output_dim"]
    if class_name == "BatchNormalization":
        if config.pop("mode", 0) != 0:
            config["mode"] = "not 0 (statistics of the batch itself)"
        for key in ("gamma_init", "beta_init", "gamma_regularizer", "beta_regularizer"):
            config.pop(key, None)
    config = {renames.get(key, key): value for key, value in config.items()}
    if class_name == "TimeDistributedDense":
        inner = {key: value for key, value in config.items() if key != "batch_input_shape"}
        inner["name"] = f"{config.get('name', 'dense')}_inner"
        outer = {key: config[key] for key in ("name", "trainable", "batch_input_shape", "input_dtype") if key in config}
        return "TimeDistributed", {**outer, "layer": {"class_name": "Dense", "config": inner}}
    if class_name in ("LSTM", "Dense"):
        config.setdefault("use_bias", True)
    if class_name == "LSTM":
        config.pop("input_dim", None)
    return class_name, config


def _keras1_merge(config):
    mode = config.get("mode")
    if not isinstance(mode, str) or mode not in _MERGE_MODES or config.get("mode_type", "raw") != "raw":
        return "Merge", config
    merged = {"name": config.get("name"), "trainable": config.get("trainable", True)}
    if mode == "concat":
        merged["axis"] = config.get("concat_axis", -1)
    elif mode == "dot":
        axes = config.get("dot_axes", -1)
        merged.update(axes=[a[0] if isinstance(a, list) else a for a in axes] if isinstance(axes, list) else axes)
    return _MERGE_MODES[mode], merged


def keras1_arrays(class_name, units, arrays, label):
    """Take one layer's arrays off the front of a Keras 1 list; return (arrays in today's order, the rest).

    Keras 1 stores an LSTM as 12 arrays, W U b for the gates i c f o, or as 3 fused ones in today's order if
    consume_less was "gpu".
    """
    if class_name != "LSTM":
        raise FileFormatError(f"{label}: no rule for the Keras 1 weights of {class_name}")
    if arrays and arrays[0].ndim == 2 and arrays[0].shape[1] == 4 * units:
        return arrays[:3], arrays[3:]
    if len(arrays) < 12:
        raise FileFormatError(f"{label}: {len(arrays)} arrays for a Keras 1 LSTM; expected 12")
    i, c, f, o = (arrays[3 * gate : 3 * gate + 3] for gate in range(4))
    fused = [np.concatenate([gate[part] for gate in (i, f, c, o)], axis=-1) for part in range(3)]
    return fused, arrays[12:]


def cudnn_lstm(kernel, recurrent_kernel, bias):
    """Today's arrays of an LSTM from those of CuDNNLSTM, which holds two biases of 4U and transposed kernels."""
    kernel = np.concatenate([k.T.reshape(k.shape, order="F") for k in np.split(kernel, 4, axis=1)], axis=1)
    recurrent_kernel = np.concatenate([k.T for k in np.split(recurrent_kernel, 4, axis=1)], axis=1)
    return kernel, recurrent_kernel, bias[: bias.size // 2] + bias[bias.size // 2 :]
