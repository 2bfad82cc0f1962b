"""The vector engine: the same bits for a row wherever and however it is computed, on every instruction set.

Batch size, place in the batch, threads, memory budget, repetition; and masked padding where the plan says so.
"""

import make_files as mf
import numpy as np
import pytest
from engine_nets import NETS, ROWS, embedding, inputs, load, lstm, one, same_bits

import fastbilstm
from fastbilstm.tolerances import compare

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)


@pytest.fixture(params=_kernels.isas())
def isa(request):
    """Plans made in the test use one instruction set."""
    before = _kernels.isa()
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.mark.parametrize("name", NETS)
def test_agrees_with_the_specification(name, isa):
    x = inputs(name)
    model = load(name)
    assert model.backend == "vector"
    result = compare(model.predict(x), load(name, backend="numpy", dtype="float64").predict(x))
    assert result.ok, result.message


@pytest.mark.parametrize("name", NETS)
def test_a_row_is_the_same_in_every_batch(name, isa):
    x, model = inputs(name), load(name)
    whole = model(x)
    same_bits(model(x), whole)
    for rows in ([0], [32], [4], [1, 0], [7, 8, 9, 10, 11], list(range(32, -1, -1)), [5] * 13):
        same_bits(model(x[rows]), whole[rows])
    for batch_size in (1, 2, 5, 32, 100):
        same_bits(model.predict(x, batch_size=batch_size), whole)
    assert model(x[:0]).shape == (0, *whole.shape[1:])
    assert all(step.layer is not None for step in model._plan.runner.steps) and model._plan.independent


@pytest.mark.parametrize("name", NETS)
def test_threads_and_budget_do_not_change_a_bit(name, isa, monkeypatch):
    from fastbilstm.engine import plan
    from fastbilstm.engine import vector_layers as engine

    x = inputs(name)
    whole = load(name, n_threads=1)(x)
    monkeypatch.setattr(engine, "PARALLEL_WORK", 0)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(plan.threads, "cores", lambda: 8)
    for n_threads in (2, 3, 8):
        model = load(name, n_threads=n_threads)
        same_bits(model(x), whole)
        same_bits(model.predict(x, n_threads=2, batch_size=4), whole)
        same_bits(np.concatenate([model(row[None]) for row in x]), whole)
    same_bits(load(name, memory_budget=0)(x), whole)
    model = load(name)
    for _ in range(3):  # the table of 50 rows is made on the way
        same_bits(np.concatenate([model(row[None]) for row in x]), whole)


def test_long_sequences_in_slices(isa):
    """More timesteps than a slice of projections holds, and more rows than a chunk."""
    for name in ("lstm", "masked stack", "gru stack", "tagger"):
        x = inputs(name, rows=40, timesteps=700)
        whole = load(name, memory_budget=0)(x)
        exact = load(name, backend="numpy", dtype="float64")(x)
        assert np.abs(whole - exact).max() <= 2e-6 * np.abs(exact).max()
        same_bits(load(name, memory_budget=0)(x[11:12]), whole[11:12])


def test_memory_does_not_grow_with_time():
    """No sequence is returned and none is masked: buffers for 10,000 timesteps are those for 2,000."""
    sizes = []
    for timesteps in (2000, 10_000):
        for budget in (None, 0):
            model = load("two towers", memory_budget=budget, n_threads=1)
            model.predict(inputs("two towers", 8, timesteps))
            (scratch,) = model._plan.scratches
            sizes.append(scratch.nbytes)
    assert sizes[:2] == sizes[2:] and max(sizes) < 2_000_000, sizes


PADDING = {
    "lstm": "no masks: every timestep counts",
    "wide": "to the bit",
    "masked lstm": "to the bit",
    "masked stack": "to the bit",
    "gru stack": "to the bit",
    "tagger": "depends on the amount of padding (a sequence is returned)",
    "attention": "to the bit",
    "attention without pooling": "to the bit",
    "two towers": "no masks: every timestep counts",
    "softmax cell": "to the bit",
    "max pooling": "depends on the amount of padding (layer 'pooling' (GlobalMaxPooling1D))",
    "backwards twice": "depends on the amount of padding (layer 'first' (LSTM))",
}


@pytest.mark.parametrize("name", NETS)
def test_padding(name, isa):
    model, x = load(name), inputs(name)
    text = []
    model.summary(text.append)
    assert PADDING[name] in text[0]
    x = x[np.arange(ROWS) != 4]  # a mean over no timestep is NaN, with any padding
    whole = model(x)
    wider = lambda before, after: np.pad(x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))  # noqa: E731
    if "to the bit" in PADDING[name]:
        for before, after in ((1, 0), (0, 1), (3, 4), (100, 0), (0, 333)):
            same_bits(model(wider(before, after)), whole)
        spread = np.repeat(x, 3, axis=1)
        spread[:, np.arange(spread.shape[1]) % 3 != 1] = 0
        same_bits(model(spread), whole)
    elif name != "tagger":
        assert np.abs(model(wider(3, 4)) - whole).max() > 1e-4


def test_what_is_exempt_is_marked():
    layers = [
        *embedding()[0],
        lstm("lstm", 4, ["embedding"]),
        mf.layer("Activation", "gated", ["lstm"], activation="glu"),
    ]
    shapes = {**embedding()[1], **one("lstm", 5, 4)}
    content = mf.h5(mf.functional(*layers, outputs=["gated"]), mf.weights_of(**shapes), version=mf.KERAS3)
    text = []
    fastbilstm.load(content).summary(text.append)
    assert "run by NumPy, where the last bits of a row may depend on the batch: gated" in text[0]
    assert "does not depend on the amount of masked padding, up to rounding" in text[0]


def test_summary_tells_what_was_planned():
    text = []
    load("masked stack").summary(text.append)
    load("masked stack", memory_budget=0).summary(text.append)
    rows = {line.split()[0]: line for line in text[0].splitlines() if line.strip()}
    assert "in a table of projections" in rows["embedding"] and "folded" in rows["bn"] and "vector" in rows["first"]
    assert "rows read in place" in text[1]
    load("attention").summary(text.append)
    assert "mean over queries first" in text[2]


def test_bad_options():
    for options, words in (
        ({"memory_budget": -1}, "memory_budget is -1; expected a number of bytes"),
        ({"memory_budget": 1.5}, "memory_budget is 1.5"),
        ({"backend": "vector", "dtype": "float64"}, "backend 'vector' computes in float32, not in float64"),
        ({"backend": "fast"}, "expected one of auto, vector, blas, numpy"),
        ({"n_threads": 0}, "n_threads is 0; expected a whole number of at least 1"),
        ({"n_threads": True}, "n_threads is True"),
    ):
        with pytest.raises((ValueError, fastbilstm.InputError), match=words):
            load("lstm", **options)
    with pytest.raises(fastbilstm.InputError, match="n_threads is 'two'"):
        load("lstm").predict(inputs("lstm"), n_threads="two")
    with pytest.raises(ValueError, match="instruction set 'mmx' .* expected one of"):
        _kernels.use("mmx")


def test_ids_out_of_range_inside_the_engine():
    """Where an Embedding does not read the input itself nothing is checked beforehand."""
    model = load("lstm")
    for bad in (np.array([[1, 50]]), np.array([[2**31 + 1, 0]]), np.array([[-1, 3]])):
        with pytest.raises(
            fastbilstm.InputError, match=r"layer 'embedding' .*token id at position|input 'ids' has dtype"
        ):
            model._plan.run([bad], {})
