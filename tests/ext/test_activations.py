"""The compiled activations against the NumPy functions, for every instruction set that runs here; their largest errors.

The codes themselves are checked against the C header, the parameters against the functions' options.
"""

import functools
import re
from functools import partial

import numpy as np
import pytest
from paths import ROOT

from fastbilstm import activations
from fastbilstm.activations import kernel_code

pytest.importorskip("scipy", reason="the compiled module needs SciPy")
compiled = pytest.importorskip("fastbilstm._recurrent", reason="needs the compiled module")

HEADER = ROOT / "ext" / "fbl_activations.h"
DTYPES = [np.float32, np.float64]
FUNCTIONS = {f.__name__: f for f in activations.KERNEL_CODES}
OPTIONS = {
    "relu max_value": partial(activations.relu, max_value=1.5),
    "relu max_value threshold below 0": partial(activations.relu, max_value=1.5, threshold=-1.0),
    "relu threshold": partial(activations.relu, threshold=0.5),
    "relu threshold below 0": partial(activations.relu, threshold=-1.0),
    "relu negative_slope": partial(activations.relu, negative_slope=0.3),
    "relu all": partial(activations.relu, max_value=2.0, negative_slope=0.25, threshold=0.5),
    "relu max_value 0": partial(activations.relu, max_value=0.0, negative_slope=0.25),
    "leaky_relu": partial(activations.leaky_relu, negative_slope=0.1),
    "elu": partial(activations.elu, alpha=0.7),
    "celu": partial(activations.celu, alpha=0.7),
    "celu alpha below 0": partial(activations.celu, alpha=-30.0),
    "gelu approximate": partial(activations.gelu, approximate=True),
    "gelu exact": partial(activations.gelu, approximate=False),
    "hard_shrink": partial(activations.hard_shrink, threshold=1.25),
    "soft_shrink": partial(activations.soft_shrink, threshold=1.25),
    "squareplus": partial(activations.squareplus, b=2),
}
ALL = {**FUNCTIONS, **OPTIONS}
OVER_A_ROW = ("softmax", "log_softmax", "sparsemax")
# A difference of nearly equal numbers is in them, in Keras as here: their error is measured against the argument.
CANCELLING = (
    *("tanh_shrink", "squareplus", "gelu", "gelu approximate", "gelu exact", "clip_hard_sigmoid", "log_sigmoid"),
    *("relu negative_slope", "relu all", "relu max_value 0", "celu alpha below 0"),
)


@pytest.fixture(params=compiled.isas(), autouse=True)
def isa(request):
    compiled.use(request.param)
    yield request.param
    compiled.use(compiled.isas()[0])


def run(function, x):
    """The compiled function on the rows of a copy of x."""
    y = np.array(x, order="C", ndmin=2)
    assert compiled.activate(y, kernel_code(function)) is None
    return y.reshape(x.shape)


def specify(function, x, dtype=np.float64):
    with np.errstate(all="ignore"):
        return function(x.astype(dtype))


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in ALL if name not in OVER_A_ROW])
def test_values(name, dtype):
    """Odd lengths, so that every loop has a rest after its vectors; within 4 units in the last place."""
    rng = np.random.default_rng(len(name))
    tiny = np.finfo(dtype).smallest_subnormal
    edges = [0, 0.5, 1, 1.25, 2.5, 3, 6, tiny, 100 * tiny, np.finfo(dtype).smallest_normal, 1e-30, 1e-8, 1e-3, 80]
    for x in (
        np.linspace(-25, 25, 1003),
        rng.standard_normal(517),
        *np.split(np.array([edges, np.negative(edges)]), 2),
    ):
        x = np.ravel(x).astype(dtype)
        y, k = run(ALL[name], x), specify(ALL[name], x)
        assert y.dtype == dtype
        scale = np.maximum(np.abs(k), np.maximum(np.abs(x), 1)) if name in CANCELLING else np.abs(k)
        allowed = 4 * np.spacing(scale.astype(dtype)).astype(np.float64)
        worst = np.argmax(np.abs(y - k) - allowed)
        assert abs(y[worst] - k[worst]) <= allowed[worst], f"{x[worst]!r}: {y[worst]!r}, expected {k[worst]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 2, 3, 8, 17, 64, 301])
