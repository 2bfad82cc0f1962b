"""The memory of a prediction: what is given back is used again, joined with its neighbours, and never while an array
or a tape needs it.
"""

import os
import threading

import numpy as np
import pytest

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import normal  # noqa: E402

KB = 256  # floats
joins = pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="each block is fenced by itself there")


@pytest.fixture
def spoiled():
    """What is given back is filled with NaN."""
    before = _kernels.spoil_freed(True)
    yield
    _kernels.spoil_freed(before)


def address(array):
    return array.__array_interface__["data"][0]


def test_arrays_are_aligned_and_apart():
    rng, scratch, kept = np.random.default_rng(0), _kernels.Scratch(), []
    for number in range(200):
        dtype = rng.choice([np.float32, bool, np.int64])
        shape = tuple(rng.integers(1, 9, rng.integers(0, 4)))
        array = scratch.take(shape, dtype)
        assert array.shape == shape and array.dtype == dtype and array.flags.writeable and array.flags.c_contiguous
        assert address(array) % 64 == 0 and scratch.owns(array)
        array.reshape(-1).view(np.uint8)[...] = number
        kept.append((number, array))
        if rng.random() < 0.5:
            kept.pop(rng.integers(len(kept)))
    for number, array in kept:
        assert (array.reshape(-1).view(np.uint8) == number).all()


def test_memory_is_used_again_when_the_last_view_is_gone():
    scratch = _kernels.Scratch()
    first, second = scratch.take((KB,)), scratch.take((KB,))
    place, view = address(first), first.reshape(2, -1)[1, ::2]
    del first
    third = scratch.take((KB,))
    assert address(third) not in (place, address(second)) and scratch.owns(view)
    before = scratch.nbytes
    del view
    assert address(scratch.take((KB,))) == place and scratch.nbytes == before


@joins
def test_gaps_beside_each_other_are_joined():
    scratch = _kernels.Scratch()
    place = address(scratch.take((8 * KB,)))
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3], [1, 3, 0, 2]):
        parts = dict(enumerate(scratch.take((2 * KB,)) for _ in range(4)))
        assert [address(part) - place for part in parts.values()] == [0, 2048, 4096, 6144]
        for number in order:
            del parts[number]
        assert address(scratch.take((8 * KB,))) == place
    assert scratch.nbytes == 8 * KB * 4


@joins
def test_the_smallest_gap_that_fits_is_taken():
    scratch = _kernels.Scratch()
    large, small = scratch.take((9 * KB,)), scratch.take((3 * KB,))
    places = address(large), address(small)
    del large, small
    second = scratch.take((2 * KB,))
    assert address(second) == places[1]
    assert address(scratch.take((9 * KB,))) == places[0]


@joins
def test_slabs_become_one_between_predictions():
    scratch = _kernels.Scratch()
    kept = [scratch.take((n * KB,)) for n in (1, 2, 3)]
    scratch.join_slabs()  # nothing happens: arrays are left
    assert scratch.nbytes == 6 * KB * 4 and len({address(array) for array in kept}) == 3
    kept = [None, *kept[1:]]
    kept[0] = scratch.take((4 * KB,))
    del kept
    scratch.join_slabs()
    assert scratch.nbytes == 9 * KB * 4  # 1 KB was given back before 4 were taken
    kept = [scratch.take((n * KB,)) for n in (2, 3, 4)]
    assert scratch.nbytes == 9 * KB * 4 and scratch.owns(kept[2]) and not scratch.owns(np.ones(3))


def test_what_is_given_back_may_be_spoiled(spoiled):
    scratch = _kernels.Scratch()
    first = scratch.take((KB,))
    first[...] = 1
    del first
    assert np.isnan(scratch.take((KB,))).all()


