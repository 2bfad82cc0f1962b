"""Rows of different lengths: the answers are those of Keras for the padded array, and the bits those of our own.

What Keras computes is asked of live models (skipped where TensorFlow is missing); errors, grouping and padding are
tested on models built by hand. The real reviews need the shared folder.
"""

import os

import built_nets
import make_files as mf
import numpy as np
import pytest
from shared import shared_file

import fastbilstm
from fastbilstm import InputError
from fastbilstm.engine import plan
from fastbilstm.tolerances import IMDB_PROBABILITY, compare

VOCABULARY, FEATURES = 30, 3
LENGTHS = (5, 1, 9, 3, 9, 2, 7)
WIDTH = 11


def token_rows(lengths=LENGTHS, seed=0):
    """Rows of ids, one of them with masked holes at both ends and inside."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, VOCABULARY, length).tolist() for length in lengths]
    rows[2][0] = rows[2][3] = rows[2][-1] = 0
    return rows


def frame_rows(mask_value, lengths=LENGTHS, seed=1):
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((length, FEATURES)).astype("f4") for length in lengths]
    rows[2][[0, 3, -1]] = mask_value
    return rows


def padded(rows, side, value=0, width=WIDTH):
    """The array that pad_sequences makes of rows no longer than `width`."""
    rows = [np.asarray(row) for row in rows]
    whole = np.full((len(rows), width, *rows[0].shape[1:]), value, rows[0].dtype)
    for target, row in zip(whole, rows):
        target[width - len(row) if side == "pre" else 0 :][: len(row)] = row
    return whole


def cut(y, lengths, side):
    """The timesteps of each row in an answer to a padded array."""
    return [row[len(row) - n :] if side == "pre" else row[:n] for row, n in zip(y, lengths)]


def listed(y, model):
    """One answer for each output; the answer of one output may be a list of rows."""
    return y if len(model.outputs) > 1 else [y]


# ---- what Keras answers ---------------------------------------------------------------------------------------------


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


# ---- groups ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokens():
    """Embedding(7, mask_zero), LSTM, Dense."""
    return fastbilstm.load(mf.h5())


def small_rows(count=200, longest=60):
    rng = np.random.default_rng(7)
    return [rng.integers(0, 7, rng.integers(0, longest)) for _ in range(count)]


@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_bits_do_not_depend_on_the_group(tokens, batch_size, n_threads, monkeypatch):
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    rows = small_rows()
    whole = tokens.predict(padded(rows, "pre", width=60))
    y = tokens.predict(rows, batch_size=batch_size, n_threads=n_threads)
    np.testing.assert_array_equal(y, whole)
    np.testing.assert_array_equal(tokens(rows), whole)
    np.testing.assert_array_equal(np.concatenate([tokens.predict([row]) for row in rows]), whole)


@pytest.mark.parametrize("options", [{"backend": "numpy"}, {"dtype": "float64", "backend": "numpy"}], ids=str)
def test_other_backends(options):
    model, rows = fastbilstm.load(mf.h5(), **options), small_rows()
    result = compare(model.predict(rows), model.predict(padded(rows, "pre", width=60)), model.dtype)
    assert result.ok, result.message


def watch(monkeypatch, shapes):
    """Note the shape of every batch that is computed."""
    run = plan.Plan.run

    def noted(self, arrays, *rest):
        shapes.append(arrays[0].shape)
        return run(self, arrays, *rest)

    monkeypatch.setattr(plan.Plan, "run", noted)


def test_a_long_row_does_not_pad_the_others(tokens, monkeypatch):
    """What is computed at once has at most three times the timesteps of its rows, and `batch_size` rows."""
    rows = [*small_rows(40), np.ones(5000, int)]
    sizes = []
    watch(monkeypatch, sizes)
    y = tokens.predict(rows, batch_size=16)
    assert sum(size for size, _ in sizes) == 41 and max(size for size, _ in sizes) <= 16
    assert sum(size * width for size, width in sizes) <= 3 * sum(max(len(row), 1) for row in rows)
    monkeypatch.undo()
    np.testing.assert_array_equal(y, tokens.predict(padded(rows, "post", width=5000)))


def test_padded_batch_by_batch(monkeypatch):
    """Where padding counts, no more than a batch of it is in memory."""
    model = fastbilstm.load(
        mf.h5(mf.sequential(mf.input_layer(), mf.embedding(mask_zero=False), mf.lstm(), mf.dense()))
    )
    rows, sizes = small_rows(100), []
    expected = model.predict(padded(rows, "pre", width=59))
    watch(monkeypatch, sizes)
    np.testing.assert_array_equal(model.predict(rows, pad="pre", batch_size=8), expected)
    assert max(size for size, _ in sizes) <= 8 and {width for _, width in sizes} == {59}


def test_one_length_is_an_array(tokens):
    x = np.random.default_rng(8).integers(0, 7, (5, 6))
    expected = tokens.predict(x)
    for rows in (list(x), x.tolist(), [tuple(row) for row in x.tolist()], {"ids": list(x)}):
        np.testing.assert_array_equal(tokens.predict(rows), expected)
    unmasked = mf.floats()
    frames = np.random.default_rng(9).standard_normal((5, 6, 4)).astype("f4")
    np.testing.assert_array_equal(unmasked.predict(list(frames)), unmasked.predict(frames))
    # Rows of which one length is left over after they are cut.
    longer = [np.concatenate([np.ones((k, 4)), frame]) for k, frame in enumerate(frames)]
    np.testing.assert_array_equal(unmasked.predict(longer, maxlen=6), unmasked.predict(frames))


def test_no_rows(tokens):
    assert tokens.predict([]).shape == (0, 2) and tokens.predict([]).dtype == np.float32
    assert tokens.predict([], pad="pre", maxlen=4).shape == (0, 2)
    net = built_nets.Net(ids=True)
    model = fastbilstm.load(net.content(net.lstm("lstm", net.embedding(mask_zero=True), return_sequences=True)))
    assert model.predict([]) == []


def test_maxlen_cuts(tokens):
    rows = small_rows()
    for truncating, kept in (("pre", slice(-5, None)), ("post", slice(5))):
        y = tokens.predict(rows, maxlen=5, truncating=truncating)
        np.testing.assert_array_equal(y, tokens.predict([row[kept] for row in rows]))
        np.testing.assert_array_equal(y, tokens.predict(rows, pad="post", maxlen=5, truncating=truncating))
    x = np.random.default_rng(8).integers(0, 7, (5, 9))
    np.testing.assert_array_equal(tokens.predict(x, maxlen=4), tokens.predict(x[:, -4:]))


def test_progress(tokens, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    tokens.predict(small_rows(50), batch_size=8, verbose=1)
    assert "50/50 rows" in capsys.readouterr().err


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 2], 3], "row 1 is 3; expected numbers, an array of shape [(]any,[)]"),
        ([[1, 2], None], "row 1 is None; expected numbers"),
        ([[1, 2], [3], ["a", "b"]], "row 2 is .*'a', 'b'.*; expected numbers"),
        (["ab", "c"], "row 0 is 'ab'; expected numbers"),
        ([[1, 2], [None]], "row 1 is .None.; expected numbers"),
        ([[1, 2], [10**30]], "row 1 is .1000.*; expected numbers"),
        ([[1, 2], [[3], [4, 5]]], "row 1 is no array: inside it sizes differ"),
        ([[1, 2], [[3, 4]]], r"row 1 has shape \(1, 2\) and row 0 \(2,\); expected \(any,\)"),
        ([[[1, 2]], [[3, 4], [5, 6]]], r"row 0 has shape \(1, 2\); expected \(any,\)"),
        ([[1, 2], [], [3, 9, 1]], r"the token id at position \(2, 1\) is 9; expected 0 to 6"),
        ([[1, 2], [-1]], r"the token id at position \(1, 0\) is -1"),
        ([[1, 2], [3, 4, np.nan]], r"the token id at position \(1, 2\) is nan"),
        (np.array([[1, 2], [3, 4, 7]], dtype=object), r"the token id at position \(1, 2\) is 7"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_rows(tokens, rows, words):
    with pytest.raises(InputError, match=f"input 'ids': {words}"):
        tokens.predict(rows)


def test_the_row_of_a_bad_id_is_the_users(tokens):
    rows = [[1] * (1 + number % 9) for number in range(130_000)]
    rows[123_456] = [1, 2, 3, 4, 99]
    with pytest.raises(InputError, match=r"token id at position \(123456, 4\) is 99"):
        tokens.predict(rows)
    # The place is that before the row was cut; what is cut away is not looked at.
    with pytest.raises(InputError, match=r"token id at position \(123456, 4\) is 99"):
        tokens.predict(rows, maxlen=3)
    assert tokens.predict(rows[123_450:123_460], maxlen=3, truncating="post").shape == (10, 2)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([np.ones((2, 4)), np.ones((3, 5))], r"row 1 has shape \(3, 5\) and row 0 \(2, 4\); expected \(any, 4\)"),
        ([np.ones((2, 3)), np.ones((3, 3))], r"row 0 has shape \(2, 3\); expected \(any, 4\)"),
        ([np.ones((2, 4)), np.ones(4)], r"row 1 has shape \(4,\) and row 0 \(2, 4\)"),
        ([[[1, 2, 3, 4], [1, 2, 3]]] * 2, "row 0 is no array: inside it sizes differ"),
    ],
    ids=range(4),
)
def test_bad_frames(rows, words):
    with pytest.raises(InputError, match=f"input 'x': {words}"):
        mf.floats().predict(rows)


def test_what_makes_padding_matter_is_named():
    rows = [np.ones((2, 4)), np.ones((3, 4))]
    words = (
        r"'x': its rows have 2 to 3 timesteps, and layer 'lstm' \(LSTM\), which no mask reaches, makes padding matter"
    )
    with pytest.raises(InputError, match=rf'{words}; pass pad="pre" or pad="post", and maxlen='):
        mf.floats().predict(rows)
    config = mf.sequential(mf.input_layer(), mf.embedding(), mf.layer("GlobalMaxPooling1D", "top"))
    model = fastbilstm.load(mf.h5(config, mf.weights_of(embedding={"embeddings": (7, 4)})))
    with pytest.raises(InputError, match=r"layer 'top' \(GlobalMaxPooling1D\) makes padding matter"):
        model.predict([[1, 2], [3]])
    assert model.predict([[1, 2], [3]], pad="post").shape == (2, 4)
    stateful = mf.floats(batch=2, stateful=True)
    with pytest.raises(InputError, match=r"layer 'lstm' is stateful: .*; pass pad="):
        stateful.predict(rows)
    y = stateful.predict(rows, pad="post", value=1)
    stateful.reset_states()
    np.testing.assert_array_equal(y, stateful.predict(padded(rows, "post", 1, width=3)))


def test_fixed_timesteps():
    fixed = mf.floats(timesteps=3)
    rows = [np.ones((2, 4)), np.ones((3, 4))]
    with pytest.raises(InputError, match=r"its rows have 2 to 3 timesteps where the model has 3, and layer 'lstm'"):
        fixed.predict(rows)
    np.testing.assert_array_equal(fixed.predict(rows, pad="pre"), fixed.predict(padded(rows, "pre", width=3)))
    long = [np.ones((2, 4)), np.ones((7, 4)), np.ones((5, 4))]
    with pytest.raises(InputError, match="row 1 has 7 timesteps; expected 3 at most; maxlen=3 cuts longer rows"):
        fixed.predict(long, pad="pre")
    assert fixed.predict(long, pad="pre", maxlen=3).shape == (3, 3)
    with pytest.raises(InputError, match="maxlen is 2; the model has 3 timesteps"):
        fixed.predict(long, pad="pre", maxlen=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pad": "left"}, "pad is 'left'; expected None, 'pre' or 'post'"),
        ({"pad": True}, "pad is True"),
        ({"truncating": "end"}, "truncating is 'end'"),
        ({"maxlen": 0}, "maxlen is 0; expected None or a whole number of at least 1"),
        ({"maxlen": 2.5}, "maxlen is 2.5"),
        ({"value": "0"}, "value is '0'; expected a number"),
        ({"value": 1}, "value is 1, and nothing is padded; pass pad="),
        ({"pad": "pre", "value": 7}, "input 'ids': value is 7; expected a token id, 0 to 6"),
    ],
    ids=str,
)
def test_bad_options(tokens, options, words):
    with pytest.raises(InputError, match=words):
        tokens.predict([[1, 2], [3]], **options)


def test_padding_that_has_no_length(tokens):
    with pytest.raises(InputError, match="no row has a timestep; pass maxlen="):
        tokens.predict([[], []], pad="pre")
    assert tokens.predict([[], []], pad="pre", maxlen=3).shape == (2, 2)
    config = mf.sequential(mf.input_layer("x", (None, 4), "float32"), mf.dense())
    vectors = fastbilstm.load(mf.h5(config, mf.weights_of(dense={"kernel": (4, 2), "bias": (2,)})))
    with pytest.raises(InputError, match=r"pad= and maxlen= are for sequences; the model has none .*'x'"):
        vectors.predict(np.ones((3, 4)), maxlen=4)
    with pytest.raises(InputError, match="input 'x': row 1 has 5 timesteps; expected 4 at most"):
        vectors.predict([[1, 2, 3, 4], [1, 2, 3, 4, 5]])


def test_padding_is_told(tokens):
    found = tokens._plan.padding
    assert found.free and found.layer == "" and found.values == (0.0,) and found.outputs == (None,)
    found = mf.floats()._plan.padding
    assert not found.free and found.layer == "layer 'lstm' (LSTM), which no mask reaches,"


# ---- real reviews ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm64", "bilstm64", "stack", "attention", "masked_stack"])
def test_reviews(name):
    """Reviews as they are, answered as Keras answered the padded array."""
    with np.load(shared_file("imdb/imdb_5000.npz")) as npz:
        ids, ends = npz["test_ids"], npz["test_offsets"]
    rows = [ids[ends[k] : ends[k + 1]] for k in range(500)]
    model = fastbilstm.load(shared_file(f"imdb/imdb_{name}.h5"))
    with np.load(shared_file(f"imdb/imdb_{name}_expected.npz")) as npz:
        keras = npz["prob"][: len(rows)]
    y = model.predict(rows, pad="pre", maxlen=400)
    assert y.shape == keras.shape and np.abs(y - keras).max() <= IMDB_PROBABILITY
    if name == "masked_stack":
        np.testing.assert_array_equal(model.predict(rows, maxlen=400), y)
        x = padded([row[-400:].tolist() for row in rows], "pre", width=400)
        np.testing.assert_array_equal(model.predict(x), y)
    else:
        with pytest.raises(InputError, match="which no mask reaches, makes padding matter"):
            model.predict(rows, maxlen=400)


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
