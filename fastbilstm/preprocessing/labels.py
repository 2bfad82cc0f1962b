"""Labels: the names of a model's classes from a file, and answers as labels with probabilities. Imports NumPy only."""

from __future__ import annotations

import numbers
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import utf8
from ..errors import FileFormatError, InputError
from .vocabulary import parse_json, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# How far the probabilities of a row may be from a sum of 1: far above the rounding of float32, far below any logits.
_SUM_TOLERANCE = 1e-3


def check_labels(labels: Any) -> list[str]:
    """A list of two or more different texts, or InputError."""
    if isinstance(labels, (str, bytes, dict)) or not hasattr(labels, "__len__"):
        raise InputError(f"labels are {labels!r}; expected a list of str")
    labels = list(labels)
    seen: dict[str, int] = {}
    for number, label in enumerate(labels):
        if not isinstance(label, str) or not label:
            raise InputError(f"label {number} is {label!r}; expected a text (str)")
        utf8(label, f"label {number}")
        if label in seen:
            raise InputError(f"label {label!r} stands twice, as numbers {seen[label]} and {number}")
        seen[label] = number
    if len(labels) < 2:
        raise InputError(f"there are {len(labels)} labels; expected two or more")
    return [str(label) for label in labels]


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """The labels of a file, by the number of their class.

    Parameters
    ----------
    path : str or PathLike
        One label a line, or JSON: a list, {"neg": 0, "pos": 1} or {"0": "neg", "1": "pos"}.

    Returns
    -------
    list of str

    Raises
    ------
    FileFormatError
        If the file cannot be read, holds fewer than two labels, one twice, or numbers that are not 0, 1, 2, ...
    """
    text = read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        labels = parse_json(text, path)
        labels = _by_number(labels, path) if isinstance(labels, dict) else labels
    else:
        labels = [line.strip() for line in text.replace("\r\n", "\n").split("\n")]
        while labels and not labels[-1]:
            labels.pop()
        if "" in labels:
            raise FileFormatError(f"{path}: line {labels.index('') + 1} is empty; expected a label in each line")
    try:
        return check_labels(labels)
    except InputError as error:
        raise FileFormatError(f"{path}: {error}") from error


def _by_number(entry: dict[str, Any], path: str | os.PathLike[str]) -> list[str]:
    """The labels of {label: number} or {number in text: label}, in order."""
    pairs = list(entry.items())
    if all(isinstance(value, str) and key.isdecimal() and len(key) < 10 for key, value in pairs):
        pairs = [(value, int(key)) for key, value in pairs]
    found = {number: label for label, number in pairs if isinstance(number, int) and not isinstance(number, bool)}
    if sorted(found) != list(range(len(pairs))):
        raise FileFormatError(f"{path}: the numbers of its labels are not 0 to {len(pairs) - 1}, each once")
    return [found[number] for number in range(len(found))]


def label_answers(y: NDArray[Any], labels: Sequence[str], threshold: float = 0.5) -> tuple[list[str], NDArray[Any]]:
    """The label of each row of a model's answer, and its probability.

    Parameters
    ----------
    y : ndarray, (rows, 1) or (rows,) or (rows, classes)
        One column: the probability of the second of two labels (a sigmoid). More: one probability for each label that
        sum to 1 (a softmax).
    labels : list of str
    threshold : float
        Of one column: the second label where the probability is above it.

    Returns
    -------
    (list of str, ndarray)
        The label of each row; the probability of that label, in the dtype of `y`: of one column p or 1 - p.

    Raises
    ------
    InputError
        If `y` is no array of that shape or holds no probabilities (NaN, logits, several labels a row); names the row.
    """
    labels = check_labels(labels)
    if not isinstance(threshold, numbers.Real) or not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold!r}; expected a number from 0 to 1")
    if not isinstance(y, np.ndarray) or y.dtype.kind != "f":
        what = f"{type(y).__name__} of several outputs" if isinstance(y, (list, tuple, dict)) else f"{type(y).__name__}"
        raise InputError(f"the answer is a {what}; labels need one array of probabilities")
    p = y[:, np.newaxis] if y.ndim == 1 else y
    if p.ndim != 2 or p.shape[1] != label_columns(labels, p.shape[-1]):
        raise InputError(f"the answer has shape {y.shape}; {len(labels)} labels need {_needed(labels)}")
    wrong = ~((p >= 0) & (p <= 1)).all(1)
    if p.shape[1] > 1:
        wrong |= np.abs(p.sum(1, dtype=np.float64) - 1) > _SUM_TOLERANCE
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"row {row} of the answer is {p[row][:8].tolist()}, which are no probabilities of labels; does the model "
            "end in a sigmoid (two labels) or a softmax?"
        )
    if p.shape[1] == 1:
        second = p[:, 0] > threshold
        return [labels[k] for k in second.astype(int).tolist()], np.where(second, p[:, 0], 1 - p[:, 0])
    best = p.argmax(1)
    return [labels[k] for k in best.tolist()], p[np.arange(len(p)), best]


def label_columns(labels: Sequence[str], columns: int) -> int:
    """How many columns an answer has that these labels name: one column is enough for two."""
    return 1 if len(labels) == 2 and columns == 1 else len(labels)


def gives_numbers(output: Any) -> bool:
    """Whether an output (TensorInfo) gives the number of a label for each timestep, as a CRF does."""
    return len(output.shape) == 2 and output.dtype.startswith(("int", "uint"))


def is_tagger(output: Any) -> bool:
    """Whether an output (TensorInfo), labels being given, has a label for each timestep."""
    return len(output.shape) == 3 or gives_numbers(output)


def _needed(labels: Sequence[str]) -> str:
    return f"(rows, {len(labels)})" + (" or (rows, 1)" if len(labels) == 2 else "")


def check_labels_fit(labels: Sequence[str], outputs: Sequence[Any]) -> None:
    """Raise InputError unless a model with these outputs (TensorInfo) gives one probability for each label.

    Of a row, or of each timestep of it; or the number of a label for each timestep.
    """
    shapes = ", ".join(f"{output.name!r}: {output.shape}" for output in outputs)
    if len(outputs) != 1:
        raise InputError(f"labels name the classes of one output; the model has {len(outputs)} ({shapes})")
    shape = outputs[0].shape
    if gives_numbers(outputs[0]):
        return
    if len(shape) not in (2, 3):
        raise InputError(f"labels need one row of probabilities for each row of input; the output is {shapes}")
    if shape[-1] != label_columns(labels, shape[-1]):
        need = "2 labels" if shape[-1] == 1 else f"{shape[-1]} labels"
        raise InputError(f"{len(labels)} labels were given; the output {shapes} needs {need}")
