"""Each allocation of compiled code fails in turn: a MemoryError, and the next call is right.

`failing_malloc.c` stands before malloc and fails the calls that the compiled modules make, or what they call: objects
of Cython, arrays of NumPy, locks, the records of a tape. Every case runs in a process of its own. Of a
function each allocation fails, of a model one in twelve, or each with FASTBILSTM_FAULTS=all. See test_memory_errors.py
for arrays that Python code makes.
"""

import ctypes
import faulthandler
import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from built_nets import Net
from cases import CASES
from engine_nets import NETS, inputs, load
from paths import MATERIAL

import fastbilstm
from fastbilstm import activations
from fastbilstm.engine import backends, plan
from fastbilstm.engine.weight_forms import int8_codes

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
_recurrent = pytest.importorskip("fastbilstm._recurrent", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)
if platform.libc_ver()[0] != "glibc" or shutil.which("gcc") is None:
    pytest.skip("needs gcc and glibc", allow_module_level=True)

from kernel_cases import compiled, make_direction, make_mask, normal  # noqa: E402

# CPython before 3.11.7 raises an error without its message where there is no memory for it, in place of MemoryError
# (3.10 and 3.11.2 were seen to): what looks for that error goes on, and must give the right answer.
LOSES = sys.version_info < (3, 11, 7)
STEP = 1 if os.environ.get("FASTBILSTM_FAULTS") == "all" else 12


@functools.lru_cache
class Malloc:
    """The functions of failing_malloc.c, which is preloaded; they watch the compiled modules of this package."""

    def __init__(self):
        self.library = ctypes.CDLL(None)
        self.library.watch.argtypes = [ctypes.c_void_p] * 2
        self.library.fail_at.argtypes = [ctypes.c_long]
        self.library.end_of_failing.restype = ctypes.c_long
        self.library.interpreter_is.argtypes = [ctypes.c_void_p]
        run = ctypes.cast(ctypes.pythonapi._PyEval_EvalFrameDefault, ctypes.c_void_p)
        assert self.library.interpreter_is(run)
        modules = {os.path.realpath(module.__file__) for module in (_kernels, _recurrent)}
        with open("/proc/self/maps") as file:
            parts = [line.split() for line in file]
        for place, access, *_, path in (part for part in parts if len(part) == 6):
            if "x" in access and path in modules:
                modules.discard(path)
                assert self.library.watch(*(int(end, 16) for end in place.split("-")))
        assert not modules

    def failing(self, number, call):
        """Let `number` allocations pass and fail the next one: (its number or -1, the answer or None)."""
        self.library.fail_at(number)
        try:
            answer = call()
        except (MemoryError, RuntimeError) as error:
            number = self.library.end_of_failing()
            # What CPython says where there is no memory for a lock.
            if isinstance(error, RuntimeError) and str(error) != "can't allocate lock":
                raise AssertionError(f"allocation {number}: another error than MemoryError") from error
            assert number >= 0, "a MemoryError without a cause"
            return number, None
        except BaseException as error:
            number = self.library.end_of_failing()
            raise AssertionError(f"allocation {number}: another error than MemoryError") from error
        number = self.library.end_of_failing()
        assert number < 0 or LOSES, f"the MemoryError of allocation {number} was lost"
        return number, answer


def arrays_of(y):
    if isinstance(y, list | tuple):
        return [array for part in y for array in arrays_of(part)]
    return arrays_of(list(y.values())) if isinstance(y, dict) else [np.array(y)]


def same(y, k):
    return all(
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(arrays_of(y), arrays_of(k), strict=True)
    )


def fail_each(name, call, begin=lambda: None, step=STEP):
    """Begin, fail, call again, for every allocation or one in `step`. Prints how many failed."""
    malloc = Malloc()
    begin()
    expected = arrays_of(call())
    begin()
    assert same(call(), expected), f"{name}: not the same when nothing fails"
    number = count = 0
    while True:
        faulthandler.dump_traceback_later(60, exit=True)
        begin()
        failed, answer = malloc.failing(number, call)
        if failed < 0 or answer is not None:
            assert same(answer, expected), f"{name}: wrong while allocation {failed} failed"
        if failed < 0:
            break
        if answer is not None:
            begin()  # states went on
        assert same(call(), expected), f"{name}: wrong after allocation {failed} failed"
        number, count = failed + step, count + 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{name}: {count}", flush=True)


