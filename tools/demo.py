"""The demo: convert a trained Keras file, verify it, predict 200 real reviews and compare with Keras' own answers.

    python tools/demo.py

Needs NumPy, h5py and fastbilstm; no TensorFlow. Model and reviews: tests/golden/demo (its README names the source).
Exit code 1 if a label or a probability is not Keras', 2 if a file cannot be read.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

# One BLAS thread, before NumPy loads it: the products of one timestep are small, and threads that wait for each other
# make them tens of times slower on a machine that is busy with something else.
THREADS = os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402

import fastbilstm  # noqa: E402
from fastbilstm.tolerances import IMDB_PROBABILITY  # noqa: E402

DEMO = Path(__file__).resolve().parent.parent / "tests" / "golden" / "demo"
MAXLEN = 400


def pad(reviews, maxlen=MAXLEN):
    """Keras' pad_sequences with its defaults: lists of ids -> (rows, maxlen), zeros in front, the last ids kept."""
    x = np.zeros((len(reviews), maxlen), np.int32)
    for row, ids in zip(x, reviews):
        kept = ids[-maxlen:]
        row[maxlen - len(kept) :] = kept
    return x


def read_reviews(path):
    """Return (list of id arrays, labels, Keras' probabilities) of a reviews.npz."""
    with np.load(path) as npz:
        return np.split(npz["ids"], npz["offsets"][1:-1]), npz["labels"], npz["keras_prob"]


def kilobytes(path):
    return f"{path.stat().st_size / 1000:,.0f} kB"


def milliseconds(start):
    return 1000 * (time.perf_counter() - start)


def compare(reviews, labels, keras_prob, prob):
    """Return (largest difference of the probabilities, labels that differ, accuracy, Keras' accuracy)."""
    positive, keras_positive = prob > 0.5, keras_prob > 0.5
    return (
        float(np.abs(prob - keras_prob).max()),
        int((positive != keras_positive).sum()),
        float((positive == labels).mean()),
        float((keras_positive == labels).mean()),
    )


def print_samples(reviews, labels, keras_prob, prob):
    """Three reviews by ids: the surest positive, the surest negative, the most undecided."""
    print(f"\n{'review':<8}{'tokens':>6}{'label':>7}{'keras':>11}{'fastbilstm':>13}   ids")
    for k in (prob.argmax(), prob.argmin(), np.abs(prob - 0.5).argmin()):
        ids = " ".join(map(str, reviews[k][:10]))
        print(f"#{k:<7}{len(reviews[k]):>6}{labels[k]:>7}{keras_prob[k]:>11.7f}{prob[k]:>13.7f}   {ids} ...")


def run(source, reviews_path, folder):
    """Do all of it and print it; returns the exit code."""
    reviews, labels, keras_prob = read_reviews(reviews_path)
    x = pad(reviews)

    target = folder / "model.fbl"
    start = time.perf_counter()
    fastbilstm.convert(source, target)
    convert_ms = milliseconds(start)
    start = time.perf_counter()
    model = fastbilstm.load(target)
    load_ms = milliseconds(start)
    check = model.self_check()
    start = time.perf_counter()
    prob = model.predict(x)[:, 0]
    predict_ms = milliseconds(start)

    difference, differ, accuracy, keras_accuracy = compare(reviews, labels, keras_prob, prob)
    rows = [
        ("model", f"{source.name}, written by {model.keras}: {' > '.join(layer.name for layer in model.layers)}"),
        ("file", f"{source.name} {kilobytes(source)} -> {target.name} {kilobytes(target)}, in {convert_ms:.0f} ms"),
        ("verify", check.message),
        ("load", f"{load_ms:.1f} ms, backend {model.backend}"),
        ("reviews", f"{len(reviews)}, padded to {x.shape[1]} tokens"),
        ("predict", f"{predict_ms:.0f} ms, {predict_ms / len(reviews):.2f} ms a review (OMP_NUM_THREADS={THREADS})"),
        ("accuracy", f"{accuracy:.1%} (keras {keras_accuracy:.1%})"),
        ("largest difference from keras", f"{difference:.2g} (allowed {IMDB_PROBABILITY:.0e})"),
        ("labels that differ from keras", f"{differ}"),
    ]
    for name, value in rows:
        print(f"{name:<31}{value}")
    print_samples(reviews, labels, keras_prob, prob)

    same = check.ok and differ == 0 and difference <= IMDB_PROBABILITY
    print(f"\n{'ok: the same answers as Keras' if same else 'FAILED: not the answers of Keras'}")
    return 0 if same else 1


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO / "bilstm64.h5", help="trained Keras file")
    parser.add_argument("--reviews", type=Path, default=DEMO / "reviews.npz", help="encoded reviews, see its README")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return run(args.model, args.reviews, Path(folder))
    except (fastbilstm.FastBiLSTMError, fastbilstm.MissingExtraError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
