"""Matrix products, activations, attention and pooling in vector kernels against NumPy in float64; their largest errors.

On every instruction set; nothing beside the targets is written, and a row has the same bits in every batch.
"""

import functools
import itertools

import numpy as np
import pytest

from fastbilstm import activations
from fastbilstm.tolerances import compare

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import (  # noqa: E402
    ACTIVATIONS,
    Direction,
    Guarded,
    bits,
    compiled,
    make_mask,
    normal,
    same_bits,
    using,
)

EPSILON = 2.0**-24


@pytest.fixture(params=_kernels.isas(), autouse=True)
def isa(request):
    with using(request.param):
        yield request.param


# ---- products -------------------------------------------------------------------------------------------------------


def product(matrix, x, activation=None):
    guarded = Guarded(len(x), matrix.columns)
    assert matrix.product(x, guarded.array, activation) is guarded.array
    guarded.check()
    return guarded.array


def test_product():
    """Sizes beside every edge: of a vector, of a panel of 4, of a block of 256 in depth and of 96 rows."""
    lanes, rng = _kernels.lanes(), np.random.default_rng(0)
    around = sorted({k for edge in (lanes, 4 * lanes) for k in (edge - 1, edge, edge + 1)})
    columns = [0, 1, *around, 9 * lanes + 1]
    cases = [*itertools.product([0, 1, 2, 7], [0, 1, *around, 255, 256, 257, 513], columns)]
    cases += itertools.product([95, 96, 97, 200], [3, 257], [1, 4 * lanes + 1])
    for (rows, depth, n), biased in zip(cases, itertools.cycle([True, False, True])):
        x, kernel = normal(rng, rows, depth), normal(rng, depth, n)
        bias = normal(rng, n) if biased else None
        exact = x.astype(np.float64) @ kernel + (0 if bias is None else bias.astype(np.float64))
        # The bound of a sum in order: (depth + 1) roundings of the sum of magnitudes.
        allowed = (depth + 2) * EPSILON * (np.abs(x) @ np.abs(kernel) + (0 if bias is None else np.abs(bias)))
        y = product(_kernels.Matrix(kernel, bias), x)
        assert (np.abs(y - exact) <= allowed).all(), (rows, depth, n, biased)


def test_layouts_and_dtypes_of_weights():
    """A kernel may be transposed, a view, or of another dtype: it is packed as float32."""
    rng = np.random.default_rng(0)
    kernel, bias, x = normal(rng, 7, 5), normal(rng, 5), normal(rng, 3, 7)
    expected = product(_kernels.Matrix(kernel, bias), x)
    wide = np.repeat(np.repeat(kernel, 2, 0), 3, 1)
    for other in (np.asfortranarray(kernel), kernel.astype(np.float64), wide[::2, ::3], kernel.tolist()):
        same_bits(product(_kernels.Matrix(other, bias.astype(np.float64)), x), expected)
    assert _kernels.Matrix(kernel).nbytes >= kernel.nbytes


def test_a_row_of_a_product_has_the_same_bits_in_every_batch():
    lanes, rng = _kernels.lanes(), np.random.default_rng(1)
    for depth, columns in ((5, 4 * lanes), (300, 6 * lanes + 3), (64, 1)):
        matrix, x = _kernels.Matrix(normal(rng, depth, columns), normal(rng, columns)), normal(rng, 200, depth)
        whole = product(matrix, x)
        for rows in range(1, 21):
            same_bits(product(matrix, x[:rows]), whole[:rows])
            same_bits(product(matrix, x[50 : 50 + rows]), whole[50 : 50 + rows])
        for r in (0, 7, 95, 96, 97, 199):
            same_bits(product(matrix, x[r : r + 1]), whole[r : r + 1])


def test_activation_after_a_product():
    rng = np.random.default_rng(2)
    for rows, columns in ((1, 1), (3, 17), (97, 5)):
        matrix, x = _kernels.Matrix(normal(rng, 6, columns), normal(rng, columns)), normal(rng, rows, 6)
        linear = product(matrix, x)
        same_bits(product(matrix, x, compiled(activations.linear)), linear)
        for name in ("tanh", "sigmoid", "relu", "softmax", "elu, alpha 0.5"):
            expected = linear.copy()
            compiled(ACTIVATIONS[name]).apply(expected)
            same_bits(product(matrix, x, compiled(ACTIVATIONS[name])), expected)


def test_nan_in_a_row_of_a_product():
    rng = np.random.default_rng(3)
    for value, depth in itertools.product((np.nan, np.inf), (7, 300)):
        matrix, x = _kernels.Matrix(np.abs(normal(rng, depth, 70))), normal(rng, 9, depth)
        clean = product(matrix, x)
        x[5, 3] = value
        y = product(matrix, x)
        assert (np.isnan(y[5]) if np.isnan(value) else y[5] == np.inf).all()
        same_bits(np.delete(y, 5, 0), np.delete(clean, 5, 0))


