"""tokenizer.pickle: read without running it, whatever protocol and Keras wrote it; hostile pickles do nothing.

The pickles are written by `pickle` itself, of a class that has the module's name of a Keras; in live tests by Keras.
"""

import os
import pickle
import pickletools
import random
import sys
import types
from collections import OrderedDict, defaultdict

import pytest

from fastbilstm import FileFormatError
from fastbilstm import preprocessing as pp
from fastbilstm.preprocessing.pickled import read_pickle

TEXTS = ["The cat sat on the mat.", "The dog ate my homework!", "Ein Übel, 猫 and \U0001f600"]
MODULES = (
    *("keras.preprocessing.text", "keras_preprocessing.text", "keras.src.legacy.preprocessing.text"),
    *("tensorflow.python.keras.preprocessing.text", "tensorflow.keras.preprocessing.text"),
    *("keras.src.preprocessing.text", "tf_keras.src.preprocessing.text"),
)


@pytest.fixture
def written(monkeypatch):
    """A function: (module, protocol) -> the pickle of a fitted Tokenizer of a class that lies there."""

    def write(module, protocol, fitted=None, **more):
        fitted = fitted or tokenizer()
        cls = type("Tokenizer", (), {"__module__": module})
        holder = types.ModuleType(module)
        holder.Tokenizer = cls
        monkeypatch.setitem(sys.modules, module, holder)
        parts = module.split(".")
        for k in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:k]), types.ModuleType(".".join(parts[:k])))
        one = cls()
        vars(one).update(vars(fitted))
        # As Keras has them.
        one.word_counts = OrderedDict(fitted.word_counts)
        one.word_docs, one.index_docs = defaultdict(int, fitted.word_docs), defaultdict(int, fitted.index_docs)
        vars(one).update(more)
        return pickle.dumps(one, protocol)

    return write


def tokenizer(**options):
    fitted = pp.Tokenizer(**({"num_words": 12, "oov_token": "<oov>"} | options))
    fitted.fit_on_texts(TEXTS)
    return fitted


def read(content, folder, kind=None):
    (folder / "tokenizer.pickle").write_bytes(content)
    return pp.read_tokenizer(folder / "tokenizer.pickle", kind)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_path(module, protocol, written, tmp_path):
    found, k = read(written(module, protocol), tmp_path), tokenizer()
    assert found.get_config() == k.get_config()
    assert found.texts_to_sequences(TEXTS) == k.texts_to_sequences(TEXTS)
    assert read(pickletools.optimize(written(module, protocol)), tmp_path).get_config() == k.get_config()


def test_many_words(written, tmp_path):
    """Numbers of one, two and four bytes, more than 256 memoized strings."""
    fitted = pp.Tokenizer()
    fitted.fit_on_texts([" ".join(f"w{k}" for k in range(70_000))])
    for protocol in (2, 4):
        found = read(written(MODULES[0], protocol, fitted), tmp_path, "tokenizer")
        assert found.word_index == fitted.word_index and found.word_index["w69999"] == 70_000


def test_old_attributes(written, tmp_path):
    """Keras 1 wrote nb_words, and neither index_word nor char_level."""
    fitted = tokenizer(oov_token=None)
    for name in ("index_word", "oov_token", "char_level", "document_count", "num_words"):
        delattr(fitted, name)
    found = read(written(MODULES[0], 2, fitted, nb_words=5), tmp_path)
    assert found.num_words == 5 and found.index_word[1] == "the"


def test_words_and_numbers(tmp_path):
    """Of a dict, what the numbers mean must be said, as for JSON."""
    content = pickle.dumps({"a": 1, "b": 2})
    with pytest.raises(FileFormatError, match="--tokenizer-type"):
        read(content, tmp_path)
    assert read(content, tmp_path, "word_index").texts_to_sequences(["b a"]) == [[2, 1]]


def test_a_function_as_analyzer_is_refused(written, tmp_path):
    with pytest.raises(FileFormatError, match="analyzer is posixpath.join, a function, which is not run"):
        read(written(MODULES[0], 4, analyzer=os.path.join), tmp_path)


class Runs:
    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("case", ["system", "eval", "attribute", "set", "object", "bytes", "build", "deep"])
def test_hostile_pickles_do_nothing(case, protocol, tmp_path):
    """Calls, classes of others, states of other objects, tuples that hash for years or overflow the stack."""
    marker = tmp_path / "ran"
    values = {
        "system": Runs(os.system, f"touch {marker}"),
        "eval": [{"a": Runs(eval, f"open({str(marker)!r}, 'w')")}],
        "attribute": Runs(getattr, "x", "upper"),
        "set": {1, 2},
        "object": types.SimpleNamespace(a=1),
        "bytes": bytearray(b"x"),
        "build": pp.Tokenizer(),
        "deep": None,
    }
    with pytest.raises(FileFormatError) as caught:
        read(deep(60) if case == "deep" else pickle.dumps(values[case], protocol), tmp_path)
    assert str(tmp_path) in str(caught.value) and not marker.exists()


def deep(depth):
    """A dict whose key is a tuple of twice the same tuple, and so on. Written by hand: Python would hash it."""
    body = b")" + b"q\x00h\x00\x86" * depth
    return b"\x80\x02}(" + body + b"K\x01u."


def test_a_pickle_that_is_no_tokenizer(tmp_path):
    for value in ("x", [1, "a"], 3, None):
        with pytest.raises(FileFormatError, match="holds no Tokenizer"):
            read(pickle.dumps(value), tmp_path)


def test_damaged_pickles(written, tmp_path):
    """Every end that is cut off, and bytes changed at random: our error, or another tokenizer."""
    contents = [written(MODULES[1], protocol) for protocol in (0, 2, 4)]
    rng = random.Random(0)
    for content in contents:
        for end in range(len(content)):
            with pytest.raises(FileFormatError):
                read_pickle(content[:end])
        for _ in range(3000):
            spoiled = bytearray(content)
            for _ in range(rng.choice([1, 1, 2, 5])):
                spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
            spoiled[:1] = content[:1]
            try:
                read(bytes(spoiled), tmp_path, rng.choice([None, "tokenizer"]))
            except FileFormatError:
                pass


@pytest.mark.parametrize("module", ["keras.src.legacy.preprocessing.text", "tf_keras.src.preprocessing.text"])
@pytest.mark.parametrize("options", [{}, {"num_words": 5, "oov_token": "o"}, {"char_level": True, "lower": False}])
def test_pickles_of_keras(module, options, tmp_path):
    live = pytest.importorskip(module, reason="needs Keras and TensorFlow").Tokenizer(**options)
    live.fit_on_texts(TEXTS)
    for protocol in range(6):
        found = read(pickle.dumps(live, protocol), tmp_path)
        assert found.texts_to_sequences(TEXTS) == live.texts_to_sequences(TEXTS)
        assert found.texts_to_matrix(TEXTS, "tfidf").tolist() == live.texts_to_matrix(TEXTS, "tfidf").tolist()
