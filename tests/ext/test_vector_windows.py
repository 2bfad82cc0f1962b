"""Convolutions, poolings, normalization and attention over heads: vector kernels against the specification in float64.

On every instruction set, at odd sizes; nothing beside the targets is written, and a row has the same bits in every
batch and with any number of threads.
"""

import itertools

import numpy as np
import pytest

from fastbilstm.activations import softmax
from fastbilstm.engine.vector_windows import winograd_kernels
from fastbilstm.layers.convolution import convolve
from fastbilstm.layers.multihead import multihead_attention
from fastbilstm.layers.windows import count, margins, padded, reach, taps

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import FUNCTIONS, Guarded, compiled, normal, same_bits, using  # noqa: E402


@pytest.fixture(params=_kernels.isas(), autouse=True)
def isa(request):
    with using(request.param):
        yield request.param


def close(y, exact, allowed=1e-5):
    assert y.shape == exact.shape
    assert np.abs(y - exact).max(initial=0) <= allowed * max(1.0, np.abs(exact).max(initial=0))


# ---- windows --------------------------------------------------------------------------------------------------------

# Sizes of the input, taps, strides, dilation, of one to three axes.
WINDOWS = [
    ((1,), (1,), (1,), (1,)),
    ((13,), (5,), (1,), (1,)),
    ((13,), (4,), (3,), (1,)),
    ((200,), (3,), (1,), (7,)),
    ((97,), (2,), (2,), (1,)),
    ((6, 7), (3, 2), (1, 1), (1, 1)),
    ((9, 5), (2, 3), (2, 1), (1, 1)),
    ((8, 9), (3, 3), (1, 1), (2, 3)),
    ((4, 5, 6), (2, 3, 1), (1, 2, 3), (1, 1, 1)),
]


def window_cases():
    return [
        pytest.param(sizes, kernel, strides, dilation, padding, id=f"{sizes}-{kernel}-{padding}")
        for sizes, kernel, strides, dilation in WINDOWS
        for padding in ("valid", "same", *(["causal"] if len(sizes) == 1 else []))
    ]


def windows_of(sizes, kernel, strides, dilation, padding):
    spans = [reach(*axis) for axis in zip(kernel, dilation)]
    counts = [count(*axis, padding) for axis in zip(sizes, spans, strides)]
    before = [margins(*axis, padding)[0] for axis in zip(sizes, spans, strides)]
    return spans, tuple(zip(counts, kernel, strides, dilation, before))