# ---- activations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_apply(name):
    """Rows of odd lengths against NumPy; an element has the same bits wherever it stands."""
    function, rng = ACTIVATIONS[name], np.random.default_rng(len(name))
    for shape in ((1,), (3, 5), (2, 3, 17), (0, 4), (4, 0), (1, 67)):
        x, guarded = normal(rng, *shape, scale=3.0), Guarded(*shape)
        guarded.array[...] = x
        assert compiled(function).apply(guarded.array) is None
        guarded.check()
        if not x.size:
            continue
        k = function(x.astype(np.float64))
        assert (np.abs(guarded.array - k) <= 16 * EPSILON * np.maximum(np.maximum(np.abs(k), np.abs(x)), 1)).all()
        if name not in ("softmax", "log_softmax", "sparsemax"):
            one_by_one = x.reshape(-1, 1).copy()
            compiled(function).apply(one_by_one)
            same_bits(one_by_one.reshape(shape), guarded.array)


def sigmoid64(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


EXACT = {"exponential": np.exp, "tanh": np.tanh, "sigmoid": sigmoid64}
# Units in the last place, as ext/fbl_kernels.h states them: `activate`, and inside `lstm_step`.
LARGEST_ERRORS = {"exponential": 1.1, "tanh": 2.6, "sigmoid": 2.5}


@functools.cache
def sample():
    """Every 1021st float there is (a prime: no bit stays fixed), and every 61st between 2^-7 and 128."""
    every = np.arange(0, 2**32, 1021, dtype=np.uint64).astype(np.uint32).view(np.float32)
    low, high = (int(np.float32(edge).view(np.uint32)) for edge in (2.0**-7, 128.0))
    near = np.arange(low, high, 61, dtype=np.uint32).view(np.float32)
    return np.concatenate([every, near, -near])


@functools.cache
def exact(name):
    with np.errstate(all="ignore"):
        return EXACT[name](sample().astype(np.float64))


def error_in_ulp(y, k):
    """|y - k| in units in the last place of k as a float32."""
    return np.abs(y - k) / np.spacing(np.abs(k).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize("name", EXACT)
def test_largest_error_of(name):
    """Over all floats; NaN, inf, saturation and subnormal results as NumPy has them."""
    x, expected = sample(), exact(name)
    y = x.copy()
    compiled(ACTIVATIONS[name]).apply(y)
    with np.errstate(all="ignore"):
        rounded = expected.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    exactly = np.isinf(rounded) | (rounded == 0) | np.isinf(x)
    np.testing.assert_array_equal(y[exactly & ~np.isnan(x)], rounded[exactly & ~np.isnan(x)])
    rest = ~exactly & ~np.isnan(x)
    error = error_in_ulp(y[rest], expected[rest])
    worst = np.argmax(error)
    assert error[worst] <= LARGEST_ERRORS[name], f"{error[worst]} units in the last place at {x[rest][worst]!r}"


def test_saturation():
    for name, x, y in (
        ("tanh", [9.02, 20, 1e30, np.inf, -9.02, -1e30, -np.inf], [1, 1, 1, 1, -1, -1, -1]),
        ("tanh", [0.0, -0.0, 1e-45, -1e-45], [0.0, -0.0, 1e-45, -1e-45]),
        ("sigmoid", [20, 1e30, np.inf, -np.inf, -1e30], [1, 1, 1, 0, 0]),
        ("exponential", [88.8, 1e30, np.inf, -104, -1e30, -np.inf, 0.0, -0.0], [np.inf] * 3 + [0] * 3 + [1, 1]),
    ):
        z = np.array(x, np.float32)
        compiled(ACTIVATIONS[name]).apply(z)
        same_bits(z, np.array(y, np.float32))
    for name in ("sigmoid", "exponential"):
        z = np.array([-100, -90, -88.5, -103], np.float32)
        compiled(ACTIVATIONS[name]).apply(z)
        k = np.exp([-100, -90, -88.5, -103])
        assert (0 < z).all() and (np.abs(z - k) <= 1.1 * np.finfo(np.float32).smallest_subnormal).all()


# ---- tanh and sigmoid inside the fused step -------------------------------------------------------------------------


def fused(n, c_before=0.0, **gates):
    """One step of n rows of one unit whose pre-activations are given: (h, c)."""
    x, zeros = np.zeros((n, 1, 4), np.float32), np.zeros((n, 1), np.float32)
    for k, gate in enumerate("ifgo"):
        x[:, 0, k] = gates.get(gate, 0)
    states = (zeros, zeros + np.float32(c_before))
    step = Direction(np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32), None, states)
    _, h, c = step.run(x)
    return h[:, 0], c[:, 0]


@functools.cache
def gate_sample():
    """Every 307th float between 2^-13 and 80, and its negative."""
    low, high = (int(np.float32(edge).view(np.uint32)) for edge in (2.0**-13, 80.0))
    x = np.arange(low, high, 307, dtype=np.uint32).view(np.float32)
    return np.concatenate([x, -x])


@functools.cache
def exact_gates():
    x = gate_sample().astype(np.float64)
    return np.tanh(x), sigmoid64(x)


def test_largest_errors_inside_the_fused_step():
    x, n = gate_sample(), len(gate_sample())
    tanh, sigmoid = exact_gates()
    errors = {
        "tanh(g)": error_in_ulp(fused(n, i=100, f=0, g=x, o=0)[1], tanh),
        "sigmoid(i)": error_in_ulp(fused(n, i=x, g=100)[1], sigmoid),
        "sigmoid(f)": error_in_ulp(fused(n, 1.0, i=-100, f=x)[1], sigmoid),
        "sigmoid(o)": error_in_ulp(fused(n, 10.0, i=-100, f=100, o=x)[0], sigmoid),
    }
    g = np.random.default_rng(0).permutation(x)
    h, c = fused(n, i=x, g=g, o=g)
    errors["sigmoid(i) tanh(g)"] = error_in_ulp(c, sigmoid * np.tanh(g.astype(np.float64)))
    errors["sigmoid(o) tanh(c)"] = error_in_ulp(h, sigmoid64(g.astype(np.float64)) * np.tanh(c.astype(np.float64)))
    without_fma = _kernels.isa() == "base"
    tanh_bound = 7.5 if without_fma else 6
    stated = {"tanh(g)": tanh_bound, "sigmoid(f)": 2.6} | dict.fromkeys(["sigmoid(i)", "sigmoid(o)"], 3.5)
    for name, error in errors.items():
        assert error.max() <= stated.get(name, 8), (name, error.max())
    assert errors["tanh(g)"][np.abs(tanh) < 0.8].max() <= 2.6


def test_ends_of_the_gates_inside_the_fused_step():
    big = np.array([9.02, 12, 1e4, 1e30, 3e38], np.float32)
    for sign in (1, -1):
        np.testing.assert_array_equal(fused(5, i=100, g=sign * big)[1], sign)
        # Open gates are exactly 1, closed ones below 2e-36.
        np.testing.assert_array_equal(fused(5, 3.0, i=0, f=big + 20, g=0, o=100)[1], 3)
        low = -big[2:]
        for h, c in (fused(3, 1.0, i=low, f=low, g=sign * 20, o=low), fused(3, i=low, g=sign * 1e-3, o=0)):
            assert (np.abs(c) < 2e-36).all() and (np.abs(h) < 2e-36).all()
    for gate, value in itertools.product(range(4), (np.nan, np.inf, -np.inf)):
        bias = np.array([0.5, 0.5, 0.5, 0.5], np.float32)
        bias[gate] = value
        states = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
        step = Direction(np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32), bias, states)
        x = np.zeros((1, 1, 1), np.float32)
        for y, k in zip(step.run(x), step.specify(x)):
            np.testing.assert_allclose(y, k, rtol=1e-6, atol=2e-36)