@joins
def test_another_thread_gives_back():
    scratch, given = _kernels.Scratch(), []

    def free():
        while not done.is_set():
            if given:
                given.pop()

    done = threading.Event()
    thread = threading.Thread(target=free)
    thread.start()
    try:
        for number in range(20000):
            array = scratch.take((number % 7 * 50,))
            array[...] = number
            assert (array == number).all()
            given.append(array)
            del array
            if len(given) > 50:
                del given[:25]
    finally:
        done.set()
        thread.join()
    given.clear()
    scratch.join_slabs()
    kept = scratch.take((scratch.nbytes // 4,))
    assert kept.nbytes == scratch.nbytes


# ---- tapes ----------------------------------------------------------------------------------------------------------


def recorded(steps):
    """(The tape of what `steps(x, scratch)` calls, its answer) for x of ones."""
    scratch = _kernels.Scratch()
    tape = _kernels.Tape([np.ones((3, 5), np.float32)], [None], 1, scratch)
    assert tape.begin()
    try:
        return tape, steps(tape.inputs[0], scratch), scratch
    finally:
        tape.end()


MATRICES = [_kernels.Matrix(normal(np.random.default_rng(k), 5, 5)) for k in range(12)]


def test_a_tape_keeps_no_array_and_its_memory_does_not_grow():
    def chain(depth):
        def steps(x, scratch):
            for matrix in MATRICES[:depth]:
                x = matrix.product(x, scratch.take((3, 5)))
            return x

        return steps

    sizes = []
    for depth in (3, 12):
        tape, y, scratch = recorded(chain(depth))
        assert not tape.broken and tape.verify([y])
        sizes.append(scratch.nbytes)
        tapes = _kernels.Tapes([None], lambda: 1)
        tapes.by_shape[(3, 5)] = [tape]
        x = normal(np.random.default_rng(1), 3, 5)
        (found,), expected = tapes.run(x, 1), x
        for matrix in MATRICES[:depth]:
            expected = matrix.product(expected, np.empty((3, 5), np.float32))
        assert np.array_equal(found, expected)
    assert sizes[0] == sizes[1]


def test_a_tape_is_broken_by_what_is_read_after_its_memory_was_given_away():
    first = MATRICES[0]

    def steps(x, scratch):
        y = first.product(x, scratch.take((3, 5)))
        place = address(y)
        del y
        z = scratch.take((3, 5))  # where y was, and never written
        assert address(z) == place
        return first.product(z, scratch.take((3, 5)))

    tape, y, _ = recorded(steps)
    assert tape.broken and not tape.verify([y])


def test_a_step_in_python_keeps_what_it_reads():
    """Its arrays live as long as the tape, which calls it again."""

    def steps(x, scratch):
        tape = _kernels.recorder()
        y = MATRICES[0].product(x, scratch.take((3, 5)))
        (double,) = tape.step(lambda: [2 * y], [y], [2 * y])
        z = MATRICES[1].product(double, scratch.take((3, 5)))
        assert address(z) != address(y)
        return MATRICES[2].product(z, scratch.take((3, 5)))

    tape, y, _ = recorded(steps)
    assert not tape.broken and tape.verify([y])


# ---- arenas ---------------------------------------------------------------------------------------------------------


@joins
def test_an_arena_is_claimed_by_one_and_gives_back_what_was_too_much():
    scratch = _kernels.Scratch()
    assert scratch.claim() and not scratch.claim()
    kept = [scratch.take((KB,)) for _ in range(5)]
    before = scratch.nbytes
    kept.append(scratch.take((64 * KB,)))
    assert scratch.nbytes >= before + 64 * 1024 and not scratch.is_empty()
    scratch.trim(before)
    assert scratch.nbytes > before  # arrays lie in it
    kept.clear()
    scratch.trim(before)
    assert scratch.is_empty() and scratch.nbytes == before
    place = address(scratch.take((KB,)))
    assert place == address(scratch.take((KB,))) and scratch.nbytes == before
    scratch.release()
    assert scratch.claim()


def test_tapes_of_one_arena():
    """Each gives its own answer, whichever was played before; one that is played keeps the others waiting."""
    scratch, tapes, x = _kernels.Scratch(), _kernels.Tapes([None], lambda: 1), normal(np.random.default_rng(2), 4, 5)
    assert scratch.claim()
    for rows in range(1, 5):
        tape = _kernels.Tape([x[:rows]], [None], 1, scratch)
        assert tape.begin()
        y = tape.inputs[0]
        for matrix in MATRICES[: 2 * rows]:
            y = matrix.product(y, scratch.take((rows, 5)))
        tape.end()
        assert tape.verify([y])
        tapes.by_shape[(rows, 5)] = [tape]
        del y, tape
        assert scratch.is_empty()
    assert tapes.run(x, 1) is None  # claimed
    scratch.release()
    for rows in (4, 1, 3, 2, 4, 1):
        (found,), expected = tapes.run(x[:rows], 1), x[:rows]
        for matrix in MATRICES[: 2 * rows]:
            expected = matrix.product(expected, np.empty((rows, 5), np.float32))
        assert np.array_equal(found, expected)
