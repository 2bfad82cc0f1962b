"""CharacterEncoder: tokens to the ids of their characters, the input that taggers have beside words. Imports NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_whole
from ..errors import InputError
from .sequences import check_side, pad_sequences
from .tokenizer import Tokenizer, tokenizer_from_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from .sequences import Side


class CharacterEncoder:
    """The characters of tokens, each token cut or padded to `width` characters.

    Parameters
    ----------
    tokenizer : Tokenizer
        Its `word_index` maps characters to ids; `lower`, `num_words` and `oov_token` count.
    width : int
        Characters of a token.
    padding, truncating : {"pre", "post"}
        Where a token is padded, and where a longer one is cut, as in `pad_sequences`.
    value : int
        What is filled in, in tokens and in timesteps without a token.
    """

    tokenizer: Tokenizer
    width: int
    padding: Side
    truncating: Side
    value: int

    def __init__(
        self,
        tokenizer: Tokenizer,
        width: int,
        *,
        padding: Side = "post",
        truncating: Side = "post",
        value: int = 0,
    ) -> None:
        if not isinstance(tokenizer, Tokenizer) or not tokenizer.word_index:
            raise InputError("the tokenizer of characters is no Tokenizer with a word_index from characters to ids")
        if tokenizer.analyzer is not None:
            raise InputError("the tokenizer of characters has an analyzer, a function, which cannot be stored")
        self.tokenizer = tokenizer
        self.width = check_whole("width", width, 1, optional=False)
        self.padding, self.truncating = check_side("padding", padding), check_side("truncating", truncating)
        self.value = check_whole("value", value, 0, optional=False)

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """(tokens, width) int32: the ids of the characters of each token."""
        if not len(tokens):
            return np.zeros((0, self.width), np.int32)
        ids = list(self.tokenizer.encode([list(token) for token in tokens]))
        options: dict[str, Any] = {"padding": self.padding, "truncating": self.truncating, "value": self.value}
        return pad_sequences(ids, self.width, **options)

    def max_id(self) -> int:
        """The largest id that a character can get, that of padding among them."""
        return max(self.tokenizer.max_id(), self.value)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the class; of the tokenizer what encodes."""
        config = self.tokenizer.get_config()
        kept = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
        held = {name: config[name] for name in kept} | {"word_index": self.tokenizer.word_index}
        names = ("width", "padding", "truncating", "value")
        return {"tokenizer": {"class_name": "Tokenizer", "config": held}} | {n: getattr(self, n) for n in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Made of what `get_config` gave."""
        config = dict(config)
        return cls(tokenizer_from_entry(config.pop("tokenizer")), **config)