# ---- attention and pooling ------------------------------------------------------------------------------------------


def attend(query, value, key, query_mask, value_mask, scale, pooled):
    """The same by NumPy, in the dtype of the arguments."""
    scores = scale * (query @ np.swapaxes(key, 1, 2))
    if value_mask is not None:
        masked = value_mask[:, None] | ~value_mask.any(axis=1)[:, None, None]
        empty = ~value_mask.any(axis=1)[:, None, None]
        scores = np.where(masked, np.where(empty, scores - scores.dtype.type(1e9), scores), -np.inf)
    weights = activations.softmax(scores)
    y = np.zeros((*query.shape[:2], value.shape[2]), value.dtype)
    for b in range(len(y)):
        kept = slice(None) if value_mask is None or not value_mask[b].any() else value_mask[b]
        y[b] = weights[b][:, kept] @ value[b][kept]
    kept = np.ones(query.shape[:2], bool) if query_mask is None else query_mask
    y = np.where(kept[:, :, None], y, 0)
    return y.sum(axis=1) / kept.sum(axis=1, keepdims=True) if pooled else y


@pytest.mark.parametrize("pooled", [False, True])
def test_attention(pooled):
    lanes, rng = _kernels.lanes(), np.random.default_rng(0)
    sizes = [(1, 1, 1, 1), (3, 7, 5, 2), (2, 49, 4 * lanes + 1, lanes), (5, 4, 4 * lanes, 4 * lanes + 3), (2, 97, 3, 9)]
    for (queries, values, depth, width), kinds in itertools.product(
        sizes, [("none", "none"), ("none", "holes"), ("holes", "pre"), ("pre", "every other row"), ("post", "none")]
    ):
        query, value, key = (normal(rng, 4, *s) for s in ((queries, depth), (values, width), (values, depth)))
        masks = make_mask(kinds[0], 4, queries), make_mask(kinds[1], 4, values)
        guarded = Guarded(4, width) if pooled else Guarded(4, queries, width)
        scratch = _kernels.Scratch()
        _kernels.attention(query, value, key, *masks, 0.7, pooled, guarded.array, scratch)
        guarded.check()
        for n_threads in (2, 3, 16):
            shared = np.full_like(guarded.array, np.nan)
            _kernels.attention(query, value, key, *masks, 0.7, pooled, shared, _kernels.Scratch(), n_threads)
            same_bits(shared, guarded.array)
        # 1e9 taken off float32 scores leaves none of their digits: as Keras.
        dtype = np.float32 if kinds[1] == "every other row" else np.float64
        with np.errstate(all="ignore"):
            expected = attend(*(a.astype(dtype) for a in (query, value, key)), *masks, dtype(0.7), pooled)
        result = compare(guarded.array, expected)
        assert result.ok, f"{(queries, values, depth, width)}, masks {kinds}: {result.message}"
        if masks[1] is not None and kinds[1] != "every other row":
            spoiled = np.where(masks[1][:, :, None] | ~masks[1].any(axis=1)[:, None, None], 0, np.nan)
            again = np.full_like(guarded.array, np.nan)
            arrays = query, value + spoiled.astype(np.float32), key + spoiled.astype(np.float32)
            _kernels.attention(*arrays, *masks, 0.7, pooled, again, scratch)
            same_bits(again, guarded.array)
        for b in range(4):
            one = np.full_like(guarded.array[:1], np.nan)
            parts = [None if a is None else a[b : b + 1] for a in (query, value, key, *masks)]
            _kernels.attention(*parts, 0.7, pooled, one, scratch)
            same_bits(one, guarded.array[b : b + 1])


