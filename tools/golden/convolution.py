"""Golden models of convolutions, poolings and changes of size, of sequences.

Most hold many layers side by side, so that a model shows many options in one small file: each has an output.
"""

import numpy as np

from .registry import KERAS, TF_KERAS, case, chain, fixed, floats, ids, padded


def beside(k, shape, make, dtype=None):
    """Every layer of `make(k.layers)` on the same input, each an output."""
    x = k.Input(shape, dtype=dtype)
    return k.Model(x, [layer(x) for layer in make(k.layers)])


def each(family, name, why, shape, make, *, rows=2, on=None, inputs=None, **options):
    options |= {"on": on} if on else {}
    sizes = tuple(size or 7 for size in shape)
    rows = 1 if len(shape) == 3 else rows
    case(family, name, why, inputs or floats(rows, *sizes), lambda k: beside(k, shape, make), **options)


def first(k, shape, make):
    """`make(data_format)` gives layers; here they read channels_first."""
    return beside(k, shape, lambda layers: make(layers, "channels_first"))


def last(k, shape, make):
    """What `first` means where TensorFlow computes it in float64: the channels moved last, and back."""
    x = k.Input(shape)
    back, forth = (*range(2, len(shape) + 1), 1), (len(shape), *range(1, len(shape)))
    y = k.layers.Permute(back)(x)
    return k.Model(x, [k.layers.Permute(forth)(layer(y)) for layer in make(k.layers, "channels_last")])


def channels_first(family, name, why, shape, make, **options):
    case(
        family,
        name,
        why,
        floats(2 if len(shape) == 2 else 1, *shape),
        lambda k: first(k, shape, make),
        reference=lambda k: last(k, shape, make),
        **options,
    )


# ---- convolutions of sequences

for _padding in ("valid", "same", "causal"):
    each(
        "conv",
        f"conv1d_{_padding}",
        "how windows lie, by kernel size, strides, dilation_rate and length",
        (None, 3),
        lambda L, p=_padding: [
            L.Conv1D(2, size, padding=p, strides=strides, dilation_rate=rate)
            for size, strides, rate in (
                *((1, 1, 1), (2, 1, 1), (3, 1, 1), (1, 2, 1), (3, 2, 1), (4, 3, 1), (2, 3, 1)),
                *((2, 1, 2), (3, 1, 3)),
            )
        ],
    )
