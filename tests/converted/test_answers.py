"""Model.classify: labels and probabilities in Python's own types, beside what predict gives and what Keras gave."""

import json

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import preprocessing as pp
from fastbilstm.errors import InputError
from fastbilstm.sample import FOLDER
from fastbilstm.tolerances import IMDB_PROBABILITY

TEXTS = ["a wonderful film", "a boring film"]


def plain_types(value):
    """The types in a value, those inside of it among them."""
    inner = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []
    return {type(value)}.union(*map(plain_types, inner))


def test_texts_and_token_ids():
    model = fastbilstm.sample_model()
    found = model.classify(TEXTS)
    assert json.loads(json.dumps(found)) == found and plain_types(found) == {list, dict, str, float}
    assert [row["label"] for row in found] == ["pos", "neg"]
    y = model.predict_text(TEXTS)[:, 0]
    for row, p in zip(found, y):
        assert row["scores"] == {"neg": float(np.float32(1) - p), "pos": float(p)}
        assert row["score"] == max(row["scores"].values())
    assert model.classify(tuple(TEXTS)) == model.classify(np.array(TEXTS)) == found
    assert model.classify(np.array(TEXTS, object), batch_size=1, n_threads=1) == found
    assert model.classify([]) == []
    reviews, _ = fastbilstm.sample_reviews()
    with np.load(FOLDER / "reviews.npz") as held:
        keras = held["keras_prob"]
    for row, p in zip(model.classify(reviews), keras):
        assert row["label"] == ("pos" if p > 0.5 else "neg") and abs(row["scores"]["pos"] - p) <= IMDB_PROBABILITY
    assert model.classify(reviews[0][np.newaxis]) == model.classify(reviews[:1])


def test_several_classes():
    net = mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense(activation="softmax"))
    model = fastbilstm.load(mf.h5(net))
    x = np.array([[1, 2, 3], [4, 5, 6]])
    with pytest.raises(InputError, match="holds no labels.*--labels FILE.*set model.labels"):
        model.classify(x)
    model.labels = ["a", "b"]
    y = model.predict(x)
    expected = [["a", "b"][k] for k in y.argmax(1)]
    found = model.classify(x)
    assert [row["label"] for row in found] == expected
    assert [list(row["scores"].values()) for row in found] == y.tolist()
    assert [row["score"] for row in found] == y.max(1).tolist()
    with pytest.raises(InputError, match="holds no tokenizer"):
        model.classify(["text"])
    model.text = pp.TextEncoder(pp.WordIndex({"good": 1, "bad": 2}))
    with pytest.raises(InputError, match="put it in brackets"):
        model.classify("good")
    with pytest.raises(InputError, match="row 1 is '5' of type int"):
        model.classify(["good", 5])


def test_answers_that_are_no_probabilities():
    model = fastbilstm.load(mf.h5(mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense())))
    model.labels = ["a", "b"]
    with pytest.raises(InputError, match="which are no probabilities of labels"):
        model.classify([[1, 2, 3]])
