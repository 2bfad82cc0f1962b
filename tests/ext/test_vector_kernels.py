"""LSTM, GRU and SimpleRNN over the vector kernels against the specification in float64, on every instruction set.

Every option of `run_recurrent`, what is written and what is not, the same bits for a row in every batch, NaN and inf.
"""

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
    CELLS,
    MASKS,
    UNTOUCHED,
    Guarded,
    bits,
    make_direction,
    make_input,
    make_mask,
    normal,
    same_bits,
    using,
)


@pytest.fixture(params=_kernels.isas(), autouse=True)
def isa(request):
    with using(request.param):
        yield request.param


def assert_agree(y, k, what=""):
    result = compare(y, k)
    assert result.ok, f"{what}: {result.message}"


def assert_outputs(y, k, kept, what=""):
    """Kept places agree, masked ones were not written."""
    if kept is None:
        return assert_agree(y, k, what)
    assert (bits(y[~kept]) == UNTOUCHED).all(), what
    return assert_agree(y[kept], k[kept], what)


# ---- sizes and options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [1, 3, 8, 10, 12, 17, 20, 22, 38, 65])
def test_sizes_and_masks(units, cell):
    """Two directions of different units side by side in a wider array; every other case reads and writes turned."""
    threads = itertools.cycle([1, 2])
    turns = itertools.cycle([(False, False), (True, True), (False, True), (True, False)])
    for batch, timesteps, kind in itertools.product([0, 1, 2, 5, 33], [1, 2, 7], MASKS):
        x, mask = make_input(batch, timesteps, 4), make_mask(kind, batch, timesteps)
        pair = [make_direction(batch, 4, u, name=name, cell=cell) for name, u in (("one", units), ("two", units + 2))]
        pair[0].reverse, pair[0].flip = next(turns)
        pair[1].reverse, pair[1].flip = not pair[0].reverse, pair[0].flip
        guarded = Guarded(batch, timesteps, 2 * units + 7)
        places = [slice(1, 1 + units), slice(3 + units, 5 + 2 * units)]
        rows, n_threads = _kernels.Rows(batch, timesteps, mask), next(threads)
        jobs = [part.job(x, rows, guarded.array, place.start) for part, place in zip(pair, places)]
        finals = _kernels.run_recurrent(jobs, _kernels.Scratch(), n_threads)
        guarded.check(*(guarded.array[:, :, k] for k in (0, 1 + units, 2 + units, -2, -1)))
        silent = _kernels.run_recurrent([part.job(x, rows) for part in pair], _kernels.Scratch(), 3 - n_threads)
        for part, place, final, again in zip(pair, places, finals, silent):
            what = f"batch {batch}, timesteps {timesteps}, mask {kind}, direction {part.name}"
            outputs, *states = part.specify(x, mask)
            assert_outputs(guarded.array[:, :, place], outputs, part.placed(mask), what)
            for y, k, other in zip(final, states, again, strict=True):
                assert y.shape == k.shape and y.flags.owndata
                assert_agree(y, k, what)
                same_bits(y, other)
            if kind == "nothing kept":
                same_bits(final[0], part.initial_state[0])


@pytest.mark.parametrize("merge, operation", [("sum", np.add), ("mul", np.multiply), ("ave", lambda a, b: (a + b) / 2)])
def test_merge_with_what_is_there(merge, operation):
    for units, kind in itertools.product([3, 17], ["none", "holes"]):
        mask, x = make_mask(kind, 5, 4), make_input(5, 4, 6)
        part = make_direction(5, 6, units)
        alone = part.run(x, mask)[0]
        guarded, before = Guarded(5, 4, units + 2), normal(np.random.default_rng(3), 5, 4, units + 2)
        guarded.array[...] = before
        _kernels.run_recurrent([part.job(x, _kernels.Rows(5, 4, mask), guarded.array, 1, merge)], _kernels.Scratch())
        guarded.check()
        expected = before.copy()
        kept = np.ones((5, 4), bool) if mask is None else mask
        expected[kept, 1:-1] = operation(before[kept, 1:-1], alone[kept])
        same_bits(guarded.array, expected)


NONE = {"bias": None, "recurrent_bias": None}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{"bias": None}, {"initial_state": None}, {"initial_state": None, **NONE}])
def test_without_bias_or_states(options, cell):
    x = make_input(3, 5, 2)
    part = make_direction(3, 2, 9, cell=cell)
    for name, value in options.items():
        setattr(part, name, value)
    for y, k in zip(part.run(x), part.specify(x)):
        assert_agree(y, k)


@pytest.mark.parametrize("cell", CELLS)
def test_embeddings_have_the_bits_of_rows_of_floats(cell):
    for units, kind in itertools.product([3, 17], ["none", "pre", "holes"]):
        ids = np.random.default_rng(0).integers(0, 11, (6, 7)).astype(np.int32)
        mask, rows = make_mask(kind, 6, 7), normal(np.random.default_rng(1), 11, 5)
        part = make_direction(6, 5, units, reverse=True, cell=cell)
        expected = part.run(rows[ids], mask)
        for project in (False, True):
            part.embeddings, part.project = rows, project
            for y, k in zip(part.run(ids, mask), expected):
                same_bits(y, k)
        for y, k in zip(expected[1:], part.specify(ids, mask)[1:]):
            assert_agree(y, k)


