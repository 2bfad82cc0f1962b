"""Elements by themselves, copies by strides, reductions, rows of a table: kernels against NumPy, at odd sizes.

Nothing beside the targets is written, and NaN, inf and subnormal numbers come out as in NumPy. All instruction sets run
the same code; only copies that transpose have code of their own.
"""

import numpy as np
import pytest

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import Guarded, bits, make_mask, normal, same_bits, using  # noqa: E402

from fastbilstm.tolerances import compare  # noqa: E402

SPECIAL = np.array([0, -0.0, 1, -2.5, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, -1e-30], np.float32)


@pytest.fixture(params=_kernels.isas())
def isa(request):
    with using(request.param):
        yield request.param


# ---- elements -------------------------------------------------------------------------------------------------------

FLOATS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "squared_difference": lambda a, b: np.square(a - b),
    "prelu": lambda a, b: np.maximum(a, 0) - b * np.maximum(-a, 0),
    "above": lambda a, b: a * (a > b),
    "divide_no_nan": lambda a, b: np.where(b == 0, np.float32(0), a / b),
}
ALONE = {
    "negative": np.negative,
    "absolute": np.abs,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "reciprocal": lambda a: 1 / a,
    "floor": np.floor,
    "ceil": np.ceil,
    "sign": np.sign,
}
COMPARISONS = {
    **{"equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal},
    **{"greater": np.greater, "greater_equal": np.greater_equal},
}
LOGIC = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
# Shapes of the operands; the result has the shape to which they broadcast.
SHAPES = [
    ((1,), (1,)),
    ((65,), (65,)),
    ((2, 5, 17), (2, 5, 17)),
    ((2, 5, 17), (17,)),
    ((2, 5, 17), (2, 5, 1)),
    ((33, 3), ()),
    ((2, 1, 3, 1, 5), (1, 4, 3, 2, 1)),
    ((1, 8), (3, 1)),
    ((0, 4), (4,)),
    ((), ()),
]


def drawn(rng, shape, kind):
    """An array with special values in it."""
    if kind == "f":
        x = np.array(normal(rng, *shape))
        return np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, shape), x).astype(np.float32)
    if kind == "?":
        return np.array(rng.random(shape) < 0.5)
    dtype = {"i": np.int32, "l": np.int64}[kind]
    return np.array(rng.integers(-2, 3, shape), dtype)


def run(name, operands, expected):
    """The operation into guarded memory, compared with NumPy to the bit (of NaN: that it is one)."""
    out = Guarded(*expected.shape) if expected.dtype == np.float32 else None
    target = np.empty(expected.shape, expected.dtype) if out is None else out.array
    assert _kernels.elementwise(name, tuple(operands), target) is target
    if out is not None:
        out.check()
        same = (bits(target) == bits(expected)) | (np.isnan(target) & np.isnan(expected))
        # -0 or 0 of two zeros: NumPy's own loops differ.
        assert (same | ((target == 0) & (expected == 0))).all()
    else:
        np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("swap", [False, True])
def test_two_operands(shapes, swap):
    rng = np.random.default_rng(0)
    first, second = shapes[::-1] if swap else shapes
    with np.errstate(all="ignore"):
        for name, function in FLOATS.items():
            a, b = drawn(rng, first, "f"), drawn(rng, second, "f")
            run(name, (a, b), np.asarray(function(a, b), np.float32))
        for kind in ("f", "i"):
            for name, function in COMPARISONS.items():
                a, b = drawn(rng, first, kind), drawn(rng, second, kind)
                run(name, (a, b), np.asarray(function(a, b)))
        a, b = drawn(rng, first, "l"), drawn(rng, second, "l")
        run("not_equal", (a, b), np.asarray(a != b))
        for name, function in LOGIC.items():
            a, b = drawn(rng, first, "?"), drawn(rng, second, "?")
            run(name, (a, b), np.asarray(function(a, b)))
        a, b = drawn(rng, first, "f"), drawn(rng, second, "?")
        run("multiply", (a, b), np.asarray(a * b, np.float32))
        run("lower", (a, b), np.asarray(a + (1 - b.astype(np.float32)) * np.float32(-1e9), np.float32))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("order", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0)])
