"""Golden models of activations: every name of both frameworks, in Activation and Dense, and the activation layers."""

import numpy as np

from .registry import BOTH, KERAS, TF_KERAS, case, chain, fixed, floats, is_keras3, padded

# Keras 3 also lists "threshold", but that function has no default for its arguments: such a model cannot run.
EVERY = (
    "relu leaky_relu relu6 softmax celu elu selu softplus softsign squareplus soft_shrink sparse_plus silu gelu glu "
    "tanh tanh_shrink sigmoid sparse_sigmoid exponential hard_sigmoid hard_silu hard_tanh hard_shrink "
    "linear mish log_softmax log_sigmoid sparsemax"
).split()
TF_EVERY = (
    "elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax softplus softsign swish tanh".split()
)


def points(rng):
    """Where activations bend, overflow or are flat: the corners, large and small values, noise."""
    corners = [-100, -88, -20, -6.5, -6, -3.01, -3, -2.99, -2.5, -1.01, -1, -0.99, -0.51, -0.5, -0.49, -1e-3]
    corners += [-1e-6, -0.0, 0.0, 1e-6, 1e-3, 0.49, 0.5, 0.51, 0.99, 1, 1.01, 2.5, 2.99, 3, 3.01, 6, 6.5, 20, 40, 80]
    x = np.concatenate([corners, 2 * rng.standard_normal(84)])
    rng.shuffle(x)
    return x.reshape(5, 6, 4).astype(np.float32)


def both_ways(k, name):
    x = k.Input((6, 4))
    dense = k.layers.Dense(5, activation=name)(x) if name != "glu" else x
    return k.Model(x, [k.layers.Activation(name)(x), dense])


for _name in [*EVERY, *sorted(set(TF_EVERY) - set(EVERY))]:
    _on = ((KERAS,) if _name in EVERY else ()) + ((TF_KERAS,) if _name in TF_EVERY else ())
    case(
        "activation",
        _name,
        "Activation and Dense; corners, large and small values",
        points,
        lambda k, a=_name: both_ways(k, a),
        on=_on,
    )


def nan_and_inf(k, names):
    x = k.Input((3,))
    return k.Model(x, [k.layers.Activation(name)(x) for name in names])


# Left out: glu needs an even axis; what NaN does to the rest of a softmax row depends on TensorFlow's vector code.
ROWS = ("glu", "softmax", "log_softmax", "sparsemax")
for _framework, _names in ((KERAS, EVERY), (TF_KERAS, TF_EVERY)):
    case(
        "activation",
        f"nan_and_inf_{_framework}",
        "NaN and inf through every activation",
        fixed([[np.nan, 1, -1], [np.inf, 0, 2], [-np.inf, 0, 2], [1, -2, 0.5]]),
        lambda k, names=tuple(n for n in _names if n not in ROWS): nan_and_inf(k, names),
        on=(_framework,),
    )


# Options are exact in float32: tf_keras rounds them before it writes them.
def relu_layer(k, **options):
    return chain(k, (6, 4), k.layers.ReLU(**options))


for _name, _options in {
    "relu_layer": {},
    "relu_max_value": {"max_value": 1.5},
    "relu_slope": {"negative_slope": 0.25},
    "relu_threshold": {"threshold": 0.5},
    "relu_all": {"max_value": 2.0, "negative_slope": 0.125, "threshold": 0.25},
    "relu_max_threshold": {"max_value": 1.0, "threshold": 0.5},
}.items():
    case("activation_layer", _name, "ReLU", points, lambda k, o=_options: relu_layer(k, **o))


def leaky(k, slope=None):
    if slope is None:
        return k.layers.LeakyReLU()
    return k.layers.LeakyReLU(**{"negative_slope" if is_keras3(k) else "alpha": slope})


case("activation_layer", "leaky_relu", "slope 0.3 by default", points, lambda k: chain(k, (6, 4), leaky(k)))
case("activation_layer", "leaky_relu_slope", "slope", points, lambda k: chain(k, (6, 4), leaky(k, 0.0625)))
case("activation_layer", "elu", "ELU", points, lambda k: chain(k, (6, 4), k.layers.ELU()))
case("activation_layer", "elu_alpha", "ELU(alpha)", points, lambda k: chain(k, (6, 4), k.layers.ELU(alpha=0.375)))
case(
    "activation_layer",
    "thresholded_relu",
    "ThresholdedReLU of tf_keras",
    points,
    lambda k: chain(k, (6, 4), k.layers.ThresholdedReLU(theta=0.5)),
    on=(TF_KERAS,),
)
for _name, _axes in (("prelu", None), ("prelu_shared", [1]), ("prelu_shared_two", [1, 2])):
    case(
        "activation_layer",
        _name,
        "learned slopes, shared along axes",
        points,
        lambda k, a=_axes: chain(k, (6, 4), k.layers.PReLU(shared_axes=a)),
    )
case(
    "activation_layer",
    "prelu_free_length",
    "slopes shared along a free axis",
    points,
    lambda k: chain(k, (None, 4), k.layers.PReLU(shared_axes=[1])),
)
for _name, _axis in (("softmax_layer", -1), ("softmax_axis_1", 1), ("softmax_axes", [1, 2])):
    case(
        "activation_layer",
        _name,
        "Softmax over its axes",
        points,
        lambda k, a=_axis: chain(k, (6, 4), k.layers.Softmax(axis=a)),
    )


def softmax_masked(k, axis=-1):
    """Scores (B, 4) made of a masked sequence, with the mask given in the call."""
    x, keep = k.Input((4,)), k.Input((4,), dtype="bool")
    return k.Model([x, keep], k.layers.Softmax(axis=axis)(x, mask=keep))


MASKS = [[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
case(
    "activation_layer",
    "softmax_mask",
    "Softmax with a mask; where nothing is kept: uniform, zeros in Keras 3.13 and later",
    [floats(4, 4), fixed(MASKS, "bool")],
    softmax_masked,
    on=(*BOTH, "3.0", "3.4", "3.13"),
    tags=("Softmax.mask",),
)
case(
    "activation_layer",
    "softmax_robust",
    "tf_keras' robust_masking",
    [floats(4, 4), fixed(MASKS, "bool")],
    lambda k: softmax_robust(k),
    on=(TF_KERAS,),
    tags=("Softmax.mask",),
)


def softmax_robust(k):
    x, keep = k.Input((4,)), k.Input((4,), dtype="bool")
    return k.Model([x, keep], k.layers.Softmax(robust_masking=True)(x, mask=keep))


def masks_pass(k):
    """Each activation layer hands the mask on: the LSTM at the end skips the padding."""
    layers = [k.layers.ReLU(), leaky(k), k.layers.ELU(), k.layers.PReLU(), k.layers.Activation("tanh")]
    x = k.Input((6, 3))
    masked = k.layers.Masking()(x)
    lstm = k.layers.LSTM(2)
    return k.Model(x, [lstm(layer(masked)) for layer in layers])


case("activation_layer", "masks_pass", "masks travel through activation layers", padded(3), masks_pass)
case(
    "activation_layer",
    "inside_dense",
    "an activation of options given to Dense",
    points,
    lambda k: chain(k, (6, 4), k.layers.Dense(3, activation=leaky(k, 0.125))),
    on=(TF_KERAS,),
    form="keras",
)
