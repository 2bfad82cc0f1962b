"""WordIndex, TextVectorization, TextEncoder and the files of tokenizers: against live Keras, and what is refused."""

import json
import pickle
import re

import numpy as np
import pytest
from shared import shared_file
from texts import TEXTS, UNSEEN, reviews

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

VOCABULARY = ["the", "cat", "straße", "a", "3", "ab", "é", "the cat", "😀", "it's", "its", "Zebra"]
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


# ---- TextEncoder and files of tokenizers ----------------------------------------------------------------------------


def tokenizers():
    fitted = pp.Tokenizer(num_words=9, oov_token="<o>")
    fitted.fit_on_texts(TEXTS)
    words = pp.WordIndex({"the": 1, "cat": 2, "\ud800": 3}, num_words=5, unknown="skip")
    return [fitted, words, pp.TextVectorization(vocabulary=VOCABULARY, ngrams=2)]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "options", [{}, {"maxlen": 3}, {"maxlen": 4, "padding": "post", "truncating": "pre", "value": 1}]
)
def test_encoder(number, options):
    tokenizer = tokenizers()[number]
    texts = [text for text in TEXTS if "\ud800" not in text]
    encoder = pp.TextEncoder(tokenizer, remove=["the "], **options)
    plain = [ids.tolist() for ids in tokenizer.encode([text.replace("the ", " ") for text in texts])]
    default = {"padding": "post", "truncating": "post"} if number == 2 else {}
    for one in (encoder, pp.TextEncoder.from_json(encoder.to_json())):
        found = one.encode(texts)
        if options:
            np.testing.assert_array_equal(found, pp.pad_sequences(plain, **default | options))
        else:
            assert [ids.tolist() for ids in found] == plain and all(ids.dtype == np.int32 for ids in found)
        assert one.describe() == encoder.describe() and one.max_id() == encoder.max_id()
    assert len(encoder.encode([])) == 0


def test_the_json_of_an_encoder_holds_what_encodes():
    fitted = tokenizers()[0]
    again = pp.TextEncoder.from_json(pp.TextEncoder(fitted).to_json()).tokenizer
    assert (again.word_index, again.index_word) == (fitted.word_index, fitted.index_word)
    np.testing.assert_array_equal(again.texts_to_matrix(TEXTS, "count"), fitted.texts_to_matrix(TEXTS, "count"))
    with pytest.raises(InputError, match="fitted on texts"):
        again.texts_to_matrix(TEXTS, "tfidf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "file"}, "of type str"),
        ({"tokenizer": pp.Tokenizer()}, "has no words"),
        ({"maxlen": 0}, "maxlen is 0"),
        ({"padding": "left"}, "padding is 'left'"),
        ({"value": -1}, "value is -1"),
        ({"remove": "<br />"}, "remove is '<br />'"),
        (
            {"tokenizer": pp.TextVectorization(vocabulary=["a"], output_sequence_length=3), "maxlen": 3},
            "leave out maxlen",
        ),
    ],
)
def test_encoder_refuses(options, message):
    options = {"tokenizer": pp.WordIndex({"a": 1}), **options}
    with pytest.raises(InputError, match=message):
        pp.TextEncoder(options.pop("tokenizer"), **options)


@pytest.mark.parametrize("given", ["a text", b"bytes", [b"bytes"], [None], 5, np.array([["a"]])])
def test_encoder_refuses_other_things_than_texts(given):
    with pytest.raises(InputError, match="expected"):
        pp.TextEncoder(pp.WordIndex({"a": 1})).encode(given)


def test_encoder_takes_texts_as_they_come():
    encoder = pp.TextEncoder(pp.WordIndex({"a": 1}), maxlen=2)
    for form in (["a", ""], ("a", ""), np.array(["a", ""]), np.array(["a", ""], object), iter(["a", ""])):
        assert encoder.encode(form).tolist() == [[1, 4], [0, 1]]


TOKENIZER_FILES = {
    "Tokenizer": (tokenizers()[0].to_json(), None, pp.Tokenizer),
    "Tokenizer in a string": (json.dumps(tokenizers()[0].to_json()), None, pp.Tokenizer),
    "Tokenizer, said": (tokenizers()[0].to_json(), "tokenizer", pp.Tokenizer),
    "TextEncoder": (pp.TextEncoder(pp.WordIndex({"a": 1}), maxlen=5).to_json(), None, pp.TextEncoder),
    "ids": ('{"a": 1, "b": 2}', "word_index", pp.Tokenizer),
    "ranks": ('{"a": 1, "class_name": 2}', "imdb", pp.WordIndex),
    "vocabulary": ("a\nb\n", None, pp.TextVectorization),
    "vocabulary of Keras": ("\n[UNK]\na\n", None, pp.TextVectorization),
    "vocabulary of one number": ("5\n", None, pp.TextVectorization),
    "vocabulary, said": ("{\n[\n", "vocabulary", pp.TextVectorization),
    "list": ('["", "[UNK]", "a"]', None, pp.TextVectorization),
}


@pytest.mark.parametrize("case", TOKENIZER_FILES)
def test_read_tokenizer(tmp_path, case):
    content, kind, cls = TOKENIZER_FILES[case]
    (tmp_path / "file").write_text(content)
    found = pp.read_tokenizer(tmp_path / "file", kind)
    assert type(found) is cls
    if case in ("ids", "ranks"):
        assert found.texts_to_sequences(["a zzz"]) == ([[1]] if case == "ids" else [[1, 4, 2]])


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b'{"a": 1}', None, "--tokenizer-type"),
        (b'{"a": 1', None, "no valid JSON"),
        (b'{"a": "b"}', None, "neither a Keras Tokenizer"),
        (b"{}", None, "neither a Keras Tokenizer"),
        (b'["a"]', "imdb", "neither a Keras Tokenizer"),
        (b'{"a": 1}', "tokenizer", "is not the JSON of Keras"),
        (b"a\nb", "imdb", "no valid JSON"),
        (b'["a"]', "tokenizer", "is not the JSON of Keras"),
        (b'{"class_name": "X", "config": {}}', None, "not that of a Tokenizer"),
        (b'{"class_name": "TextEncoder", "config": {}}', None, "malformed"),
        (b"", None, "holds no words"),
        (b"a\nb\na\n", None, "'a' stands twice, again in line 3"),
        (b"\xff\xff", None, "no UTF-8"),
        (pickle.dumps({"a": 1}), None, "a pickle, which is never opened"),
        (b"ckeras_preprocessing.text\nTokenizer\n", None, "a pickle, which is never opened"),
        (b"[1, 2", None, None),
    ],
)
def test_read_tokenizer_refuses(tmp_path, content, kind, message):
    (tmp_path / "file").write_bytes(content)
    if message is None:
        # No JSON, and a line of a vocabulary may look so.
        assert pp.read_tokenizer(tmp_path / "file").get_vocabulary()[2:] == ["[1, 2"]
        return
    with pytest.raises(FileFormatError, match=re.escape(message)) as caught:
        pp.read_tokenizer(tmp_path / "file", kind)
    assert str(tmp_path / "file") in str(caught.value)
    with pytest.raises(InputError, match="type of tokenizer is 'x'"):
        pp.read_tokenizer(tmp_path / "file", "x")
