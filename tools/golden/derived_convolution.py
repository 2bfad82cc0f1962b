"""Derived cases of Keras 1 and 2: convolutions and poolings by the names and in the layouts of then.

Kernels are drawn as nested lists k[tap][channel][filter] (k[row][column][channel][filter] of an image) and written as
that Keras laid them out; the layouts are those keras 2.2.4 converts, engine/saving.py, preprocess_weights_for_loading.
"""

import math

import numpy as np

from . import derived_math as by_hand
from . import old_keras as old
from .derived import derived, each, random_dense

LAYOUT = "keras 2.2.4, keras/engine/saving.py (preprocess_weights_for_loading)"


def random_kernel(rng, *shape):
    return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)


def conv1d(x, kernel, bias, *, same=False, stride=1, rate=1, act=lambda v: v):
    """One sequence x[t][c] through kernel[tap][c][f]: cross-correlation, as TensorFlow has it."""
    span = (len(kernel) - 1) * rate + 1
    if same:
        total = max((math.ceil(len(x) / stride) - 1) * stride + span - len(x), 0)
        zeros = [[0.0] * len(x[0])]
        x = zeros * (total // 2) + x + zeros * (total - total // 2)
    found = []
    for start in range(0, len(x) - span + 1, stride):
        steps = [by_hand.row_times(x[start + k * rate], kernel[k]) for k in range(len(kernel))]
        found.append([act(sum(parts) + b) for *parts, b in zip(*steps, bias, strict=True)])
    return found


def pool1d(x, size, stride, same, take):
    """The numbers of each window that lie within x, through `take`."""
    total = max((math.ceil(len(x) / stride) - 1) * stride + size - len(x), 0) if same else 0
    starts = range(-(total // 2), len(x) + total - total // 2 - size + 1, stride)
    windows = [[x[t] for t in range(start, start + size) if 0 <= t < len(x)] for start in starts]
    return [[take(column) for column in zip(*window, strict=True)] for window in windows]


def mean(values):
    return sum(values) / len(values)


def convolution1d(name, nb_filter, length, *, shape=None, class_name="Convolution1D", **options):
    config = {
        "nb_filter": nb_filter,
        "filter_length": length,
        "init": "glorot_uniform",
        "activation": "linear",
        "border_mode": "valid",
        "subsample_length": 1,
        "W_regularizer": None,
        "b_regularizer": None,
        "activity_regularizer": None,
        "W_constraint": None,
        "b_constraint": None,
        "bias": True,
        "input_dim": None,
        "input_length": None,
    }
    return old.keras1_layer(class_name, name, shape, **(config | options))


def convolution2d(name, nb_filter, rows, columns, dim_ordering, *, shape=None, **options):
    config = {
        "nb_filter": nb_filter,
        "nb_row": rows,
        "nb_col": columns,
        "init": "glorot_uniform",
        "activation": "linear",
        "border_mode": "valid",
        "subsample": [1, 1],
        "dim_ordering": dim_ordering,
        "W_regularizer": None,
        "b_regularizer": None,
        "activity_regularizer": None,
        "W_constraint": None,
        "b_constraint": None,
        "bias": True,
    }
    return old.keras1_layer("Convolution2D", name, shape, **(config | options))


def sequential(path, config, arrays):
    model = {"class_name": "Sequential", "config": config}
    old.write_hdf5(path, model, [(c["config"]["name"], arrays.get(c["config"]["name"], [])) for c in config], "1.2.2")
    return model


def named(name, kernel, bias):
    return [(f"{name}_W:0", kernel), (f"{name}_b:0", bias)]


@derived(
    "keras1_text_cnn",
    "Convolution1D in (taps, 1, C, F), MaxPooling1D with pool_length and stride, LSTM",
    "keras 1.2.2",
    f"keras/layers/convolutional.py (Convolution1D), keras/layers/pooling.py (_Pooling1D); {LAYOUT}",
)
def text_cnn(path, rng):
    kernel, bias = random_kernel(rng, 3, 2, 4), rng.normal(0, 0.5, 4).astype(np.float32)
    lstm = old.lstm_weights(rng, 4, 3)
    config = [
        convolution1d("convolution1d_1", 4, 3, shape=[None, 7, 2], border_mode="same", activation="relu"),
        old.keras1_layer("MaxPooling1D", "maxpooling1d_1", stride=2, pool_length=3, border_mode="valid"),
        old.keras1_lstm("lstm_1", 3),
    ]
    arrays = {
        "convolution1d_1": named("convolution1d_1", kernel[:, None], bias),
        "lstm_1": old.keras1_lstm_arrays("lstm_1", lstm),
    }
    model = sequential(path, config, arrays)
    x = rng.standard_normal((5, 7, 2)).astype(np.float32)

    def answer(row, _):
        y = conv1d(row, kernel.tolist(), bias.tolist(), same=True, act=lambda v: max(v, 0.0))
        return by_hand.lstm(pool1d(y, 3, 2, False, max), lstm)[1]

    return model, [x], [each(x, answer)]


@derived(
    "keras1_sequence_sizes",
    "Keras 1.0's kernel (F, C, taps, 1), subsample_length, atrous_rate, and the layers that change the length",
    "keras 1.2.2",
    f"keras/layers/convolutional.py (AtrousConvolution1D, UpSampling1D, ZeroPadding1D, Cropping1D); {LAYOUT}",
)
def sequence_sizes(path, rng):
    kernel, bias = random_kernel(rng, 2, 2, 3), rng.normal(0, 0.5, 3).astype(np.float32)
    atrous, atrous_bias = random_kernel(rng, 2, 3, 2), rng.normal(0, 0.5, 2).astype(np.float32)
    config = [
        old.keras1_layer("ZeroPadding1D", "zeropadding1d_1", [None, 7, 2], padding=2),
        convolution1d("convolution1d_1", 3, 2, subsample_length=2),
        old.keras1_layer("UpSampling1D", "upsampling1d_1", length=2),
        convolution1d("atrousconvolution1d_1", 2, 2, class_name="AtrousConvolution1D", atrous_rate=3),
        old.keras1_layer("Cropping1D", "cropping1d_1", cropping=[1, 0]),
        old.keras1_layer("AveragePooling1D", "averagepooling1d_1", stride=2, pool_length=2, border_mode="same"),
    ]
    arrays = {
        "convolution1d_1": named("convolution1d_1", np.transpose(kernel, (2, 1, 0))[..., None], bias),
        "atrousconvolution1d_1": named("atrousconvolution1d_1", atrous[:, None], atrous_bias),
    }
    model = sequential(path, config, arrays)
    x = rng.standard_normal((5, 7, 2)).astype(np.float32)

    def answer(row, _):
        zeros = [[0.0, 0.0]] * 2
        y = conv1d(zeros + row + zeros, kernel.tolist(), bias.tolist(), stride=2)
        y = [step for step in y for _ in range(2)]
        y = conv1d(y, atrous.tolist(), atrous_bias.tolist(), rate=3)[1:]
        return pool1d(y, 2, 2, True, mean)

    return model, [x], [each(x, answer)]


def conv2d(x, kernel, bias, act=lambda v: v):
    """One image x[row][column][c] through kernel[row][column][c][f], without padding."""
    height, width = len(kernel), len(kernel[0])
    found = []
    for top in range(len(x) - height + 1):
        line = []
        for left in range(len(x[0]) - width + 1):
            parts = [by_hand.row_times(x[top + i][left + j], kernel[i][j]) for i in range(height) for j in range(width)]
            line.append([act(sum(values) + b) for *values, b in zip(*parts, bias, strict=True)])
        found.append(line)
    return found


def image(path, rng, ordering, padding):
    """ZeroPadding2D, Convolution2D, MaxPooling2D, UpSampling2D, Cropping2D, GlobalAveragePooling2D, Dense."""
    first = ordering == "th"
    kernel, bias = random_kernel(rng, 2, 3, 2, 3), rng.normal(0, 0.5, 3).astype(np.float32)
    dense = random_dense(rng, 3, 2)
    form = {"dim_ordering": ordering}
    shape = [None, 2, 4, 5] if first else [None, 4, 5, 2]
    config = [
        old.keras1_layer("ZeroPadding2D", "zeropadding2d_1", shape, padding=padding, **form),
        convolution2d("convolution2d_1", 3, 2, 3, ordering, activation="tanh"),
        old.keras1_layer(
            "MaxPooling2D", "maxpooling2d_1", pool_size=[2, 1], strides=[2, 1], border_mode="valid", **form
        ),
        old.keras1_layer("UpSampling2D", "upsampling2d_1", size=[1, 2], **form),
        old.keras1_layer("Cropping2D", "cropping2d_1", cropping=[[0, 1], [1, 0]], **form),
        old.keras1_layer("GlobalAveragePooling2D", "globalaveragepooling2d_1", **form),
        old.keras1_dense("dense_1", 2, "softmax"),
    ]
    stored = np.transpose(kernel, (3, 2, 0, 1)) if first else kernel
    arrays = {"convolution2d_1": named("convolution2d_1", stored, bias), "dense_1": named("dense_1", *dense)}
    model = sequential(path, config, arrays)
    x = rng.standard_normal((5, 4, 5, 2)).astype(np.float32)

    def answer(row, _):
        blank = [[0.0, 0.0]]
        row = [blank * 2 + line + blank * 2 for line in row]  # (1, 2): one line above and below, two columns beside
        row = [blank * len(row[0]), *row, blank * len(row[0])]
        y = conv2d(row, kernel.tolist(), bias.tolist(), math.tanh)
        y = [
            [[max(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(y[t], y[t + 1], strict=True)]
            for t in range(0, len(y) - 1, 2)
        ]
        y = [[pixel for pixel in line for _ in range(2)][1:] for line in y][:-1]
        means = [mean(values) for values in zip(*(pixel for line in y for pixel in line), strict=True)]
        return by_hand.softmax(by_hand.dense(means, *dense))

    return model, [np.moveaxis(x, -1, 1) if first else x], [each(x, answer)]


for _name, _ordering, _padding in (
    ("tf", "tf", [1, 2]),
    ("th", "th", [1, 1, 2, 2]),
    ("sides", "th", {"top_pad": 1, "bottom_pad": 1, "left_pad": 2, "right_pad": 2}),
):
    derived(
        f"keras1_image_{_name}",
        "Convolution2D with nb_row and nb_col; dim_ordering th stores (F, C, height, width)",
        "keras 1.2.2",
        f"keras/layers/convolutional.py (Convolution2D, ZeroPadding2D, Cropping2D); {LAYOUT}",
    )(lambda path, rng, o=_ordering, p=_padding: image(path, rng, o, p))


@derived(
    "keras2_text_cnn",
    "Keras 2.0's Conv1D with causal padding; pooling layers without data_format and with plain numbers",
    "keras 2.0.5",
    "keras/layers/convolutional.py (_Conv, Conv1D), keras/layers/pooling.py (_Pooling1D)",
)
def keras2_text_cnn(path, rng):
    kernel, bias = random_kernel(rng, 3, 2, 4), rng.normal(0, 0.5, 4).astype(np.float32)
    config = [
        old.keras2_layer(
            "Conv1D",
            "conv1d_1",
            [None, 7, 2],
            filters=4,
            kernel_size=[3],
            strides=[1],
            padding="causal",
            data_format="channels_last",
            dilation_rate=[2],
            activation="tanh",
            use_bias=True,
            kernel_regularizer=None,
            bias_constraint=None,
        ),
        old.keras2_layer("MaxPooling1D", "max_pooling1d_1", strides=2, pool_size=2, padding="same"),
        old.keras2_layer("GlobalMaxPooling1D", "global_max_pooling1d_1"),
    ]
    model = {"class_name": "Sequential", "config": config}
    arrays = [("conv1d_1/kernel:0", kernel), ("conv1d_1/bias:0", bias)]
    layers = [("conv1d_1", arrays), ("max_pooling1d_1", []), ("global_max_pooling1d_1", [])]
    old.write_hdf5(path, model, layers, "2.0.5")
    x = rng.standard_normal((5, 7, 2)).astype(np.float32)

    def answer(row, _):
        y = conv1d([[0.0, 0.0]] * 4 + row, kernel.tolist(), bias.tolist(), rate=2, act=math.tanh)
        return pool1d(pool1d(y, 2, 2, True, max), 4, 4, False, max)[0]

    return model, [x], [each(x, answer)]
