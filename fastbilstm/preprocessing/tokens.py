"""Texts as tokens: where each token stands in its text, and an id for each token of a list. Imports NumPy only."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from .tokenizer import Tokenizer
from .vocabulary import TextVectorization, WordIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Token(NamedTuple):
    """A token, text[start:end] of its text."""

    text: str
    start: int
    end: int


def is_tokens(row: Any) -> bool:
    """Whether a row is a list of tokens."""
    return isinstance(row, (list, tuple)) and all(isinstance(token, str) for token in row)


def tokens_of(tokenizer: Tokenizer | WordIndex | TextVectorization, text: str) -> list[Token]:
    """The tokens that a tokenizer makes of a text, as they stand in the text."""
    if isinstance(tokenizer, Tokenizer) and tokenizer.char_level:
        return [Token(character, k, k + 1) for k, character in enumerate(text)]
    if isinstance(tokenizer, TextVectorization):
        if tokenizer.config["split"] != "whitespace" or tokenizer.config["ngrams"] is not None:
            raise InputError("the TextVectorization does not split texts into words: give lists of tokens")
        pattern = r"\S+"
    else:
        blank, filters = r"\s", "".join(tokenizer.filters or ())
        if isinstance(tokenizer, Tokenizer):
            if len(tokenizer.split) != 1:
                raise InputError(f"the tokenizer splits texts at {tokenizer.split!r}: give lists of tokens")
            blank = re.escape(tokenizer.split)
        pattern = f"[^{blank}{re.escape(filters)}]+"
    found = [Token(match[0], *match.span()) for match in re.finditer(pattern, text)]
    if isinstance(tokenizer, TextVectorization):
        # What is punctuation alone is no token.
        found = [token for token, ids in zip(found, tokenizer.encode([t.text for t in found])) if len(ids)]
    return found


def token_ids(
    tokenizer: Tokenizer | WordIndex | TextVectorization, rows: Iterable[list[str]]
) -> list[NDArray[np.int64]]:
    """The ids of rows of tokens: one for each token, behind the id that begins each text of a WordIndex.

    Raises
    ------
    InputError
        If a token has no id of its own: names the row and the token.
    """
    rows = [list(row) for row in rows]
    if isinstance(tokenizer, TextVectorization):
        if tokenizer.config["output_mode"] != "int" or tokenizer.config["ngrams"] is not None:
            raise InputError("the TextVectorization gives no id for each token: it counts them, or joins several")
        each = iter(tokenizer.encode(list(itertools.chain.from_iterable(rows))))
        found: list[NDArray[np.int64]] = []
        for number, row in enumerate(rows):
            made = [next(each) for _ in row]
            if wrong := [(token, len(ids)) for token, ids in zip(row, made) if len(ids) != 1]:
                raise InputError(
                    f"row {number}: the TextVectorization makes {wrong[0][1]} ids of the token {wrong[0][0]!r}; a "
                    "tagger needs one for each token: standardize=None keeps punctuation"
                )
            found.append(np.concatenate([np.zeros(0, np.int64), *made]))
        return found
    encoded = list(tokenizer.encode(rows))
    lead = leading_ids(tokenizer)
    for number, (row, ids) in enumerate(zip(rows, encoded)):
        if len(ids) != lead + len(row):
            raise InputError(
                f"row {number}: the tokenizer has no id for {lead + len(row) - len(ids)} of its {len(row)} tokens and "
                "drops them; a tagger needs one for each token: oov_token= (Tokenizer), oov= (WordIndex)"
            )
    return encoded


def leading_ids(tokenizer: Tokenizer | WordIndex | TextVectorization) -> int:
    """How many ids stand before that of the first token."""
    return int(isinstance(tokenizer, WordIndex) and tokenizer.start is not None)


def first_timestep(count: int, maxlen: int | None, padding: str, truncating: str) -> int:
    """The timestep of the first of `count` ids in a row of `maxlen` timesteps; below 0 where ids were cut before it."""
    if maxlen is None:
        return 0
    if count <= maxlen:
        return maxlen - count if padding == "pre" else 0
    return maxlen - count if truncating == "pre" else 0
