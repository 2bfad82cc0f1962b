"""int8 beside normalizations, linear Dense and EinsumDense: the codes of a file stay, products are of whole numbers."""

import numpy as np
import pytest
from built_nets import VOCABULARY, Net, labels

import fastbilstm
from fastbilstm.engine.weight_forms import int8_codes
from fastbilstm.layers.narrow import Int8Kernel

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)


def by_codes(model, name, x, summed=1):
    """What the specification of int8 products gives for a Dense or EinsumDense of a narrowed model, in float64."""
    kernel, bias = (model._tensors[f"{name}/{role}"] for role in ("kernel", "bias"))
    new = kernel.shape[summed:]
    matrix = kernel.reshape(-1, int(np.prod(new)))
    rows = x.reshape(-1, len(matrix)) @ Int8Kernel(*int8_codes(matrix, 0), of_states=False)
    return rows.reshape(*x.shape[: x.ndim - summed], *new) + bias


def normalized(model, name, x):
    weights = {role: model._tensors[f"{name}/{role}"].astype(np.float64) for role in ("gamma", "beta")}
    mean, variance = (model._tensors[f"{name}/moving_{role}"].astype(np.float64) for role in ("mean", "variance"))
    return (x - mean) / np.sqrt(variance + 1e-3) * weights["gamma"] + weights["beta"]


def narrowed(content, **runs):
    """The model in int8, whose layers run as told."""
    model = fastbilstm.load(content, weights="int8")
    found = labels(model)
    assert {name: found[name] for name in runs} == runs
    return model


def check(model, x, expected, allowed=2e-6):
    """Near the expected, and a row has the same bits alone, recorded, and in two threads."""
    y = model.predict(x)
    assert y.shape == expected.shape and np.abs(y - expected).max() < allowed * np.abs(expected).max()
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(x[3:4]), y[3:4])
    np.testing.assert_array_equal(model.predict(x, n_threads=2), y)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_a_normalization_after_a_dense_scales_its_sums(activation):
    net = Net(shape=(None, 20))
    last = net.bn("norm", net.dense("dense", "x", size=20, units=70), size=70)
    if activation == "relu":
        last = net.add("Activation", "relu", last, activation="relu")
    model, x = narrowed(net.content(last), dense="vector, int8", norm="folded"), net.input(9)
    y = normalized(model, "norm", by_codes(model, "dense", x))
    assert (model._tensors["norm/gamma"] < 0).any()
    check(model, x, np.maximum(y, 0) if activation == "relu" else y)
    # What float32 gives for the same weights is farther away.
    wide = fastbilstm.load(net.content(last), weights="int8", backend="numpy").predict(x)
    assert np.abs(model.predict(x) - wide).max() > 1e-4


def test_a_normalization_before_a_large_dense_is_computed_by_itself():
    net = Net(shape=(None, 64))
    before = net.bn("norm", "x", size=64)
    content = net.content(net.dense("dense", before, size=64, units=64))
    model, x = narrowed(content, norm="vector", dense="vector, int8"), net.input(9)
    assert labels(fastbilstm.load(content))["norm"] == "folded"
    first = fastbilstm.load(net.content(before)).predict(x)
    check(model, x, by_codes(model, "dense", first))


@pytest.mark.parametrize(("size", "units"), [(63, 64), (64, 63)])
def test_a_normalization_before_a_small_dense_is_folded_in_float32(size, units):
    net = Net(shape=(None, size))
    content = net.content(net.dense("dense", net.bn("norm", "x", size=size), size=size, units=units))
    model, x = narrowed(content, norm="folded", dense="vector"), net.input(9)
    check(model, x, fastbilstm.load(content, weights="int8", backend="numpy", dtype="float64").predict(x))


