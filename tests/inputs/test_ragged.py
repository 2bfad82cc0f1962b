"""Rows of different lengths: groups of them, padding, cutting, and which rows and options are refused.

On models built by hand; what Keras answers is in test_ragged_as_keras.py. The real reviews need the shared folder.
"""

import built_nets
import make_files as mf
import numpy as np
import pytest
from ragged_rows import padded
from shared import shared_file

import fastbilstm
from fastbilstm import InputError
from fastbilstm.engine import plan
from fastbilstm.tolerances import IMDB_PROBABILITY, compare

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