@pytest.mark.parametrize("pooled", [False, True])
def test_attention_of_a_sequence_with_itself(pooled):
    """Half of its scores are copied: the bits are those of a key that is another array."""
    for timesteps, depth, kind in itertools.product((1, 47, 48, 49, 100, 131, 800), (3, 300), ("none", "pre", "holes")):
        x = normal(np.random.default_rng(timesteps), 3, timesteps, depth, scale=0.3)
        mask = make_mask(kind, 3, timesteps)
        y, k = (np.full((3, depth) if pooled else x.shape, np.nan, np.float32) for _ in range(2))
        _kernels.attention(x, x, x, mask, mask, 0.7, pooled, y, _kernels.Scratch())
        for n_threads, key in ((1, x.copy()), (2, x), (3, x), (2, x.copy())):
            _kernels.attention(x, x, key, mask, mask, 0.7, pooled, k, _kernels.Scratch(), n_threads)
            same_bits(y, k)
        with np.errstate(all="ignore"):
            result = compare(y, attend(*[x.astype(np.float64)] * 3, mask, mask, 0.7, pooled))
        assert result.ok, f"{timesteps} timesteps, depth {depth}, mask {kind}: {result.message}"
    for timesteps in (1024, 1025):
        x = normal(np.random.default_rng(0), 1, timesteps, 2)
        y, k = (np.full((1, 2) if pooled else x.shape, np.nan, np.float32) for _ in range(2))
        _kernels.attention(x, x, x, None, None, 1.0, pooled, y, _kernels.Scratch())
        _kernels.attention(x, x, x.copy(), None, None, 1.0, pooled, k, _kernels.Scratch())
        same_bits(y, k)


def test_attention_passes_nan_on():
    rng, y = np.random.default_rng(0), [np.empty((2, 3, 5), np.float32) for _ in range(2)]
    query, value, key = normal(rng, 2, 3, 4), normal(rng, 2, 6, 5), normal(rng, 2, 6, 4)
    _kernels.attention(query, value, key, None, None, 1.0, False, y[0], _kernels.Scratch())
    query[1, 1, 0] = np.nan
    _kernels.attention(query, value, key, None, None, 1.0, False, y[1], _kernels.Scratch())
    assert np.isnan(y[1][1, 1]).all()
    assert (bits(y[0]) != bits(y[1])).sum() == 5
