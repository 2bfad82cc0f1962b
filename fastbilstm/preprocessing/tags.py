"""Tags of tokens as spans: BIO (IOB1, IOB2), BIOES, BILOU and BMES. Imports NumPy only.

A tag is "O", or a letter, "-" and the label of the span: B begins it, I (M) goes on, E (L) ends it, S (U) is all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BEGIN, _INSIDE, _END, _SINGLE = "B", "IM", "EL", "SU"
OUTSIDE = "O"


class Span(NamedTuple):
    """Tokens first to end - 1 have one label together."""

    label: str
    first: int
    end: int


def _parts(tag: str | None) -> tuple[str, str]:
    """(letter, label) of a tag; ("", "") of "O" and of a token without a tag."""
    if tag is None or tag == OUTSIDE:
        return "", ""
    letter, dash, label = tag.partition("-")
    return (letter, label) if dash and letter in tuple(_BEGIN + _INSIDE + _END + _SINGLE) else (_INSIDE[0], tag)


def have_spans(labels: Sequence[str]) -> bool:
    """Whether labels are tags of spans: some begin with "B-" or "I-"."""
    return any(label[:2] in ("B-", "I-") and len(label) > 2 for label in labels)


def tag_spans(tags: Sequence[str | None]) -> list[Span]:
    """The spans of the tags of a text; None is a token without a tag, as "O".

    A tag that goes on where no span of its label is open begins one, as in IOB1 and in the CoNLL evaluation.

    Returns
    -------
    list of Span
        (label, first, end): the tokens first to end - 1.
    """
    found: list[Span] = []
    label, first = "", -1
    for number, tag in enumerate([*tags, None]):
        letter, name = _parts(tag)
        goes_on = first >= 0 and letter in tuple(_INSIDE + _END) and name == label
        if first >= 0 and not goes_on:
            found.append(Span(label, first, number))
            first = -1
        if letter and not goes_on:
            label, first = name, number
        if letter in tuple(_END + _SINGLE):
            found.append(Span(label, first, number + 1))
            first = -1
    return found


def allowed(labels: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(pairs (tag before, tag), first tags, last tags) that BIO or, where labels have E, L, S or U, BIOES allows."""
    parts = [_parts(label) for label in labels]
    letters = {letter for letter, _ in parts}
    ends = bool(letters & set(_END + _SINGLE))
    inside = np.array([letter != "" and letter in _INSIDE + _END for letter, _ in parts])
    open_ = np.array([letter != "" and letter in _BEGIN + _INSIDE for letter, _ in parts])
    same = np.array([[before == after for _, after in parts] for _, before in parts])
    pairs = np.where(inside[np.newaxis], open_[:, np.newaxis] & same, ~open_[:, np.newaxis] | (not ends))
    return pairs, ~inside, ~open_ | (not ends)
