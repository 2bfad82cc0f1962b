"""SpectralNormalization around layers with a kernel, and ReversibleEmbedding in both directions, beside live Keras."""

import make_files as mf
import numpy as np
import pytest
from beside_keras import same

import fastbilstm
from fastbilstm import FileFormatError

RNG = np.random.default_rng(9)
SEQUENCE = RNG.standard_normal((3, 6, 4)).astype("f4") * (RNG.random((3, 6, 1)) > 0.3)
IDS = RNG.integers(0, 5, (3, 6)).astype("i4")


@pytest.fixture
def k():
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    return pytest.importorskip("keras")


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_inner_layers(form, k, tmp_path):
    L, path = k.layers, tmp_path / f"m.{form}"
    wrapped = L.SpectralNormalization
    same(
        k,
        [
            wrapped(L.Dense(3, activation="tanh"), power_iterations=3),
            lambda x: L.Dense(2)(wrapped(L.Dense(3))(L.Dense(4)(x))),
            wrapped(L.Conv1D(3, 2)),
            wrapped(L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")),
            L.TimeDistributed(wrapped(L.Dense(3))),
            # The mask goes on, also through the wrapper.
            lambda x: L.LSTM(3)(wrapped(L.Dense(5))(L.Masking()(x))),
            lambda x: L.LSTM(3)(wrapped(L.Conv1D(5, 1))(L.Masking()(x))),
        ],
        SEQUENCE,
        path,
    )
    assert fastbilstm.load(path)._plan.runner.labels[1].startswith(("vector", "folded"))


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_embeddings_of_whole_numbers_are_cut_off(form, k, tmp_path):
    """Keras 3 casts the answer to the dtype of the input."""
    L = k.layers
    made = [
        lambda ids: L.SpectralNormalization(L.Embedding(5, 3, mask_zero=True))(ids),
        lambda ids: L.Dense(3)(L.SpectralNormalization(L.Embedding(5, 3))(ids)),
    ]
    model = same(k, made, IDS, tmp_path / f"m.{form}")
    assert model.predict(IDS)[0].dtype == np.int32
    made = [lambda ids: L.LSTM(3)(L.SpectralNormalization(L.Embedding(5, 3, mask_zero=True))(ids))]
    same(k, made, IDS.astype("f4"), tmp_path / f"m.{form}")


@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize("tied", [True, False])
def test_reversible_embedding(tied, form, k, tmp_path):
    def language_model(ids, **options):
        words = k.layers.ReversibleEmbedding(5, 4, tie_weights=tied, **options)
        return words(k.layers.LSTM(4, return_sequences=True)(words(ids)), reverse=True)

    path = tmp_path / f"m.{form}"
    made = [language_model, lambda ids: language_model(ids, mask_zero=True, logit_soft_cap=0.5)]
    same(k, made, IDS, path)
    words = [
        k.layers.ReversibleEmbedding(5, 4, tie_weights=tied, logit_soft_cap=cap, reverse_dtype=dtype)
        for cap, dtype in ((None, None), (2.0, "float32"))
    ]
    made = [lambda x, layer=layer: layer(x, reverse=True) for layer in words]
    assert same(k, made, SEQUENCE, path)._plan.id_limits == (None,)


def test_reverse_in_float64(k, tmp_path):
    """The product of float64 is rounded to the dtype of computation; Keras returns it as it is."""
    layer = k.layers.ReversibleEmbedding(5, 4, reverse_dtype="float64")
    given = k.Input((6, 4))
    model = k.Model(given, layer(given, reverse=True))
    model.save(tmp_path / "m.keras")
    expected = model.predict(SEQUENCE, verbose=0)
    y = fastbilstm.load(tmp_path / "m.keras").predict(SEQUENCE)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(y, expected.astype("f4"))


def test_masked_padding(k, tmp_path):
    """Rows of different lengths: the logits of a row's own timesteps do not depend on padding."""
    words = k.layers.ReversibleEmbedding(9, 4, mask_zero=True)
    given = k.Input((None,), dtype="int32")
    model = k.Model(given, words(k.layers.LSTM(4, return_sequences=True)(words(given)), reverse=True))
    model.save(tmp_path / "m.keras")
    ours = fastbilstm.load(tmp_path / "m.keras")
    rows = [[3, 1, 4, 1], [5], [2, 6]]
    for row, y in zip(rows, ours.predict(rows), strict=True):
        np.testing.assert_allclose(y, model.predict(np.array([row]), verbose=0)[0], rtol=0, atol=3e-6)


def test_a_wrong_size_is_named(tmp_path):
    layer = mf.layer("ReversibleEmbedding", "words", input_dim=5, output_dim=4, tie_weights=False)
    weights = mf.weights_of(words={"embeddings": (5, 4), "reverse_embeddings": (5, 4)})
    with pytest.raises(FileFormatError, match=r"reverse_embeddings has shape \(5, 4\); the model needs \(4, 5\)"):
        fastbilstm.load(mf.h5(mf.sequential(mf.input_layer(), layer), weights, version="3.15.0"))
