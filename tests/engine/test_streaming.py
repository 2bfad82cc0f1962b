"""Streams: pieces of a sequence give the rows of the whole one.

What cannot be streamed says which layer and why: more of that is in analysis/test_causality.py.
"""

import copy
import pickle
import threading

import make_files as mf
import numpy as np
import pytest
from built_nets import Net
from cases import CASES
from streamed import check, joined, pieces, push_all, same

import fastbilstm
from fastbilstm import InputError

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 7, 5)).astype("f4")
IDS = RNG.integers(0, 5, (3, 7)).astype("i4")  # with zeros, which are masked
BACKENDS = [("float32", "vector"), ("float32", "numpy"), ("float64", "blas"), ("float64", "numpy")]


def load(net, *outputs, dtype="float32", backend="auto"):
    try:
        return fastbilstm.load(net.content(*outputs), dtype=dtype, backend=backend)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))


# ---- the golden models ----------------------------------------------------------------------------------------------

STREAMED = []


@pytest.mark.parametrize(("dtype", "backend"), [("float32", "auto"), ("float64", "numpy")])
@pytest.mark.parametrize("pack", sorted({case.pack for case in CASES}))
def test_golden_models(pack, dtype, backend):
    """Every golden model is refused by the name of a layer, or answers in pieces as it does at once."""
    for case in (case for case in CASES if case.pack == pack):
        model = fastbilstm.load(**case.load_args(), dtype=dtype, backend=backend)
        found = check(model, case.inputs[0], case.name)
        if found is True:
            STREAMED.append(case.name)
        elif found is not None:
            assert "the model cannot be streamed: " in found
            assert any(f"{layer.name}'" in found for layer in all_layers(model))


def all_layers(model):
    def walk(layers):
        for layer in layers:
            yield layer
            yield from walk(layer.layers)

    return [*walk(model.layers), *model.inputs]


def test_many_golden_models_stream():
    if not STREAMED:
        pytest.skip("the golden models were not run")
    assert len(STREAMED) > 100


# ---- prefixes: what was answered is what a shorter sequence gives ---------------------------------------------------


@pytest.mark.parametrize(("dtype", "backend"), BACKENDS)
@pytest.mark.parametrize("mask_zero", [False, True])
def test_prefixes(mask_zero, dtype, backend):
    net = Net(ids=True)
    net.bn("bn", net.embedding(mask_zero=mask_zero))
    net.lstm("one", "bn", return_sequences=True)
    net.lstm("again", net.lstm("two", "one", 3, return_sequences=True), 3, 3, return_sequences=True)
    net.add("Add", "sum", "one", "again")
    net.add("Concatenate", "both", "sum", "embedding", axis=-1)
    net.dense("rows", "both", 8, 4, "softmax")
    net.lstm("last", "both", 8, 2, return_state=True)
    net.dense("answer", "last", 2, 3, "sigmoid")
    model = load(net, "rows", "answer", dtype=dtype, backend=backend)
    stream = model.stream(3)
    rows = []
    for t in range(7):
        row, answer = stream.push(IDS[:, t])
        assert row.shape == (3, 4)
        rows.append(row)
        whole, expected = model.predict(IDS[:, : t + 1])
        same([np.stack(rows, 1), answer], [whole, expected], model)


def test_shared_layer_remembers_each_call():
    net = Net()
    net.lstm("lstm", "x", 5, 5, calls=[["x"], ["lstm"]], return_sequences=True)
    net.layers[-1]["inbound_nodes"] = [[["x", 0, 0, {}]], [["lstm", 0, 0, {}]]]
    net.layers.append(mf.layer("Add", "sum", None))
    net.layers[-1]["inbound_nodes"] = [[["lstm", 0, 0, {}], ["lstm", 1, 0, {}]]]
    net.weights["sum"] = {}
    for backend in ("auto", "numpy"):
        model = load(net, "sum", backend=backend)
        stream = model.stream(3)
        answers, _ = push_all(stream, X, iter([2, 1, 3, 9]))
        same(joined(stream, answers), [model.predict(X)], model)


