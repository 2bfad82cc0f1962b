"""Timesteps that are skipped, because equal inputs lead to known states: the same bits as without.

The inputs are made of runs: padding in front, behind, standing still in between. What is skipped is counted, so that a
test sees that something was.
"""

import numpy as np
import pytest

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import CELLS, Guarded, make_direction, make_mask, same_bits, using  # noqa: E402


@pytest.fixture(params=_kernels.isas(), autouse=True)
def isa(request):
    with using(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def skipping():
    yield
    _kernels.skip_steps()


def texts(rng, batch, timesteps, words, pad=0):
    """(B, T) int32: each row is padding, words, padding, one word again and again, words, padding; some are one run."""
    ids = rng.integers(1, words, (batch, timesteps), dtype=np.int32)
    for row in ids:
        a, b, c, d = np.sort(rng.integers(0, timesteps + 1, 4))
        row[:a], row[b:c], row[d:] = pad, rng.integers(1, words), pad
    ids[::5] = pad
    return ids


def run(part, layer, x, mask=None, sequences=True, merge=None, scratch=None):
    rows = _kernels.Rows(*x.shape[:2], mask)
    guarded = Guarded(*x.shape[:2], part.units)
    job = part.job(x, rows, guarded.array if sequences else None, merge=merge) | {"layer": layer}
    (final,) = _kernels.run_recurrent([job], scratch or _kernels.Scratch())
    guarded.check()
    return [guarded.array, *final]


def assert_same_without(part, x, mask=None, sequences=True, **which):
    """Runs with and without; returns the number of skipped timesteps."""
    layer = part.packed()
    layer.keep_beginnings(2**20)
    before = _kernels.skip_steps(**which)
    found = run(part, layer, x, mask, sequences)
    again = run(part, layer, x, mask, sequences)
    skipped = _kernels.skip_steps(False, False) - before
    for y, y_again, k in zip(found, again, run(part, part.packed(), x, mask, sequences), strict=True):
        same_bits(y, k)
        same_bits(y_again, k)
    return skipped


def direction(cell, units, seed, *, fresh=True, batch=7, features=3, **options):
    part = make_direction(batch, features, units, seed, cell, **options)
    part.initial_state = None if fresh else part.initial_state
    return part


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [1, 3, 8, 17, 65])
@pytest.mark.parametrize("sequences", [False, True])
def test_same_bits(cell, units, sequences):
    """Floats, ids and projected ids, forwards and backwards, every mask, contracting weights and wild ones."""
    rng = np.random.default_rng(units)
    skipped = 0
    for seed, mask in enumerate(["none", "pre", "post", "holes", "every other row", "nothing kept"]):
        part = direction(cell, units, seed, reverse=bool(seed % 2), flip=bool(seed % 3), fresh=seed != 4)
        part.recurrent_kernel *= np.float32([0.2, 1, 4][seed % 3])
        ids = texts(rng, 7, 150 + seed, 9)
        part.embeddings = rng.standard_normal((9, 3)).astype(np.float32)
        mask = make_mask(mask, *ids.shape)
        floats = np.ascontiguousarray(part.embeddings[ids])
        skipped += assert_same_without(part, ids, mask, sequences)
        part.project = True
        skipped += assert_same_without(part, ids, mask, sequences)
        part.embeddings, part.project = None, False
        skipped += assert_same_without(part, floats, mask, sequences)
    assert skipped > 1000


def test_beginnings_alone_and_rests_alone():
    rng = np.random.default_rng(3)
    part = direction("lstm", 17, 3)
    part.recurrent_kernel *= np.float32(0.3)
    part.embeddings = rng.standard_normal((9, 3)).astype(np.float32)
    ids = texts(rng, 7, 200, 9)
    ids[0], ids[1, :100], ids[1, 100:] = 0, 0, 5
    assert assert_same_without(part, ids, rests=False) > 600
    assert assert_same_without(part, ids, beginnings=False) > 300
    assert assert_same_without(part, ids, beginnings=False, rests=False) == 0


