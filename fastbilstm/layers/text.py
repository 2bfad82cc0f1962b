"""TextVectorization: raw text -> indices or counts of words; the specification.

Text is UTF-8 in `bytes`. As in TensorFlow, everything works on bytes except splitting into characters: lower() changes
only A to Z, and whitespace is space, \\t, \\n, \\v, \\f and \\r. Imports NumPy; knows nothing of files.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .base import Option, Spec, Tensor, choice, integer, optional, register
from .encoding import count
from .lookup import Lookup, StringLookup, mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..graph import KerasVersion

PUNCTUATION = string.punctuation.encode()
STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation", None)
SPLIT = ("whitespace", "character", None)
MAX_NGRAMS = 100


def standardize(text, how):
    """Text in lower case (A to Z), without punctuation, or both."""
    if how in ("lower", "lower_and_strip_punctuation"):
        text = text.lower()
    return text.translate(None, PUNCTUATION) if how and "strip_punctuation" in how else text


def characters(text):
    try:
        return [character.encode() for character in text.decode()]
    except UnicodeDecodeError as error:
        raise InputError(f"the text {text[:40]!r} is no UTF-8 ({error})") from None


def ngrams(tokens, widths):
    """All runs of so many tokens, joined by a space: first those of the first width."""
    return [b" ".join(tokens[k : k + n]) for n in widths for k in range(len(tokens) - n + 1)]


def width(value):
    """Check one width of `ngrams`: all widths up to 1,000 need gigabytes for a text of 1,000 words."""
    if integer(1)(value) > MAX_NGRAMS:
        raise ValueError(f"expected at most {MAX_NGRAMS}")
    return value


def width_list(value):
    """`ngrams`: a number n for all widths up to n, or a list of widths."""
    if isinstance(value, (list, tuple)):
        if len(value) > MAX_NGRAMS:
            raise ValueError(f"expected at most {MAX_NGRAMS} widths")
        return [width(number) for number in value]
    return width(value)


@register
class TextVectorization(StringLookup):
    """Standardize, split, form ngrams, look up; a StringLookup whose mask token is the empty string."""

    options = {
        **{name: Lookup.options[name] for name in ("max_tokens", "sparse", "pad_to_max_tokens", "idf_weights")},
        "vocabulary": StringLookup.options["vocabulary"],
        "encoding": StringLookup.options["encoding"],
        "output_mode": Option(mode, "int"),
        "standardize": Option(choice(*STANDARDIZE), "lower_and_strip_punctuation"),
        "split": Option(choice(*SPLIT), "whitespace"),
        "ngrams": Option(optional(width_list), None),
        "output_sequence_length": Option(optional(integer(1)), None),
        "ragged": Option(choice(False), False),
    }
    # These options of StringLookup are fixed in TextVectorization.
    mask_token, oov_token, num_oov_indices, invert = "", "[UNK]", 1, False

    @classmethod
    def check_config(cls, config: dict[str, Any], version: KerasVersion) -> Iterator[tuple[str, Any, str]]:
        if config["pad_to_max_tokens"] and not config["max_tokens"]:
            yield "pad_to_max_tokens", True, "needs max_tokens"
        if config["output_mode"] == "one_hot" and config["split"]:
            yield "output_mode", "one_hot", "with split gives rows of different lengths, which is not supported"

    @property
    def widths(self):
        return range(1, self.ngrams + 1) if isinstance(self.ngrams, int) else self.ngrams

    @property
    def rows_independent(self):
        """False if rows are padded to the longest row of the batch."""
        return self.output_mode != "int" or self.output_sequence_length is not None or self.split is None

    def infer(self, inputs: list[Spec], kwargs: dict[str, Any]) -> list[Spec]:
        shape = inputs[0].shape
        if len(shape) > 2 or (self.split and len(shape) == 2 and shape[1] != 1):
            self.fail(f"its input has shape {shape}; expected one text a row")
        if self.split is None:
            if len(shape) == 1 and (self.ngrams or self.output_sequence_length):
                self.fail("ngrams and output_sequence_length need an input of 2 axes where split is None")
            size = shape[1] if len(shape) == 2 else None
            if self.ngrams and size is not None:
                size = sum(max(0, size - n + 1) for n in self.widths)
            shape = (shape[0], size) if len(shape) == 2 else shape
            if self.output_mode == "int":
                shape = (shape[0], self.output_sequence_length or size) if len(shape) == 2 else shape
            return super().infer([Spec(shape)], kwargs)
        self.table()
        width = self.output_sequence_length if self.output_mode == "int" else self.depth
        return [Spec((shape[0], width), dtype=self.output_dtype(inputs[0].dtype))]

    def tokens(self, row: list[bytes]) -> list[bytes]:
        """The tokens of one row, a list of texts; if texts are split, the row has one text."""
        row = [standardize(text, self.standardize) for text in row]
        if self.split == "whitespace":
            row = row[0].split()
        elif self.split == "character":
            row = characters(row[0])
        return row if self.ngrams is None else ngrams(row, self.widths)

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        x = inputs[0].value
        self.keys(x)
        rows = [self.tokens(row) for row in (x if x.ndim > 1 else x[:, np.newaxis]).tolist()]
        lengths = [len(row) for row in rows]
        indices = self.indices([token for row in rows for token in row])
        if self.output_mode == "int":
            return [Tensor(self.padded(indices, lengths, x.ndim))]
        if self.output_mode == "one_hot":
            shape = x.shape if x.ndim == 1 else (len(x), len(indices) // max(len(x), 1))
            return [Tensor(self.encoded(np.reshape(indices, shape)))]
        counts = count(np.repeat(np.arange(len(rows)), lengths), indices, len(rows), self.depth)
        return [Tensor(self.finished(np.minimum(counts, 1) if self.output_mode == "multi_hot" else counts))]

    def padded(self, indices, lengths, rank):
        """Rows of indices, cut or padded with 0 to output_sequence_length; else padded to the longest row."""
        width = self.output_sequence_length or max(lengths, default=0)
        y = np.zeros((len(lengths), width), np.int64)
        ends = np.cumsum(lengths)
        for k, (length, end) in enumerate(zip(lengths, ends)):
            y[k, : min(length, width)] = indices[end - length : end][:width]
        return y if rank == 2 or self.split else y[:, 0]
