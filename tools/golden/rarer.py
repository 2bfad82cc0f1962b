"""Golden models of rarer layers: poolings of sequences and volumes, ConvLSTM3D, EinsumDense, LocallyConnected2D,
Hashing, and the layers that change images in training alone.
"""

from .convolution import each
from .preprocessing import TEXTS, branches
from .registry import BOTH, KERAS, TF_KERAS, case, fixed, floats


def poolings(k, kind):
    """Poolings of volumes, which TensorFlow does not compute in float64 on a CPU."""
    x, pooling = k.Input((4, 4, 3, 2)), getattr(k.layers, f"{kind}Pooling3D")
    layers = [pooling((1, 2, 2)), pooling((2, 1, 1), strides=(1, 1, 1)), pooling(2, padding="same")]
    return k.Model(x, [layer(x) for layer in layers])


def poolings_of_images(k, kind):
    """The same by two poolings of images: along height and width of each slice, then along depth."""
    x, L = k.Input((4, 4, 3, 2)), k.layers
    pooling = getattr(L, f"{kind}Pooling2D")
    flat = pooling((2, 1), strides=1)(L.Reshape((4, 12, 2))(x))
    both = L.Reshape((4, 4, 2))(L.TimeDistributed(pooling(2, padding="same"))(x))
    both = L.Reshape((2, 2, 2, 2))(pooling((2, 1))(both))
    return k.Model(x, [L.TimeDistributed(pooling(2))(x), L.Reshape((3, 4, 3, 2))(flat), both])


for _kind in ("Max", "Average"):
    case(
        "volume2",
        _kind.lower(),
        "poolings of volumes: size, strides, padding",
        floats(2, 4, 4, 3, 2),
        lambda k, kind=_kind: poolings(k, kind),
        reference=lambda k, kind=_kind: poolings_of_images(k, kind),
    )
each(
    "volume2",
    "conv_lstm",
    "ConvLSTM3D: padding, strides, direction, all timesteps",
    (2, 3, 2, 2, 2),
    lambda L: [
        L.ConvLSTM3D(1, 2, return_sequences=True),
        L.ConvLSTM3D(1, (1, 2, 1), strides=(2, 1, 1), padding="same", go_backwards=True, use_bias=False),
    ],
    on=BOTH,
)
each(
    "volume2",
    "adaptive_1d",
    "adaptive poolings of sequences: windows that overlap, more windows than positions",
    (5, 2),
    lambda L: [L.AdaptiveAveragePooling1D(3), L.AdaptiveAveragePooling1D(7), L.AdaptiveMaxPooling1D(2)],
    on=(KERAS,),
)


def adaptive(k):
    x, L = k.Input((3, 4, 3, 1)), k.layers
    return k.Model(x, [L.AdaptiveAveragePooling3D((2, 3, 1))(x), L.AdaptiveMaxPooling3D((2, 2, 4))(x)])


def adaptive_of_images(k):
    """The same in float64: along height and width of each slice, then along depth."""
    x, L, found = k.Input((3, 4, 3, 1)), k.layers, []
    for kind, (depth, height, width) in (("Average", (2, 3, 1)), ("Max", (2, 2, 4))):
        y = L.TimeDistributed(getattr(L, f"Adaptive{kind}Pooling2D")((height, width)))(x)
        y = getattr(L, f"Adaptive{kind}Pooling1D")(depth)(L.Reshape((3, height * width))(y))
        found.append(L.Reshape((depth, height, width, 1))(y))
    return k.Model(x, found)


_GIVEN = floats(2, 3, 4, 3, 1)
_POOLS = "adaptive poolings of volumes"
case("volume2", "adaptive_3d", _POOLS, _GIVEN, adaptive, on=(KERAS,), reference=adaptive_of_images)
each(
    "volume2",
    "locally_connected",
    "LocallyConnected of two axes: the three shapes of kernels",
    (3, 4, 2),
    lambda L: [
        L.LocallyConnected2D(2, 2),
        L.LocallyConnected2D(1, (2, 3), padding="same", implementation=2, activation="tanh"),
        L.LocallyConnected2D(2, (1, 2), padding="same", implementation=3, use_bias=False),
    ],
    on=(TF_KERAS,),
)
each(
    "einsum",
    "dense",
    "EinsumDense: a matrix, two axes at once, all axes, an ellipsis; bias on one and two axes",
    (4, 3),
    lambda L: [
        L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="tanh"),
        L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
        L.EinsumDense("abc,bcd->ad", 2),
        L.EinsumDense("...x,xy->...y", 2, bias_axes="y"),
    ],
    on=BOTH,
)
NUMBERS = fixed([[1, -5, 0], [99, 7, 1], [12345678901, 2, -1]], "int64")


