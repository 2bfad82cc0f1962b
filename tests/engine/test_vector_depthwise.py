"""Depthwise, separable and transposed convolutions: kernels and layers against the specification, at odd sizes."""

import numpy as np
import pytest
from built_nets import Net, check

import fastbilstm
from fastbilstm.layers.convolution import convolve_depthwise, convolve_transposed
from fastbilstm.layers.windows import count, margins, padded, reach

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import Guarded, normal, same_bits, using  # noqa: E402

# Sizes of the input, taps, strides, dilation, of one to three axes.
WINDOWS = [
    ((1,), (1,), (1,), (1,)),
    ((13,), (4,), (3,), (1,)),
    ((200,), (3,), (1,), (7,)),
    ((6, 7), (3, 2), (1, 1), (1, 1)),
    ((9, 5), (2, 3), (2, 1), (1, 1)),
    ((8, 9), (3, 3), (1, 1), (2, 3)),
    ((4, 5, 6), (2, 3, 1), (1, 2, 3), (1, 1, 1)),
]


@pytest.fixture(params=_kernels.isas(), autouse=True)
def isa(request):
    with using(request.param):
        yield request.param


def close(y, exact):
    assert y.shape == exact.shape
    assert np.abs(y - exact).max(initial=0) <= 2e-6 * max(1.0, np.abs(exact).max(initial=0))


@pytest.mark.parametrize("sizes, kernel, strides, dilation", WINDOWS, ids=str)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_depthwise(sizes, kernel, strides, dilation, padding):
    rng, spans = np.random.default_rng(0), [reach(*axis) for axis in zip(kernel, dilation)]
    counts = [count(*axis, padding) for axis in zip(sizes, spans, strides)]
    before = [margins(*axis, padding)[0] for axis in zip(sizes, spans, strides)]
    windows = tuple(zip(counts, kernel, strides, dilation, before))
    for batch, channels, biased in ((1, 1, True), (2, 17, False), (3, 65, True), (5, 8, True)):
        x, weights = normal(rng, batch, *sizes, channels), normal(rng, *kernel, channels)
        bias = normal(rng, channels) if biased else None
        wide = padded(x.astype(np.float64), spans, strides, padding)
        exact = convolve_depthwise(wide, weights[..., np.newaxis].astype(np.float64), strides, dilation)
        out, flat = Guarded(batch, *counts, channels), weights.reshape(-1, channels)
        _kernels.convolve_depthwise(x, flat, bias, out.array, windows)
        out.check()
        close(out.array, exact if bias is None else exact + bias)
        alone = np.empty((1, *counts, channels), np.float32)
        same_bits(_kernels.convolve_depthwise(x[-1:].copy(), flat, bias, alone, windows), out.array[-1:])
    for change in (
        {"x": x.astype(np.float64)},
        {"weights": flat[:-1] if len(flat) > 1 else flat[:0]},
        {"weights": flat[:, :3].copy()},
        {"bias": bias[:-1]},
        {"out": out.array[..., :1]},
        {"out": x},
        {"windows": windows * 4},
    ):
        if change.get("out") is x and x.shape != out.array.shape:
            continue
        arguments = {"x": x, "weights": flat, "bias": bias, "out": out.array, "windows": windows} | change
        with pytest.raises(ValueError):
            _kernels.convolve_depthwise(**arguments)


@pytest.mark.parametrize("sizes, kernel, strides, dilation", WINDOWS, ids=str)
@pytest.mark.parametrize("start", [0, 1])
def test_transposed(sizes, kernel, strides, dilation, start):
    rng = np.random.default_rng(0)
    lengths = [n * s + 1 for n, s in zip(sizes, strides)]
    starts = [start] * len(sizes)
    windows = tuple(zip(sizes, kernel, strides, dilation, starts))
    for batch, channels, filters, biased in ((1, 1, 1, True), (2, 3, 17, False), (3, 65, 2, True)):
        x, weights = normal(rng, batch, *sizes, channels), normal(rng, *kernel, filters, channels)
        bias = normal(rng, filters) if biased else None
        wide = [array.astype(np.float64) for array in (x, weights)]
        exact = convolve_transposed(*wide, strides, dilation, lengths, starts)
        matrix = _kernels.Matrix(weights.reshape(-1, channels).T)
        out, scratch = Guarded(batch, *lengths, filters), _kernels.Scratch()
        _kernels.convolve_transposed(x, matrix, bias, out.array, windows, scratch)
        out.check()
        close(out.array, exact if bias is None else exact + bias)
        alone = np.empty((1, *lengths, filters), np.float32)
        same_bits(_kernels.convolve_transposed(x[-1:].copy(), matrix, bias, alone, windows, scratch), out.array[-1:])
    for change in (
        {"x": x[:, :0]},
        {"x": x.astype(np.float64)},
        {"kernel": _kernels.Matrix(np.zeros((channels, 1)))},
        {"bias": bias[:-1]},
        {"windows": windows[:-1]},
    ):
        arguments = {"x": x, "kernel": matrix, "bias": bias, "out": out.array, "windows": windows} | change
        with pytest.raises(ValueError):
            _kernels.convolve_transposed(**arguments, scratch=scratch)


LAYERS = {
    "DepthwiseConv": lambda taps, c: {"depthwise_kernel": (*taps, c, 2), "bias": (2 * c,)},
    "SeparableConv": lambda taps, c: {
        **{"depthwise_kernel": (*taps, c, 2), "pointwise_kernel": (*[1] * len(taps), 2 * c, 5), "bias": (5,)},
    },
    "Transpose": lambda taps, c: {"kernel": (*taps, 5, c), "bias": (5,)},
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_layers(kind, rank, padding, data_format, isa):
    name = f"Conv{rank}DTranspose" if kind == "Transpose" else f"{kind}{rank}D"
    taps, strides = [3, 2][:rank], [2, 2][:rank]
    for channels, activation in ((1, "linear"), (3, "relu"), (17, "softmax")):
        options = {"kernel_size": taps, "strides": strides, "padding": padding, "data_format": data_format}
        options |= {"activation": activation, "use_bias": True, "groups": 1, "dilation_rate": [1] * rank}
        options |= {"filters": 5} if kind != "DepthwiseConv" else {}
        options |= {"depth_multiplier": 2} if kind != "Transpose" else {"output_padding": None}
        spatial = (7, 6)[:rank]
        shape = (channels, *spatial) if data_format == "channels_first" else (*spatial, channels)
        net = Net(shape=shape)
        last = net.add(name, "layer", "x", weights=LAYERS[kind](taps, channels), **options)
        x = net.input(5)
        model = check(net, last, runs={"layer": "vector"}, x=x, rows=5)
        whole = model.predict(x)
        for _ in range(3):
            assert np.array_equal(model.predict(x), whole)
        alone = fastbilstm.load(net.content(last), backend="vector").predict(x[2:3])
        assert np.array_equal(alone, whole[2:3])
