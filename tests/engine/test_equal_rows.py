"""Equal rows of a batch are computed once: the outputs are those of row by row, and errors name the rows as given."""

import numpy as np
import pytest

pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")

from engine_nets import NETS, inputs, load, same_bits

from fastbilstm import InputError
from fastbilstm.engine import equal_rows


@pytest.fixture
def counted(monkeypatch):
    """How many rows were computed; keys are made for the smallest nets, too."""
    from fastbilstm.engine import plan

    rows, before = [], plan.Plan.predict_all

    def predict_all(self, arrays, *rest):
        rows.append(len(arrays[0]))
        return before(self, arrays, *rest)

    monkeypatch.setattr(equal_rows, "WORTH_KEYS", 0)
    monkeypatch.setattr(equal_rows, "WORTH_LOOKING", 0)
    monkeypatch.setattr(plan.Plan, "predict_all", predict_all)
    return rows


@pytest.mark.parametrize("name", NETS)
def test_same_bits(name, counted):
    """Each row several times, in any order: floats and ids, every net, outputs of sequences."""
    model, x = load(name), inputs(name)
    order = np.random.default_rng(1).integers(0, len(x), 150)
    y = model.predict(x[order])
    assert counted == [len(np.unique(x[order], axis=0))]
    same_bits(y, model.predict(x)[order])


def test_rows_of_different_lengths(counted):
    """Lists, too; an output is an array of its own, which the caller may write into."""
    rng = np.random.default_rng(2)
    for name in ("masked lstm", "tagger"):
        model = load(name)
        kinds = [rng.integers(1, 50, n) if name == "masked lstm" else rng.standard_normal((n, 5)) for n in (3, 1, 7, 3)]
        kinds[3][:2] = kinds[0][:2]
        order = rng.integers(0, 4, 60).tolist()
        counted.clear()
        found = model.predict([kinds[k] for k in order])
        assert counted == [4]
        single = [model.predict(kind[np.newaxis])[0] for kind in kinds]
        for k, y in zip(order, found, strict=True):
            same_bits(np.asarray(y), single[k])
        if isinstance(found, list):
            found[0][...] = 7
            assert not any((y == 7).all() for y in found[1:])


@pytest.mark.parametrize("pad", ["pre", "post"])
def test_padded_lists(pad, counted):
    model = load("two towers")
    rows = [[3, 4], [5], [3, 4], [4, 3]] * 20
    y = model.predict(rows, pad=pad)
    assert counted == [3]
    same_bits(y, np.concatenate([model.predict([row], pad=pad, maxlen=2) for row in rows]))


def test_rows_of_equal_keys_that_differ():
    """What a key does not read is compared: other features, the order of a ragged row; -0 is not 0."""
    x = np.zeros((40, 6, 3), np.float32)
    x[1::4, 2, 1], x[2::4, 4, 2], x[3::4, 0, 0] = 1, 1, -0.0
    firsts, places = equal_rows.find([x])
    assert firsts.tolist() == [0, 1, 2, 3] and places.tolist() == [0, 1, 2, 3] * 10
    x[:, 5, 1] = np.arange(40) // 4
    assert equal_rows.find([x]) is None


def test_many_kinds_of_one_key_are_not_all_compared(monkeypatch):
    """Time stays linear in the rows, whatever they hold."""
    compared, same = [], equal_rows._same
    monkeypatch.setattr(equal_rows, "_same", lambda *args: compared.append(1) or same(*args))
    x = np.zeros((2000, 2, 2), np.float32)
    x[:, 0, 1] = np.arange(2000)
    assert equal_rows.find([x]) is None and len(compared) <= equal_rows.MOST_DIFFERENT + equal_rows.MOST_COMPARED
    compared.clear()
    x[1000:, 0, 1] = 0
    x[:1000, 0, 0] = np.arange(1000)  # which a key reads
    firsts, _ = equal_rows.find([x])
    assert firsts.tolist() == list(range(1000)) and len(compared) <= 1100


def test_long_rows_are_told_apart_by_a_few_numbers():
    """Any timestep and feature that differs is found, in what a key reads and in what it does not."""
    rng = np.random.default_rng(0)
    for shape, count in (((300,), 60), ((300, 3), 60), ((2, 3, 5), 60), ((), 60), ((0,), 3), ((4, 0), 3)):
        kinds = rng.integers(0, 5, (7, *shape)).astype(np.float32)
        for number in range(1, 7):
            kinds[number] = kinds[0]
            if kinds[0].size:
                kinds[number].reshape(-1)[rng.integers(kinds[0].size)] += number
        x = kinds[rng.integers(0, 7, count)]
        found = equal_rows.find([x])
        firsts, places = np.unique(x.reshape(count, -1), axis=0, return_index=True)[1], None
        if found is not None:
            places = found[1]
            assert np.array_equal(x[found[0]][places], x)
        assert len(found[0] if found else x) >= len(firsts)


def test_keys_are_made_where_they_cost_little():
    """64 units on token ids; not a small cell on wide frames, nor strings."""
    ids, frames = np.zeros((50, 400), np.int32), np.zeros((50, 400, 30), np.float32)
    assert equal_rows.worth_looking([ids], 400 * 49_000) and not equal_rows.worth_looking([frames], 400 * 1000)
    assert not equal_rows.worth_looking([np.zeros((50, 1), object)], 10**9)


def test_an_error_names_the_row_as_given(counted):
    model = load("two towers")
    x = np.ones((100, 11), np.int64)
    x[70, 3] = 50
    with pytest.raises(InputError, match="70"):
        model.predict(x)


def test_progress_counts_all_rows(counted, capsys, monkeypatch):
    from fastbilstm.engine import plan

    model, seen = load("two towers"), []
    x = np.repeat(inputs("two towers")[:3], 50, axis=0)
    model._plan.predict([x], 32, {}, 1, seen.append)
    assert plan.CHUNK_ROWS < len(x) and (not seen or seen[-1] == 150)


def test_few_rows_and_dependent_ones_are_run_as_given(counted):
    model = load("two towers")
    model.predict(np.ones((36, 11), np.int64))
    assert counted == [36]
