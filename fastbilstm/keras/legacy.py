"""Older files: names and weights of Keras 1, CuDNN layers, renamed options -> those of today's Keras.

Takes config dictionaries and arrays that are Stored. Sources: keras 1.2.2, layers/recurrent.py and
layers/core.py; keras 2.2.4, engine/saving.py (preprocess_weights_for_loading).
"""

import numpy as np

from ..errors import FileFormatError
from .hdf5 import Stored

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
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "length": "size",
    "dim_ordering": "data_format",
}
# The options of Keras 1 that hold the size of a kernel.
_KERAS1_KERNELS = {
    **dict.fromkeys(("Conv2D", "ConvLSTM2D", "LocallyConnected2D"), ("nb_row", "nb_col")),
    "Conv3D": ("kernel_dim1", "kernel_dim2", "kernel_dim3"),
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
# The order of the gates in the arrays of Keras 1, and today's order.
_KERAS1_GATES = {
    **dict.fromkeys(("LSTM", "ConvLSTM2D"), ("icfo", "ifco")),
    **{"GRU": ("zrh", "zrh"), "SimpleRNN": ("h", "h")},
}
ALIASES = {
    "GroupedQueryAttention": "GroupQueryAttention",
    **{f"GlobalAvgPool{n}D": f"GlobalAveragePooling{n}D" for n in (1, 2, 3)},
    **{f"GlobalMaxPool{n}D": f"GlobalMaxPooling{n}D" for n in (1, 2, 3)},
    **{f"AvgPool{n}D": f"AveragePooling{n}D" for n in (1, 2, 3)},
    **{f"MaxPool{n}D": f"MaxPooling{n}D" for n in (1, 2, 3)},
    **{f"Convolution{n}D": f"Conv{n}D" for n in (1, 2, 3)},
    **{f"Convolution{n}DTranspose": f"Conv{n}DTranspose" for n in (1, 2, 3)},
    **{f"SeparableConvolution{n}D": f"SeparableConv{n}D" for n in (1, 2)},
    **{f"AtrousConvolution{n}D": f"Conv{n}D" for n in (1, 2)},
}
# Layers that Keras 1 stores in another way; their configs are not translated.
_KERAS1_ONLY = ("SeparableConvolution2D", "Deconvolution2D")


def modernize(class_name, config, version):
    """Translate one layer's class name and config to today's names.

    Returns
    -------
    (str, dict)
        A class or option without a counterpart is returned as it is; the reader then refuses it by that name.
    """
    config = dict(config)
    if version.framework != "keras1" or class_name not in _KERAS1_ONLY:
        class_name = ALIASES.get(class_name, class_name)
    if class_name in ("CuDNNLSTM", "CuDNNGRU"):
        config.update(activation="tanh", recurrent_activation="sigmoid", use_bias=True)
        class_name = class_name[len("CuDNN") :]
        if class_name == "GRU":
            config["reset_after"] = True
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
    if class_name in (*_KERAS1_GATES, "Dense"):
        config.setdefault("use_bias", True)
    if class_name in _KERAS1_GATES:
        config.pop("input_dim", None)
    if "data_format" in config:
        formats = {"tf": "channels_last", "th": "channels_first"}
        config["data_format"] = formats.get(config["data_format"], config["data_format"])
    if class_name in _KERAS1_KERNELS:
        config["kernel_size"] = [config.pop(name, None) for name in _KERAS1_KERNELS[class_name]]
    if class_name in ("ZeroPadding1D", "ZeroPadding2D"):
        config["padding"] = _keras1_padding(config.get("padding", 1))
    return class_name, config


def _keras1_padding(padding):
    """Zero padding of images, which Keras 1 wrote as (height, width), as four numbers, or by names of the sides."""
    if isinstance(padding, dict):
        left, right = padding.get("left_pad", 0), padding.get("right_pad", 0)
        if "top_pad" not in padding and "bottom_pad" not in padding:
            return [left, right]
        padding = [padding.get("top_pad", 0), padding.get("bottom_pad", 0), left, right]
    if isinstance(padding, (list, tuple)) and len(padding) == 4:
        return [padding[:2], padding[2:]]
    return padding


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
    """Take the arrays of one layer from the front of a Keras 1 list; return (arrays in today's order, the rest).

    Keras 1 stores W U b gate by gate: 12 arrays of an LSTM or ConvLSTM2D (gates i c f o), 9 of a GRU (z r h), 3 of a
    SimpleRNN; or 3 fused ones in today's order if consume_less was "gpu".
    """
    if class_name not in _KERAS1_GATES:
        raise FileFormatError(f"{label}: no rule for the Keras 1 weights of {class_name}")
    order, today = _KERAS1_GATES[class_name]
    if arrays and arrays[0].ndim == 2 and arrays[0].shape[1] == len(order) * units:
        return arrays[:3], arrays[3:]
    count = 3 * len(order)
    if len(arrays) < count:
        raise FileFormatError(f"{label}: {len(arrays)} arrays for a Keras 1 {class_name}; expected {count}")
    by_gate = {gate: arrays[3 * k : 3 * k + 3] for k, gate in enumerate(order)}
    fused = [Stored.joined([by_gate[gate][part] for gate in today]) for part in range(3)]
    return fused, arrays[count:]


def keras1_kernel(class_name, config, kernel):
    """Today's kernel of a convolution, from that of Keras 1; for time that has one more axis.

    Keras 1.0 wrote (F, C, taps, 1), later versions (taps, 1, C, F); that of an image or a volume is (F, C, *taps)
    where channels come first (keras 2.2.4, engine/saving.py, preprocess_weights_for_loading).
    """
    if class_name == "Conv1D" and kernel.ndim == 4:
        first, second, third, last = kernel.shape
        if (first, second) == (*config["kernel_size"], 1) and last == config["filters"]:
            return kernel.converted(lambda array: array[:, 0], (first, third, last))
        return kernel.converted(lambda array: np.transpose(array, (2, 3, 1, 0))[:, 0], (third, second, first))
    if class_name in _KERAS1_KERNELS and kernel.ndim > 3 and config["data_format"] == "channels_first":
        axes = (*range(2, kernel.ndim), 1, 0)
        return kernel.converted(lambda array: np.transpose(array, axes), tuple(kernel.shape[axis] for axis in axes))
    return kernel


def cudnn_kernel(kernel, n_gates):
    """Today's kernel from that of a CuDNN layer, which is transposed gate by gate."""
    return np.concatenate([k.T.reshape(k.shape, order="F") for k in np.split(kernel, n_gates, axis=1)], axis=1)


def cudnn_recurrent_kernel(recurrent_kernel, n_gates):
    """Today's recurrent kernel from that of a CuDNN layer, which is transposed gate by gate."""
    return np.concatenate([k.T for k in np.split(recurrent_kernel, n_gates, axis=1)], axis=1)


def cudnn_lstm_bias(bias):
    """Today's bias of an LSTM (4U) from the two of a CuDNNLSTM, one behind the other (8U)."""
    return bias[: bias.size // 2] + bias[bias.size // 2 :]


def cudnn_gru_bias(bias):
    """Today's bias of a GRU with reset_after (2, 3U) from that of a CuDNNGRU (6U)."""
    return bias.reshape(2, -1)