@pytest.mark.parametrize("sizes, kernel, strides, dilation, padding", window_cases())
def test_convolve(sizes, kernel, strides, dilation, padding):
    spans, windows = windows_of(sizes, kernel, strides, dilation, padding)
    rng = np.random.default_rng(0)
    for batch, channels, filters, groups in ((1, 1, 1, 1), (2, 3, 17, 1), (3, 6, 8, 2), (2, 5, 5, 5), (1, 65, 33, 1)):
        x = normal(rng, batch, *sizes, channels)
        weights, bias = normal(rng, *kernel, channels // groups, filters), normal(rng, filters)
        wide = padded(x.astype(np.float64), spans, strides, padding)
        exact = convolve(wide, weights.astype(np.float64), strides, dilation, groups) + bias
        parts = zip(np.split(weights.reshape(-1, filters), groups, axis=1), np.split(bias, groups))
        matrices = [_kernels.Matrix(*part) for part in parts]
        ys = []
        for n_threads, name in ((1, None), (3, None), (1, "relu"), (1, "softmax")):
            guarded = Guarded(batch, *(window[0] for window in windows), filters)
            function = None if name is None else compiled(FUNCTIONS[name])
            _kernels.convolve(x, matrices, guarded.array, windows, _kernels.Scratch(), function, n_threads)
            guarded.check()
            expected = exact if name is None else np.maximum(exact, 0) if name == "relu" else softmax(exact)
            close(guarded.array, expected)
            ys.append(guarded.array)
        same_bits(ys[1], ys[0])
        alone = np.empty_like(ys[0][-1:])
        _kernels.convolve(np.ascontiguousarray(x[-1:]), matrices, alone, windows, _kernels.Scratch())
        same_bits(alone, ys[0][-1:])


@pytest.mark.parametrize("sizes, kernel, strides, dilation, padding", window_cases())
@pytest.mark.parametrize("mean", [False, True])
def test_pool(sizes, kernel, strides, dilation, padding, mean):
    if padding == "causal" or max(dilation) > 1:
        pytest.skip("no pooling")
    spans, windows = windows_of(sizes, kernel, strides, dilation, padding)
    rng, least = np.random.default_rng(0), np.finfo(np.float32).min
    for batch, channels in ((1, 1), (3, 17), (2, 65)):
        x = normal(rng, batch, *sizes, channels)
        if not mean:
            x[rng.random(x.shape) < 0.2] = np.nan
            x[rng.random(x.shape) < 0.1] = -np.inf

        def parts(a, value):
            return [p for _, p in taps(padded(a, spans, strides, padding, value), kernel, strides, dilation)]

        if mean:
            exact = sum(parts(x.astype(np.float64), 0)) / sum(parts(np.ones((1, *sizes, 1)), 0))
        else:
            exact = np.fmax.reduce([np.full_like(parts(x, least)[0], least), *parts(x, least)])
        guarded = Guarded(batch, *(window[0] for window in windows), channels)
        _kernels.pool(x, guarded.array, windows, mean, 2)
        guarded.check()
        close(guarded.array, exact, 1e-6 if mean else 0)


@pytest.mark.parametrize("sizes, kernel, strides, dilation, padding", window_cases())
@pytest.mark.parametrize("whole", [True, False], ids=["whole windows", "a part of the last"])
def test_convolve_and_pool_together(sizes, kernel, strides, dilation, padding, whole):
    """The bits of the convolution and the pooling one after the other."""
    _, windows = windows_of(sizes, kernel, strides, dilation, padding)
    counts = [window[0] for window in windows]
    rng = np.random.default_rng(0)
    taps_of = [min(2 + axis, size) for axis, size in enumerate(counts)]
    pooling = tuple(
        (size // n if whole else -(-size // n), n, n, 1, 0) for size, n in zip(counts, taps_of) if size // n
    )
    for batch, channels, filters, groups in ((1, 1, 1, 1), (2, 3, 17, 1), (3, 6, 8, 2)):
        x = normal(rng, batch, *sizes, channels)
        parts = np.split(normal(rng, np.prod(kernel) * channels // groups, filters), groups, axis=1)
        matrices, scratch = list(map(_kernels.Matrix, parts)), _kernels.Scratch()
        for mean, name, n_threads in ((False, "relu", 1), (True, "softmax", 1), (False, None, 3)):
            function = None if name is None else compiled(FUNCTIONS[name])
            first = np.empty((batch, *counts, filters), np.float32)
            _kernels.convolve(x, matrices, first, windows, scratch, function)
            expected = np.empty((batch, *(window[0] for window in pooling), filters), np.float32)
            _kernels.pool(first, expected, pooling, mean)
            guarded = Guarded(*expected.shape)
            _kernels.convolve(x, matrices, guarded.array, windows, scratch, function, n_threads, pooling, mean)
            guarded.check()
            same_bits(guarded.array, expected)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (4, 4), (5, 8), (13, 13), (3, 101), (101, 3)], ids=str)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("batch, channels, filters", [(1, 1, 1), (3, 17, 33), (2, 65, 8), (1, 32, 64)])
def test_winograd(sizes, padding, batch, channels, filters):
    """Near float64; the same bits in parts, alone and pooled at once; what is not finite is as it is without."""
    if padding == "valid" and min(sizes) < 3:
        pytest.skip("no window fits")
    spans, windows = windows_of(sizes, (3, 3), (1, 1), (1, 1), padding)
    counts = tuple(window[0] for window in windows)
    rng, scratch = np.random.default_rng(0), _kernels.Scratch()
    x = normal(rng, batch, *sizes, channels)
    kernel, bias = normal(rng, 3, 3, channels, filters), normal(rng, filters)
    exact = convolve(padded(x.astype(np.float64), spans, (1, 1), padding), kernel.astype(np.float64), (1, 1), (1, 1), 1)
    direct, tiles = [_kernels.Matrix(kernel.reshape(-1, filters), bias)], winograd_kernels(kernel)

    def run(x, n_threads=1, winograd=tiles, **pooled):
        shape = tuple(window[0] for window in pooled.get("pooling", windows))
        guarded = Guarded(len(x), *shape, filters)
        relu = compiled(FUNCTIONS["relu"])
        _kernels.convolve(x, direct, guarded.array, windows, scratch, relu, n_threads, winograd=winograd, **pooled)
        guarded.check()
        return guarded.array

    y = run(x)
    close(y, np.maximum(exact + bias, 0))
    same_bits(run(x, 3), y)
    same_bits(run(np.ascontiguousarray(x[-1:])), y[-1:])
    taps_of = [min(3 - axis, size) for axis, size in enumerate(counts)]
    pooling = tuple((-(-size // n), n, n, 1, 0) for size, n in zip(counts, taps_of))
    pooled = np.empty((batch, *(window[0] for window in pooling), filters), np.float32)
    _kernels.pool(y, pooled, pooling, False)
    same_bits(run(x, pooling=pooling), pooled)
    for value in (np.inf, -np.inf, np.nan, 3e38):
        x[rng.integers(batch), rng.integers(sizes[0]), rng.integers(sizes[1]), rng.integers(channels)] = value
    y, expected = run(x), run(x, winograd=None)
    finite = np.isfinite(expected)
    same_bits(y[~finite], expected[~finite])
    assert np.isfinite(y[finite]).all()


def test_winograd_checks_its_kernels():
    kernel, y, scratch = np.ones((3, 3, 4, 8), np.float32), np.empty((1, 5, 5, 8), np.float32), _kernels.Scratch()
    direct, tiles = [_kernels.Matrix(kernel.reshape(-1, 8), None)], winograd_kernels(kernel)
    x, windows = np.ones((1, 7, 7, 4), np.float32), ((5, 3, 1, 1, 0),) * 2
    with pytest.raises(ValueError, match="winograd"):
        _kernels.convolve(x, direct, y, windows, scratch, winograd=tiles[:15])
    with pytest.raises(ValueError, match="winograd kernel 3"):
        wrong = [*tiles[:3], _kernels.Matrix(np.ones((5, 8), np.float32), None), *tiles[4:]]
        _kernels.convolve(x, direct, y, windows, scratch, winograd=wrong)
    with pytest.raises(ValueError, match="winograd"):
        _kernels.convolve(x, direct, y[:, ::2, ::2].copy(), ((3, 3, 2, 1, 0),) * 2, scratch, winograd=tiles)


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("taps_of, stride, dilation", [(2, 1, 1), (5, 1, 1), (3, 2, 1), (3, 1, 4)])
def test_convolve_token_ids(taps_of, stride, dilation, padding):
    """With a table of what each token adds to each tap, and without: the same bits."""
    vocabulary, rng = 11, np.random.default_rng(0)
    spans, windows = windows_of((21,), (taps_of,), (stride,), (dilation,), padding)
    for batch, depth, filters in ((1, 1, 1), (2, 3, 17), (3, 8, 65)):
        ids = rng.integers(0, vocabulary, (batch, 21)).astype(np.int32)
        embeddings, kernel = normal(rng, vocabulary, depth), normal(rng, taps_of, depth, filters)
        bias, scratch = normal(rng, filters), _kernels.Scratch()
        wide = padded(embeddings.astype(np.float64)[ids], spans, (stride,), padding)
        exact = convolve(wide, kernel.astype(np.float64), (stride,), (dilation,), 1) + bias
        matrix = _kernels.Matrix(kernel.transpose(1, 0, 2).reshape(depth, -1))
        table = matrix.product(embeddings, np.empty((vocabulary, taps_of * filters), np.float32))
        ys = []
        for kernels, rows in (([matrix], embeddings), ([], table)):
            for n_threads in (1, 3):
                guarded = Guarded(batch, windows[0][0], filters)
                _kernels.convolve(ids, kernels, guarded.array, windows, scratch, None, n_threads, tokens=(rows, bias))
                guarded.check()
                ys.append(guarded.array)
        close(ys[0], exact)
        for y in ys[1:]:
            same_bits(y, ys[0])
        pooling = ((-(-windows[0][0] // 2), 2, 2, 1, 0),)
        expected = np.empty((batch, pooling[0][0], filters), np.float32)
        _kernels.pool(ys[0], expected, pooling, False)
        for kernels, rows in (([matrix], embeddings), ([], table)):
            y, tokens = np.empty_like(expected), (rows, bias)
            _kernels.convolve(ids, kernels, y, windows, scratch, pooling=pooling, tokens=tokens)
            same_bits(y, expected)


def test_token_ids_that_do_not_fit():
    ids, out = np.zeros((1, 5), np.int32), np.zeros((1, 3, 4), np.float32)
    rows, bias, matrix = np.zeros((7, 2), np.float32), np.zeros(4, np.float32), _kernels.Matrix(np.zeros((2, 12)))
    good = {"x": ids, "kernels": [matrix], "out": out, "windows": ((3, 3, 1, 1, 0),), "tokens": (rows, bias)}
    _kernels.convolve(**good, scratch=_kernels.Scratch())
    for change in (
        {"x": ids + np.int32(7)},
        {"x": ids - np.int32(1)},
        {"x": ids.astype(np.int64)},
        {"x": ids[0]},
        {"kernels": []},
        {"kernels": [matrix] * 2},
        {"kernels": [_kernels.Matrix(np.zeros((3, 12)))]},
        {"kernels": [_kernels.Matrix(np.zeros((2, 11)))]},
        {"kernels": [_kernels.Matrix(np.zeros((2, 12)), np.zeros(12))]},
        {"tokens": (rows, bias[:3])},
        {"tokens": (rows[:0], bias)},
        {"tokens": (rows.astype(np.float64), bias)},
        {"windows": ((3, 2, 1, 1, 0),)},
        {"out": out[:, :, :3]},
    ):
        with pytest.raises(ValueError):
            _kernels.convolve(**(good | change), scratch=_kernels.Scratch())


def test_windows_that_do_not_fit():
    x, out = np.zeros((1, 5, 2), np.float32), np.zeros((1, 3, 4), np.float32)
    matrix, scratch = _kernels.Matrix(np.zeros((6, 4))), _kernels.Scratch()
    good = ((3, 3, 1, 1, 0),)
    _kernels.convolve(x, [matrix], out, good, scratch)
    for change in (
        {"x": x.astype(np.float64)},
        {"x": x[:, :, ::2]},
        {"x": x[0]},
        {"kernels": []},
        {"kernels": [matrix] * 3},
        {"kernels": [_kernels.Matrix(np.zeros((5, 4)))]},
        {"kernels": [_kernels.Matrix(np.zeros((3, 2))), _kernels.Matrix(np.zeros((3, 3)))]},
        {"out": out[:, :2]},
        {"out": x},
        {"windows": ((3, 3, 1, 1, -1),)},
        {"windows": ((3, 3, 0, 1, 0),)},
        {"windows": ((0, 3, 1, 1, 0),)},
        {"windows": good * 2},
        {"windows": ()},
        {"pooling": ((1, 2, 2, 1, 0),)},
        {"pooling": ((3, 1, 2, 1, 0),)},
        {"pooling": ((3, 1, 1, 2, 0),)},
        {"pooling": ((3, 1, 1, 1, 1),)},
        {"pooling": ((3, 2, 2, 1, 0),)},
        {"pooling": ((3, 1, 1, 1, 0),) * 2},
    ):
        arguments = {"x": x, "kernels": [matrix], "out": out, "windows": good} | change
        with pytest.raises(ValueError):
            _kernels.convolve(**arguments, scratch=scratch)
    with pytest.raises(ValueError):
        _kernels.pool(x, out, good, True)
    with pytest.raises(TypeError):
        _kernels.convolve(x, [None], out, good, scratch)


# ---- normalization, joining -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 65, 257])
@pytest.mark.parametrize("keeps_mean, about_zero", [(False, False), (True, False), (True, True)])
def test_normalize(n, keeps_mean, about_zero):
    rng = np.random.default_rng(n)
    for rows, offset in itertools.product((0, 1, 2, 33), (0.0, 100.0)):
        x, gamma, beta = normal(rng, rows, n) + np.float32(offset), normal(rng, n), normal(rng, n)
        wide = x.astype(np.float64)
        mean = 0 if about_zero else wide.mean(axis=1, keepdims=True)
        deviation = np.sqrt(((wide - mean) ** 2).mean(axis=1, keepdims=True) + 1e-3)
        plain = (wide if keeps_mean else wide - mean) / deviation
        for g, b in ((None, None), (gamma, beta), (gamma, None), (None, beta)):
            exact = plain * (1 if g is None else g) + (0 if b is None else b)
            guarded = Guarded(rows, n)
            _kernels.normalize(x, g, b, 1e-3, guarded.array, keeps_mean, about_zero)
            guarded.check()
            close(guarded.array, exact, 1e-6)
            if rows:
                alone = np.empty((1, n), np.float32)
                same_bits(_kernels.normalize(x[-1:], g, b, 1e-3, alone, keeps_mean, about_zero), guarded.array[-1:])
    with pytest.raises(ValueError):
        _kernels.normalize(x, gamma[:-1], None, 1e-3, np.empty_like(x))
    with pytest.raises(ValueError):
        _kernels.normalize(x, gamma, None, 1e-3, x)


def test_concatenate():
    rng = np.random.default_rng(0)
    for lead in ((), (3,), (2, 5), (0, 4)):
        parts = [normal(rng, *lead, n) for n in (1, 17, 3)]
        guarded = Guarded(*lead, 21)
        same_bits(_kernels.concatenate(parts, guarded.array), np.concatenate(parts, axis=-1))
        guarded.check()
    with pytest.raises(ValueError):
        _kernels.concatenate(parts[:2], guarded.array)
    with pytest.raises(ValueError):
        _kernels.concatenate([normal(rng, 3, 21)], guarded.array)


# ---- attention over heads -------------------------------------------------------------------------------------------


def heads_of(x, heads):
    """(B, T, H D) -> (B, H, T, D) in float64."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2).astype(np.float64)


@pytest.mark.parametrize("kind", ["none", "keys", "queries and keys", "causal", "all masked"])
@pytest.mark.parametrize("masked, zeroes", [(None, False), (-1e9, True), (-1e38, False)])
def test_attend_heads(kind, masked, zeroes):
    rng = np.random.default_rng(0)
    sizes = ((1, 1, 1, 1, 1, 1, 1), (2, 3, 5, 3, 1, 8, 2), (3, 50, 17, 4, 4, 3, 5), (2, 7, 65, 6, 2, 17, 1))
    for batch, queries, values, heads, groups, depth, width in sizes:
        q, k = normal(rng, batch, queries, heads * depth), normal(rng, batch, values, groups * depth)
        v, scale = normal(rng, batch, values, groups * width), 0.7
        mask = {
            "none": lambda s: None,
            "keys": lambda s: rng.random((s[0], 1, s[2])) < 0.6,
            "queries and keys": lambda s: rng.random(s) < 0.6,
            "causal": lambda s: np.tril(np.ones((1, s[1], s[2]), bool)),
            "all masked": lambda s: np.zeros((1, 1, s[2]), bool),
        }[kind]((batch, queries, values))

        def weigh(scores, mask=mask):
            if mask is None:
                return softmax(scores)
            wide = mask[:, np.newaxis]
            found = softmax(np.where(wide, scores, scores - 1e9 if masked is None else masked))
            return np.where(wide, found, 0) if zeroes else found

        repeats = heads // groups
        key, value = (np.repeat(heads_of(a, groups), repeats, axis=1) for a in (k, v))
        y, weights = multihead_attention(heads_of(q, heads), value, key, scale, weigh)
        exact = y.swapaxes(1, 2).reshape(batch, queries, heads * width)
        results = []
        for n_threads in (1, 2, 5):
            guarded, shown = Guarded(batch, queries, heads * width), Guarded(batch, heads, queries, values)
            _kernels.attend_heads(
                q, k, v, heads, groups, mask, masked, zeroes, scale, guarded.array, _kernels.Scratch(), None,
                shown.array, n_threads,
            )  # fmt: skip
            guarded.check()
            shown.check()
            # Of scores among -1e9 alone float32 keeps no digit: there the rows are uniform or zero in both.
            if kind != "all masked" or masked is not None:
                close(guarded.array, exact)
                close(shown.array, weights)
            results.append(guarded.array)
        same_bits(results[1], results[0])
        same_bits(results[2], results[0])
        one = np.empty(exact[:1].shape, np.float32)
        first = mask if mask is None or len(mask) == 1 else mask[:1]
        _kernels.attend_heads(q[:1], k[:1], v[:1], heads, groups, first, masked, zeroes, scale, one, _kernels.Scratch())
        same_bits(one, results[0][:1])


def test_additive_scores():
    rng = np.random.default_rng(0)
    for queries, values, depth, width in ((1, 1, 1, 1), (50, 17, 8, 3), (3, 65, 17, 5)):
        q, k, v = normal(rng, 2, queries, depth), normal(rng, 2, values, depth), normal(rng, 2, values, width)
        additive, scale = normal(rng, depth, 1), 0.7
        total = scale * (q[:, :, np.newaxis].astype(np.float64) + k[:, np.newaxis])
        exact = softmax((np.tanh(total) @ additive)[..., 0]) @ v
        guarded = Guarded(2, queries, width)
        matrix = _kernels.Matrix(additive)
        _kernels.attend_heads(
            q, k, v, 1, 1, None, None, False, scale, guarded.array, _kernels.Scratch(), matrix, n_threads=2
        )
        guarded.check()
        close(guarded.array, exact)


def test_heads_that_do_not_fit():
    rng = np.random.default_rng(0)
    q, k, out = normal(rng, 2, 3, 8), normal(rng, 2, 5, 4), np.empty((2, 3, 8), np.float32)
    good = {"query": q, "key": k, "value": k, "heads": 4, "groups": 2, "mask": None, "out": out}
    for change in (
        {"heads": 3},
        {"groups": 3},
        {"groups": 0},
        {"key": k[:, :4]},
        {"value": k[:, :0], "key": k[:, :0]},
        {"out": out[:, :2]},
        {"mask": np.ones((2, 3), bool)},
        {"mask": np.ones((2, 2, 5), bool)},
        {"mask": np.ones((1, 1, 5), np.float32)},
        {"weights": np.empty((2, 4, 3, 4), np.float32)},
        {"additive": _kernels.Matrix(np.ones((3, 1)))},
        {"query": q.astype(np.float64)},
    ):
        with pytest.raises(ValueError):
            _kernels.attend_heads(**good | change, masked=None, zeroes=False, scale=1.0, scratch=_kernels.Scratch())
