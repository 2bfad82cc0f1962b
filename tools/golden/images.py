"""Golden models of convolutions, poolings and changes of size, of images, as they stand before a recurrent layer."""

from .convolution import channels_first, each
from .registry import KERAS, TF_KERAS, case, chain, floats

each(
    "shape2",
    "images",
    "ZeroPadding2D, Cropping2D, UpSampling2D, Permute and Reshape of four axes, SpatialDropout2D",
    (4, 5, 2),
    lambda L: [
        L.ZeroPadding2D(1),
        L.ZeroPadding2D((1, 2)),
        L.ZeroPadding2D(((0, 1), (2, 0)), data_format="channels_first"),
        L.Cropping2D(1),
        L.Cropping2D((1, 0)),
        L.Cropping2D(((1, 0), (0, 2))),
        L.Cropping2D(((1, 0), (0, 1)), data_format="channels_first"),
        L.UpSampling2D(2),
        L.UpSampling2D((1, 3), data_format="channels_first"),
        L.Permute((2, 1, 3)),
        L.Permute((3, 1, 2)),
        L.Reshape((4, 10)),
        L.Reshape((-1, 2)),
        L.Reshape((2, 2, 5, 2)),
        L.SpatialDropout2D(0.3),
    ],
)


def bilinear(k, options):
    """Dense layers bring float64 back: Keras interpolates in float32 whatever the dtype of computation."""
    x = k.Input((2, 3, 2))
    sizes = [k.layers.UpSampling2D(size, interpolation="bilinear", **options) for size in (1, (2, 4))]
    return k.Model(x, [k.layers.Dense(1)(layer(x)) for layer in sizes])


for _name, _options in {"bilinear": {}, "bilinear_channels_first": {"data_format": "channels_first"}}.items():
    case(
        "shape2",
        _name,
        "straight lines between the middles of pixels; numbers that float32 holds exactly",
        lambda rng: (rng.integers(-16, 17, (1, 2, 3, 2)) / 4).astype("float32"),
        lambda k, o=_options: bilinear(k, o),
    )

for _padding in ("valid", "same"):
    each(
        "image",
        f"conv2d_{_padding}",
        "Conv2D: kernels, strides and dilation of two axes",
        (4, 5, 2),
        lambda L, p=_padding: [
            L.Conv2D(3, 1, padding=p),
            L.Conv2D(2, (3, 2), padding=p, activation="relu"),
            L.Conv2D(2, (2, 3), strides=(2, 1), padding=p, use_bias=False),
            L.Conv2D(2, 2, strides=2, padding=p),
            L.Conv2D(2, 2, dilation_rate=(2, 3), padding=p),
            L.Conv2D(4, 2, groups=2, padding=p),
        ],
    )
