"""The sample net: small, with Keras' own answers for ten reviews, and right on short texts that a reader would try."""

import numpy as np
import pytest
from paths import ROOT

import fastbilstm
from fastbilstm.sample import FOLDER
from fastbilstm.tolerances import IMDB_PROBABILITY

GOOD = ("a wonderful film", "great", "I loved it", "brilliant acting and a beautiful story", "one of the best movies")
BAD = ("a boring film", "bad", "the worst movie", "I hated it", "awful plot, terrible acting", "a waste of time")


@pytest.fixture(scope="module")
def model():
    return fastbilstm.sample_model()


def test_answers_for_the_reviews_are_those_of_keras(model):
    reviews, labels = fastbilstm.sample_reviews()
    with np.load(FOLDER / "reviews.npz") as held:
        keras = held["keras_prob"]
    prob = model.predict(reviews)[:, 0]
    assert len(reviews) == len(labels) == 10 and set(labels) == {"neg", "pos"}
    assert np.abs(prob - keras).max() <= IMDB_PROBABILITY
    assert sum((p > 0.5) == (label == "pos") for p, label in zip(keras, labels)) >= 8
    assert model.self_check().ok and "keras 3" in model.vector.computed_by


def test_the_reviews_are_those_of_the_demo():
    with np.load(ROOT / "tests" / "golden" / "demo" / "reviews.npz") as demo:
        first = np.split(demo["ids"], demo["offsets"][1:-1])[:10]
        for ids, expected in zip(fastbilstm.sample_reviews()[0], first):
            np.testing.assert_array_equal(ids, expected)


def test_short_texts(model):
    prob = model.predict_text([*GOOD, *BAD])[:, 0]
    assert (prob[: len(GOOD)] > 0.6).all() and (prob[len(GOOD) :] < 0.4).all()
    # No padding, so a text has one answer, whatever stands beside it.
    for text, p in zip(GOOD, prob):
        assert model.predict_text([text])[0, 0] == p


def test_options_are_those_of_load():
    double = fastbilstm.sample_model(dtype="float64", backend="numpy")
    assert (double.dtype, double.backend) == ("float64", "numpy")


def test_it_is_small_and_in_the_wheel():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.suffix != ".pyc") < 500_000
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '"sample/*.fbl"' in text and '"sample/*.npz"' in text
