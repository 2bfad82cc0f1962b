"""What counts as a label that differs, and which rows `calibrate` takes."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.converted.narrow_error import flips, measure
from fastbilstm.errors import InputError
from fastbilstm.loading import narrowed_model

CASES = {
    "classes": ([[0.6, 0.4], [0.2, 0.8]], [[0.4, 0.6], [0.3, 0.7]], (1, 2)),
    "tags": ([[[0.6, 0.4], [0.2, 0.8]]], [[[0.4, 0.6], [0.7, 0.3]]], (2, 2)),
    "one probability": ([[0.49], [0.51], [0.2]], [[0.51], [0.52], [0.3]], (1, 3)),
    "several labels": ([[0.9, 0.9], [0.1, 0.6]], [[0.9, 0.4], [0.1, 0.4]], (2, 4)),
    "numbers of classes": (np.array([[1, 2, 3]]), np.array([[1, 2, 4]]), (1, 3)),
    "any numbers": ([[3.0, -1.0]], [[-1.0, 3.0]], (0, 0)),
    "other shapes": ([[0.6, 0.4]], [[0.4]], (0, 0)),
    "no rows": (np.zeros((0, 2)), np.zeros((0, 2)), (0, 0)),
    "strings": (np.array([[b"a"]], object), np.array([[b"b"]], object), (0, 0)),
    "a vector": (np.array([0.6]), np.array([0.4]), (0, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_flips(case):
    y, k, expected = CASES[case]
    assert flips(np.asarray(y), np.asarray(k)) == expected


def test_numbers_that_labels_name_have_a_largest():
    y, k, _ = CASES["any numbers"]
    assert flips(np.asarray(y), np.asarray(k), named=True) == (1, 1)


def two_inputs():
    """Token ids through an Embedding, and floats, joined."""
    config = mf.functional(
        mf.input_layer(functional=True),
        mf.embedding(inbound=["ids"]),
        mf.lstm(inbound=["embedding"], units=2),
        mf.input_layer("extra", (None, 2), "float32", functional=True),
        mf.layer("Add", "add", ["lstm", "extra"]),
        inputs=("ids", "extra"),
        outputs=("add",),
    )
    return mf.h5(config, mf.weights_of(embedding={"embeddings": (7, 4)}, lstm=mf.lstm_weights(4, 2)))


def test_rows_of_several_inputs_come_from_a_npz(tmp_path):
    extra = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", extra=extra, ids=mf.IDS)
    model = fastbilstm.convert(two_inputs(), tmp_path / "m.fbl", weights="int8", calibrate=tmp_path / "rows.npz")
    wide = fastbilstm.load(two_inputs())
    off = np.abs(model.predict([mf.IDS, extra]) - wide.predict([mf.IDS, extra])).max()
    assert model.measured[1].largest[0] == pytest.approx(off) and model.measured[1].labels == 0
    assert "labels" not in str(model.measured[1])
    np.savez(tmp_path / "rows.npz", ids=mf.IDS)
    with pytest.raises(InputError, match=r"calibrate, the rows of rows\.npz: .*extra"):
        fastbilstm.convert(two_inputs(), tmp_path / "n.fbl", weights="int8", calibrate=tmp_path / "rows.npz")


def test_stateful_models_begin_with_zeros_and_keep_their_states():
    layers = mf.input_layer("x", (3, None, 4), "float32"), mf.lstm(stateful=True, units=3)
    net = mf.h5(mf.sequential(*layers), mf.weights_of(lstm=mf.lstm_weights(4, 3)))
    wide = fastbilstm.load(net)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    wide.predict(x)
    narrow = narrowed_model(wide, "int8")
    first = measure(narrow, wide, x)
    assert measure(narrow, wide, x) == first and first[0].rows == "3 made-up rows"
    fresh = fastbilstm.load(net)
    assert first[1].largest[0] == pytest.approx(np.abs(fresh.predict(x) - narrow.predict(x)).max())


def test_rows_of_different_lengths():
    net = mf.h5(mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(return_sequences=True), mf.dense()))
    wide = fastbilstm.load(net)
    narrow = narrowed_model(wide, "int8")
    rows = [[1, 2, 3], [4], [5, 6]]
    (_, found) = measure(narrow, wide, rows)
    pairs = zip(narrow.predict(rows), wide.predict(rows), strict=True)
    assert found.largest[0] == pytest.approx(max(np.abs(y - k).max() for y, k in pairs))
