"""Answers as people and programs read them: labels with their probabilities, in Python's own types.

Imported where it is used: who wants arrays needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..preprocessing.labels import label_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..inputs.model_input import ModelInput

_HOW = "convert it with them (fastbilstm convert --labels FILE, or convert(..., labels=)), or set model.labels"


def classify(model: Any, x: Any, batch_size: int | None, n_threads: int | None) -> list[dict[str, Any]]:
    """See `Model.classify`."""
    labels = model.labels
    if labels is None:
        raise InputError(f"model {model.name!r} holds no labels: {_HOW}")
    options = {"batch_size": batch_size, "n_threads": n_threads}
    y = (model.predict_text if is_text(x) else model.predict)(x, **options)
    return label_rows(y, labels)


def is_text(x: Sequence[Any] | ModelInput) -> bool:
    """Whether rows are texts, not numbers."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "USO" and (not len(x) or isinstance(x.flat[0], (str, bytes)))
    return isinstance(x, str) or (isinstance(x, (list, tuple)) and (not x or isinstance(x[0], str)))


def label_rows(y: NDArray[Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """A dict for each row of probabilities: label, score, and scores by label."""
    named, scores = label_answers(y, labels)
    # Of one column the probability is that of the second label.
    every = np.concatenate([1 - y, y], axis=1) if y.shape[1] == 1 else y
    found = zip(named, scores.tolist(), every.tolist())
    return [{"label": label, "score": score, "scores": dict(zip(labels, row))} for label, score, row in found]
