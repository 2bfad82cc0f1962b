"""TextEncoder and the files of tokenizers: what they give, and what is refused."""

import json
import pickle
import re

import numpy as np
import pytest
from texts import TEXTS, VOCABULARY

from fastbilstm import preprocessing as pp
from fastbilstm.errors import FileFormatError, InputError


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
        (pickle.dumps({"a": 1}), "tokenizer", "is not the JSON of Keras"),
        (b"ckeras_preprocessing.text\nTokenizer\n", None, "a damaged pickle"),
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
