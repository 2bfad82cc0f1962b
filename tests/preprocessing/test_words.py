"""Words and their hashes: against the functions of the last Keras 2, and what is refused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import TEXTS, UNSEEN

from fastbilstm import preprocessing as pp
from fastbilstm.errors import InputError


@pytest.fixture(scope="module")
def kt():
    """keras.preprocessing.text as the last Keras 2 has it."""
    return pytest.importorskip("tf_keras.preprocessing.text", reason="needs tf_keras")


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
