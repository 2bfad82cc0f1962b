"""Each allocation of compiled code fails in turn while a model is loaded or predicts: a MemoryError, and the next
answer is right.

failing_allocations.py says how they fail: of a model one in twelve, or each with FASTBILSTM_FAULTS=all. See
test_every_allocation.py for the functions alone.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from built_nets import Net
from cases import CASES
from engine_nets import NETS, inputs, load
from failing_allocations import fail_each, run_here

import fastbilstm
from fastbilstm.engine import backends, plan

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
pytest.importorskip("fastbilstm._recurrent", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("failing_malloc")


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