each(
    "image",
    "depthwise2d",
    "DepthwiseConv2D and SeparableConv2D",
    (4, 5, 2),
    lambda L: [
        L.DepthwiseConv2D(3),
        L.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same", strides=2, activation="tanh"),
        L.DepthwiseConv2D(2, dilation_rate=2, use_bias=False),
        L.SeparableConv2D(3, 2, depth_multiplier=2),
        L.SeparableConv2D(2, (3, 2), padding="same", strides=2, use_bias=False),
    ],
)
each(
    "image",
    "transpose2d",
    "Conv2DTranspose: padding, strides, output_padding",
    (2, 3, 2),
    lambda L: [
        L.Conv2DTranspose(2, 3),
        L.Conv2DTranspose(2, (2, 3), strides=(2, 1), padding="same"),
        L.Conv2DTranspose(2, 3, strides=2, output_padding=(0, 1), padding="same", use_bias=False),
        L.Conv2DTranspose(3, 2, strides=3, output_padding=1, activation="tanh"),
    ],
)
each(
    "image",
    "transpose2d_dilated",
    "Conv2DTranspose over dilated windows",
    (2, 3, 2),
    lambda L: [L.Conv2DTranspose(2, 3, dilation_rate=2, padding=p) for p in ("valid", "same")],
    on=(TF_KERAS,),
)
each(
    "image",
    "pooling2d",
    "MaxPooling2D, AveragePooling2D and pooling of whole images",
    (5, 6, 2),
    lambda L: [
        L.MaxPooling2D(2),
        L.MaxPooling2D((2, 1), padding="same"),
        L.MaxPooling2D((1, 3), strides=(2, 1)),
        L.AveragePooling2D(2),
        L.AveragePooling2D((3, 2), strides=1, padding="same"),
        L.AveragePooling2D((1, 2), strides=(2, 2), padding="same"),
        L.GlobalAveragePooling2D(),
        L.GlobalAveragePooling2D(keepdims=True),
        L.GlobalAveragePooling2D(data_format="channels_first"),
        L.GlobalMaxPooling2D(),
        L.GlobalMaxPooling2D(keepdims=True, data_format="channels_first"),
    ],
)
each(
    "image",
    "global1d",
    "pooling of whole sequences that keeps the axis",
    (5, 3),
    lambda L: [
        L.GlobalAveragePooling1D(keepdims=True),
        L.GlobalMaxPooling1D(keepdims=True),
        L.GlobalMaxPooling1D(keepdims=True, data_format="channels_first"),
    ],
)
channels_first(
    "image",
    "channels_first2d",
    "channels before height and width",
    (2, 4, 5),
    lambda L, f: [
        L.Conv2D(4, (3, 2), strides=2, padding="same", data_format=f),
        L.Conv2D(2, 2, dilation_rate=2, activation="tanh", data_format=f),
        L.SeparableConv2D(2, 3, data_format=f),
        L.DepthwiseConv2D(2, depth_multiplier=3, data_format=f),
        L.Conv2DTranspose(2, (3, 2), strides=(1, 2), data_format=f),
        L.MaxPooling2D((2, 3), padding="same", data_format=f),
        L.AveragePooling2D(2, strides=1, padding="same", data_format=f),
    ],
)
case(
    "image",
    "channels_first_softmax",
    "softmax goes along the last axis, whatever the data_format",
    floats(2, 2, 3, 4),
    lambda k: chain(
        k, (2, 3, 4), k.layers.DepthwiseConv2D(2, padding="same", activation="softmax", data_format="channels_first")
    ),
    reference=lambda k: chain(
        k,
        (2, 3, 4),
        k.layers.Permute((2, 3, 1)),
        k.layers.DepthwiseConv2D(2, padding="same"),
        k.layers.Permute((3, 1, 2)),
        k.layers.Activation("softmax"),
    ),
)


def ocr(k, free):
    """A line of text, read from left to right: convolutions, then columns of pixels as timesteps."""
    x = k.Input((None if free else 8, 6, 1))
    y = k.layers.Conv2D(3, 3, padding="same", activation="relu")(x)
    y = k.layers.MaxPooling2D((2, 2))(y)
    y = k.layers.BatchNormalization()(k.layers.Conv2D(4, (3, 3), padding="same", use_bias=False)(y))
    y = k.layers.Activation("relu")(y)
    y = k.layers.MaxPooling2D((1, 3))(y)
    y = k.layers.Reshape((-1, 4) if free else (4, 4))(y)
    y = k.layers.Dense(5, activation="relu")(y)
    y = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True))(y)
    return k.Model(x, k.layers.Dense(5, activation="softmax")(y))


def ocr_permuted(k):
    """The same with height before width, and TimeDistributed(Flatten)."""
    x = k.Input((6, 8, 1))
    y = k.layers.Conv2D(3, (3, 3), activation="relu", strides=(1, 1))(k.layers.ZeroPadding2D((1, 1))(x))
    y = k.layers.SpatialDropout2D(0.2)(k.layers.AveragePooling2D((2, 2), strides=(2, 2))(y))
    y = k.layers.Permute((2, 1, 3))(y)
    y = k.layers.TimeDistributed(k.layers.Flatten())(y)
    y = k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True), merge_mode="sum")(y)
    return k.Model(x, k.layers.Dense(4, activation="softmax")(k.layers.LSTM(3, return_sequences=True)(y)))


case("image", "ocr", "Conv2D, pooling, Reshape, BiLSTM, softmax", floats(2, 8, 6, 1), lambda k: ocr(k, False))
case("image", "ocr_free_width", "lines of any width", floats(2, 10, 6, 1), lambda k: ocr(k, True), on=(TF_KERAS,))
case(
    "image", "ocr_permuted", "Permute and TimeDistributed(Flatten) before the BiLSTM", floats(2, 6, 8, 1), ocr_permuted
)
case(
    "image",
    "frames",
    "a convolution of every frame of a film",
    floats(2, 3, 4, 5, 1),
    lambda k: chain(
        k,
        (3, 4, 5, 1),
        k.layers.TimeDistributed(k.layers.Conv2D(2, 2, activation="relu")),
        k.layers.TimeDistributed(k.layers.MaxPooling2D((1, 2))),
        k.layers.TimeDistributed(k.layers.GlobalAveragePooling2D()),
        k.layers.LSTM(3),
    ),
    on=(KERAS,),
)