def test_three_operands(shapes, order):
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        a, b, c = (drawn(rng, shapes[k], "f") for k in order)
        mask = drawn(rng, a.shape, "?")
        run("where", (mask, b, c), np.asarray(np.where(mask, b, c)))
        a, b, c = (np.array(normal(rng, *shapes[k])) for k in order)
        y = _kernels.elementwise("multiply_add", (a, b, c), np.empty(np.broadcast(a, b, c).shape, np.float32))
        # Some machines round once.
        exact = a.astype(np.float64) * b + c
        allowed = 2e-7 * (np.abs(a.astype(np.float64) * b) + np.abs(c)) + 1e-40
        assert (np.abs(y - exact) <= allowed).all()


@pytest.mark.parametrize("shape", [(), (1,), (65,), (3, 17), (0, 3)], ids=str)
def test_one_operand(shape):
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        for name, function in ALONE.items():
            x = drawn(rng, shape, "f")
            run(name, (x,), np.asarray(function(x), np.float32))
    mask = drawn(rng, shape, "?")
    run("logical_not", (mask,), np.asarray(~mask))
    run("cast", (mask,), mask.astype(np.float32))
    numbers = drawn(rng, shape, "i")
    run("cast", (numbers,), numbers.astype(np.float32))


def test_every_operation_is_tested():
    tested = {*FLOATS, *ALONE, *COMPARISONS, *LOGIC, "lower", "where", "multiply_add", "logical_not", "cast"}
    assert {name for name, _ in _kernels.OPERATIONS} == tested


def test_a_row_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    x, scale, offset = normal(rng, 33, 5, 19), normal(rng, 19), normal(rng, 19)
    whole = _kernels.elementwise("multiply_add", (x, scale, offset), np.empty_like(x), (1, 2))
    for row in (0, 17, 32):
        alone = np.ascontiguousarray(x[row : row + 1])
        same_bits(
            _kernels.elementwise("multiply_add", (alone, scale, offset), np.empty_like(alone)), whole[row : row + 1]
        )


def test_operands_that_do_not_fit():
    x, out = np.zeros((3, 4), np.float32), np.empty((3, 4), np.float32)
    _kernels.elementwise("add", (x, x), out)
    for name, operands, target in (
        ("nothing", (x, x), out),
        ("add", (x,), out),
        ("add", (x, x.astype(np.float64)), out),
        ("add", (x, x[:, ::2]), out),
        ("add", (x, np.zeros(3, np.float32)), out),
        ("add", (x[np.newaxis], x), out),
        ("add", (x, x), x),
        ("add", (x, x), out[:, :2]),
        ("add", (x, x), np.empty((3, 4), bool)),
        ("less", (x, x), out),
        ("where", (x, x, x), out),
    ):
        with pytest.raises(ValueError):
            _kernels.elementwise(name, operands, target)
    # Nine axes that cannot be walked as fewer.
    many = np.zeros((2, 1) * 5, np.float32)
    with pytest.raises(ValueError, match="axes"):
        _kernels.elementwise("add", (many, np.zeros((1, 2) * 5, np.float32)), np.empty((2,) * 10, np.float32))


# ---- copies ---------------------------------------------------------------------------------------------------------

MOVES = {
    "whole": lambda x: (x, x.shape),
    "turned": lambda x: (x.transpose(*range(x.ndim)[::-1]), x.shape[::-1]),
    "last but one": lambda x: (np.moveaxis(x, 1, -1), np.moveaxis(x, 1, -1).shape),
    "backwards": lambda x: (x[:, ::-1], x.shape),
    "every other": lambda x: (x[..., ::2], x[..., ::2].shape),
    "repeated": lambda x: (np.broadcast_to(x[:, :, np.newaxis], (*x.shape[:2], 3, *x.shape[2:])), None),
    "cropped": lambda x: (x[:, 1:], x[:, 1:].shape),
}


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.float64, bool, np.int8])
@pytest.mark.parametrize("move", MOVES)
def test_copy(dtype, move, isa):
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (2, 3, 17), (5, 33, 8), (33, 65, 16), (2, 3, 4, 5), (3, 2, 1, 17), (2, 40, 70), (0, 2, 3)):
        x = rng.integers(0, 100, shape).astype(dtype)
        view, _ = MOVES[move](x)
        out = np.zeros(view.shape, dtype)
        assert _kernels.copy(x, out, view) is out
        np.testing.assert_array_equal(out, view)
        # Into a part of a larger array, whose other elements stay.
        wide = np.full(tuple(size + 3 for size in view.shape), 7).astype(dtype)
        part = tuple(slice(1, size + 1) for size in view.shape)
        expected = wide.copy()
        expected[part] = view
        _kernels.copy(x, wide, view, wide[part])
        np.testing.assert_array_equal(wide, expected)


