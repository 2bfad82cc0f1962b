"""A table of projections is made once, when it pays: by one thread, while others go on without it."""

import threading

import numpy as np
import pytest
from built_nets import VOCABULARY, Net

import fastbilstm
from fastbilstm.engine.pending_table import PendingTable

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)


def test_it_is_made_once_when_more_than_an_eighth_of_its_rows_was_read():
    table, made = PendingTable(80), []
    for count in (4, 6):
        table.read(count, lambda: made.append(True))
    assert table.is_pending and not made
    table.read(1, lambda: made.append(True))
    assert not table.is_pending and made == [True]
    table.read(100, lambda: made.append(True))
    assert made == [True]


def test_one_that_finds_no_memory_is_made_later():
    def fails():
        raise MemoryError

    table, made = PendingTable(8), []
    with pytest.raises(MemoryError):
        table.read(2, fails)
    assert table.is_pending
    table.read(1, lambda: made.append(True))
    assert not table.is_pending and made == [True]


def lstm(path):
    net = Net(ids=True)
    path.write_bytes(net.content(net.lstm("r", net.embedding())))
    return "project", lambda layer: layer.layer


def heads(path):
    keras = pytest.importorskip("keras", reason="needs Keras")
    given = keras.Input((7,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, 8)(given)
    keras.Model(given, keras.layers.MultiHeadAttention(2, 3)(x, x)).save(path)
    return "make_tables", lambda layer: layer


@pytest.mark.parametrize("kind", [lstm, heads])
def test_a_thread_that_predicts_while_another_one_makes_it_makes_none(tmp_path, monkeypatch, kind):
    name, maker_of = kind(tmp_path / "m.keras")
    model = fastbilstm.load(tmp_path / "m.keras", backend="vector", n_threads=1)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (9, 7)).astype(np.int32)
    expected = fastbilstm.load(tmp_path / "m.keras", backend="vector", memory_budget=0).predict(ids)
    pending = next(step.layer for step in model._plan.runner.steps if hasattr(step.layer, "pending_table"))
    maker, begun, may_end, calls = maker_of(pending), threading.Event(), threading.Event(), []
    make = getattr(maker, name)

    def slow():
        calls.append(threading.current_thread())
        begun.set()
        assert may_end.wait(60)
        make()

    monkeypatch.setattr(maker, name, slow)
    found = []
    first = threading.Thread(target=lambda: found.append(model.predict(ids)))
    first.start()
    assert begun.wait(60)
    for _ in range(3):
        assert np.array_equal(model.predict(ids), expected)
    assert calls == [first] and not model._plan.runner.is_settled() and not model._plan.replay.tapes.by_shape
    may_end.set()
    first.join()
    assert np.array_equal(found[0], expected) and np.array_equal(model.predict(ids), expected)
    assert calls == [first] and model._plan.runner.is_settled()
