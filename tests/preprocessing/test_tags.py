"""Tags as spans, token lists as ids, and tokens at their characters: worked out by hand, ids as Keras' Tokenizer's."""

import numpy as np
import pytest

from fastbilstm import preprocessing as pp
from fastbilstm.errors import InputError
from fastbilstm.preprocessing.tags import allowed, have_spans
from fastbilstm.preprocessing.tokens import first_timestep, token_ids, tokens_of


@pytest.mark.parametrize(
    "tags, spans",
    [
        ("O O", []),
        ("B-A I-A O B-B", [("A", 0, 2), ("B", 3, 4)]),
        ("B-A B-A", [("A", 0, 1), ("A", 1, 2)]),
        ("I-A I-A I-B", [("A", 0, 2), ("B", 2, 3)]),  # IOB1: a span begins with I
        ("B-A I-B", [("A", 0, 1), ("B", 1, 2)]),
        ("S-A S-A B-A I-A E-A E-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 5), ("A", 5, 6)]),  # BIOES
        ("U-A B-B L-B O", [("A", 0, 1), ("B", 1, 3)]),  # BILOU
        ("B-A M-A E-A S-B", [("A", 0, 3), ("B", 3, 4)]),  # BMES
        ("B-geo-x I-geo-x", [("geo-x", 0, 2)]),
        ("noun noun verb", [("noun", 0, 2), ("verb", 2, 3)]),
    ],
)
def test_spans(tags, spans):
    assert pp.tag_spans(tags.split()) == [pp.Span(*span) for span in spans]


def test_tokens_without_a_tag():
    assert pp.tag_spans(["B-A", None, "I-A", None]) == [("A", 0, 1), ("A", 2, 3)]
    assert pp.tag_spans([]) == [] and pp.tag_spans([None]) == []


def pairs(labels):
    good, first, last = allowed(labels)
    names = {f"{a} {b}" for i, a in enumerate(labels) for j, b in enumerate(labels) if good[i, j]}
    return names, {a for a, ok in zip(labels, first) if ok}, {a for a, ok in zip(labels, last) if ok}


def test_what_may_follow():
    found, first, last = pairs(["O", "B-A", "I-A", "I-B"])
    assert found == {
        *(f"{a} {b}" for a in ("O", "B-A", "I-A", "I-B") for b in ("O", "B-A")),
        "B-A I-A",
        "I-A I-A",
        "I-B I-B",
    }
    assert first == {"O", "B-A"} and last == {"O", "B-A", "I-A", "I-B"}
    found, first, last = pairs(["O", "B-A", "I-A", "E-A", "S-A"])
    assert found == {
        *(f"{a} {b}" for a in ("O", "E-A", "S-A") for b in ("O", "B-A", "S-A")),
        "B-A I-A",
        "B-A E-A",
        "I-A I-A",
        "I-A E-A",
    }
    assert first == {"O", "B-A", "S-A"} and last == {"O", "E-A", "S-A"}
    assert have_spans(["O", "B-A"]) and not have_spans(["neg", "pos"]) and not have_spans(["B-", "I-"])


TEXT = "  John's dog, in New York!\n(Paris)"


@pytest.mark.parametrize(
    "options", [{}, {"lower": False}, {"filters": ""}, {"filters": "'", "split": ","}, {"char_level": True}]
)
def test_tokens_are_those_of_the_text(options):
    tokenizer = pp.Tokenizer(oov_token="<oov>", **options)
    tokenizer.fit_on_texts([TEXT, "other words"])
    tokens = tokens_of(tokenizer, TEXT)
    assert len(tokens) > 2 and all(TEXT[token.start : token.end] == token.text for token in tokens)
    (ids,) = token_ids(tokenizer, [[token.text for token in tokens]])
    assert ids.tolist() == tokenizer.texts_to_sequences([TEXT])[0]
    keras = pytest.importorskip("tf_keras.preprocessing.text", reason="needs tf_keras")
    theirs = keras.Tokenizer(oov_token="<oov>", **options)
    theirs.fit_on_texts([TEXT, "other words"])
    assert [ids.tolist()] == theirs.texts_to_sequences([TEXT])
    assert [ids.tolist()] == theirs.texts_to_sequences([[token.text for token in tokens]])


def test_tokens_of_other_tokenizers():
    words = pp.WordIndex({"john's": 1, "dog": 2}, filters=",!")
    assert [token.text for token in tokens_of(words, "John's dog, !Cat")] == ["John's", "dog", "Cat"]
    assert token_ids(words, [["John's", "dog", "Cat"], []])[0].tolist() == [1, 4, 5, 2]
    assert words.texts_to_sequences(["John's dog, !Cat"]) == [[1, 4, 5, 2]]
    vector = pp.TextVectorization(vocabulary=["john", "dog"])
    found = tokens_of(vector, "John . dog,")
    assert [token.text for token in found] == ["John", "dog,"]
    assert token_ids(vector, [["John", "dog,", "cat"]])[0].tolist() == [2, 3, 1]
    with pytest.raises(InputError, match="row 1: the TextVectorization makes 0 ids of the token '.'"):
        token_ids(vector, [["John"], ["dog", "."]])
    with pytest.raises(InputError, match="gives no id for each token"):
        token_ids(pp.TextVectorization(vocabulary=["a"], output_mode="count"), [["a"]])
    with pytest.raises(InputError, match="drops them.*oov_token"):
        token_ids(pp.tokenizer_from_json('{"config": {"word_index": {"a": 1}}}'), [["a", "b"]])
    with pytest.raises(InputError, match="no id for 1 of its 2 tokens"):
        token_ids(pp.WordIndex({"a": 1}, unknown="skip"), [["a", "b"]])
    with pytest.raises(InputError, match="splits texts at 'ab'"):
        tokens_of(pp.Tokenizer(split="ab"), "x")


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
def test_first_timestep_is_that_of_pad_sequences(padding, truncating):
    for count in (1, 4, 6, 9):
        (row,) = pp.pad_sequences([range(1, count + 1)], 6, padding=padding, truncating=truncating)
        first = first_timestep(count, 6, padding, truncating)
        for number in range(count):
            assert (0 <= first + number < 6 and row[first + number] == number + 1) or number + 1 not in row
    assert first_timestep(9, None, padding, truncating) == 0


def test_rows_of_tokens_are_padded():
    encoder = pp.TextEncoder(pp.WordIndex({"a": 1, "b": 2}), maxlen=4)
    np.testing.assert_array_equal(encoder.encode([["a", "b"], ["b"] * 9]), [[0, 1, 4, 5], [5, 5, 5, 5]])
    assert encoder.first_timestep(2) == 2 and encoder.first_timestep(9) == -5
    with pytest.raises(InputError, match="row 1 is of type str; expected a list of tokens"):
        encoder.encode([["a"], "b"])
    with pytest.raises(InputError, match="row 0: its token 5 is of type int"):
        encoder.encode([["a", 5]])
