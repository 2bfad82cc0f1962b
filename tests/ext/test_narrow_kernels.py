"""Kernels for narrow weights: one timestep against the specification, sequences against single timesteps, to the bit.

A step in int8 rounds its states to whole numbers, which jump where a state moves by a rounding error: sequences are
compared with the same kernel run for one timestep after the other, whose states are those of the sequence.
"""

import itertools

import numpy as np
import pytest

from fastbilstm import activations
from fastbilstm.engine.weight_forms import codes_of, int8_codes, narrowed
from fastbilstm.layers.narrow import Int8Kernel, convolve, row_codes
from fastbilstm.layers.timesteps import gru_step, lstm_step, simple_rnn_step, unroll
from fastbilstm.layers.windows import count as windows_along
from fastbilstm.layers.windows import margins, padded, reach
from fastbilstm.tolerances import compare

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import CELLS, MASKS, Guarded, make_direction, make_input, make_mask, normal, same_bits, using  # noqa: E402

UNITS = [1, 3, 8, 17, 65, 100, 256]


def kinds():
    """Each instruction set with each kind of products beside it."""
    for isa in _kernels.isas():
        with using(isa):
            yield from [(isa, name) for name in _kernels.dots()]


KINDS = list(kinds())


@pytest.fixture(params=KINDS, ids="-".join, autouse=True)
def kind(request):
    isa, name = request.param
    with using(isa):
        _kernels.use_dots(name)
        yield request.param
        _kernels.use_dots(None)


def make(batch, features, units, cell="lstm", form="int8", **options):
    """A direction with narrow recurrent weights and states in [-1, 1]."""
    part = make_direction(batch, features, units, cell=cell, **options)
    part.recurrent_kernel = narrowed(part.recurrent_kernel, form)
    part.narrow = codes_of(part.recurrent_kernel, form)
    if part.initial_state is not None:
        part.initial_state = (np.tanh(part.initial_state[0]), *part.initial_state[1:])
    return part


def specify_step(part, x):
    """The states after one timestep x (B, 1, F), by the specification in float64."""
    kernel = part.kernel if isinstance(part.kernel, Int8Kernel) else part.kernel.astype(np.float64)
    weights = [kernel, Int8Kernel(*part.narrow), part.bias.astype(np.float64)]
    states = tuple(state.astype(np.float64) for state in part.initial_state)
    x = x[:, 0].astype(np.float64)
    if part.cell == "simple_rnn":
        return simple_rnn_step(x, states, *weights, part.activation)
    functions = part.activation, part.recurrent_activation
    if part.cell == "lstm":
        return lstm_step(x, states, *weights, *functions)
    if CELLS[part.cell][1]:
        weights[2] = np.stack([part.bias, part.recurrent_bias]).astype(np.float64)
    return gru_step(x, states, *weights, *functions, reset_after=CELLS[part.cell][1])


def slack(part, x):
    """How far h may be off: of r h_tm1, which a GRU without reset_after rounds to codes, some lie between two codes."""
    if CELLS[part.cell][1]:
        return 0
    h, columns = part.initial_state[0].astype(np.float64), slice(part.units, 2 * part.units)
    z = x[:, 0].astype(np.float64) @ part.kernel + h @ Int8Kernel(*part.narrow) + part.bias
    reset = part.recurrent_activation(z[:, columns]) * h
    _, largest = row_codes(reset)
    between = np.abs(np.abs(reset * 127 / largest) % 1 - 0.5) < 1e-3
    return between * largest / 127 @ np.abs(part.recurrent_kernel[:, 2 * part.units :])


def agrees(y, k, slack=0):
    result = compare(y, k)
    assert result.ok or (np.abs(y - k) <= slack + 1e-6).all(), result.message


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", UNITS)
def test_one_timestep(units, cell):
    for batch in (1, 2, 5, 33):
        part = make(batch, 7, units, cell)
        assert part.packed().form == "int8"
        x = make_input(batch, 1, 7)
        outputs, *states = part.run(x)
        for y, k in zip(states, specify_step(part, x), strict=True):
            agrees(y, k, slack(part, x))
        same_bits(outputs[:, 0], states[0])


