"""A small trained net and ten reviews, for a first answer without a file or a network.

sample.fbl    the net with its word index and labels; reviews.npz: token ids, labels and Keras' answers
Both are made by tools/training/train_sample.py. May import loading.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..loading import load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Model

FOLDER = Path(__file__).resolve().parent


def sample_model(**options: Any) -> Model:
    """A small net that tells good film reviews from bad ones, with its word index and labels.

    Embedding(5000, 16, mask_zero=True), Bidirectional(LSTM(16)), Attention of its sequence with itself, their mean and
    Dense(1, sigmoid), trained with Keras on pieces of 1 to 200 words of the IMDB reviews, and right on short texts,
    too. To try things out with.

    Parameters
    ----------
    **options
        Of `load`.

    Returns
    -------
    Model
    """
    return load(FOLDER / "sample.fbl", **options)


def sample_reviews() -> tuple[list[NDArray[np.int32]], list[str]]:
    """Ten reviews that the net was not trained on.

    Returns
    -------
    (list of ndarray, list of str)
        The token ids of each review, as the net reads them; what its author thought of the film, "neg" or "pos".
    """
    with np.load(FOLDER / "reviews.npz") as held:
        ids = np.split(held["ids"].astype(np.int32), held["offsets"][1:-1])
        return ids, [("neg", "pos")[label] for label in held["labels"].tolist()]
