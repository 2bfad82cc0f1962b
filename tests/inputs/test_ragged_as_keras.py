"""Rows of different lengths: the answers are those of Keras for the padded array, and the bits those of our own.

What Keras computes is asked of live models (skipped where TensorFlow is missing).
"""

import os

import numpy as np
import pytest
from ragged_rows import FEATURES, LENGTHS, VOCABULARY, WIDTH, cut, frame_rows, padded, token_rows

import fastbilstm
from fastbilstm import InputError
from fastbilstm.tolerances import compare


def listed(y, model):
    """One answer for each output; the answer of one output may be a list of rows."""
    return y if len(model.outputs) > 1 else [y]


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    pytest.importorskip("tensorflow", reason="live answers need TensorFlow")
    k = pytest.importorskip("keras", reason="live answers need Keras")
    if not k.__version__.startswith("3.") or k.backend.backend() != "tensorflow":
        pytest.skip("live answers need Keras 3 on TensorFlow")
    return k


def ids(k, length=None, mask_zero=True, name=None):
    x = k.Input((length,), name=name, dtype="int32")
    return x, k.layers.Embedding(VOCABULARY, 4, mask_zero=mask_zero)(x)


def masked_stack(k):
    x, y = ids(k)
    y = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True), merge_mode="sum")(y)
    y = k.layers.Bidirectional(k.layers.GRU(3), merge_mode="ave")(k.layers.BatchNormalization()(y))
    return x, k.layers.Dense(1, activation="sigmoid")(y)


def merged(mode, cell):
    def build(k):
        x, y = ids(k)
        return x, k.layers.Bidirectional(getattr(k.layers, cell)(3), merge_mode=mode)(y)

    return build


def fixed_length(k):
    x, y = ids(k, WIDTH)
    return x, k.layers.LSTM(4)(k.layers.GRU(4, return_sequences=True)(y))


def pooled_attention(k):
    x, y = ids(k)
    y = k.layers.LSTM(4, return_sequences=True)(y)
    return x, k.layers.GlobalAveragePooling1D()(k.layers.Attention()([y, y]))


def tagger(k):
    x, y = ids(k)
    y = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True))(y)
    return x, k.layers.TimeDistributed(k.layers.Dense(3, activation="softmax"))(y)


def both_halves(k):
    x, y = ids(k)
    return x, k.layers.Bidirectional(k.layers.GRU(3, return_sequences=True), merge_mode=None)(y)


def sequence_and_vector(k):
    x, y = ids(k)
    y = k.layers.LSTM(4, return_sequences=True)(y)
    return x, [k.layers.Dense(2)(y), k.layers.LSTM(2)(y)]


NETS = {
    "masked stack": masked_stack,
    **{f"{mode} {cell}": merged(mode, cell) for mode, cell in (("concat", "LSTM"), ("mul", "GRU"), (None, "LSTM"))},
    "simple": lambda k: (lambda x, y: (x, k.layers.SimpleRNN(4)(y)))(*ids(k)),
    "fixed length": fixed_length,
    "attention": pooled_attention,
    "tagger": tagger,
    "both halves": both_halves,
    "sequence and vector": sequence_and_vector,
}