def test_stateful_model_is_left_alone():
    model = mf.floats(batch=5, stateful=True)
    x = RNG.standard_normal((5, 6, 4)).astype("f4")
    whole = model.predict(x)
    model.reset_states()
    model.predict(x)
    again = model.predict(x[:, :1])
    stream = model.stream(5)
    answers, _ = push_all(stream, x, iter(lambda: 2, 0))
    same(joined(stream, answers), [whole], model)
    model.reset_states()
    model.predict(x)
    stream.push(x)
    np.testing.assert_array_equal(model.predict(x[:, :1]), again)


# ---- the quick way for one timestep ---------------------------------------------------------------------------------


def chain(ids=False, sequences=True):
    net = Net(ids=ids)
    start = net.embedding() if ids else "x"
    net.lstm("one", start, 5, 9, return_sequences=True)
    net.lstm("two", "one", 9, 4, return_sequences=sequences)
    net.dense("head", "two", 4, 3, "softmax")
    return net


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_quick_steps(ids, sequences):
    """One timestep at a time takes another way through the engine; mixed with pieces, the bits are the same."""
    model = load(chain(ids, sequences), "head", backend="vector")
    x = IDS if ids else X
    stream = model.stream(3)
    assert stream._fast is not None
    for sizes in (iter(lambda: 1, 0), iter([1, 1, 3, 1, 1]), iter([2, 1, 2, 1, 1])):
        stream.reset()
        answers, ends = push_all(stream, x, sizes)
        same(joined(stream, answers), [model.predict(x)], model)
        for answer, end in zip(answers, ends):
            expected = model.predict(x[:, :end])
            np.testing.assert_array_equal(answer[0], expected[:, -answer[0].shape[1] :] if sequences else expected)


def test_quick_steps_take_any_layout():
    """Arrays that the quick way does not take go the other way, and every answer is a new array."""
    model = load(chain(), "head", backend="vector")
    stream, other = model.stream(3), model.stream(3)
    kinds = [
        lambda x: x,
        lambda x: x.astype("f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x.tolist(),
        lambda x: x.astype(">f4"),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), "u1")[1:].view("f4").reshape(x.shape),
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    ]
    answers = []
    for t, kind in enumerate(kinds):
        answers.append(stream.push(kind(X[:, t : t + 1])))
        np.testing.assert_array_equal(answers[-1], other.push(X[:, t : t + 1].copy()))
    np.testing.assert_array_equal(np.concatenate(answers, 1), model.predict(X))


def test_other_activations_and_initial_bits():
    net = Net()
    net.lstm("one", "x", return_sequences=True, activation="relu", recurrent_activation="hard_sigmoid")
    model = load(net, "one", backend="vector")
    stream = model.stream(3)
    answers, _ = push_all(stream, X, iter(lambda: 1, 0))
    same(joined(stream, answers), [model.predict(X)], model)


