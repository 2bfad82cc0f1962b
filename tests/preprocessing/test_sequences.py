"""pad_sequences, words, hashes and labels: against live Keras, and what is refused."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import TEXTS, UNSEEN

from fastbilstm import preprocessing as pp
from fastbilstm.errors import FileFormatError, InputError


@pytest.fixture(scope="module")
def k():
    return pytest.importorskip("keras", reason="needs Keras")


@pytest.fixture(scope="module")
def kt():
    """keras.preprocessing.text as the last Keras 2 has it."""
    return pytest.importorskip("tf_keras.preprocessing.text", reason="needs tf_keras")


# ---- pad_sequences --------------------------------------------------------------------------------------------------

SEQUENCES = {
    "lists": [[1, 2, 3], [4], [], [5, 6, 7, 8, 9], [10, 11]],
    "arrays": [np.arange(4), np.arange(0), np.arange(7, dtype=np.int16)],
    "frames": [np.full((3, 2), 0.5), [], [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]],
    "tuples": ((1, 2), (3.9,), [-1]),
    "none": [],
    "empty": [[], []],
}


@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 1, 3, 6])
@pytest.mark.parametrize("case", SEQUENCES)
def test_pad_sequences(k, case, maxlen, padding, truncating):
    if case == "none" and maxlen is None:
        # The longest of none: Keras raises too.
        for pad in (k.utils.pad_sequences, pp.pad_sequences):
            with pytest.raises(ValueError):
                pad([])
        return
    for options in ({}, {"dtype": "float32", "value": -1.5}, {"dtype": "int64", "value": 7}):
        given_options = {"maxlen": maxlen, "padding": padding, "truncating": truncating, **options}
        expected = k.utils.pad_sequences(SEQUENCES[case], **given_options)
        found = pp.pad_sequences(SEQUENCES[case], **given_options)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


def test_pad_sequences_of_texts(k):
    words = [["a", "bb"], ["ccc"], []]
    expected = k.utils.pad_sequences(words, dtype=object, value="<pad>", padding="post")
    assert pp.pad_sequences(words, dtype=object, value="<pad>", padding="post").tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("sequences", "options", "message"),
    [
        ([], {}, "give maxlen"),
        ([[1], 2], {}, "position 1 is '2'"),
        ([[1], "ab"], {}, "position 1 is 'ab'"),
        (5, {}, "of type int"),
        ([[1]], {"padding": "left"}, "padding is 'left'"),
        ([[1]], {"truncating": None}, "truncating is None"),
        ([[1]], {"maxlen": 0}, "maxlen is 0"),
        ([[1]], {"maxlen": 2.5}, "maxlen is 2.5"),
        ([[1]], {"value": "x"}, "dtype=object"),
        ([[1]], {"dtype": "strange"}, "dtype is 'strange'"),
        ([[[1, 2]], [[1, 2, 3]]], {}, r"position 1 has steps of shape \(3,\), those before it \(2,\)"),
        ([[1], ["a"]], {}, "position 1 is no int32"),
        ([[1], [2**40]], {}, "position 1 is no int32"),
        ([[1], np.array([2**40])], {}, "position 1 holds numbers that int32"),
        ([[1], np.array([np.nan])], {}, "position 1 is no int32"),
        ([[[1], [2, 3]]], {}, "position 0 is no int32"),
    ],
)
def test_pad_sequences_refuses(sequences, options, message):
    with pytest.raises(InputError, match=message):
        pp.pad_sequences(sequences, **options)


# ---- words and hashes -----------------------------------------------------------------------------------------------

SPLITTING = [
    {},
    {"lower": False},
    {"filters": ""},
    {"filters": "aT"},
    {"split": "-"},
    {"split": "ab", "lower": False},
    {"filters": "é😀", "split": " "},
    {"filters": ["x", " "], "split": "\t"},
    {"split": "中"},
]


@pytest.mark.parametrize("options", SPLITTING)
def test_text_to_word_sequence(kt, options):
    for text in TEXTS + UNSEEN:
        assert pp.text_to_word_sequence(text, **options) == kt.text_to_word_sequence(text, **options)


@given(st.text(), st.text(max_size=4), st.booleans(), st.text(min_size=1, max_size=2))
@settings(max_examples=300, deadline=None)
def test_text_to_word_sequence_of_anything(kt, text, filters, lower, split):
    options = {"filters": filters, "lower": lower, "split": split}
    assert pp.text_to_word_sequence(text, **options) == kt.text_to_word_sequence(text, **options)


def test_hashing_trick_and_one_hot(kt):
    for text in TEXTS[:8] + UNSEEN:
        assert pp.one_hot(text, 50) == kt.one_hot(text, 50)
        assert pp.hashing_trick(text, 1000) == kt.hashing_trick(text, 1000)
        assert pp.hashing_trick(text, 7, "md5", lower=False) == kt.hashing_trick(text, 7, "md5", lower=False)
        options = {"hash_function": len, "analyzer": str.split}
        assert pp.hashing_trick(text, 5, **options) == kt.hashing_trick(text, 5, **options)


def test_md5_is_stable():
    # hashlib's own number of the word, modulo n - 1, plus 1.
    assert pp.hashing_trick("cat", 10, "md5") == [int(hashlib.md5(b"cat").hexdigest(), 16) % 9 + 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pp.text_to_word_sequence(5), "of type int"),
        (lambda: pp.text_to_word_sequence("a", split=""), "split is ''"),
        (lambda: pp.text_to_word_sequence("a", filters=["ab"]), "filters is"),
        (lambda: pp.one_hot("a", 1), "n is 1"),
        (lambda: pp.hashing_trick("a", 5, "sha"), "hash_function is 'sha'"),
    ],
)
def test_words_refuse(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ---- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("neg\npos\n", ["neg", "pos"]),
        ("neg\r\n größe \r\n\n", ["neg", "größe"]),
        ("\ufeffneg\npos", ["neg", "pos"]),
        ('["neg", "pos", "x"]', ["neg", "pos", "x"]),
        ('{"pos": 1, "neg": 0}', ["neg", "pos"]),
        ('{"1": "pos", "0": "neg"}', ["neg", "pos"]),
        ('{"1": 0, "0": 1}', ["1", "0"]),
    ],
)
def test_label_files(tmp_path, content, labels):
    (tmp_path / "labels").write_text(content, encoding="utf-8", newline="")
    assert pp.read_labels(tmp_path / "labels") == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 labels"),
        (b"one\n", "1 labels"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "label 'a' stands twice, as numbers 0 and 2"),
        (b"\xff\xfea", "no UTF-8"),
        (b'{"a": 0', "no valid JSON"),
        (b'{"a": 0, "b": 2}', "not 0 to 1"),
        (b'{"a": 0, "b": 0}', "not 0 to 1"),
        (b'{"a": true, "b": 0}', "not 0 to 1"),
        (b'{"0": "a", "0": "b", "2": "c"}', "not 0 to 1"),
        (b'["a", 5]', "label 1 is 5"),
        (b'["a", ""]', "label 1 is ''"),
    ],
)
def test_label_files_refused(tmp_path, content, message):
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        pp.read_labels(tmp_path / "labels")
    assert str(tmp_path / "labels") in str(caught.value)


def test_missing_files_are_named(tmp_path):
    for read in (pp.read_labels, pp.read_vocabulary, pp.read_tokenizer):
        with pytest.raises(FileFormatError, match=r"no_file: cannot be read \(No such file"):
            read(tmp_path / "no_file")


def test_label_answers():
    one = np.array([[0.25], [0.5], [0.75]], np.float32)
    for y in (one, one[:, 0]):
        labels, p = pp.label_answers(y, ["neg", "pos"])
        assert labels == ["neg", "neg", "pos"] and p.tolist() == [0.75, 0.5, 0.75] and p.dtype == np.float32
    assert pp.label_answers(one, ["neg", "pos"], threshold=0.2)[0] == ["pos", "pos", "pos"]
    several = np.array([[0.2, 0.5, 0.3], [0, 0, 1]])
    labels, p = pp.label_answers(several, ["a", "b", "c"])
    assert labels == ["b", "c"] and p.tolist() == [0.5, 1.0]
    assert pp.label_answers(np.array([[0.75, 0.25]]), ["a", "b"])[0] == ["a"]
    assert pp.label_answers(np.zeros((0, 1), "f4"), ["a", "b"])[0] == []


@pytest.mark.parametrize(
    ("y", "labels", "message"),
    [
        ([[0.5]], ["a", "b"], "is a list of several outputs"),
        ({"x": np.ones((1, 1))}, ["a", "b"], "dict of several outputs"),
        (np.ones((1, 1), int), ["a", "b"], "array of probabilities"),
        (np.ones((2, 1)), ["a", "b", "c"], r"shape \(2, 1\); 3 labels need \(rows, 3\)"),
        (np.ones((2, 4, 3)), ["a", "b", "c"], r"shape \(2, 4, 3\)"),
        (np.array([[0.5], [np.nan]]), ["a", "b"], "row 1 of the answer is"),
        (np.array([[1.5]]), ["a", "b"], "row 0 of the answer is"),
        (np.array([[0.9, 0.8]]), ["a", "b"], "end in a sigmoid"),
        (np.array([[0.5]]), ["a", "a"], "stands twice"),
        (np.array([[0.5]]), "ab", "expected a list"),
    ],
)
def test_label_answers_refuse(y, labels, message):
    with pytest.raises(InputError, match=message):
        pp.label_answers(y, labels)
    with pytest.raises(InputError, match="threshold is 2"):
        pp.label_answers(np.array([[0.5]]), ["a", "b"], threshold=2)
