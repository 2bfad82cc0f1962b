"""MultiHeadAttention: the masks it takes off are in the graph, not in the list of layers; what is refused."""

import numpy as np
import pytest

import fastbilstm
from fastbilstm.errors import UnsupportedLayerError


@pytest.fixture(scope="module")
def k():
    return pytest.importorskip("keras", reason="needs Keras")


def block(k, masked):
    i = k.Input((4,), dtype="int32")
    x = k.layers.Embedding(9, 4, mask_zero=masked)(i)
    return k.Model(i, k.layers.Add()([x, k.layers.MultiHeadAttention(2, 2)(x, x)]))


@pytest.mark.parametrize("masked", [False, True])
def test_a_mask_that_is_gone_is_written_into_the_graph(k, tmp_path, masked):
    model = block(k, masked)
    model.save(tmp_path / "m.keras")
    fast = fastbilstm.load(tmp_path / "m.keras")
    assert sum(layer.class_name == "ForgetMask" for layer in fast.graph.layers) == masked
    names = [layer.name for layer in model.layers if layer.weights or layer.name.startswith("add")]
    assert [layer.name for layer in fast.layers if not layer.class_name.startswith("ops.")] == names
    ids = np.array([[1, 2, 0, 0], [3, 4, 5, 6]])
    np.testing.assert_allclose(fast.predict(ids), np.asarray(model(ids)), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(fast.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_of_a_batch_do_not_hang_together(k, tmp_path):
    block(k, True).save(tmp_path / "m.keras")
    fast = fastbilstm.load(tmp_path / "m.keras")
    ids = np.random.default_rng(0).integers(0, 9, (50, 4))
    apart = np.concatenate([fast.predict(row[np.newaxis]) for row in ids])
    np.testing.assert_allclose(fast.predict(ids, batch_size=50), apart, rtol=1e-5, atol=1e-6)
    assert fast._plan.independent


def test_attention_across_the_batch_is_refused(k, tmp_path):
    config = block(k, False).get_config()
    layer = next(entry for entry in config["layers"] if entry["class_name"] == "MultiHeadAttention")
    layer["config"]["attention_axes"] = [0]
    model = block(k, False)
    model.save_weights(tmp_path / "m.weights.h5")
    text = {"class_name": "Functional", "config": config, "keras_version": k.__version__}
    with pytest.raises(UnsupportedLayerError, match=r"attention_axes=\[0\]"):
        fastbilstm.load(tmp_path / "m.weights.h5", config=text)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_the_first_of_two_calls_takes_the_mask_in_the_order_of_sorted_names(k, tmp_path, names):
    i = k.Input((4, 3))
    x = k.layers.Masking()(i)
    layers = [k.layers.MultiHeadAttention(2, 2, dropout=0.1) for _ in names]
    model = k.Model(i, {name: layer(x, x) for name, layer in zip(names, layers, strict=True)})
    model.save(tmp_path / "m.keras")
    given = np.random.default_rng(0).standard_normal((3, 4, 3)).astype("f4")
    given[1, :2] = given[2, 3] = 0
    ours, theirs = fastbilstm.load(tmp_path / "m.keras").predict(given), model(given)
    for name in names:
        np.testing.assert_allclose(ours[name], np.asarray(theirs[name]), rtol=1e-5, atol=1e-6)