def test_compiled_step_checks_what_it_is_given():
    model = load(chain(), "head", backend="vector")
    from fastbilstm import _kernels

    layer = model._streaming()[0].runner.steps[0].layer.runner
    x = X[:, :1].copy()
    run = layer.job(x, _kernels.Rows(3, 1), None)
    for wrong in ({"reverse": True}, {"outputs": X}, {"merge": _kernels.MERGES["sum"]}):
        with pytest.raises(ValueError, match="a stream runs forwards"):
            _kernels.StreamStep(run | wrong, True)
    for wrong in (X, X[:, :1, :4].copy(), x.astype("f8"), X[:, 0].copy()):
        with pytest.raises(ValueError, match="x must be"):
            _kernels.StreamStep(run | {"x": wrong}, True)
    step = _kernels.StreamStep(run, True)
    before = step.states()
    for wrong in (None, 5, [1.0], b"abc", x[:2], X[:, :2], x.astype("f8"), x.astype("i4"), x[0, 0, 0], x[..., None]):
        assert step.push(wrong) is None
    for a, b in zip(step.states(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(step.push(x), model.stream(3)._fast.calls[0](x))
    before = step.states()
    other = _kernels.StreamStep(run, True)
    fitting, wrong = np.ones((2, 3, 9)), np.ones((2, 2, 9))
    for given in (wrong, fitting[:1]):
        with pytest.raises(ValueError, match=r"states have shapes .*; expected 2 of \(3, 9\)"):
            _kernels.set_states([step, other], [fitting, given])
    with pytest.raises(ValueError, match="shorter"):
        _kernels.set_states([step, other], [fitting])
    for a, b in zip(step.states(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    second = X[:, 1:2].copy()
    answer = step.push(second)
    step.go_back()
    assert step.pushed == 1
    np.testing.assert_array_equal(step.states(), before)
    _kernels.set_states([step, other], [fitting, before])
    np.testing.assert_array_equal(step.states(), fitting)
    np.testing.assert_array_equal(other.push(second), answer)
    assert not np.array_equal(step.push(second), answer)
    empty = _kernels.StreamStep(run | {"x": x[:0], "rows": _kernels.Rows(0, 1)}, True)
    assert empty.push(x[:0]).shape == (0, 1, 9)


# ---- state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [chain, lambda: chain(ids=True)])
def test_streams_are_apart_and_state_can_be_kept(net):
    model = load(net(), "head")
    x = IDS if model.inputs[0].dtype == "int32" else X
    whole = model.predict(x)
    one, two = model.stream(3), model.stream(1)
    for t in range(4):
        one.push(x[:, t])
        np.testing.assert_array_equal(two.push(x[:1, t]), whole[:1, t])
    kept = one.state
    copies = [copy.deepcopy(one), pickle.loads(pickle.dumps(one)), model.stream(3)]
    copies[2].state = kept
    for t in range(4, 7):
        np.testing.assert_array_equal(one.push(x[:, t]), whole[:, t])
    for other in copies:
        np.testing.assert_array_equal(other.push(x[:, 4:]), whole[:, 4:])
    one.state = kept
    np.testing.assert_array_equal(one.push(x[:, 4]), whole[:, 4])
    one.reset()
    np.testing.assert_array_equal(one.push(x), whole)
    with pytest.raises(InputError, match="no state of a stream of this model with batch 1"):
        two.state = kept


@pytest.mark.parametrize(("dtype", "backend"), BACKENDS)
def test_a_state_is_taken_whole_or_not_at_all(dtype, backend):
    """The second layer's does not fit."""
    net = Net()
    net.lstm("one", "x", return_sequences=True)
    options = {"filters": 4, "kernel_size": [2], "padding": "causal", "activation": "linear"}
    net.add("Conv1D", "convolution", "one", weights={"kernel": (2, 3, 4), "bias": (4,)}, **options)
    model = load(net, net.lstm("two", "convolution", 4, 2, return_sequences=True), dtype=dtype, backend=backend)
    for stream in (model.stream(3), load(chain(), "head", dtype=dtype, backend=backend).stream(3)):
        stream.push(X[:, :2])
        kept, other = stream.state, copy.deepcopy(stream)
        stream.push(X[:, 2:4])
        for place in range(len(kept)):
            for wrong in (
                kept[place][:-1],
                tuple(a[:, :-1] for a in kept[place]),
                tuple(a[:2] for a in kept[place]),
                ("abc",) * len(kept[place]),
                5,
            ):
                before = stream.state
                with pytest.raises(InputError, match="this is no state of a stream of this model with batch 3"):
                    stream.state = [*kept[:place], wrong, *kept[place + 1 :]]
                for a, b in zip(stream.state, before, strict=True):
                    for x, y in zip(a, b, strict=True):
                        np.testing.assert_array_equal(x, y)
        stream.state = [tuple(a.tolist() for a in part) for part in kept]
        np.testing.assert_array_equal(stream.push(X[:, 2:]), other.push(X[:, 2:]))


@pytest.mark.parametrize(("dtype", "backend"), BACKENDS)
def test_a_second_thread_is_refused(dtype, backend):
    stream = load(chain(), "head", dtype=dtype, backend=backend).stream(3)
    first, kept = stream.push(X[:, 0]), stream.state
    stream.reset()
    uses = {
        "push": lambda: stream.push(X[:, 0]),
        "push a piece": lambda: stream.push(X[:, :2]),
        "reset": stream.reset,
        "state": lambda: stream.state,
        "set the state": lambda: setattr(stream, "state", kept),
        "copy": lambda: copy.deepcopy(stream),
        "pickle": lambda: pickle.dumps(stream),
    }
    refused = []

    def use_all():
        for name, use in uses.items():
            try:
                use()
            except fastbilstm.StreamInUseError as error:
                assert isinstance(error, RuntimeError) and "used by another thread" in str(error)
                refused.append(name)

    with stream._lock:  # as `push` does
        thread = threading.Thread(target=use_all)
        thread.start()
        thread.join()
    assert refused == list(uses)
    np.testing.assert_array_equal(stream.push(X[:, 0]), first)


def test_streams_in_threads():
    model = load(chain(), "head")
    whole, wrong = model.predict(X), []

    def work(row):
        stream = model.stream(1)
        for _ in range(20):
            stream.reset()
            answers, _ = push_all(stream, X[row : row + 1], iter([1, 2, 1, 1, 2]))
            if not np.array_equal(joined(stream, answers)[0], whole[row : row + 1]):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_wrong_pieces_change_nothing():
    model = load(chain(ids=True), "head")
    stream = model.stream(3)
    first = stream.push(IDS[:, :2])
    for bad, text in (
        (IDS[:2, 2], r"input 'x': has shape \(2,\); expected \(3, timesteps\) or, for one timestep, \(3,\)"),
        (IDS[:, :0], r"has shape \(3, 0\)"),
        (np.full((3,), 50, "i4"), "token id at position .* is 50"),
        (np.full((3, 1), -1, "i4"), "token id"),
        (np.full((3, 2), 50, "i8"), "token id"),
        (np.array(["a", "b", "c"]), "dtype <U1"),
    ):
        with pytest.raises(InputError, match=text):
            stream.push(bad)
    whole = model.predict(IDS)
    np.testing.assert_array_equal(np.concatenate([first, stream.push(IDS[:, 2:])], 1), whole)
    for batch in (0, 1.5, True, "a"):
        with pytest.raises(InputError, match="batch is"):
            model.stream(batch)


# ---- convolutions, by a stand-in until all of them are layers -------------------------------------------------------


def test_causal_convolution_keeps_its_history():
    """StreamConvolution calls what runs the layer on the rows it needs; here that is a plain causal sum."""
    from fastbilstm.analysis.causality import Place, _reason_convolution, history
    from fastbilstm.engine.stand_ins import StreamConvolution
    from fastbilstm.layers import Tensor

    class Conv1D:
        name, class_name, casts_input, n_inputs = "conv", "Conv1D", True, 1
        config = {"kernel_size": [3], "dilation_rate": [2], "strides": [1], "padding": "causal"}

        def call(self, inputs, kwargs, states):
            x, mask = inputs[0]
            wide = np.concatenate([np.zeros((len(x), 4, x.shape[2]), x.dtype), x], axis=1)
            return [Tensor(wide[:, :-4] + 2 * wide[:, 2:-2] + 3 * wide[:, 4:], mask)]

    layer, states = Conv1D(), {}
    assert history(layer) == 4 and _reason_convolution(layer) is None
    whole = layer.call([Tensor(X)], {}, {})[0].value
    stand_in = StreamConvolution(Place("convolution", layer), layer)
    found = [stand_in.call([Tensor(X[:, part])], {}, states)[0].value for part in pieces(7, iter([1, 3, 1, 2]))]
    np.testing.assert_array_equal(np.concatenate(found, 1), whole)
    for option, value, text in (("strides", [2], "skips"), ("padding", "same", "later"), ("padding", "valid", "later")):
        layer.config = {**Conv1D.config, option: value}
        assert text in _reason_convolution(layer)