def loaded(k, build, tmp_path, **options):
    """A model of Keras with random weights, biases included, and what we make of its file."""
    k.utils.set_random_seed(3)
    model = k.Model(*build(k))
    rng = np.random.default_rng(4)
    model.set_weights([np.abs(rng.normal(0, 0.5, w.shape)) + 0.1 if w.ndim == 1 else w for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    return model, fastbilstm.load(tmp_path / "model.keras", **options)


def answer(model, x):
    """What Keras gives, without compiling anything."""
    y = model(x, training=False)
    return [np.asarray(part) for part in y] if isinstance(y, list) else np.asarray(y)


def check(model, ours, rows, value=0, lengths=LENGTHS, given=None):
    """A list of rows against both paddings by Keras, and against our own answers to the arrays, to the bit."""
    y = listed(ours.predict(rows if given is None else given), ours)
    for side in ("pre", "post"):
        x = padded(rows, side, value)
        answers = zip(y, listed(answer(model, x), ours), listed(ours.predict(x), ours), strict=True)
        for number, (found, expected, own) in enumerate(answers):
            if isinstance(found, list):
                expected, own = cut(expected, lengths, side), cut(own, lengths, side)
                assert [len(part) for part in found] == list(lengths)
            for row, (a, b, c) in enumerate(zip(found, expected, own, strict=True)):
                result = compare(a, b)
                assert result.ok, f"{side}, output {number}, row {row}: {result.message}"
                np.testing.assert_array_equal(a, c)
    return y


@pytest.mark.parametrize("name", NETS)
def test_token_ids(keras, tmp_path, name):
    model, ours = loaded(keras, NETS[name], tmp_path)
    rows = token_rows()
    kinds = [isinstance(part, list) for part in check(model, ours, rows)]
    expected = {"tagger": [True], "both halves": [True, True], "sequence and vector": [True, False]}
    assert kinds == expected.get(name, [False] * len(kinds))
    if name == "sequence and vector":
        return
    whole = listed(ours.predict(rows), ours)
    for other in (
        [np.array(row, "u1") for row in rows],
        tuple(map(tuple, rows)),
        [np.array(row, "f8")[:, np.newaxis] for row in rows],
        np.array(rows, dtype=object),
        {ours.inputs[0].name: rows},
        [rows],
        np.array([*rows, None], dtype=object)[:-1],
    ):
        for found, first in zip(listed(ours.predict(other), ours), whole, strict=True):
            for a, b in zip(found, first, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mask_value", [0.0, -1.0, 0.1])
@pytest.mark.parametrize("sequences", [False, True])
def test_frames(keras, tmp_path, mask_value, sequences):
    def build(k):
        x = k.Input((None, FEATURES))
        y = k.layers.Masking(mask_value)(x)
        return x, k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=sequences))(y)

    model, ours = loaded(keras, build, tmp_path)
    rows = frame_rows(mask_value)
    check(model, ours, rows, value=mask_value)
    check(model, ours, rows, value=mask_value, given=[row.tolist() for row in rows])
    # Frames of whole numbers: padding is still what the layer masks.
    whole = [np.round(row * 3).astype(int) for row in rows]
    y = ours.predict(whole)
    for a, b in zip(y, ours.predict([row.astype("f4") for row in whole]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["masked stack", "tagger", "attention"])
def test_empty_rows(keras, tmp_path, name):
    """A row of no timesteps is a row of padding: zeros go on, a mean is NaN, a sequence is empty."""
    model, ours = loaded(keras, NETS[name], tmp_path)
    for rows in ([[], [4, 5], []], [[]], [[], []]):
        x = np.zeros((len(rows), 4), int)
        x[[k for k, row in enumerate(rows) if row], :2] = [4, 5]
        y, expected = ours.predict(rows), answer(model, x)
        assert len(y) == len(rows)
        for row, found, whole in zip(rows, y, expected):
            np.testing.assert_allclose(found, whole[: len(row)] if name == "tagger" else whole, rtol=1e-5, atol=1e-6)


def test_several_inputs(keras, tmp_path):
    def build(k):
        title, y = ids(k, name="title")
        text, z = ids(k, name="text")
        extra = k.Input((2,), name="extra")
        tags = k.layers.LSTM(3, return_sequences=True)(z)
        y = k.layers.Concatenate()([k.layers.LSTM(4)(y), k.layers.GRU(3)(tags), extra])
        return {"title": title, "text": text, "extra": extra}, [k.layers.Dense(2)(y), k.layers.Dense(2)(tags)]

    model, ours = loaded(keras, build, tmp_path)
    title, text = token_rows(), token_rows(LENGTHS[::-1][:2] + (8, 4, 1, 6, 2), seed=5)
    extra = np.random.default_rng(6).standard_normal((len(title), 2)).astype("f4")
    given = {"title": title, "text": text, "extra": extra.tolist()}
    vector, tags = ours.predict(given)
    lengths = [len(row) for row in text]
    for side in ("pre", "post"):
        x = {"title": padded(title, side), "text": padded(text, side, width=9), "extra": extra}
        expected, expected_tags = answer(model, x)
        assert compare(vector, expected).ok
        np.testing.assert_array_equal(vector, ours.predict(x)[0])
        for found, whole in zip(tags, cut(expected_tags, lengths, side), strict=True):
            assert compare(found, whole).ok
        # Padded as asked: the plain arrays of Keras, each input as long as its longest row.
        x = {"title": padded(title, side, width=9), "text": padded(text, side, width=8), "extra": extra}
        for a, b in zip(ours.predict(given, pad=side), ours.predict(x), strict=True):
            np.testing.assert_array_equal(a, b)
    # One input of rows, the others plain arrays.
    plain = {**given, "text": padded(text, "post")}
    np.testing.assert_array_equal(ours.predict(plain)[0], vector)
    assert ours.predict(plain)[1].shape == (len(title), WIDTH, 2)
    with pytest.raises(InputError, match=r"differ in their number of rows \('title': 6, 'text': 7, 'extra': 7\)"):
        ours.predict({**given, "title": title[:6]})
    with pytest.raises(InputError, match=r"input 'extra': its rows have 2 to 3 timesteps|input 'extra': row 0"):
        ours.predict({**given, "extra": [[1.0, 2.0, 3.0], *extra.tolist()[1:]]})


def test_inputs_of_the_same_lengths(keras, tmp_path):
    """Words and their tags: where rows are of the same lengths in both, padding is masked in both."""

    def build(k):
        words, y = ids(k, name="words")
        tags, z = ids(k, name="tags")
        return [words, tags], k.layers.LSTM(3, return_sequences=True)(k.layers.Concatenate()([y, z]))

    model, ours = loaded(keras, build, tmp_path)
    words, tags = token_rows(), token_rows(seed=8)
    tags[2] = [1, 0, 0, 0, 2, 0, 3, 0, 0]
    y = ours.predict([words, tags])
    for side in ("pre", "post"):
        x = [padded(words, side), padded(tags, side)]
        for found, keras_row, own in zip(
            y, cut(answer(model, x), LENGTHS, side), cut(ours.predict(x), LENGTHS, side), strict=True
        ):
            assert compare(found, keras_row).ok
            np.testing.assert_array_equal(found, own)
    with pytest.raises(InputError, match=r"layer 'concatenate.*' \(Concatenate\) makes padding matter"):
        ours.predict([words, token_rows(LENGTHS[::-1], seed=8)])

    def attends(k):
        (words, tags), _ = build(k)
        y, z = (k.layers.Embedding(9, 2, mask_zero=True)(x) for x in (words, tags))
        return [words, tags], k.layers.LSTM(3)(k.layers.Attention(name="attends")([y, z]))

    _, ours = loaded(keras, attends, tmp_path)
    with pytest.raises(InputError, match=r"layer 'attends' \(Attention\) makes padding matter"):
        ours.predict([[[1, 2], [3]], [[4, 5], [0]]])


@pytest.mark.parametrize("pad", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 4, 20])
def test_pad_where_every_timestep_counts(keras, tmp_path, pad, truncating, maxlen):
    def build(k):
        x, y = ids(k, mask_zero=False)
        return x, k.layers.Dense(2)(k.layers.LSTM(3, return_sequences=True)(y))

    model, ours = loaded(keras, build, tmp_path)
    rows = token_rows()
    for value in (0, 7):
        options = {"maxlen": maxlen, "truncating": truncating, "value": value}
        x = keras.utils.pad_sequences(rows, padding=pad, **options)
        y = ours.predict(rows, batch_size=3, pad=pad, **options)
        assert compare(y, answer(model, x)).ok
        np.testing.assert_array_equal(y, ours.predict(x))
        # An array is padded and cut as well.
        y = ours.predict(np.array([rows[2], rows[4]]), pad=pad, **options)
        x = keras.utils.pad_sequences([rows[2], rows[4]], padding=pad, **options)
        np.testing.assert_array_equal(y, ours.predict(x))


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_pad_where_masks_hide_it(keras, tmp_path, value):
    """`value` may be what is masked, or not: then it is a number like others."""

    def build(k):
        x = k.Input((None, FEATURES))
        return x, k.layers.LSTM(4)(k.layers.Masking()(x))

    model, ours = loaded(keras, build, tmp_path)
    rows = frame_rows(0.0)
    x = keras.utils.pad_sequences(rows, 6, dtype="float32", padding="post", truncating="post", value=value)
    y = ours.predict(rows, pad="post", maxlen=6, truncating="post", value=value)
    assert compare(y, answer(model, x)).ok
    np.testing.assert_array_equal(y, ours.predict(x))


def test_masks_that_are_not_those_of_padding(keras, tmp_path):
    """Padding would have to hold two numbers, or is changed before it is masked: it is not left out silently."""

    def two_values(k):
        x = k.Input((None, FEATURES))
        return x, k.layers.Add()([k.layers.LSTM(3)(k.layers.Masking(v)(x)) for v in (0.0, 1.0)])

    def changed(k):
        x = k.Input((None, FEATURES))
        return x, k.layers.LSTM(3)(k.layers.Masking()(k.layers.Dense(4)(x)))

    def attention(k):
        x, y = ids(k)
        return x, k.layers.MultiHeadAttention(1, 2, name="heads")(y, y)

    for build, rows in ((two_values, frame_rows(0.0)), (changed, frame_rows(0.0)), (attention, token_rows())):
        model, ours = loaded(keras, build, tmp_path)
        words = r"layer 'heads' \(MultiHeadAttention\)" if build is attention else "the mask of layer 'masking"
        with pytest.raises(InputError, match=rf"{words}.* makes padding matter; pass pad="):
            ours.predict(rows)
        assert compare(ours.predict(rows, pad="pre", maxlen=WIDTH), answer(model, padded(rows, "pre"))).ok


def test_a_mask_that_a_layer_drops(keras, tmp_path):
    """RMSNormalization passes no mask on: the LSTM after it reads padding, and the rows need it."""
    if not hasattr(keras.layers, "RMSNormalization"):
        pytest.skip("Keras before 3.9 has no RMSNormalization")
    layers = keras.layers
    net = keras.Sequential([layers.Embedding(VOCABULARY, 3, mask_zero=True), layers.RMSNormalization(), layers.LSTM(4)])
    net.build((None, WIDTH))
    net.save(tmp_path / "net.keras")
    model = fastbilstm.load(tmp_path / "net.keras")
    with pytest.raises(InputError, match=r"layer 'lstm.*' \(LSTM\).* makes padding matter"):
        model.predict(token_rows())
    expected = net.predict(padded(token_rows(), "pre"), verbose=0)
    assert compare(model.predict(token_rows(), pad="pre", maxlen=WIDTH), expected).ok