@pytest.mark.parametrize("cell", CELLS)
def test_floats_beside_token_ids(cell):
    for units, width, kind in itertools.product([3, 17], [1, 4], ["none", "holes"]):
        ids = np.random.default_rng(0).integers(0, 11, (6, 7)).astype(np.int32)
        mask, rows, floats = make_mask(kind, 6, 7), normal(np.random.default_rng(1), 11, 5), make_input(6, 7, width)
        part = make_direction(6, 5 + width, units, reverse=True, cell=cell)
        exact = part.specify(np.concatenate([rows[ids], floats], axis=2), mask)
        part.kernel, part.joined_kernel, part.embeddings = part.kernel[:5], part.kernel[5:], rows
        found = part.run((ids, floats), mask)
        for y, k in zip(found[1:], exact[1:]):
            assert_agree(y, k)
        part.project = True
        for y, k in zip(part.run((ids, floats), mask), found):
            same_bits(y, k)


def test_table_of_projections_made_later():
    ids, rows = np.array([[1, 0, 2]], np.int32), normal(np.random.default_rng(1), 3, 5)
    part = make_direction(1, 5, 3, embeddings=rows)
    job, scratch = part.job(ids, _kernels.Rows(1, 3)), _kernels.Scratch()
    before = _kernels.run_recurrent([job], scratch)
    assert not job["layer"].projected
    work, nbytes = job["layer"].work, job["layer"].nbytes
    for _ in range(2):
        job["layer"].project()
        assert job["layer"].projected and job["layer"].work < work and job["layer"].nbytes != nbytes
        for y, k in zip(before[0], _kernels.run_recurrent([job], scratch)[0]):
            same_bits(y, k)