def run_here(function):
    """Run a function of this file in a process of its own with failing_malloc.c before malloc; what it printed."""
    folder = Path(os.environ["FAILING_MALLOC"])
    code = f"import faulthandler, test_every_allocation as t; faulthandler.enable(); t.{function.__name__}()"
    environment = {
        **os.environ,
        "LD_PRELOAD": str(folder / "failing_malloc.so"),
        "PYTHONMALLOC": "malloc",  # objects, too, come from it
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    counts = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    return {name: int(count) for name, count in counts.items()}


@pytest.fixture(scope="module", autouse=True)
def failing_malloc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failing_malloc")
    source = MATERIAL / "failing_malloc.c"
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", folder / "failing_malloc.so"]
    subprocess.run([*command, source], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAILING_MALLOC", str(folder))
        yield


# ---- functions ------------------------------------------------------------------------------------------------------


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


# ---- models ---------------------------------------------------------------------------------------------------------


def always_parallel():
    from fastbilstm.engine import vector_layers

    plan.WORTH_A_THREAD, vector_layers.PARALLEL_WORK = 1, 0


def forget(model):
    """Let a model allocate its buffers again, and run in Python: see each_replay for its tapes."""
    model._plan.scratches.clear()
    if model._plan.replay is not None:
        model._plan.replay.seen.clear(), model._plan.replay.tapes.by_shape.clear(), model._plan.replay.arenas.clear()


def each_net():
    """Buffers that are there grow: first a small prediction, then a large one that fails; one thread, then two."""
    always_parallel()
    for name in NETS:
        small, large = inputs(name, 2, 3, seed=1), inputs(name, 41, 30)
        for n_threads in (1, 2):
            model = load(name, n_threads=n_threads)

            def begin(model=model, small=small):
                forget(model)
                model.predict(small)

            fail_each(f"{name}, {n_threads} threads", lambda model=model, large=large: model.predict(large), begin)


# Golden cases that reach what no net of engine_nets does: their names' beginnings.
GOLDEN = """
    conv-conv1d_options-keras3 conv-depthwise1d-keras3 conv-separable1d_causal-tf_keras conv-text_cnn-keras3
    conv-strides_and_dilation-keras3 conv-transpose1d-keras3 conv-masked-keras3 conv-time_distributed-keras3
    image-conv2d_same-keras3 image-pooling2d-keras3 image-ocr-keras3 pool-averagepooling1d-keras3
    pool-maxpooling1d_masked-keras3
    normalization-layer-keras3 normalization-layer_rms-keras3.13 norm2-group_keras-keras3 norm2-rms_keras-keras3
    mha-attention_mask-keras3 mha-causal-keras3 mha-decoder-keras3 mha-groups_keras-keras3 mha-scores-keras3
    attention-additive_two_masks-keras3 rnn_cell-masked_stacks_outputs-keras3 rnn_cell-masked_cells_outputs-keras3
    bidirectional_rnn-modes_sequences bidirectional_rnn-stack_of_layers-keras3 lstm_activation
""".split()


def each_golden_case():
    always_parallel()
    for start in GOLDEN:
        case = next(case for case in CASES if case.name.startswith(start))
        model = fastbilstm.load(**case.load_args(), dtype="float32", n_threads=2)

        def begin(model=model):
            forget(model)

        fail_each(case.name, lambda model=model, x=case.inputs[0]: model.predict(x), begin)


def each_replay():
    """A tape fails while it is recorded, and while it is played."""
    for name in ("lstm", "two towers", "attention without pooling", "softmax cell"):
        model, x = load(name, n_threads=1), inputs(name, 2, 4, seed=1)
        x = np.abs(x).astype(np.float32) if x.dtype.kind == "f" else np.maximum(x, 1).astype(np.int32)
        replay = model._plan.replay
        model.predict(x), model.predict(x)

        def record(model=model, x=x, replay=replay):
            replay.tapes.by_shape.pop(x.shape, None)
            replay.seen[x.shape], replay.arenas = [], []

        fail_each(f"{name}, recorded", lambda model=model, x=x: model.predict(x), record)
        fail_each(f"{name}, played", lambda model=model, x=x: model.predict(x))
        always_parallel()
        shared = load(name, n_threads=2)
        for _ in range(3):
            shared.predict(x)
        fail_each(f"{name}, played by two tapes", lambda model=shared, x=x: model.predict(x))


def each_stream():
    """One timestep, a piece, and a state that is set; a failed push leaves the stream where it stood or further."""
    net = Net()
    net.lstm("one", "x", return_sequences=True)
    net.lstm("two", "one", 3, 9, return_sequences=True)
    model = fastbilstm.load(net.content(net.dense("head", "two", 9)), backend="vector")
    x, stream = net.input(rows=2), model.stream(2)
    stream.push(x[:, 0].copy())
    start = stream.state
    stream.push(x[:, 1].copy())
    states = stream.state

    def begin():
        stream.state = start

    def set_state():
        stream.state = states
        return [array for part in stream.state if part for array in part]

    fail_each("a timestep", lambda: stream.push(x[:, 1].copy()), begin)
    fail_each("a state", set_state, begin)
    fail_each("a new stream", lambda: model.stream(2).push(x))


def each_stateful_model():
    net = Net(batch=2)
    net.lstm("one", "x", return_sequences=True, stateful=True)
    model = fastbilstm.load(net.content(net.lstm("two", "one", 3, 4, stateful=True)))
    x = net.input(rows=2)

    def begin():
        model.reset_states()
        model.predict(x)

    fail_each("stateful", lambda: model.predict(x[:, :3]), begin)


def each_load():
    """Packing, folding and projecting, of a file of our own: HDF5's library is not ours."""
    model = load("masked stack")
    folder = Path(os.environ["FAILING_MALLOC"])
    for name in ("masked stack", "gru stack", "attention"):
        model, path, x = load(name), folder / "model.fbl", inputs(name, 2, 3)
        model.save(path, overwrite=True)
        for backend in ("vector", "blas") if backends.blas_problem() is None else ("vector",):

            def call(path=path, backend=backend, x=x):
                return fastbilstm.load(path, backend=backend).predict(x)

            fail_each(f"{name}, {backend}", call)


MODELS = (each_net, each_golden_case, each_replay, each_stream, each_stateful_model, each_load)


@pytest.mark.parametrize("function", MODELS)
def test_models(function):
    counts = run_here(function)
    assert counts and sum(counts.values()) > 3 * len(counts), counts


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
