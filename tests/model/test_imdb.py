"""Five models trained on real reviews: Keras' label on each of 2000 reviews, probabilities within the tolerance, no
further from the float64 specification than Keras' own float32, and the engines within twice that of each other. With
narrow weights, nearly all labels.

Two of the six files are ones that Keras 3.15 itself cannot load. Needs the shared folder; takes minutes.
"""

import numpy as np
import pytest
from shared import shared_file

import fastbilstm
from fastbilstm.engine import backends
from fastbilstm.tolerances import IMDB_PROBABILITY

FILES = (
    "imdb_lstm64.h5",
    "imdb_bilstm64.h5",
    "imdb_stack.h5",
    "imdb_attention.h5",
    "imdb_masked_stack.h5",
    "imdb_masked_stack.keras",
)
REVIEWS, MAXLEN = 2000, 400
# Rows computed at once: large enough for the matrix products, small enough that a layer's sequences take 0.1 GB.
BATCH = 250


@pytest.fixture(scope="module")
def reviews():
    """The first test reviews as pad_sequences(maxlen=400) gives them: padded and truncated in front."""
    x = np.zeros((REVIEWS, MAXLEN), np.int32)
    with np.load(shared_file("imdb/imdb_5000.npz")) as npz:
        ids, offsets = npz["test_ids"], npz["test_offsets"]
    for k, row in enumerate(x):
        kept = ids[offsets[k] : offsets[k + 1]][-MAXLEN:]
        row[MAXLEN - len(kept) :] = kept
    return x


@pytest.fixture(scope="module")
def exact(reviews):
    """The float64 answer of a model; the two files of one model share it."""
    answers = {}

    def answer(name):
        model = name.partition(".")[0]
        if model not in answers:
            answers[model] = fastbilstm.load(shared_file(f"imdb/{name}"), dtype="float64").predict(reviews, BATCH)
        return answers[model]

    return answer


@pytest.mark.parametrize("name", FILES)
def test_the_answers_of_keras(name, reviews, exact):
    model = fastbilstm.load(shared_file(f"imdb/{name}"))
    with np.load(shared_file(f"imdb/{name.partition('.')[0]}_expected.npz")) as npz:
        keras = npz["prob"]
    assert keras.shape == (REVIEWS, 1) and model.dtype == "float32"
    ours = model.predict(reviews, BATCH)
    assert ours.shape == keras.shape and ours.dtype == np.float32

    assert np.array_equal(ours > 0.5, keras > 0.5)
    assert np.abs(ours - keras).max() <= IMDB_PROBABILITY
    distance = np.abs(keras - exact(name)).max()
    assert np.abs(ours - exact(name)).max() <= distance
    for engine, y in other_engines(shared_file(f"imdb/{name}"), reviews):
        assert np.abs(y - ours).max() <= 2 * distance, engine


# Labels of 2000 that may differ from Keras', and the largest difference of a probability.
NARROW = {"int8": (5, 0.1), "bfloat16": (3, 0.06), "float16": (1, 2e-3)}


@pytest.mark.parametrize("form", NARROW)
@pytest.mark.parametrize("name", FILES[:-1])
def test_narrow_weights_keep_the_labels(name, form, reviews):
    with np.load(shared_file(f"imdb/{name.partition('.')[0]}_expected.npz")) as npz:
        keras = npz["prob"]
    with np.load(shared_file("imdb/imdb_5000.npz")) as npz:
        positive = npz["test_labels"][:REVIEWS, None] == 1
    y = fastbilstm.load(shared_file(f"imdb/{name}"), weights=form).predict(reviews)
    flips, largest = NARROW[form]
    assert ((y > 0.5) != (keras > 0.5)).sum() <= flips
    assert 1e-5 < np.abs(y - keras).max() <= largest
    assert abs(((y > 0.5) == positive).mean() - ((keras > 0.5) == positive).mean()) <= 0.002


def other_engines(path, reviews):
    """(name, answer) of each instruction set but the one in use, and of BLAS."""
    if backends.vector_problem() is None:
        from fastbilstm import _kernels

        used = _kernels.isa()
        for isa in _kernels.isas():
            if isa != used:
                _kernels.use(isa)
                try:
                    yield isa, fastbilstm.load(path).predict(reviews, BATCH)
                finally:
                    _kernels.use(used)
    if backends.blas_problem() is None:
        yield "blas", fastbilstm.load(path, backend="blas").predict(reviews, BATCH)