@pytest.mark.parametrize("use", ["activation", "recurrent_activation", "both"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, use, cell):
    """Functions over a row, too: softmax sees the units of one gate in one row of the batch."""
    for units in (5, 17):
        width = CELLS[cell][2] * units
        part = make_direction(3, width, units, seed=1, cell=cell)
        part.kernel, x = np.eye(width, dtype=np.float32), make_input(3, 2, width)
        for option in ("activation", "recurrent_activation") if use == "both" else (use,):
            setattr(part, option, ACTIVATIONS[name])
        if name == "exponential":
            x -= 2  # exponential of exponential stays within float32
        elif name == "tanh_shrink":
            x *= 4  # near zero the difference has no digits left in float32
        for y, k in zip(part.run(x), part.specify(x)):
            assert_agree(y, k, f"{units} units")


@pytest.mark.parametrize("cell", CELLS)
def test_slices_of_projections(cell):
    """More timesteps than a slice holds, rows that end inside slices; with a mask the batch shrinks."""
    lengths = np.array([900, 3, 450, 0, 899, 1, 7])
    mask = np.arange(900) < lengths[:, None]
    part, x = make_direction(7, 3, 65, cell=cell), make_input(7, 900, 3)
    assert 7 * 900 * CELLS[cell][2] * 65 * 4 > 8 * 192 * 1024
    for kept in (None, mask, np.ascontiguousarray(mask[:, ::-1])):
        y, *states = part.run(x, kept)
        outputs, *finals = part.specify(x, kept)
        assert_outputs(y, outputs, kept)
        for a, b in zip(states, finals, strict=True):
            assert_agree(a, b)


# ---- what may be read and written -----------------------------------------------------------------------------------


def test_inputs_are_not_written():
    x, mask = make_input(3, 4, 5), make_mask("holes", 3, 4)
    part = make_direction(3, 5, 9, embeddings=None)
    arrays = [x, mask, part.kernel, part.recurrent_kernel, part.bias, *part.initial_state]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    for reverse, flip in itertools.product([False, True], repeat=2):
        part.reverse, part.flip = reverse, flip
        part.run(x, mask)
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activation", [activations.tanh, activations.softsign])
def test_nothing_is_left_in_the_scratch_buffers(activation, cell, request):
    """A run over buffers full of NaN, of a larger case, has the bits of one over fresh buffers."""
    part = make_direction(3, 5, 9, activation=activation, cell=cell)
    expected = part.run(make_input(3, 4, 5))
    scratch = _kernels.Scratch()
    spoils = _kernels.spoil_freed(True)
    request.addfinalizer(lambda: _kernels.spoil_freed(spoils))
    make_direction(9, 5, 40, activation=activation, cell=cell).run(
        np.full((9, 6, 5), np.nan, np.float32), None, scratch
    )
    for y, k in zip(part.run(make_input(3, 4, 5), None, scratch), expected):
        same_bits(y, k)


# ---- the same bits for a row ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [activations.tanh, activations.softmax])
@pytest.mark.parametrize("units", [3, 17, 65])
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_has_the_same_bits_in_every_batch(cell, units, activation):
    x = make_input(20, 5, 7)
    for kind in ("none", "holes"):
        mask = make_mask(kind, 20, 5)
        whole = make_direction(20, 7, units, activation=activation, cell=cell)
        expected = whole.run(x, mask)
        states = whole.initial_state
        for start, stop in [*((r, r + 1) for r in range(20)), *((0, r) for r in range(2, 20)), (3, 9), (13, 20)]:
            whole.initial_state = tuple(state[start:stop] for state in states)
            part = whole.run(x[start:stop], None if mask is None else mask[start:stop])
            for y, k in zip(part, expected):
                same_bits(y, k[start:stop])


# ---- NaN and inf ----------------------------------------------------------------------------------------------------


def same_specials(y, k):
    np.testing.assert_array_equal(np.where(np.isfinite(y), 0, y), np.where(np.isfinite(k), 0, k))
    scale = np.abs(k[np.isfinite(k)]).max(initial=0)
    np.testing.assert_allclose(y[np.isfinite(k)], k[np.isfinite(k)], rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("recurrent", [activations.sigmoid, activations.relu])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_pass_through(value, recurrent):
    """In one gate of one row, or in its states: as the specification in float32 has it; other rows keep their bits."""
    x = np.abs(make_input(7, 3, 2))
    for gate, activation in itertools.product(range(4), (activations.tanh, activations.softsign)):
        part = make_direction(7, 2, 9, activation=activation, recurrent_activation=recurrent)
        clean = part.run(x)
        spoiled = x.copy()
        spoiled[4, 1, 0] = value
        # Only the gate meets the spoiled feature: 0 * inf would spoil the others.
        part.kernel[0, :] = 1e-30
        part.kernel[0, 9 * gate : 9 * gate + 9] = normal(np.random.default_rng(gate), 9)
        clean = part.run(x)
        for y, k, before in zip(part.run(spoiled), part.specify(spoiled, dtype=np.float32), clean):
            same_specials(y, k)
            same_bits(np.delete(y, 4, 0), np.delete(before, 4, 0))
    for number in range(2):
        part = make_direction(7, 2, 9, recurrent_activation=recurrent)
        clean = part.run(x)
        part.initial_state[number][4, 5] = value
        for y, k, before in zip(part.run(x), part.specify(x, dtype=np.float32), clean):
            same_specials(y, k)
            same_bits(np.delete(y, 4, 0), np.delete(before, 4, 0))


@pytest.mark.parametrize("name", ["kernel", "recurrent_kernel", "bias"])
def test_nan_in_weights(name):
    for batch, place in itertools.product((1, 3), (0, 8, 20)):
        part, x = make_direction(batch, 3, 9), make_input(batch, 3, 3)
        getattr(part, name)[..., place] = np.nan
        for y, k in zip(part.run(x), part.specify(x, dtype=np.float32)):
            same_specials(y, k)


def test_masked_steps_are_not_read():
    for kind, reverse in itertools.product(MASKS[1:], [False, True]):
        mask, x = make_mask(kind, 5, 6), make_input(5, 6, 3)
        part = make_direction(5, 3, 9, reverse=reverse)
        expected = part.run(x, mask)
        x[~mask] = np.nan
        for y, k in zip(part.run(x, mask), expected):
            same_bits(y, k)


# ---- what masked timesteps emit, and merging ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["zero", "previous", "state"])
def test_fill_masked(how):
    """The specification's own outputs, with garbage at masked steps, are restored to the bit."""
    for kind, reverse, flip in itertools.product(MASKS[1:], [False, True], [False, True]):
        mask, x = make_mask(kind, 6, 5), make_input(6, 5, 3)
        part = make_direction(6, 3, 7, reverse=reverse, flip=flip)
        for initial in (part.initial_state, None):
            part.initial_state = initial
            expected, _, _ = part.specify(x, mask, np.float32, how)
            guarded = Guarded(6, 5, 10)
            guarded.array[:, :, 2:9] = np.where(part.placed(mask)[:, :, None], expected, np.nan)
            first = None if initial is None else initial[0]
            _kernels.fill_masked(guarded.array, mask, how, first, reverse, flip, 2, 7)
            np.testing.assert_array_equal(guarded.array[:, :, 2:9], expected)
            guarded.check(guarded.array[:, :, :2], guarded.array[:, :, 9:])


def test_merge_outputs():
    rng = np.random.default_rng(0)
    for shape in ((1,), (2, 3, 17), (0, 4), (5, 64)):
        a, b = normal(rng, *shape), normal(rng, *shape)
        for merge, expected in (("sum", a + b), ("mul", a * b), ("ave", (a + b) / 2)):
            guarded = Guarded(*shape)
            guarded.array[...] = a
            assert _kernels.merge_outputs(guarded.array, b, _kernels.MERGES[merge]) is guarded.array
            guarded.check()
            same_bits(guarded.array, expected)
