"""Steps whose units several threads share: the bits of one thread, whether helpers come or not."""

import itertools
import os

import pytest

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import MASKS, Guarded, make_direction, make_input, make_mask, using  # noqa: E402
from worker_pools import call_at_once  # noqa: E402

from fastbilstm.engine.weight_forms import codes_of  # noqa: E402

# Widths of whole blocks and of narrow last ones, for 4 to 16 lanes; batches that make a step worth sharing.
SIZES = [
    (1, 96),
    (1, 100),
    (1, 101),
    (1, 104),
    (1, 105),
    (1, 130),
    (1, 200),
    (1, 330),
    (2, 65),
    (5, 38),
    (5, 65),
    (5, 130),
    (33, 33),
]


def run(jobs, n_threads):
    return _kernels.run_recurrent(jobs, _kernels.Scratch(), n_threads)


def same(finals, expected):
    return all(y.tobytes() == k.tobytes() for y, k in zip(itertools.chain(*finals), itertools.chain(*expected)))


@pytest.mark.parametrize("isa", _kernels.isas())
@pytest.mark.parametrize(
    "cell, form", [("lstm", None), ("gru", None), ("lstm", "bfloat16"), ("lstm", "int8"), ("gru", "int8")]
)
@pytest.mark.parametrize("batch, units", SIZES)
def test_the_bits_of_one_thread(batch, units, cell, form, isa):
    """One direction by 2 to 4 threads, and two by 4; more steps than a slice holds in the second case."""
    with using(isa):
        masks, timesteps = itertools.cycle(MASKS), itertools.cycle([40, 700 // batch])
        for count, n_threads in ((1, 2), (1, 3), (1, 4), (2, 4)):
            length = next(timesteps)
            x, mask = make_input(batch, length, 7), make_mask(next(masks), batch, length)
            rows = _kernels.Rows(batch, length, mask)
            parts = [make_direction(batch, 7, units, seed=k, cell=cell) for k in range(count)]
            for part in parts:
                part.narrow = form and codes_of(part.recurrent_kernel, form)
            found = []
            for threads in (1, n_threads):
                guarded = Guarded(batch, length, count * units + 2)
                jobs = [part.job(x, rows, guarded.array, 1 + k * units) for k, part in enumerate(parts)]
                found.append((run(jobs, threads), guarded))
            (expected, first), (finals, second) = found
            assert same(finals, expected), (count, n_threads)
            assert first.array.tobytes() == second.array.tobytes(), (count, n_threads)
            second.check(second.array[:, :, 0], second.array[:, :, -1])


def one_row(units=256, timesteps=300):
    part = make_direction(1, 3, units)
    return [part.job(make_input(1, timesteps, 3), _kernels.Rows(1, timesteps))]


def helped(jobs, n_threads=2):
    """How many pieces helpers compute."""
    before = _kernels.pieces_of_helpers()
    run(jobs, n_threads)
    return _kernels.pieces_of_helpers() - before


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_helper_computes_some_pieces():
    """The first steps are shared whatever that takes; a helper may come late, but not again and again."""
    jobs = one_row()
    assert any(helped(jobs) >= 8 for _ in range(200))


def test_few_units_and_one_thread_have_no_helper():
    assert [helped(jobs, n) for jobs, n in ((one_row(64, 100), 2), (one_row(256, 100), 1))] == [0, 0]


def test_callers_beside_each_other_have_the_bits_of_one_thread():
    jobs = one_row(timesteps=100)
    expected, wrong = run(jobs, 1), []

    def call():
        for _ in range(30):
            if not same(run(jobs, 2), expected):
                wrong.append(1)

    call_at_once(call, 4)
    assert not wrong
