"""Answers as people and programs read them: labels with their probabilities, tags of tokens, in Python's own types.

Imported where it is used: who wants arrays needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..layers.contributed.crf import decode
from ..preprocessing.labels import is_tagger, label_answers
from ..preprocessing.sequences import check_rows
from ..preprocessing.tags import allowed, have_spans, tag_spans
from ..preprocessing.tokens import Token, is_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..inputs.model_input import ModelInput

_HOW = "convert it with them (fastbilstm convert --labels FILE, or convert(..., labels=)), or set model.labels"
# Of what must not be, in sums of logs of probabilities.
_NEVER = -1e6


def classify(
    model: Any, x: Any, batch_size: int | None, n_threads: int | None, transitions: Any = None
) -> list[dict[str, Any]]:
    """See `Model.classify`."""
    labels = model.labels
    if labels is None:
        raise InputError(f"model {model.name!r} holds no labels: {_HOW}")
    options = {"batch_size": batch_size, "n_threads": n_threads}
    if is_tagger(model.outputs[0]):
        return _tagged(model, x, labels, transitions, options)
    if transitions is not None:
        raise InputError("transitions are for models with a label for each timestep")
    y = (model.predict_text if is_text(x) else model.predict)(x, **options)
    return label_rows(y, labels)


def is_text(x: Sequence[Any] | ModelInput) -> bool:
    """Whether rows are texts or lists of tokens, not numbers."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "USO" and (not len(x) or isinstance(x.flat[0], (str, bytes)))
    if not isinstance(x, (list, tuple)):
        return isinstance(x, str)
    first = next((row for row in x if not isinstance(row, (list, tuple)) or row), "")
    return isinstance(first, str) or is_tokens(first)