def test_copies_that_do_not_fit():
    x, out = np.zeros((3, 4), np.float32), np.empty((3, 4), np.float32)
    shifted = np.lib.stride_tricks.as_strided(x, (3, 5), x.strides)
    for arguments in (
        (x, x),
        (x, out, x[:, :2]),
        (x, out, x[:, :2], out[:, 1:]),
        (x, out, shifted, np.empty((3, 5), np.float32)),
        (x, out, np.zeros((3, 4), np.float32)),
        (x, out, None, np.zeros((3, 4), np.float32)),
        (x, np.empty((3, 4), np.float64)),
        (x.astype(np.float16), out.astype(np.float16)),
        (x[:, ::2], out[:, :2]),
        (None, out),
    ):
        with pytest.raises((ValueError, AttributeError)):
            _kernels.copy(*arguments)


def test_fill():
    for dtype in (np.float32, bool, np.int64):
        out = np.empty((3, 5), dtype)
        assert _kernels.fill(out, 0) is out and not out.any()
    assert _kernels.fill(np.empty(7, bool), 1).all()
    with pytest.raises(ValueError):
        _kernels.fill(np.empty((4, 4), np.float32)[:, ::2], 0)


# ---- reductions -----------------------------------------------------------------------------------------------------


def axes_of(rank):
    return [(a, b) for a in range(rank) for b in range(a + 1, rank + 1)]


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 15, 17), (2, 16, 4), (5, 33, 70), (2, 1000, 3), (2, 3, 4, 5)], ids=str
)
def test_reduce(shape):
    rng = np.random.default_rng(0)
    x, mask = normal(rng, *shape), rng.random(shape) < 0.8
    spoiled = np.where(rng.random(shape) < 0.01, rng.choice(SPECIAL, shape), x).astype(np.float32)
    for first, last in axes_of(len(shape)):
        axis, rest = tuple(range(first, last)), shape[:first] + shape[last:]
        for name, function in (("sum", np.sum), ("mean", np.mean)):
            out = Guarded(*rest)
            _kernels.reduce(name, x, first, last, out.array)
            out.check()
            exact = function(x.astype(np.float64), axis=axis)
            assert (np.abs(out.array - exact) <= 1e-7 * function(np.abs(x.astype(np.float64)), axis=axis)).all()
        for name, function in (("max", np.max), ("min", np.min)):
            out = Guarded(*rest)
            _kernels.reduce(name, spoiled, first, last, out.array)
            out.check()
            np.testing.assert_array_equal(out.array, function(spoiled, axis=axis))
        for name, function in (("any", np.any), ("all", np.all)):
            found = _kernels.reduce(name, mask, first, last, np.empty(rest, bool))
            np.testing.assert_array_equal(found, function(mask, axis=axis))
        if first:
            alone = np.ascontiguousarray(x[-1:])
            whole = _kernels.reduce("mean", x, first, last, np.empty(rest, np.float32))
            one = _kernels.reduce("mean", alone, first, last, np.empty((1, *rest[1:]), np.float32))
            same_bits(one, whole[-1:])


def test_mean_over_kept_timesteps():
    rng = np.random.default_rng(0)
    for batch, timesteps, width in ((1, 1, 1), (3, 15, 17), (2, 16, 4), (5, 33, 70), (2, 1000, 3), (0, 3, 2)):
        x = normal(rng, batch, timesteps, width)
        for kind in ("none", "post", "holes", "every other row"):
            mask, guarded = make_mask(kind, batch, timesteps), Guarded(batch, width)
            kept = np.ones((batch, timesteps), bool) if mask is None else mask
            with np.errstate(all="ignore"):
                expected = np.where(kept[:, :, None], x, 0).sum(axis=1, dtype=np.float64) / kept.sum(1, keepdims=True)
            spoiled = np.where(kept[:, :, None], x, np.float32(np.nan))
            assert _kernels.reduce("mean", spoiled, 1, 2, guarded.array, mask) is guarded.array
            guarded.check()
            assert compare(guarded.array, expected).ok
            for b in range(batch):
                # Neither the other rows nor masked timesteps around it change a row.
                one = np.empty((1, width), np.float32)
                short = np.ascontiguousarray(x[b : b + 1, kept[b]])
                if short.size:
                    part = None if mask is None else np.ones(short.shape[:2], bool)
                    same_bits(_kernels.reduce("mean", short, 1, 2, one, part), guarded.array[b : b + 1])