@pytest.mark.parametrize("cell", CELLS)
def test_states_beyond_one_have_a_scale_of_their_own(cell):
    part = make(5, 7, 33, cell)
    h = part.initial_state[0]
    h[0], h[1, 4], h[2, 32], h[3, 0] = 3 * h[0] / np.abs(h[0]).max(), 1.0009, -1e20, 1.002
    x = make_input(5, 1, 7)
    _, *states = part.run(x)
    allowed = np.zeros_like(h) + slack(part, x)
    for y, k in zip(states, specify_step(part, x), strict=True):
        agrees(y[[0, 1, 3, 4]], k[[0, 1, 3, 4]], allowed[[0, 1, 3, 4]])
        assert np.isfinite(y).all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_states_that_are_not_finite_are_never_numbers_again(value, cell):
    part = make(3, 7, 33, cell)
    part.initial_state[0][1, 32] = value
    outputs, h, *_ = part.run(make_input(3, 4, 7))
    assert np.isnan(outputs[1]).all() and np.isnan(h[1]).all()
    assert np.isfinite(outputs[[0, 2]]).all()


def in_single_steps(part, x, mask):
    """(outputs, *states) of a direction run for one timestep after the other."""
    if part.reverse:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    one = make(len(x), x.shape[2], part.units, part.cell)
    one.kernel, one.recurrent_kernel, one.narrow = part.kernel, part.recurrent_kernel, part.narrow

    def step(x, states):
        one.initial_state = states
        return tuple(one.run(np.ascontiguousarray(x[:, np.newaxis]))[1:])

    outputs, _, states = unroll(step, x, mask, part.initial_state)
    return outputs[:, ::-1] if part.reverse != part.flip else outputs, *states


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [1, 17, 65])
def test_sequences_are_single_timesteps(units, cell):
    turned = itertools.cycle([(False, False), (True, False), (True, True)])
    for batch, kind in itertools.product((1, 2, 5, 33), MASKS):
        reverse, flip = next(turned)
        part = make(batch, 7, units, cell, reverse=reverse, flip=flip)
        x, mask = make_input(batch, 5, 7), make_mask(kind, batch, 5)
        y, *states = part.run(x, mask)
        k, *expected = in_single_steps(part, x, mask)
        kept = np.ones((batch, 5), bool) if mask is None else part.placed(mask)
        same_bits(y[kept], k[kept])
        for state, found in zip(states, expected, strict=True):
            same_bits(state, found)


@pytest.mark.parametrize("cell", CELLS)
def test_a_row_has_the_same_bits_in_every_batch(cell):
    part, x = make(33, 7, 100, cell), make_input(33, 4, 7)
    states = part.initial_state
    y, *_ = part.run(x)
    for row in range(0, 33, 4):
        part.initial_state = tuple(state[row : row + 1] for state in states)
        same_bits(part.run(x[row : row + 1])[0][0], y[row])


@pytest.mark.parametrize("cell", CELLS)
def test_an_empty_batch(cell):
    y, h, *_ = make(0, 7, 17, cell).run(make_input(0, 4, 7))
    assert y.shape == (0, 4, 17) and h.shape == (0, 17)


@pytest.mark.parametrize("depth", [1, 7, 16, 300, 1025])
def test_products_of_rows(depth):
    """Rows quantized as they come: of any size, zeros, tiny, not finite."""
    rng = np.random.default_rng(depth)
    for columns in (1, 17, 65, 300):
        kernel = narrowed(normal(rng, depth, columns), "int8")
        bias = normal(rng, columns) if columns % 2 else None
        matrix = _kernels.Matrix(kernel, bias, int8_codes(kernel, 0))
        assert matrix.form == "int8"
        x = normal(rng, 100, depth) * np.float32(10) ** rng.integers(-3, 4, (100, 1)).astype(np.float32)
        x[1], x[2], x[3] = 0, 1e-38, 1e30
        x[4, -1], x[5, 0], x[6, 0] = np.nan, np.inf, 2e-20
        y = matrix.product(x, np.empty((100, columns), np.float32))
        k = x @ Int8Kernel(*int8_codes(kernel, 0), of_states=False) + (0 if bias is None else bias)
        assert np.isnan(y[4:6]).all() and np.isnan(k[4:6]).all()
        for row in (0, 1, 2, 3, *range(6, 100, 7)):
            assert np.abs(y[row] - k[row]).max() <= 1e-6 * max(np.abs(k[row]).max(), 1)
        for count in (1, 2, 5, 33):
            same_bits(matrix.product(x[7 : 7 + count], np.empty((count, columns), np.float32)), y[7 : 7 + count])
        assert matrix.product(x[:0], np.empty((0, columns), np.float32)).shape == (0, columns)