def label_rows(y: NDArray[Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """A dict for each row of probabilities: label, score, and scores by label."""
    named, scores = label_answers(y, labels)
    # Of one column the probability is that of the second label.
    every = np.concatenate([1 - y, y], axis=1) if y.shape[1] == 1 else y
    found = zip(named, scores.tolist(), every.tolist())
    return [{"label": label, "score": score, "scores": dict(zip(labels, row))} for label, score, row in found]


# ---- tags -----------------------------------------------------------------------------------------------------------


def _tagged(model: Any, x: Any, labels: list[str], transitions: Any, options: Any) -> list[dict[str, Any]]:
    texts: list[str | None]
    if not is_text(x):
        tokens, texts, y = None, [], model.predict(x, **options)
        if len(model.inputs) > 1:
            x = x[model.inputs[words_of(model)].name] if isinstance(x, dict) else x[words_of(model)]
        places = [own_timesteps(model, row, len(found)) for row, found in zip(x, y)]
    else:
        x, tokens, places, texts = token_rows(model, x)
        y = model.predict_text(x, **options)
    tags, scores = tag_answers(y, places, labels, transitions)
    rows: list[dict[str, Any]] = []
    for number, (names, values) in enumerate(zip(tags, scores)):
        row: dict[str, Any] = {} if tokens is None else {"tokens": [token.text for token in tokens[number]]}
        row |= {"tags": names, "scores": values}
        if have_spans(labels):
            given = (None, None) if tokens is None else (tokens[number], texts[number])
            row["spans"] = spans_of(names, *given)
        rows.append(row)
    return rows


def token_rows(model: Any, x: Any) -> tuple[list[Any], list[Any], list[range], list[str | None]]:
    """(rows of tokens for `predict_text`, Tokens of each, their timesteps, texts) of texts or lists of tokens."""
    if model.text is None:
        raise InputError(f"model {model.name!r} holds no tokenizer: convert it with one, or set model.text")
    rows = check_rows(x)
    tokens, texts = [], []
    for row in rows:
        texts.append(row if isinstance(row, str) else None)
        tokens.append(model.text.tokens(row) if isinstance(row, str) else [Token(t, -1, -1) for t in row])
    places = []
    for row in tokens:
        first = model.text.first_timestep(len(row))
        places.append(range(first, first + len(row)))
    return [[token.text for token in row] for row in tokens], tokens, places, texts


def words_of(model: Any) -> int:
    """The number of the input that holds a word at each timestep: the first of ids (rows, timesteps)."""
    pairs = zip(model.inputs, model._plan.id_limits)
    return next((k for k, (i, limit) in enumerate(pairs) if len(i.shape) == 2 and limit is not None), 0)


def own_timesteps(model: Any, row: Any, count: int) -> range:
    """The timesteps of a row of words, of `count`, that are no masked padding: ids before and after are cut off."""
    verdict, row, number = model._plan.padding, np.asarray(row), words_of(model)
    if len(row) != count or row.ndim != 1 or not verdict.free or model._plan.id_limits[number] is None:
        return range(count)
    kept = np.flatnonzero(row != verdict.values[number])
    return range(int(kept[0]), int(kept[-1]) + 1) if len(kept) else range(0)


def tag_answers(
    y: Any, places: Sequence[range], labels: Sequence[str], transitions: Any = None
) -> tuple[list[list[str | None]], list[list[float | None]]]:
    """(tags, scores) of each row at the timesteps `places`; None where these are outside of the answer.

    `y`: rows of (timesteps, labels), (timesteps, 1) or numbers of labels (timesteps,).
    """
    kept = []
    for row, (answer, place) in enumerate(zip(y, places)):
        answer = np.asarray(answer)[max(place.start, 0) : max(place.stop, 0)]
        if answer.ndim == 2 and answer.shape[1] == 1:
            answer = np.concatenate([1 - answer, answer], axis=1)
        if np.isnan(answer).any():
            raise InputError(f"row {row} of the answer holds NaN")
        if answer.ndim == 1 and answer.size and answer.max() >= len(labels):
            raise InputError(f"row {row} of the answer holds the label number {answer.max()}; there are {len(labels)}")
        kept.append(answer)
    numbers = _best(kept, labels, transitions)
    tags, scores = [], []
    for answer, best, place in zip(kept, numbers, places):
        before = min(max(-place.start, 0), len(place))
        after = len(place) - before - len(best)
        values = [None] * len(best) if answer.ndim == 1 else answer[np.arange(len(best)), best].tolist()
        tags.append([None] * before + [labels[k] for k in best.tolist()] + [None] * after)
        scores.append([None] * before + values + [None] * after)
    return tags, scores


def _best(answers: list[NDArray[Any]], labels: Sequence[str], transitions: Any) -> list[NDArray[Any]]:
    """The number of the best label of each timestep of each row."""
    if transitions is None or not answers:
        return [answer if answer.ndim == 1 else answer.argmax(1) for answer in answers]
    if answers[0].ndim == 1:
        raise InputError("transitions: the model gives the numbers of labels, no scores: it has decided already")
    size, longest = len(labels), max(map(len, answers))
    potentials = np.zeros((len(answers), max(longest, 1), size))
    chain, first, last = _chain(transitions, labels)
    lengths = np.array(list(map(len, answers)))
    for place, answer in zip(potentials, answers):
        place[: len(answer)] = _logs(answer)
        if len(answer):
            place[0] += first
            place[len(answer) - 1] += last
    return [row[:length] for row, length in zip(decode(potentials, chain, lengths), lengths.tolist())]


def _chain(transitions: Any, labels: Sequence[str]) -> tuple[Any, Any, Any]:
    if isinstance(transitions, str):
        if transitions != "bio" or not have_spans(labels):
            raise InputError(f"transitions are {transitions!r}; expected an array, or 'bio' with labels such as B-PER")
        return tuple(np.where(good, 0.0, _NEVER) for good in allowed(labels))
    chain = np.asarray(transitions, np.float64)
    if chain.shape != (len(labels), len(labels)):
        raise InputError(f"transitions have shape {chain.shape}; {len(labels)} labels need {(len(labels),) * 2}")
    return chain, 0.0, 0.0


def _logs(answer: NDArray[Any]) -> NDArray[Any]:
    """Logs of probabilities; scores that are none as they are."""
    answer = answer.astype(np.float64)
    if (answer >= 0).all() and np.allclose(answer.sum(1), 1, atol=1e-3):
        return np.log(np.maximum(answer, 1e-30))
    return answer


def spans_of(tags: Sequence[str | None], tokens: Any, text: str | None) -> list[dict[str, Any]]:
    """The spans of a row: label, numbers of the tokens (the last one not included), characters, and their text."""
    found = []
    for label, first, end in tag_spans(tags):
        span: dict[str, Any] = {"label": label, "tokens": [first, end]}
        if text is not None:
            start, stop = tokens[first].start, tokens[end - 1].end
            span |= {"start": start, "end": stop, "text": text[start:stop]}
        elif tokens is not None:
            span["text"] = " ".join(token.text for token in tokens[first:end])
        found.append(span)
    return found