each(
    "conv",
    "conv1d_even_length",
    "same padding of an even length: the odd zero goes behind",
    (6, 2),
    lambda L: [
        L.Conv1D(2, size, strides=strides, padding="same") for size, strides in ((2, 1), (3, 2), (4, 2), (5, 4), (2, 5))
    ],
)
each(
    "conv",
    "conv1d_options",
    "groups, activations, no bias, and options inference does not need",
    (7, 4),
    lambda L: [
        L.Conv1D(6, 3, groups=2, activation="tanh"),
        L.Conv1D(4, 2, groups=4, padding="causal", strides=2, use_bias=False),
        L.Conv1D(3, 3, activation="softmax"),
        L.Conv1D(3, 3, activation="relu", kernel_regularizer="l2", bias_constraint="non_neg", padding="same"),
        L.Conv1D(3, 1, activity_regularizer="l1", kernel_initializer="he_normal"),
    ],
)
each(
    "conv",
    "separable1d",
    "SeparableConv1D: depth_multiplier, padding, strides, dilation, no bias",
    (7, 3),
    lambda L: [
        L.SeparableConv1D(4, 3),
        L.SeparableConv1D(2, 2, depth_multiplier=2, padding="same", activation="tanh"),
        L.SeparableConv1D(3, 3, strides=2, padding="same", use_bias=False),
        L.SeparableConv1D(3, 2, dilation_rate=2),
    ],
)
each(
    "conv",
    "separable1d_causal",
    "causal padding, which Keras 3 has no more",
    (7, 3),
    lambda L: [L.SeparableConv1D(4, 3, padding="causal"), L.SeparableConv1D(2, 2, padding="causal", dilation_rate=3)],
    on=(TF_KERAS,),
)
each(
    "conv",
    "depthwise1d",
    "DepthwiseConv1D: depth_multiplier, padding, strides, dilation, no bias",
    (7, 3),
    lambda L: [
        L.DepthwiseConv1D(3),
        L.DepthwiseConv1D(2, depth_multiplier=2, padding="same", activation="tanh"),
        L.DepthwiseConv1D(3, strides=2, padding="same", use_bias=False),
        L.DepthwiseConv1D(2, dilation_rate=2),
    ],
)
each(
    "conv",
    "strides_and_dilation",
    "Keras 3.15 strides over dilated windows of depthwise layers",
    (7, 3),
    lambda L: [
        L.DepthwiseConv1D(3, strides=2, dilation_rate=2, padding="same"),
        L.SeparableConv1D(2, 2, strides=2, dilation_rate=3),
    ],
    on=(KERAS,),
)
each(
    "conv",
    "transpose1d",
    "Conv1DTranspose: padding, strides beyond the kernel",
    (4, 3),
    lambda L: [
        L.Conv1DTranspose(2, size, strides=strides, padding=padding)
        for size, strides, padding in (
            *((3, 1, "valid"), (3, 2, "valid"), (1, 3, "valid")),
            *((3, 1, "same"), (3, 2, "same"), (2, 2, "same"), (4, 3, "same")),
        )
    ],
)
each(
    "conv",
    "transpose1d_output_padding",
    "Conv1DTranspose with output_padding, activation, no bias",
    (None, 3),
    lambda L: [
        L.Conv1DTranspose(2, 3, strides=2, output_padding=1),
        L.Conv1DTranspose(2, 3, strides=2, output_padding=0, padding="same", activation="tanh"),
        L.Conv1DTranspose(2, 3, strides=3, output_padding=1, padding="same"),
        L.Conv1DTranspose(2, 2, strides=2, output_padding=1, padding="same", use_bias=False),
    ],
)
channels_first(
    "conv",
    "channels_first1d",
    "channels before time",
    (3, 7),
    lambda L, f: [
        L.Conv1D(2, 3, strides=2, padding="same", data_format=f),
        L.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="tanh", data_format=f),
        L.SeparableConv1D(2, 3, data_format=f),
        L.DepthwiseConv1D(3, depth_multiplier=2, data_format=f),
        L.Conv1DTranspose(2, 3, strides=2, data_format=f),
    ],
)
each(
    "conv",
    "channels_first_bias",
    "as many steps as channels come out: Keras 3.7 and later add the bias along the steps",
    (2, 5),
    lambda L: [
        L.SeparableConv1D(3, 3, data_format="channels_first"),
        L.DepthwiseConv1D(2, depth_multiplier=2, data_format="channels_first"),
        L.DepthwiseConv1D(2, data_format="channels_first"),
    ],
    on=(KERAS,),
)
case(
    "conv",
    "masked",
    "the mask ends at the convolution: the LSTM after it reads the padding",
    padded(3),
    lambda k: chain(k, (None, 3), k.layers.Masking(), k.layers.Conv1D(4, 3, padding="same"), k.layers.LSTM(3)),
)
case(
    "conv",
    "time_distributed",
    "a convolution at every step, and one over a window of characters",
    floats(2, 3, 5, 4),
    lambda k: chain(
        k,
        (3, 5, 4),
        k.layers.TimeDistributed(k.layers.Conv1D(3, 2, padding="causal")),
        k.layers.TimeDistributed(k.layers.MaxPooling1D(2)),
        k.layers.TimeDistributed(k.layers.GlobalMaxPooling1D()),
        k.layers.LSTM(2),
    ),
)


def frozen_block(k, frozen):
    inner = k.Sequential(
        [
            k.Input((7, 3)),
            k.layers.SeparableConv1D(4, 2),
            k.layers.BatchNormalization(),
            k.layers.DepthwiseConv1D(2, depth_multiplier=2),
            k.layers.Conv1DTranspose(3, 2),
        ],
        name="block",
    )
    inner.trainable = not frozen
    inner.layers[2].trainable = frozen
    x = k.Input((7, 3))
    return k.Model(x, k.layers.LSTM(2)(inner(x)))


for _frozen, _form in ((False, "h5"), (True, "h5"), (True, "keras")):
    case(
        "conv",
        f"nested_{'frozen_' * _frozen}{_form}",
        "kernels of several convolutions of a model inside a model, partly frozen: which is which",
        floats(2, 7, 3),
        lambda k, f=_frozen: frozen_block(k, f),
        form=_form,
    )
case(
    "conv",
    "text_cnn",
    "Embedding, Conv1D, MaxPooling1D, LSTM",
    ids(dtype="int32"),
    lambda k: chain(
        k,
        (None,),
        k.layers.Embedding(11, 4),
        k.layers.Dropout(0.2),
        k.layers.Conv1D(5, 3, padding="valid", activation="relu", strides=1),
        k.layers.MaxPooling1D(pool_size=2),
        k.layers.LSTM(4),
        k.layers.Dense(1, activation="sigmoid"),
        dtype="int32",
    ),
)


