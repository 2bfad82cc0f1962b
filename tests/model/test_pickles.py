"""Pickles of an earlier layout of the package are read for ever, and new ones name only modules that stay.

tests/golden/pickles_before_rooms.pickle was written when the package was one flat folder; it must never be written
again. It names two modules by their old places, `fastbilstm.weights_file` and `fastbilstm.batches`, which are kept for
it. A pickle names a class by its module, so whoever moves a class that is pickled leaves its name at the old place.
"""

import io
import pickle

import numpy as np
import pytest
from paths import FORMAT_V1, PICKLES

import fastbilstm
from fastbilstm import preprocessing as pp
from fastbilstm.engine.backends import vector_problem

pytest.importorskip("numpy._core", reason="the arrays were pickled by NumPy 2; NumPy 1.26 and later read them")
if vector_problem() is not None:
    pytest.skip("the pickled model asks for the vector kernels", allow_module_level=True)

BATCH = {"ids": np.array([[1, 2, 4], [3, 0, 0]]), "extra": np.array([[0.5, -0.25], [1.0, 2.0]], "f4")}
# Where the classes are today that the old pickles name elsewhere. The Vector is the self-check vector of a Model.
MOVED = {"fastbilstm.converted.fbl_file", "fastbilstm.clusters.batch_predictor"}


class Reader(pickle.Unpickler):
    """Notes the modules of this package that a pickle names."""

    def __init__(self, content):
        super().__init__(io.BytesIO(content))
        self.modules = set()

    def find_class(self, module, name):
        if module.partition(".")[0] == "fastbilstm":
            self.modules.add(module)
        return super().find_class(module, name)


def read(content):
    """(what a pickle holds, the modules that it names)."""
    reader = Reader(content)
    return reader.load(), reader.modules


@pytest.fixture(params=["old", "new"])
def objects(request):
    """What the old pickles hold, and the same once more through pickles of today."""
    found, _ = read(PICKLES.read_bytes())
    return found if request.param == "old" else pickle.loads(pickle.dumps(found))


def test_the_model_predicts_the_same_bits(objects):
    model, loaded = objects["model"], fastbilstm.load(FORMAT_V1)
    for y, k in zip(model.predict(BATCH), loaded.predict(BATCH), strict=True):
        assert y.dtype == k.dtype == np.float32
        np.testing.assert_array_equal(y.view("i4"), k.view("i4"))
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (model.graph, model.dtype, model.keras) == (loaded.graph, loaded.dtype, loaded.keras)
    assert model.vector.computed_by == loaded.vector.computed_by and model.self_check().ok
    for name in ("inputs", "outputs"):
        for ours, theirs in zip(getattr(model.vector, name), getattr(loaded.vector, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_predictor_answers(objects):
    found, (add, sequences) = objects["predictor"](BATCH), fastbilstm.load(FORMAT_V1).predict(BATCH)
    assert isinstance(objects["predictor"], fastbilstm.BatchPredictor)
    assert list(found) == ["ids", "extra", "score_add", "score_bidirectional"]
    np.testing.assert_array_equal(found["score_add"], add)
    np.testing.assert_array_equal(found["score_bidirectional"], sequences)


def test_tokenizers_encode(objects):
    assert type(objects["word_index"]) is pp.WordIndex and type(objects["tokenizer"]) is pp.Tokenizer
    assert objects["word_index"].texts_to_sequences(["The film, the end"]) == [[1, 4, 5, 4, 2]]
    assert objects["tokenizer"].texts_to_sequences(["the film", "a cat"]) == [[3, 1], [2]]
    assert type(objects["encoder"]) is pp.TextEncoder
    assert objects["encoder"].encode(["the film", "film"]).tolist() == [[0, 1, 4, 5], [0, 0, 1, 5]]
    assert type(objects["tv"]) is pp.TextVectorization
    assert objects["tv"](["the film", "a film!"]).tolist() == [[3, 2], [1, 2]]


def test_errors_and_descriptions(objects):
    assert type(objects["error"]) is fastbilstm.FileFormatError and str(objects["error"]) == "x"
    model = fastbilstm.load(FORMAT_V1)
    assert objects["info"] == model.inputs
    for ours, theirs in zip(objects["layers"], model.layers, strict=True):
        assert (ours.name, ours.class_name, ours.config) == (theirs.name, theirs.class_name, theirs.config)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_new_pickles_name_no_other_modules():
    """The name of a module that is pickled stays for ever: a further one in here is a decision, not an accident."""
    objects, old = read(PICKLES.read_bytes())
    assert {"fastbilstm.weights_file", "fastbilstm.batches"} <= old
    _, new = read(pickle.dumps(objects))
    assert new <= old | MOVED