@pytest.mark.parametrize("period", [1, 2, 4])
def test_cycles(period):
    """States that come back every 1, 2 or 4 timesteps: activations relu, a rotation of the states."""
    from fastbilstm import activations

    part = direction("simple_rnn", 4, 1, activation=activations.linear, features=1, batch=3)
    part.kernel[...], part.bias[...] = 0, 0
    turns = {1: np.eye(4), 2: np.eye(4)[[1, 0, 3, 2]], 4: np.eye(4)[[1, 2, 3, 0]]}
    part.recurrent_kernel[...] = turns[period]
    part.kernel[0, 0] = 1
    x = np.zeros((3, 120, 1), np.float32)
    x[:, 0] = [[1], [2], [3]]
    assert assert_same_without(part, x, beginnings=False) > 3 * 2 * 60


def test_no_cycle_is_seen_where_there_is_none():
    """A state that counts, and one that comes back after 3 timesteps: nothing is skipped."""
    from fastbilstm import activations

    part = direction("simple_rnn", 3, 1, activation=activations.linear, features=1, batch=2)
    part.kernel[...], part.bias[...] = 0, 0
    part.recurrent_kernel[...] = np.eye(3)[[1, 2, 0]]
    part.kernel[0, 0] = 1
    x = np.zeros((2, 100, 1), np.float32)
    x[:, 0] = 1
    assert assert_same_without(part, x, beginnings=False) == 0
    part.recurrent_kernel[...], part.bias[...] = np.eye(3), 1
    assert assert_same_without(part, x, beginnings=False) == 0


def test_a_beginning_longer_than_what_is_kept():
    """Room for 20 states: a row of 100 begins at the 20th, unless the states have come to rest."""
    for scale, least in ((1, 20), (0, 90)):
        part = direction("lstm", 5, 1, batch=1)
        part.recurrent_kernel *= np.float32(scale)
        part.kernel[:, 10:15] *= np.float32(scale or 0)  # gate f forgets all, or what it likes
        x = np.zeros((1, 100, 3), np.float32)
        layer = part.packed()
        layer.keep_beginnings(20 * 2 * layer.units_padded * 4)
        before = _kernels.skip_steps(rests=False)
        found = run(part, layer, x)
        assert _kernels.skip_steps(False, False) - before >= min(least, 20)
        for y, k in zip(found, run(part, part.packed(), x), strict=True):
            same_bits(y, k)


def test_only_the_first_kind_of_beginning_is_kept():
    """Rows that begin with another input are computed in full."""
    part = direction("gru", 8, 1, batch=2)
    layer = part.packed()
    layer.keep_beginnings(2**20)
    x = np.ones((2, 40, 3), np.float32)
    x[:, 20:] = np.arange(20)[:, np.newaxis]
    before = _kernels.skip_steps(rests=False)
    run(part, layer, x)
    after = _kernels.skip_steps(rests=False)
    found = run(part, layer, -x)
    assert after - before == 40 and _kernels.skip_steps(False, False) == after
    for y, k in zip(found, run(part, part.packed(), -x), strict=True):
        same_bits(y, k)


def test_nan_and_zeros_of_both_signs():
    """Inputs are equal if their bits are: 0 and -0 are two, NaN is one."""
    part = direction("lstm", 3, 2, batch=3)
    x = np.zeros((3, 90, 3), np.float32)
    x[0, 40:], x[1, 40:], x[2] = np.nan, -0.0, np.inf
    assert assert_same_without(part, x) > 0


def test_threads_that_begin_at_the_same_time():
    """Four threads with one layer: who finds another at work computes his rows himself, to the same bits."""
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(5)
    part = direction("lstm", 33, 5, batch=4)
    part.embeddings = rng.standard_normal((9, 3)).astype(np.float32)
    for _ in range(10):
        layer = part.packed()
        layer.keep_beginnings(2**20)
        many = [texts(rng, 4, 300, 9) for _ in range(12)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda ids: run(part, layer, ids), many))  # noqa: B023
        _kernels.skip_steps(False, False)
        for ids, ys in zip(many, found, strict=True):
            for y, k in zip(ys, run(part, part.packed(), ids), strict=True):
                same_bits(y, k)
        _kernels.skip_steps()
