"""Tokenizer and its JSON: what the class of the last Keras 2 gives, and what is refused."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from texts import TEXTS, UNSEEN, reviews

from fastbilstm import preprocessing as pp
from fastbilstm.errors import FileFormatError, InputError


@pytest.fixture(scope="module")
def kt():
    """keras.preprocessing.text as the last Keras 2 has it."""
    return pytest.importorskip("tf_keras.preprocessing.text", reason="needs tf_keras")


TOKENIZERS = [
    {},
    {"num_words": 5},
    {"oov_token": "<OOV>"},
    {"num_words": 4, "oov_token": "<OOV>"},
    {"num_words": 1, "oov_token": "the"},
    {"char_level": True, "num_words": 20},
    {"char_level": True, "lower": False, "oov_token": "?"},
    {"lower": False, "filters": ".!", "split": "a"},
    {"analyzer": lambda text: text.split("t"), "oov_token": "cat"},
]


def both(kt, options, texts=TEXTS):
    theirs, ours = kt.Tokenizer(**options), pp.Tokenizer(**options)
    for tokenizer in (theirs, ours):
        tokenizer.fit_on_texts(texts[:6])
        tokenizer.fit_on_texts(iter(texts[6:]))
    return theirs, ours


def same_state(theirs, ours):
    for name in ("word_counts", "word_docs", "index_docs", "word_index", "index_word", "document_count"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.word_index) == list(theirs.word_index)


@pytest.mark.parametrize("options", TOKENIZERS)
def test_tokenizer(kt, options):
    theirs, ours = both(kt, options)
    same_state(theirs, ours)
    texts = TEXTS + UNSEEN + ([["The", "cat", "bird"], []] if "analyzer" not in options else [])
    sequences = theirs.texts_to_sequences(texts)
    assert ours.texts_to_sequences(texts) == sequences == list(ours.texts_to_sequences_generator(texts))
    assert ours.max_id() >= max(max(ids, default=0) for ids in sequences)
    assert ours.sequences_to_texts(sequences) == theirs.sequences_to_texts(sequences)
    assert ours.sequences_to_texts([[0, 1, 999, 3]]) == theirs.sequences_to_texts([[0, 1, 999, 3]])
    for mode in ("binary", "count", "freq", "tfidf"):
        np.testing.assert_array_equal(ours.texts_to_matrix(texts, mode), theirs.texts_to_matrix(texts, mode))


def test_tokenizer_of_tokens_and_sequences(kt):
    tokens = [["The", "Cat", "the"], ["dog"], []]
    theirs, ours = both(kt, {}, tokens)
    same_state(theirs, ours)
    for tokenizer in (theirs, ours):
        tokenizer.fit_on_sequences([[1, 2, 2], [7]])
    same_state(theirs, ours)
    np.testing.assert_array_equal(
        ours.sequences_to_matrix([[1, 2, 2, 99], []], "tfidf"), theirs.sequences_to_matrix([[1, 2, 2, 99], []], "tfidf")
    )


@pytest.mark.parametrize("options", TOKENIZERS[:8])
def test_tokenizer_json_both_ways(kt, options):
    theirs, ours = both(kt, options)
    for text in (theirs.to_json(), json.dumps(theirs.to_json()), theirs.to_json(ensure_ascii=False, indent=1)):
        read = pp.tokenizer_from_json(text)
        same_state(theirs, read)
        assert read.texts_to_sequences(TEXTS + UNSEEN) == theirs.texts_to_sequences(TEXTS + UNSEEN)
    back = kt.tokenizer_from_json(ours.to_json())
    same_state(back, ours)
    assert back.get_config().keys() == ours.get_config().keys()


def test_tokenizer_on_reviews(kt):
    texts = reviews()
    theirs, ours = (tokenizer(num_words=2000, oov_token="<oov>") for tokenizer in (kt.Tokenizer, pp.Tokenizer))
    for tokenizer in (theirs, ours):
        tokenizer.fit_on_texts(texts[:500])
    same_state(theirs, ours)
    assert ours.texts_to_sequences(texts) == theirs.texts_to_sequences(texts)


def older(**changed):
    """The JSON of a small tokenizer with some of its config changed; None takes an entry out."""
    tokenizer = pp.Tokenizer(oov_token="<o>")
    tokenizer.fit_on_texts(["b a b"])
    config = {key: value for key, value in {**tokenizer.get_config(), **changed}.items() if value is not None}
    return json.dumps({"class_name": "Tokenizer", "config": config})


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_tokenizer_json_is_the_same_in_every_process(seed):
    code = "from fastbilstm.preprocessing import Tokenizer; t = Tokenizer(); t.fit_on_texts(['c b a c d'])"
    code += "; print(t.to_json())"
    seeded = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=seeded)
    tokenizer = pp.Tokenizer()
    tokenizer.fit_on_texts(["c b a c d"])
    assert done.stdout.strip() == tokenizer.to_json(), done.stderr


def test_tokenizer_json_of_other_versions():
    # Tables as objects, no index_word, no counts, an analyzer of None.
    read = pp.tokenizer_from_json(older(word_index={"<o>": 1, "b": 2, "a": 3}, index_word=None, word_docs=None))
    assert read.texts_to_sequences(["a b c"]) == [[3, 2, 1]] and read.index_word == {1: "<o>", 2: "b", 3: "a"}
    entry = json.loads(older())
    entry["config"]["analyzer"] = None
    assert pp.tokenizer_from_json(json.dumps(entry)).texts_to_sequences(["a b c"]) == [[3, 2, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("[]", "not that of a Tokenizer"),
        ("{}", "not that of a Tokenizer"),
        ('{"class_name": "Other", "config": {}}', "not that of a Tokenizer"),
        (pickle.dumps("x"), "a pickle, no JSON: read_tokenizer"),
        (older(word_index=""), "word_index is no valid JSON"),
        (older(word_index="[1]"), "word_index is no table"),
        (older(word_index='{"a": "1"}'), "'a' has the number '1'"),
        (older(word_index='{"a": -1}'), "'a' has the number -1"),
        (older(word_index='{"a": 1.5}'), "'a' has the number 1.5"),
        (older(word_index='{"a": true}'), "'a' has the number True"),
        (older(word_index=None), "has no word_index"),
        (older(word_index='{"a": 1}'), "oov_token '<o>' is not in its word_index"),
        (older(index_word='{"x": "a"}'), "contradicts itself"),
        (older(num_words="5"), "num_words is '5'"),
        (older(num_words=-5), "num_words is -5"),
        (older(lower=1), "lower is 1"),
        (older(split=""), "split is empty"),
        (older(filters=["ab"]), "filters is"),
        (older(oov_token=3), "oov_token is 3"),
        (older(stemming=True), "not known: \\['stemming'\\]"),
        (older(analyzer="f"), "not known: \\['analyzer'\\]"),
    ],
)
def test_tokenizer_json_refuses(text, message):
    with pytest.raises((FileFormatError, InputError), match=message):
        pp.tokenizer_from_json(text)


def test_tokenizer_refuses():
    fitted = pp.Tokenizer()
    fitted.fit_on_texts(["a"])
    with pytest.raises(InputError, match="row 1 is of type int"):
        fitted.texts_to_sequences(["a", 5])
    with pytest.raises(InputError, match="row 0: its tokens"):
        fitted.texts_to_sequences([["a", 5]])
    with pytest.raises(InputError, match="put it in brackets"):
        fitted.texts_to_sequences("a")
    with pytest.raises(InputError, match="mode is 'other'"):
        fitted.texts_to_matrix(["a"], "other")
    with pytest.raises(InputError, match="no words"):
        pp.Tokenizer().texts_to_matrix(["a"])
    with pytest.raises(InputError, match="fitted on texts"):
        pp.Tokenizer(num_words=3).sequences_to_matrix([[1]], "tfidf")
    with pytest.raises(InputError, match="fit the tokenizer"):
        pp.Tokenizer(oov_token="x").texts_to_sequences(["a"])
    with pytest.raises(InputError, match="analyzer"):
        pp.Tokenizer(analyzer=str.split).to_json()