def hashes(L, **mask):
    return [
        L.Hashing(11),
        L.Hashing(3, salt=133),
        L.Hashing(7, salt=[5, 2**40]),
        L.Hashing(5, **mask),
        L.Hashing(4, output_mode="multi_hot"),
        L.Hashing(4, output_mode="count", salt=1),
    ]


case(
    "hashing",
    "texts",
    "Hashing of texts: salts, a mask value, encodings",
    fixed([[text, text[:9]] for text in TEXTS], "U80"),
    lambda k: branches(k, (2,), lambda L: hashes(L, mask_value=""), dtype="string"),
)
case(
    "hashing",
    "numbers",
    "Hashing of whole numbers: salts, a mask value, encodings",
    NUMBERS,
    lambda k: branches(k, (3,), lambda L: hashes(L, mask_value=7), dtype="int64"),
)


def crossing(k):
    a, b = k.Input((1,), dtype="string"), k.Input((1,), dtype="int64")
    layers = [k.layers.HashedCrossing(19), k.layers.HashedCrossing(5, output_mode="one_hot")]
    return k.Model([a, b], [layer((a, b)) for layer in layers])


CROSSED = [fixed([[text] for text in TEXTS], "U80"), fixed([[n] for n in range(-3, 4)], "int64")]
case("hashing", "crossing", "HashedCrossing of a text and a number", CROSSED, crossing)

# Layers that change images in training alone, with the arguments that they need.
CHANGES = {
    "AugMix": {},
    "CutMix": {},
    "MixUp": {},
    "RandAugment": {},
    "RandomBrightness": {"factor": 0.3},
    "RandomColorDegeneration": {"factor": 0.3},
    "RandomColorJitter": {},
    "RandomContrast": {"factor": 0.3},
    "RandomElasticTransform": {},
    "RandomErasing": {},
    "RandomFlip": {},
    "RandomGaussianBlur": {},
    "RandomGrayscale": {},
    "RandomHeight": {"factor": 0.3},
    "RandomHue": {"factor": 0.3},
    "RandomInvert": {},
    "RandomPerspective": {},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.3},
    "RandomSaturation": {"factor": 0.3},
    "RandomSharpness": {"factor": 0.3},
    "RandomShear": {},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomWidth": {"factor": 0.3},
    "RandomZoom": {"height_factor": 0.2},
    "Solarization": {},
}


# Those that tf_keras does not build in float64.
SHORT = ("RandomHeight", "RandomRotation", "RandomWidth")


def convolution(k, names=()):
    """The layers of these names one behind the other, where the framework has them, and a convolution behind these."""
    x = given = k.Input((4, 4, 3))
    for name in names:
        if hasattr(k.layers, name):
            x = getattr(k.layers, name)(**CHANGES[name])(x)
    return k.Model(given, k.layers.Conv2D(2, 2)(x))


_WHY, _IMAGES = "layers that change images in training alone", floats(2, 4, 4, 3)
case("augmentation", "all", _WHY, _IMAGES, lambda k: convolution(k, CHANGES), on=(KERAS,), form="keras")
_LONG = [name for name in CHANGES if name not in SHORT]
case("augmentation", "all_tf", _WHY, _IMAGES, lambda k: convolution(k, _LONG), on=(TF_KERAS,))
case(
    "augmentation",
    "float32",
    "layers that do nothing at inference and are not built in float64: the answers of the convolution behind them",
    _IMAGES,
    lambda k: convolution(k, SHORT),
    on=(TF_KERAS,),
    reference=convolution,
)
