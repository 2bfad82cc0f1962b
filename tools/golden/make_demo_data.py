"""Build tests/golden/demo from a trained net: the Keras file, 200 encoded reviews and Keras' own probabilities.

    python tools/golden/make_demo_data.py bilstm64.h5 bilstm64_keras_prob.npz imdb_5000.npz tests/golden/demo

The first two files are what tools/training/train_imdb.py writes; the third holds the encoded reviews,
{train,test}_{ids,offsets,labels}. Needs NumPy and h5py; no TensorFlow: the probabilities were computed by Keras when
the net was trained.
"""

import argparse
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np

REVIEWS = 200
MAX_BYTES = 4_000_000


def first_reviews(reviews, probabilities, count):
    """The first `count` test reviews and what Keras answered for them, as the arrays of reviews.npz."""
    offsets = reviews["test_offsets"][: count + 1]
    return {
        "ids": reviews["test_ids"][: offsets[-1]].astype(np.uint16),
        "offsets": offsets.astype(np.int64),
        "labels": reviews["test_labels"][:count].astype(np.uint8),
        "keras_prob": probabilities["prob"][:count, 0].astype(np.float32),
    }


def check_model(path):
    """Refuse a file that is too large to commit or that still holds the optimizer's state."""
    with h5py.File(path) as file:
        if "optimizer_weights" in file:
            sys.exit(f"{path}: holds the optimizer's state; save it with include_optimizer=False")
    if path.stat().st_size >= MAX_BYTES:
        sys.exit(f"{path}: has {path.stat().st_size} bytes; expected fewer than {MAX_BYTES}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="trained Keras .h5 file")
    parser.add_argument("probabilities", type=Path, help=".npz with prob: Keras' probabilities of all test reviews")
    parser.add_argument("reviews", type=Path, help=".npz with the encoded reviews")
    parser.add_argument("out", type=Path, help="folder to write into")
    args = parser.parse_args(argv)

    check_model(args.model)
    with np.load(args.reviews) as reviews, np.load(args.probabilities) as probabilities:
        arrays = first_reviews(reviews, probabilities, REVIEWS)
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.model, args.out / args.model.name)
    np.savez_compressed(args.out / "reviews.npz", **arrays)


if __name__ == "__main__":
    main()