def text_branches(k):
    """Kim's sentence classifier: windows of three sizes, the strongest answer of each filter."""
    x = k.Input((6,), dtype="int32")
    y = k.layers.Embedding(11, 4, mask_zero=True)(x)
    pooled = [k.layers.GlobalMaxPooling1D()(k.layers.Conv1D(3, n, activation="relu")(y)) for n in (2, 3, 4)]
    return k.Model(x, k.layers.Dense(3, activation="softmax")(k.layers.Concatenate()(pooled)))


case("conv", "text_branches", "parallel windows, GlobalMaxPooling1D, Concatenate", ids(), text_branches)

# ---- pooling of sequences

for _layer in ("MaxPooling1D", "AveragePooling1D"):
    each(
        "pool",
        _layer.lower(),
        "windows by size, strides and padding; averages leave out what lies beyond the ends",
        (7, 3),
        lambda L, n=_layer: [
            getattr(L, n)(2),
            getattr(L, n)(3, strides=1),
            getattr(L, n)(2, strides=3),
            getattr(L, n)(2, padding="same"),
            getattr(L, n)(3, strides=1, padding="same"),
            getattr(L, n)(4, strides=2, padding="same"),
            getattr(L, n)(3, data_format="channels_first", padding="same"),
        ],
    )
    case(
        "pool",
        f"{_layer.lower()}_masked",
        "the mask ends at the pooling",
        padded(3),
        lambda k, n=_layer: chain(
            k, (None, 3), k.layers.Masking(), getattr(k.layers, n)(2), k.layers.LSTM(3, return_sequences=True)
        ),
    )
    each(
        "pool",
        f"{_layer.lower()}_special",
        "NaN and infinities: the maximum takes no NaN",
        (7, 1),
        lambda L, n=_layer: [
            getattr(L, n)(2, strides=1),
            getattr(L, n)(3, strides=2, padding="same"),
        ],
        inputs=fixed([[[v] for v in (-np.inf, 1, np.nan, 2, 4, np.inf, 3)]]),
    )
case(
    "pool",
    "whole_numbers",
    "maxima, zeros and copies of whole numbers are whole numbers",
    lambda rng: rng.integers(-5, 6, (2, 7, 3)).astype("int32"),
    lambda k: beside(
        k,
        (7, 3),
        lambda L: [
            L.MaxPooling1D(2, padding="same"),
            L.GlobalMaxPooling1D(),
            L.ZeroPadding1D(1),
            L.Cropping1D(1),
            L.UpSampling1D(2),
        ],
        "int32",
    ),
)

# ---- sizes of sequences

each(
    "shape2",
    "sequences",
    "ZeroPadding1D, Cropping1D, UpSampling1D",
    (None, 3),
    lambda L: [
        L.ZeroPadding1D(2),
        L.ZeroPadding1D((0, 3)),
        L.Cropping1D(1),
        L.Cropping1D((2, 0)),
        L.Cropping1D((0, 3)),
        L.UpSampling1D(3),
    ],
)
each(
    "shape2",
    "channels_first",
    "Keras 3's ZeroPadding1D of channels_first",
    (3, 6),
    lambda L: [L.ZeroPadding1D((1, 2), data_format="channels_first")],
    on=(KERAS,),
)
for _name, _build in {
    "zero_padding": lambda L: L.ZeroPadding1D((1, 2)),
    "cropping": lambda L: L.Cropping1D((1, 1)),
    "up_sampling": lambda L: L.UpSampling1D(2),
}.items():
    case(
        "shape2",
        f"{_name}_masked",
        "the mask ends here",
        padded(3),
        lambda k, b=_build: chain(k, (6, 3), k.layers.Masking(), b(k.layers), k.layers.LSTM(3)),
    )
case(
    "shape2",
    "padded_ids",
    "ids with zeros before them, on their way to an Embedding",
    ids(),
    lambda k: chain(
        k,
        (6,),
        k.layers.Reshape((6, 1)),
        k.layers.ZeroPadding1D((2, 0)),
        k.layers.Flatten(),
        k.layers.Embedding(11, 3, mask_zero=True),
        k.layers.LSTM(2, return_sequences=True),
        dtype="int32",
    ),
)
