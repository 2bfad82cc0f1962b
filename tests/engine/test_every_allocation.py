"""Each allocation of each compiled function fails in turn: a MemoryError, and the next call is right.

failing_allocations.py says how they fail. See test_every_allocation_of_models.py for models, test_memory_errors.py for
arrays that Python code makes.
"""

import numpy as np
import pytest
from failing_allocations import LOSES, fail_each, run_here

from fastbilstm import activations
from fastbilstm.engine.weight_forms import int8_codes

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
_recurrent = pytest.importorskip("fastbilstm._recurrent", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import compiled, make_direction, make_mask, normal  # noqa: E402

pytestmark = pytest.mark.usefixtures("failing_malloc")


def functions():
    """A call of each function, class and method of the two modules, by name."""
    rng, scratch = np.random.default_rng(0), _kernels.Scratch
    x, rows, mask = normal(rng, 2, 7, 6), normal(rng, 5, 9), make_mask("holes", 2, 7)
    first, kernel, bias = x[:, :1].copy(), normal(rng, 9, 35), normal(rng, 35)
    tanh, code = compiled(activations.tanh), (1, (0.0, 0.0, 0.0))
    windows = ((5, 3, 1, 1, 0),)
    part, ids = make_direction(2, 6, 5), np.ones((2, 7), np.int32)
    looked_up = make_direction(2, 3, 5, embeddings=normal(rng, 4, 3))
    gru = make_direction(2, 6, 5, cell="gru without reset_after")
    narrow = make_direction(2, 6, 5)
    narrow.narrow = int8_codes(narrow.recurrent_kernel, 0)
    two = (part, gru)
    states = [normal(rng, 2, 5) for _ in range(2)]

    def recurrent(*directions, given=x, mask=None, n_threads=1):
        order = _kernels.Rows(2, 7, mask)
        outputs = np.zeros((2, 7, 10), np.float32)
        jobs = [d.job(given, order, outputs, 5 * k) for k, d in enumerate(directions)]
        return outputs, _kernels.run_recurrent(jobs, scratch(), n_threads)

    def step():
        return _kernels.StreamStep(part.job(first, _kernels.Rows(2, 1)), True)

    def stream():
        one = step()
        y = one.push(first)
        one.go_back()
        _kernels.set_states([one], [states])
        return y, one.push(first[:, 0].copy()), one.states()

    def tape():
        new = _kernels.Tape([rows], [None])
        assert new.begin()
        try:
            assert _kernels.recorder() is new
            (at,), out = new.inputs, _kernels.aligned((5, 35))
            for _ in range(20):  # more than there is room for at first
                _kernels.Matrix(kernel, bias).product(at, out, tanh)
            (copy,) = new.step(lambda: [out * 2], [out], [out * 2])
            last = _kernels.concatenate([copy, out], _kernels.aligned((5, 70)))
        finally:
            new.end()
        assert new.verify([last])
        tapes = _kernels.Tapes([None], lambda: 1)
        tapes.by_shape[rows.shape] = [new]
        return tapes.run(rows, 1), tapes.run([rows], 1), new.broken

    def taken():
        buffers = scratch()
        y, other = buffers.take((3, 4)), buffers.take((2,), bool)
        y[...] = 1
        copy, owns, _ = y.copy(), buffers.owns(y), other.fill(True)
        del y, other
        buffers.join_slabs()
        buffers.claim()
        large = buffers.take((99, 9))  # in a slab of its own
        del large
        buffers.trim(64)
        buffers.release()
        return copy, owns, buffers.nbytes

    def activated(x):
        tanh.apply(x)
        return x

    def lstm_loop(dtype):
        h, c, last = (np.zeros((2, 3), dtype) for _ in range(3))
        given = np.ones((2, 7, 12), dtype), np.ones((3, 12), dtype)
        outputs = np.zeros((2, 7, 3), dtype)
        _recurrent.lstm_loop(*given, h, c, mask.astype(np.uint8), outputs, last, code, code, 0, False)
        return outputs, h, c, last

    def blas_activated():
        y = x.reshape(2, -1).copy()
        _recurrent.activate(y, code)
        return y

    def product():
        y = np.empty((5, 35), np.float32)
        _recurrent.matmul(rows, kernel, bias, y)
        return y

    def filled():
        y = x.copy()
        _kernels.fill_masked(y, mask, "state", states[0], False, False, 0, 5)
        return y

    def heads(**options):
        return _kernels.attend_heads(
            x, x, x, 3, 3, mask[:, np.newaxis].copy(), None, True, 0.5, np.empty_like(x), scratch(), **options
        )

    empty = np.empty
    return {
        "Activation apply": lambda: (compiled(activations.elu), activated(rows.copy()))[1],
        "Matrix product": lambda: _kernels.Matrix(kernel, bias).product(rows, empty((5, 35), "f4"), tanh),
        "Matrix product, int8": lambda: _kernels.Matrix(kernel, bias, int8_codes(kernel, 0)).product(
            rows, empty((5, 35), "f4"), tanh
        ),
        "Recurrent project": lambda: recurrent(looked_up, given=ids),
        "Recurrent keep_beginnings": lambda: looked_up.packed().keep_beginnings(4096),
        "Rows": lambda: (_kernels.Rows(2, 7, mask).steps, _kernels.Rows(2, 2, np.eye(2) > 2).masked),
        "Scratch take owns join_slabs claim release is_empty trim": taken,
        "StreamStep push go_back states": stream,
        "Tape Tapes begin end verify step run": tape,
        "aligned": lambda: _kernels.aligned((3, 4)) * 0,
        "attend_heads": heads,
        "attend_heads, additive, threads": lambda: heads(
            additive=_kernels.Matrix(np.ones((2, 1))), weights=empty((2, 3, 7, 7), "f4"), n_threads=2
        ),
        "attention": lambda: _kernels.attention(x, x, x, mask, mask, 1.0, False, empty(x.shape, "f4"), scratch()),
        "attention, pooled": lambda: _kernels.attention(
            x, x, x, None, None, 1.0, True, empty((2, 6), "f4"), scratch(), 2
        ),
        "batch_product": lambda: _kernels.batch_product(x, x, empty((2, 7, 7), "f4"), True, scratch()),
        "concatenate": lambda: _kernels.concatenate([rows, rows], empty((5, 18), "f4")),
        "convolve": lambda: _kernels.convolve(
            x, [_kernels.Matrix(kernel[:, :4])] * 2, empty((2, 5, 8), "f4"), windows, scratch(), tanh, 2
        ),
        "convolve, tokens": lambda: _kernels.convolve(
            ids,
            [_kernels.Matrix(kernel[:3, :12])],
            empty((2, 5, 4), "f4"),
            windows,
            scratch(),
            tanh,
            2,
            tokens=(kernel[:, :3].copy(), bias[:4]),
        ),
        "convolve, pooling": lambda: _kernels.convolve(
            x,
            [_kernels.Matrix(kernel[:, :4])] * 2,
            empty((2, 2, 8), "f4"),
            windows,
            scratch(),
            tanh,
            2,
            ((2, 2, 2, 1, 0),),
        ),
        "convolve, winograd": lambda: _kernels.convolve(
            np.ones((2, 6, 6, 4), np.float32),
            [_kernels.Matrix(np.ones((36, 8)))],
            empty((2, 4, 4, 8), "f4"),
            ((4, 3, 1, 1, 0),) * 2,
            scratch(),
            winograd=[_kernels.Matrix(np.ones((4, 8)))] * 16,
        ),
        "convolve_depthwise": lambda: _kernels.convolve_depthwise(
            x, kernel[:3, :6].copy(), bias[:6], empty((2, 5, 6), "f4"), windows
        ),
        "convolve_transposed": lambda: _kernels.convolve_transposed(
            x, _kernels.Matrix(kernel[:6, :12]), bias[:4], empty((2, 9, 4), "f4"), ((7, 3, 1, 1, 0),), scratch()
        ),
        "copy": lambda: _kernels.copy(x, empty((2, 6, 7), "f4"), x.transpose(0, 2, 1)),
        "dots use_dots": lambda: (_kernels.use_dots(_kernels.dots()[0]), _kernels.use_dots())[0],
        "elementwise": lambda: _kernels.elementwise("add", (x, x[0, 0]), empty(x.shape, "f4"), (1,)),
        "fill": lambda: _kernels.fill(empty(3, "f4"), 0),
        "fill_masked": filled,
        "forget_workers": _kernels.forget_workers,
        "gather": lambda: _kernels.gather(kernel, ids, empty((2, 7, 35), "f4")),
        "is_plain": lambda: _kernels.is_plain(ids, "int32", (None, None), 12),
        "isa": _kernels.isa,
        "isas": lambda: len(_kernels.isas() + _recurrent.isas()),
        "lanes": _kernels.lanes,
        "last_output": lambda: _kernels.last_output(states[0], mask, True, False),
        "mask_of": lambda: _kernels.mask_of(ids),
        "merge_outputs": lambda: _kernels.merge_outputs(rows.copy(), rows, 2),
        "normalize": lambda: _kernels.normalize(rows, rows[0], rows[1], 1e-3, empty(rows.shape, "f4")),
        "pool": lambda: _kernels.pool(x, empty((2, 5, 6), "f4"), windows, True, 2),
        "recorder": lambda: _kernels.recorder() is None,
        "reduce": lambda: _kernels.reduce("mean", x, 1, 2, empty((2, 6), "f4"), mask),
        "result_dtype": lambda: str(_kernels.result_dtype("add", [x.dtype, x.dtype])),
        "run_recurrent": lambda: recurrent(part, mask=mask),
        "run_recurrent, int8": lambda: recurrent(narrow, mask=mask),
        "run_recurrent, two threads": lambda: recurrent(*two, n_threads=2),
        "run_together": lambda: _kernels.run_together(lambda k: bytearray(k), 3, 2),
        "set_states": lambda: _kernels.set_states([step()], [None]),
        "pieces_of_helpers": lambda: _kernels.pieces_of_helpers() >= 0,
        "skip_steps": lambda: _kernels.skip_steps() >= 0,
        "spoil_freed": lambda: _kernels.spoil_freed(False),
        "Stopped": lambda: str(_kernels.Stopped()),
        "use": lambda: (_kernels.use(_kernels.isa()), _recurrent.use(_recurrent.isas()[0]))[0],
        "workers": lambda: len(_kernels.workers()) >= 0,
        "activate": blas_activated,
        "lstm_loop": lambda: (lstm_loop(np.float32), lstm_loop(np.float64)),
        "matmul": product,
    }


def each_function():
    for name, call in functions().items():
        fail_each(name, call, step=1)


def names_of(module):
    """The names of the public functions and classes, with their methods."""
    for name, value in vars(module).items():
        if name[0] == "_":
            continue  # `_serve` does not end
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from [name, *(key for key, method in vars(value).items() if callable(method) and key[0] != "_")]
        elif type(value).__name__ == "cython_function_or_method":
            yield name


def test_functions():
    told = {word for name in functions() for word in name.split(",")[0].split()}
    assert told == {*names_of(_kernels), *names_of(_recurrent)}, "a function without a call that fails"
    counts = run_here(each_function)
    assert list(counts) == list(functions()) and sum(count > 0 for count in counts.values()) > 25, counts


def test_the_failing_itself():
    """A call that asks for nothing, one that loses its MemoryError, one that answers otherwise afterwards."""
    run_here(lose)


def lose():
    fail_each("nothing", lambda: 3)
    calls = []

    def lost():
        try:
            return _kernels.aligned((3,)) * 0
        except MemoryError:
            return np.zeros(3, np.float32)

    def other():
        calls.append(_kernels.aligned((3,)))
        return len(calls)

    for call, words in ((lost, "was lost"), (other, "not the same"))[LOSES:]:
        with pytest.raises(AssertionError, match=words):
            fail_each("", call)
