"""WordIndex and TextVectorization: against live Keras, and what is refused."""

import numpy as np
import pytest
from shared import shared_file
from texts import TEXTS, UNSEEN, VOCABULARY, reviews

from fastbilstm import preprocessing as pp
from fastbilstm.errors import FileFormatError, InputError


@pytest.fixture(scope="module")
def k():
    return pytest.importorskip("keras", reason="needs Keras")


# ---- WordIndex ------------------------------------------------------------------------------------------------------


def test_word_index_gives_the_ids_of_the_reviews():
    words = pp.WordIndex.from_json(shared_file("imdb/imdb_word_index_5000.json"), num_words=5000)
    found = pp.TextEncoder(words, remove=["<br />"]).encode(reviews())
    with np.load(shared_file("imdb/imdb_5000.npz")) as npz:
        ids, offsets = npz["test_ids"], npz["test_offsets"]
    assert len(found) == 1000
    for row, sequence in enumerate(found):
        np.testing.assert_array_equal(sequence, ids[offsets[row] : offsets[row + 1]], f"review {row}")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_words": 6},
        {"num_words": 6, "skip_top": 5},
        {"oov": None, "num_words": 6},
        {"start": None, "index_from": 0, "num_words": 3},
        {"start": 9, "index_from": 10, "oov": 8, "num_words": 12, "skip_top": 11},
    ],
)
def test_word_index_as_load_data(k, tmp_path, monkeypatch, options):
    """keras.datasets.imdb.load_data on a file of our own: all its words are known, each row a text."""
    ranks = {"the": 1, "cat": 2, "dog": 3, "Zebra": 4}
    rows = [[1, 2, 3], [4, 4, 1], [2]]
    texts = ["the cat dog", "Zebra, Zebra; the", "cat"]
    arrays = np.empty(3, object)
    arrays[:] = rows
    path = tmp_path / "imdb.npz"
    np.savez(path, x_train=arrays, y_train=np.arange(3), x_test=arrays, y_test=np.arange(3))
    monkeypatch.setattr("keras.src.datasets.imdb.get_file", lambda **_: str(path))
    names = {"start": "start_char", "oov": "oov_char"}
    # Without num_words load_data drops the largest id; a limit above all ids is what is meant.
    keras_options = {"num_words": 99, **{names.get(key, key): value for key, value in options.items()}}
    (x, y), _ = k.datasets.imdb.load_data(**keras_options)
    words = pp.WordIndex(ranks, lower=False, **options)
    assert words.texts_to_sequences([texts[number] for number in y]) == [list(map(int, row)) for row in x]
    assert words.max_id() >= max(map(max, x))


def test_words_that_are_not_in_the_index():
    assert pp.WordIndex({"a": 1}).texts_to_sequences(["A b a", ""]) == [[1, 4, 2, 4], [1]]
    assert pp.WordIndex({"a": 1}, unknown="skip").texts_to_sequences(["A b a"]) == [[1, 4, 4]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"word_index": ["a"]}, "no dict"),
        ({"word_index": {"a": "1"}}, "'a' has the number '1'"),
        ({"num_words": 0}, "num_words is 0"),
        ({"start": -1}, "start is -1"),
        ({"oov": "x"}, "oov is 'x'"),
        ({"index_from": None}, "index_from is None"),
        ({"unknown": "drop"}, "unknown is 'drop'"),
        ({"filters": 5}, "filters is 5"),
    ],
)
def test_word_index_refuses(options, message):
    with pytest.raises((InputError, FileFormatError), match=message):
        pp.WordIndex(**{"word_index": {"a": 1}, **options})


# ---- TextVectorization ----------------------------------------------------------------------------------------------

VECTORIZING = [
    {},
    {"output_sequence_length": 4},
    {"standardize": None, "split": "character"},
    {"standardize": "lower", "ngrams": 2, "output_sequence_length": 7},
    {"standardize": "strip_punctuation", "ngrams": (2,)},
    {"output_mode": "multi_hot"},
    {"output_mode": "count", "max_tokens": 20, "pad_to_max_tokens": True},
    {"output_mode": "tf_idf", "idf_weights": [0.5 + number for number in range(12)]},
]


@pytest.mark.parametrize("options", VECTORIZING)
def test_text_vectorization(k, options):
    texts = [text for text in TEXTS if "\ud800" not in text] + UNSEEN
    theirs = k.layers.TextVectorization(vocabulary=VOCABULARY, **options)
    ours = pp.TextVectorization(vocabulary=VOCABULARY, **options)
    expected = np.asarray(theirs(texts))
    found = ours(texts)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    assert ours.get_vocabulary() == [str(word) for word in theirs.get_vocabulary()]
    assert ours.vocabulary_size() == theirs.vocabulary_size()
    again = pp.TextVectorization(**ours.get_config())
    np.testing.assert_array_equal(again(texts), expected)
    if options.get("output_mode", "int") == "int":
        # The tokens alone, cut and padded as the layer does.
        width = expected.shape[1]
        rows = [row[:width] for row in ours.encode(texts)]
        np.testing.assert_array_equal(pp.pad_sequences(rows, width, "int64", "post"), expected)


def test_text_vectorization_on_reviews(k):
    texts = reviews()
    theirs = k.layers.TextVectorization(max_tokens=3000, output_sequence_length=200)
    theirs.adapt(texts[:300])
    ours = pp.TextVectorization(vocabulary=theirs.get_vocabulary(), output_sequence_length=200)
    np.testing.assert_array_equal(ours(texts), np.asarray(theirs(texts)))


def test_vocabulary_files(k, tmp_path):
    path = tmp_path / "vocabulary.txt"
    for content in ("the\ncat\n", "the\r\ncat\r\n", "the\ncat"):
        path.write_bytes(content.encode())
        expected = np.asarray(k.layers.TextVectorization(vocabulary=str(path))(["the cat dog"]))
        np.testing.assert_array_equal(pp.TextVectorization(vocabulary=path)(["the cat dog"]), expected)
    # What Keras writes into a .keras archive.
    layer = k.layers.TextVectorization()
    layer.adapt(TEXTS[:7])
    layer.save_assets(str(tmp_path))
    np.testing.assert_array_equal(pp.TextVectorization(vocabulary=path)(TEXTS[:8]), np.asarray(layer(TEXTS[:8])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": None}, "vocabulary is None"),
        ({"vocabulary": []}, "it is empty"),
        ({"vocabulary": ["a", "a"]}, "twice"),
        ({"vocabulary": ["a", ""]}, "'' is one of its words"),
        ({"max_tokens": 2}, "max_tokens=2"),
        ({"standardize": str.lower}, "standardize"),
        ({"split": None}, "split=None"),
        ({"ragged": True}, "ragged=True"),
        ({"output_mode": "one_hot"}, "one_hot"),
        ({"output_mode": "tf_idf"}, "idf_weights"),
        ({"ngrams": 0}, "ngrams=0"),
        ({"pad_to_max_tokens": True}, "needs max_tokens"),
    ],
)
def test_text_vectorization_refuses(options, message):
    with pytest.raises(InputError, match=message):
        pp.TextVectorization(**{"vocabulary": ["a", "b"], **options})


def test_text_vectorization_refuses_other_things_than_text():
    layer = pp.TextVectorization(vocabulary=["a"])
    with pytest.raises(InputError, match="row 1 is '5' of type int"):
        layer(["a", 5])
    with pytest.raises(InputError, match="row 0: the text .* has no UTF-8 form"):
        layer(["\ud800"])