@pytest.mark.parametrize(
    ("units", "first", "second"), [(64, "vector, int8", "vector, int8"), (256, "folded", "vector")]
)
def test_a_linear_dense_is_folded_where_that_saves_half_of_the_products(units, first, second):
    net = Net(shape=(None, 128))
    content = net.content(net.dense("second", net.dense("first", "x", 128, units), units, 80))
    assert labels(fastbilstm.load(content))["first"] == "folded"
    model, x = narrowed(content, first=first, second=second), net.input(9)
    if first == "folded":
        expected = fastbilstm.load(content, weights="int8", backend="numpy", dtype="float64").predict(x)
        check(model, x, expected, 5e-6)
    else:
        middle = fastbilstm.load(net.content("first"), weights="int8").predict(x)
        check(model, x, by_codes(model, "second", middle))


def smaller(weights):
    """Kernels that leave gates open."""
    for roles in weights.values():
        for role, array in roles.items():
            array *= 0.2 if "kernel" in role else 1


def test_recurrent_layers_read_codes_of_what_a_normalization_gives():
    net = Net(shape=(None, 64))
    net.bidirectional("both", net.bn("norm", "x", size=64), features=64, units=16)
    content = net.content("both", edit=smaller)
    model, x = narrowed(content, norm="vector", both="vector, int8"), net.input(9)
    wide = fastbilstm.load(content, weights="int8", backend="numpy").predict(x)
    check(model, x, wide, 0.03)
    assert np.abs(model.predict(x) - wide).max() > 1e-4


def test_a_table_of_projections_takes_a_normalization_in():
    net = Net(ids=True)
    net.add("Embedding", "wide", "x", weights={"embeddings": (VOCABULARY, 64)}, input_dim=VOCABULARY, output_dim=64)
    net.lstm("lstm", net.bn("norm", "wide", size=64), features=64, units=16)
    narrowed(net.content("lstm"), wide="in a table of projections", norm="folded", lstm="vector, int8")


def test_what_reads_its_input_alone_in_codes_says_so():
    net = Net(shape=(None, 64))
    net.lstm("small", "x", features=64, units=12)
    model, x = narrowed(net.content("small"), small="vector, int8"), net.input(9)
    wide = fastbilstm.load(net.content("small"), weights="int8", backend="numpy").predict(x)
    assert 1e-4 < np.abs(model.predict(x) - wide).max() < 0.05


def einsum(net, name, on, equation, kernel, bias, **options):
    given = {"equation": equation, "bias_axes": bias, "activation": "linear", "output_shape": [None, 64]} | options
    return net.add("EinsumDense", name, on, weights={"kernel": kernel, "bias": kernel[-len(bias) :]}, **given)


@pytest.mark.parametrize(
    ("equation", "kernel", "summed"),
    [("abcd,de->abce", (12, 70), 1), ("abcd,cdef->abef", (5, 12, 4, 16), 2), ("...cd,cde->...e", (5, 12, 64), 2)],
)
def test_einsum_dense_over_the_last_axes_reads_int8(equation, kernel, summed):
    net = Net(shape=(None, 5, 12))
    bias = equation[-2:] if len(kernel) == 4 else "e"
    last = einsum(net, "product", "x", equation, kernel, bias)
    runs = "vector" if kernel == (12, 70) else "vector, int8"  # rows of 12 numbers gain nothing
    model, x = narrowed(net.content(last), product=runs), net.input(9)
    scales = model._tensors["product/kernel"].reshape(-1, int(np.prod(kernel[summed:])))
    codes = scales / (np.abs(scales).max(axis=0) / 127)
    assert np.abs(codes - np.rint(codes)).max() < 1e-2
    if runs == "vector":
        expected = fastbilstm.load(net.content(last), weights="int8", backend="numpy", dtype="float64").predict(x)
    else:
        expected = by_codes(model, "product", x, summed)
    check(model, x, expected)


def test_einsum_dense_of_other_equations_stays_float32():
    net = Net(shape=(64, 6))
    last = einsum(net, "moved", "x", "abc,cd->adb", (6, 64), "d", output_shape=[64, 64])
    net.weights["moved"]["bias"] = (64, 1)
    model, wide = narrowed(net.content(last), moved="numpy"), fastbilstm.load(net.content(last))
    np.testing.assert_array_equal(model._tensors["moved/kernel"], wide._tensors["moved/kernel"])
    np.testing.assert_array_equal(model.predict(net.input()), wide.predict(net.input()))