def test_reductions_that_do_not_fit():
    x, out = np.zeros((3, 4, 5), np.float32), np.empty((3, 5), np.float32)
    _kernels.reduce("sum", x, 1, 2, out)
    keep = np.ones((3, 4), bool)
    for arguments in (
        ("product", x, 1, 2, out),
        ("sum", x, 1, 1, out),
        ("sum", x, -1, 2, out),
        ("sum", x, 2, 4, out),
        ("sum", x, 0, 1, out),
        ("sum", x.astype(np.float64), 1, 2, out),
        ("sum", x[:, ::2], 1, 2, out),
        ("sum", x, 1, 2, out.astype(np.float64)),
        ("any", x, 1, 2, out),
        ("any", x != 0, 1, 2, out != 0, keep),
        ("sum", x, 1, 2, out, keep[:, :3]),
        ("sum", x, 1, 2, out, keep.astype(np.int8)),
        ("sum", x, 1, 2, x[0, :3]),
    ):
        with pytest.raises(ValueError):
            _kernels.reduce(*arguments)


# ---- rows of a table ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_gather(dtype):
    rng = np.random.default_rng(0)
    for shape, width in (((), 3), ((1,), 1), ((2, 5), 17), ((3, 2, 4), 8), ((0, 3), 2), ((4,), 0)):
        table = normal(rng, 11, width)
        ids = np.array(rng.integers(0, 11, shape), dtype)
        guarded = Guarded(*shape, width)
        assert _kernels.gather(table, ids, guarded.array) is guarded.array
        guarded.check()
        same_bits(guarded.array, table[ids.astype(int)])
    for wrong in (-1, 11, *([2.0**40, np.nan, np.inf] if dtype == np.float32 else [np.iinfo(dtype).min])):
        with pytest.raises(ValueError, match="not in the table"):
            _kernels.gather(normal(rng, 11, 3), np.array([1, wrong], dtype), np.empty((2, 3), np.float32))
    if dtype == np.float32:  # as Keras, which cuts off what is behind the point
        y = _kernels.gather(table := normal(rng, 11, 3), np.array([10.9, -0.9], dtype), np.empty((2, 3), np.float32))
        same_bits(y, table[[10, 0]])
    for arguments in (
        (normal(rng, 11, 3), np.zeros(2, np.int16), np.empty((2, 3), np.float32)),
        (normal(rng, 11, 3), np.zeros(2, dtype), np.empty((2, 4), np.float32)),
        (normal(rng, 11), np.zeros(2, dtype), np.empty((2, 3), np.float32)),
        (normal(rng, 11, 4)[:, :3], np.zeros(2, dtype), np.empty((2, 3), np.float32)),
    ):
        with pytest.raises(ValueError):
            _kernels.gather(*arguments)


# ---- products of each row -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
def test_batch_product(transposed, isa):
    rng = np.random.default_rng(0)
    for batch, rows, depth, columns, shared in ((1, 1, 1, 1, False), (2, 5, 3, 17, False), (3, 97, 8, 65, True)):
        a, b = normal(rng, batch, rows, depth), normal(rng, 1 if shared else batch, depth, columns)
        given = np.ascontiguousarray(b.swapaxes(1, 2)) if transposed else b
        out, scratch = Guarded(batch, rows, columns), _kernels.Scratch()
        assert _kernels.batch_product(a, given, out.array, transposed, scratch) is out.array
        out.check()
        exact = a.astype(np.float64) @ b
        assert np.abs(out.array - exact).max() <= 1e-6 * np.abs(exact).max()
        last, alone = given[-1:], np.empty((1, rows, columns), np.float32)
        same_bits(_kernels.batch_product(a[-1:].copy(), last.copy(), alone, transposed, scratch), out.array[-1:])
    for change in ({"a": a[0]}, {"b": given[:, :-1]}, {"out": out.array[:, 1:]}, {"b": np.concatenate([given] * 2)}):
        arguments = {"a": a, "b": given, "out": np.empty((batch, rows, columns), np.float32)} | change
        with pytest.raises(ValueError):
            _kernels.batch_product(**arguments, transposed=transposed, scratch=scratch)