@pytest.mark.parametrize("name", OVER_A_ROW)
def test_values_over_a_row(name, units, dtype):
    rng = np.random.default_rng(units)
    for scale in (0.01, 1.0, 30.0):
        x = (scale * rng.standard_normal((3, units))).astype(dtype)
        x[1] = np.round(4 * x[1]) / 4  # ties
        x[2] = 0.25  # all equal
        y, k = run(ALL[name], x), specify(ALL[name], x)
        largest = max(1, np.abs(x).max(), np.abs(k).max())
        np.testing.assert_allclose(y, k, rtol=0, atol=8 * np.finfo(dtype).eps * largest)
        if name != "log_softmax":
            # sparsemax as Keras has it does not add up to one
            assert (y >= 0).all() and (name == "sparsemax" or np.allclose(y.sum(axis=1), 1, atol=1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
def test_nan_inf_and_the_largest_numbers(name, dtype):
    """Whatever NumPy gives in the same dtype: one special value, alone and among others."""
    largest = np.finfo(dtype).max
    values = [np.nan, np.inf, -np.inf, dtype(1e5), dtype(-1e5)]
    if name != "sparsemax":  # where sums overflow, Keras' support has holes
        values += [largest, -largest]
    for value in values:
        for row in ([value], [0.5, value, -0.25, 2.0, 0.75], [value, value, 1.0], [1.0, value, value, value]):
            x = np.array(row, dtype)
            y, k = run(ALL[name], x), specify(ALL[name], x, dtype)
            np.testing.assert_array_equal(np.where(np.isfinite(y), 0, y), np.where(np.isfinite(k), 0, k), f"{row}")
            finite, scale = np.isfinite(k), np.abs(x[np.isfinite(x)]).max(initial=0)
            np.testing.assert_allclose(y[finite], k[finite], rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
def test_result_does_not_depend_on_the_place(name, dtype):
    """An element has the same bits at every place in the row, and a row the same bits in every matrix."""
    x = np.random.default_rng(5).standard_normal((7, 13)).astype(dtype)
    together = run(ALL[name], x)
    for row, expected in zip(x, together, strict=True):
        np.testing.assert_array_equal(run(ALL[name], row), expected)
        if name not in OVER_A_ROW:
            for start in range(13):
                np.testing.assert_array_equal(run(ALL[name], row[start:]), expected[start:])


@pytest.mark.parametrize("dtype, x", [(np.float32, 100.0), (np.float64, 740.0)])
def test_sigmoid_of_very_negative_numbers_is_subnormal(dtype, x):
    (y,) = run(activations.sigmoid, np.array([-x], dtype))
    assert 0 < y < np.finfo(dtype).smallest_normal
    assert abs(float(y) - np.exp(-x)) <= np.finfo(dtype).smallest_subnormal


# ---- largest errors --------------------------------------------------------------------------------------------------


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def exact_elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


# Units in the last place, as stated in ext/fbl_activations.h.
LARGEST_ERRORS = {
    np.float32: {"exponential": 1.1, "tanh": 1.1, "sigmoid": 2.5, "elu": 1.0},
    np.float64: {"exponential": 1.2, "tanh": 1.5, "sigmoid": 2.5, "elu": 1.5},
}
EXACT = {"exponential": np.exp, "tanh": np.tanh, "sigmoid": exact_sigmoid, "elu": exact_elu}


@functools.cache
def sample(dtype):
    """Every 1021st float there is (a prime: no bit stays fixed); as many doubles of all sizes and near zero."""
    if dtype == np.float32:
        return np.arange(0, 2**32, 1021, dtype=np.uint64).astype(np.uint32).view(np.float32)
    rng = np.random.default_rng(0)
    sizes = np.arange(0, 2**64 - 1, 2**64 // 200_003, dtype=np.uint64).view(np.float64)
    near = [rng.uniform(-bound, bound, 200_000) for bound in (0.7, 2.0, 40.0, 750.0)]
    return np.concatenate([sizes, *near])


@functools.cache
def exact(name, dtype):
    """(value in a wider type, value rounded) over the sample."""
    wide = np.float64 if dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        y = EXACT[name](sample(dtype).astype(wide))
        return y, y.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_largest_error_of(name, dtype):
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 60:
        pytest.skip("no type is wider than float64 here")
    x = sample(dtype)
    y = run(FUNCTIONS[name], x)
    expected, rounded = exact(name, dtype)
    nan, infinite = np.isnan(x), np.isinf(rounded)
    assert np.isnan(y[nan]).all() and not np.isnan(y[~nan]).any()
    np.testing.assert_array_equal(y[infinite], rounded[infinite])
    finite = ~nan & ~infinite
    error = np.abs(y[finite] - expected[finite]) / np.spacing(np.abs(rounded[finite])).astype(expected.dtype)
    worst = np.argmax(error)
    bound = LARGEST_ERRORS[dtype][name]
    assert error[worst] <= bound, f"{error[worst]} units in the last place at {x[finite][worst]!r}"


# ---- codes and parameters --------------------------------------------------------------------------------------------


def test_codes_are_those_of_the_header():
    found = dict(re.findall(r"^    FBL_(\w+) = (\d+),?(?: |$)", HEADER.read_text(), re.M))
    ours = {f.__name__.upper(): str(code) for f, code in activations.KERNEL_CODES.items()}
    ours |= {"RELU_OPTIONS": str(activations.RELU_OPTIONS), "GELU_TANH": str(activations.GELU_TANH)}
    assert found.pop("ACTIVATION_COUNT") == str(len(found))
    assert found == ours


def test_every_activation_of_every_version_has_a_code():
    for framework in ("keras1", "keras2", "tf_keras", "keras3"):
        for name in activations._TABLES[framework]:
            found = kernel_code(activations.resolve(name, framework))
            assert (found is None) is (name == "glu"), (framework, name)
    for layer in (["ReLU", {"max_value": 6.0, "threshold": None}], ["LeakyReLU", {}], ["Softmax", {"axis": -1}]):
        assert kernel_code(activations.resolve(layer, "keras3"))


@pytest.mark.parametrize(
    "function, expected",
    [
        (np.tanh, (1, (0.0, 0.0, 0.0))),
        (activations.relu, (3, (0.0, 0.0, 0.0))),
        (partial(activations.relu, max_value=None, negative_slope=0.0, threshold=0.0), (3, (0.0, 0.0, 0.0))),
        (partial(activations.relu, negative_slope=0.3), (11, (float(np.float32(0.3)), 0.0, 0.0))),
        (activations.elu, (6, (1.0, 0.0, 0.0))),
        (activations.leaky_relu, (11, (float(np.float32(0.2)), 0.0, 0.0))),
        (activations.squareplus, (29, (4.0, 0.0, 0.0))),
        (partial(activations.relu, max_value=6, negative_slope=0.5, threshold=1), (10, (6.0, 0.5, 1.0))),
        (partial(activations.softmax, axis=-1), (20, (0.0, 0.0, 0.0))),
        (partial(activations.softmax, axis=[-1]), (20, (0.0, 0.0, 0.0))),
        (partial(activations.softmax, axis=1), None),
        (partial(activations.sparsemax, axis=0), None),
        (partial(activations.relu, 1.0), None),
        (partial(activations.relu, max_value=float("nan")), None),
        (activations.glu, None),
        (np.sin, None),
    ],
)
def test_kernel_code(function, expected):
    assert kernel_code(function) == expected
    assert kernel_code(activations.Activation("given", function)) == expected