# Sizes of the input, taps, strides, dilation, of one to three axes; padding.
WINDOWS = [
    ((13,), (5,), (1,), (1,), "valid"),
    ((13,), (4,), (3,), (1,), "same"),
    ((60,), (3,), (1,), (7,), "causal"),
    ((8, 9), (3, 3), (1, 1), (1, 1), "same"),
    ((8, 9), (3, 2), (1, 1), (2, 3), "valid"),
    ((4, 5, 6), (2, 3, 1), (1, 2, 3), (1, 1, 1), "same"),
]


# Rows, channels, filters, groups.
CHANNELS = [(1, 1, 1, 1), (2, 9, 65, 1), (3, 6, 8, 2), (2, 70, 17, 1)]


@pytest.mark.parametrize(("batch", "channels", "filters", "groups"), CHANNELS)
@pytest.mark.parametrize(("sizes", "kernel", "strides", "dilation", "padding"), WINDOWS, ids=range(len(WINDOWS)))
def test_windows(sizes, kernel, strides, dilation, padding, batch, channels, filters, groups):
    """A window is a row with a scale of its own: it has the same bits beside others, and NaN only where it sees one."""
    spans = [reach(*axis) for axis in zip(kernel, dilation)]
    counts = [windows_along(*axis, padding) for axis in zip(sizes, spans, strides)]
    before = [margins(*axis, padding)[0] for axis in zip(sizes, spans, strides)]
    windows, rng = tuple(zip(counts, kernel, strides, dilation, before)), np.random.default_rng(2)
    scales = np.float32(10) ** rng.integers(-3, 4, (batch, *sizes, 1)).astype(np.float32)
    x = normal(rng, batch, *sizes, channels) * scales
    weights = narrowed(normal(rng, int(np.prod(kernel)) * channels // groups, filters), "int8")
    bias, narrow = normal(rng, filters), int8_codes(weights, 0)
    parts = list(zip(*(np.split(array, groups, axis=1) for array in (weights, *narrow))))
    matrices = [_kernels.Matrix(part[0], own, part[1:]) for part, own in zip(parts, np.split(bias, groups))]
    kernels = [Int8Kernel(*part[1:], of_states=False) for part in parts]

    def run(x, n_threads=1):
        guarded = Guarded(len(x), *counts, filters)
        _kernels.convolve(x, matrices, guarded.array, windows, _kernels.Scratch(), None, n_threads)
        guarded.check()
        return guarded.array

    def specify(x):
        seen = zip(np.split(padded(x, spans, strides, padding), groups, axis=-1), kernels)
        return np.concatenate([convolve(*one, kernel, strides, dilation) for one in seen], axis=-1) + bias

    y, k = run(x), specify(x)
    np.testing.assert_allclose(y, k, rtol=1e-5, atol=1e-5 * np.abs(k).max(axis=-1).min())
    same_bits(run(x, 3), y)
    same_bits(run(np.ascontiguousarray(x[-1:])), y[-1:])
    x[-1, -1] = np.nan
    z, lost = run(x), np.isnan(specify(x))
    np.testing.assert_array_equal(np.isnan(z), lost)
    same_bits(z[~lost], y[~lost])


def test_wrong_kernels_of_windows():
    kernel = narrowed(normal(np.random.default_rng(0), 6, 4), "int8")
    narrow, wide = _kernels.Matrix(kernel, None, int8_codes(kernel, 0)), _kernels.Matrix(kernel)
    windows, scratch = ((3, 3, 1, 1, 0),), _kernels.Scratch()
    with pytest.raises(ValueError, match="size and form of the others"):
        _kernels.convolve(
            normal(np.random.default_rng(0), 1, 5, 4), [narrow, wide], np.empty((1, 3, 8), np.float32), windows, scratch
        )
    ids, rows = np.zeros((1, 5), np.int32), normal(np.random.default_rng(0), 9, 6)
    with pytest.raises(ValueError, match="tokens: a kernel in int8"):
        _kernels.convolve(ids, [narrow], np.empty((1, 3, 4), np.float32), windows, scratch, tokens=(rows, None))


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_in_int8(cell):
    part = make(33, 19, 17, cell)
    part.kernel = narrowed(part.kernel, "int8")
    x = make_input(33, 6, 19)
    y, *_ = part.run(x)
    part.narrow_kernel = int8_codes(part.kernel, 0)
    states = part.initial_state
    z, *_ = part.run(x)
    assert 1e-5 < np.abs(z - y).max() < 0.05
    for row in (0, 7, 32):
        part.initial_state = tuple(state[row : row + 1] for state in states)
        same_bits(part.run(x[row : row + 1])[0][0], z[row])
    part.initial_state = states
    part.kernel = Int8Kernel(*part.narrow_kernel, of_states=False)
    agrees(z[:, 0], specify_step(part, x[:, :1])[0], slack(part, x[:, :1]))


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
@pytest.mark.parametrize("units", [1, 3, 8, 17, 65, 100])
@pytest.mark.parametrize("cell", CELLS)
def test_halves_have_the_bits_of_floats(cell, units, form):
    """Widening is exact and the sums are the same, of every activation."""
    for batch, activation in ((1, activations.tanh), (2, activations.relu), (33, activations.tanh)):
        part = make(batch, 7, units, cell, form, activation=activation)
        x = make_input(batch, 5, 7)
        narrow = part.packed().form
        assert narrow == form or (narrow == "float32" and form == "float16" and _kernels.isa() == "base")
        y = part.run(x)
        part.narrow = None
        for found, expected in zip(y, part.run(x), strict=True):
            same_bits(found, expected)


@pytest.mark.parametrize("form", ["int8"])
@pytest.mark.parametrize("cell", CELLS)
def test_what_has_no_kernels_computes_in_float32(cell, form):
    unbounded = make(3, 7, 17, cell, form, activation=activations.relu)
    x = make_input(3, 4, 7)
    assert unbounded.packed().form == "float32"
    agrees(unbounded.run(x)[0], unbounded.specify(x)[0])
    gates = make(3, 7, 17, cell, form, recurrent_activation=activations.relu)
    assert gates.packed().form == ("int8" if cell == "simple_rnn" else "float32")


@pytest.mark.parametrize("cell", CELLS)
def test_gates_with_other_activations(cell):
    functions = {"activation": activations.softsign, "recurrent_activation": activations.clip_hard_sigmoid}
    for batch, units in ((1, 65), (5, 33)):
        part, x = make(batch, 7, units, cell, **functions), make_input(batch, 1, 7)
        assert part.packed().form == "int8"
        for y, k in zip(part.run(x)[1:], specify_step(part, x), strict=True):
            agrees(y, k, slack(part, x))


def test_wrong_arguments():
    part = make(1, 7, 5)
    codes, scale = part.narrow
    for narrow, message in (
        ((codes.astype(np.int16), scale), "int16"),
        ((codes[:4], scale), "codes"),
        ((codes, scale[:, :3]), "scale"),
        ((codes, None), "scale"),
    ):
        part.narrow = narrow
        with pytest.raises((ValueError, TypeError), match=message):
            part.packed()
    with pytest.raises(ValueError, match="neverheard"):
        _kernels.use_dots("neverheard")


def test_every_isa_has_products(kind):
    assert kind[1] in _kernels.dots(usable=False)
    part = make(1, 7, 5)
    floats = make_direction(1, 7, 200)
    assert make(1, 7, 200).packed().nbytes < 0.4 * floats.packed().nbytes
    assert part.packed().form == "int8" and normal(np.random.default_rng(0), 1).dtype == np.float32
