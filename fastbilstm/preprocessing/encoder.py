"""TextEncoder: a tokenizer and how its sequences are padded, which together make a model's input; files of tokenizers.

The one that a converted model holds, and what `Model.predict_text` goes through. Imports NumPy only.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..checks import check_whole, read_file
from ..errors import FileFormatError, InputError
from .characters import CharacterEncoder
from .pickled import is_pickle, read_pickle
from .sequences import check_rows, check_side, pad_sequences
from .tokenizer import Tokenizer, tokenizer_from_entry
from .tokens import Token, first_timestep, leading_ids, token_ids, tokens_of
from .vocabulary import TextVectorization, WordIndex, parse_json, read_text, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from .sequences import Side

# How a file that can be read in two ways is meant.
TYPES = {
    "tokenizer": "the JSON of Keras' Tokenizer.to_json()",
    "word_index": "a JSON object from words to ids, as Tokenizer.word_index: words without an id are left out",
    "imdb": "a JSON object from words to ranks, as keras.datasets.imdb.get_word_index(): start 1, out of vocabulary 2, "
    "a word of rank r is r + 3",
    "vocabulary": "the vocabulary of a TextVectorization, one word a line",
}


class TextEncoder:
    """Texts to the input of a model.

    Parameters
    ----------
    tokenizer : Tokenizer, WordIndex or TextVectorization
    maxlen : int, optional
        Timesteps that sequences are cut or padded to; None leaves them as long as they are.
    padding, truncating : {"pre", "post"}, optional
        As in `pad_sequences`. Default: "pre", as there; "post" for a TextVectorization, as that layer does.
    value : int
        What is filled in.
    remove : list of str
        Pieces of text that become a space before anything else, such as "<br />" in reviews.
    characters : CharacterEncoder, optional
        For a model with two inputs, words (rows, timesteps) and their characters (rows, timesteps, width).

    Raises
    ------
    InputError
        If an argument does not fit; names it.
    """

    tokenizer: Tokenizer | WordIndex | TextVectorization
    maxlen: int | None
    padding: Side
    truncating: Side
    value: int
    remove: tuple[str, ...]
    characters: CharacterEncoder | None

    def __init__(
        self,
        tokenizer: Tokenizer | WordIndex | TextVectorization,
        *,
        maxlen: int | None = None,
        padding: Side | None = None,
        truncating: Side | None = None,
        value: int = 0,
        remove: Sequence[str] = (),
        characters: CharacterEncoder | None = None,
    ) -> None:
        if not isinstance(tokenizer, (Tokenizer, WordIndex, TextVectorization)):
            raise InputError(
                f"tokenizer is of type {type(tokenizer).__name__}; expected a Tokenizer, WordIndex or "
                "TextVectorization of fastbilstm.preprocessing"
            )
        if isinstance(tokenizer, Tokenizer) and tokenizer.analyzer is not None:
            raise InputError("the tokenizer has an analyzer, a function, which cannot be stored")
        if isinstance(tokenizer, Tokenizer) and not tokenizer.word_index:
            raise InputError("the tokenizer has no words; fit it on texts first")
        default: Side = "post" if isinstance(tokenizer, TextVectorization) else "pre"
        self.tokenizer = tokenizer
        self.maxlen = check_whole("maxlen", maxlen, 1)
        self.padding = check_side("padding", default if padding is None else padding)
        self.truncating = check_side("truncating", default if truncating is None else truncating)
        self.value = check_whole("value", value, 0, optional=False)
        if isinstance(remove, (str, bytes)) or not all(isinstance(piece, str) and piece for piece in remove):
            raise InputError(f"remove is {remove!r}; expected a list of texts")
        self.remove = tuple(remove)
        if characters is not None and not isinstance(characters, CharacterEncoder):
            raise InputError(f"characters is of type {type(characters).__name__}; expected a CharacterEncoder")
        self.characters = characters
        if self.max_id() >= 2**31:
            raise InputError(f"the tokenizer gives ids up to {self.max_id()}, which int32 does not hold")
        if isinstance(tokenizer, TextVectorization) and tokenizer.rows and maxlen is not None:
            raise InputError("the TextVectorization gives rows of a fixed length; leave out maxlen")

    def encode(self, texts: Iterable[str] | Iterable[list[str]]) -> NDArray[Any] | list[NDArray[np.int32]]:
        """The input that a model needs for these texts.

        Parameters
        ----------
        texts : list of str, or list of lists of str
            Texts, or the tokens of each, which are looked up as they are (in lower case if the tokenizer says so).

        Returns
        -------
        ndarray or list of ndarray
            (len(texts), maxlen) int32; without maxlen a list of int32 arrays of different lengths, or the rows that a
            TextVectorization makes by its options.

        Raises
        ------
        InputError
            If `texts` is no list of str; names the row.
        """
        texts = check_rows(texts)
        if texts and isinstance(texts[0], list):
            found = [ids.astype(np.int32) for ids in token_ids(self.tokenizer, texts)]
        else:
            for piece in self.remove:
                texts = [text.replace(piece, " ") for text in texts]
            if isinstance(self.tokenizer, TextVectorization) and self.tokenizer.rows:
                return self.tokenizer(texts)
            found = [ids.astype(np.int32) for ids in self.tokenizer.encode(texts)]
        if self.width is None:
            return found
        return pad_sequences(found, self.width, padding=self.padding, truncating=self.truncating, value=self.value)

    def encode_characters(self, rows: Sequence[list[str]]) -> NDArray[np.int32] | list[NDArray[np.int32]]:
        """The characters of rows of tokens, at the timesteps of their words: (rows, maxlen, width) int32.

        Without maxlen a list of int32 arrays (timesteps, width).
        """
        if self.characters is None:
            raise InputError("the text encoder has no characters; give characters=CharacterEncoder(...)")
        lead, found = leading_ids(self.tokenizer), []
        for row in rows:
            first = np.full((lead, self.characters.width), self.characters.value, np.int32)
            found.append(np.concatenate([first, self.characters.encode(row)]))
        if self.width is None:
            return found
        shape = (len(found), self.width, self.characters.width)
        padded = np.full(shape, self.characters.value, np.int32)
        for number, ids in enumerate(found):
            begin = first_timestep(len(ids), self.width, self.padding, self.truncating)
            kept = ids[max(-begin, 0) :][: self.width]
            padded[number, max(begin, 0) :][: len(kept)] = kept
        return padded

    @property
    def width(self) -> int | None:
        """Timesteps of each row, or None."""
        own = isinstance(self.tokenizer, TextVectorization) and self.tokenizer.rows
        return self.tokenizer.width if own and isinstance(self.tokenizer, TextVectorization) else self.maxlen

    def tokens(self, text: str) -> list[Token]:
        """The tokens (text, start, end) of a text, each text[start:end] of it."""
        for piece in self.remove:
            text = text.replace(piece, " " * len(piece))
        return tokens_of(self.tokenizer, text)

    def first_timestep(self, count: int) -> int:
        """The timestep of the first of `count` tokens; below 0 where tokens were cut before it."""
        lead = leading_ids(self.tokenizer)
        return lead + first_timestep(lead + count, self.width, self.padding, self.truncating)

    def max_id(self) -> int:
        """The largest id that a text can get, that of padding among them."""
        return max(self.tokenizer.max_id(), self.value)

    def __repr__(self) -> str:
        return f"<fastbilstm.preprocessing.TextEncoder, {self.describe()}>"

    def describe(self) -> str:
        """The encoder in one line."""
        tokenizer = self.tokenizer
        parts = [f"{type(tokenizer).__name__}, ids up to {self.max_id()}"]
        if isinstance(tokenizer, WordIndex):
            parts.append(f"start {tokenizer.start}, out of vocabulary {tokenizer.oov}, offset {tokenizer.index_from}")
        if isinstance(tokenizer, Tokenizer):
            parts.append(f"out of vocabulary {tokenizer.oov_token!r}")
        if self.maxlen is not None:
            parts.append(f"maxlen {self.maxlen}, padding {self.padding!r}, truncating {self.truncating!r}")
        elif not (isinstance(tokenizer, TextVectorization) and tokenizer.rows):
            parts.append("not padded")
        if self.remove:
            parts.append(f"without {', '.join(map(repr, self.remove))}")
        if self.characters is not None:
            parts.append(f"{self.characters.width} characters a token, ids up to {self.characters.max_id()}")
        return "; ".join(parts)

    # ---- JSON -------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The encoder and all it needs, as JSON text.

        Of a Tokenizer it holds what encodes: the counts of the texts that it was fitted on, four times as large, are
        left out, so the one that is read back refuses `texts_to_matrix(mode="tfidf")`.
        """
        names = ("maxlen", "padding", "truncating", "value", "remove")
        config = self.tokenizer.get_config()
        if isinstance(self.tokenizer, Tokenizer):
            kept = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
            config = {name: config[name] for name in kept} | {"word_index": self.tokenizer.word_index}
        tokenizer = {"class_name": type(self.tokenizer).__name__, "config": config}
        config = {"tokenizer": tokenizer} | {name: getattr(self, name) for name in names}
        if self.characters is not None:
            config["characters"] = self.characters.get_config()
        return json.dumps({"class_name": "TextEncoder", "config": config}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        FileFormatError
            If the text is no JSON, or not that of a TextEncoder.
        """
        return cls._from_entry(parse_json(text, "the text encoder"))

    @classmethod
    def _from_entry(cls, entry: Any) -> Self:
        try:
            if entry["class_name"] != "TextEncoder":
                raise FileFormatError(f"the JSON is that of a {str(entry['class_name'])[:40]!r}, no TextEncoder")
            config = dict(entry["config"])
            tokenizer = _tokenizer_of(config.pop("tokenizer"))
            if "characters" in config:
                config["characters"] = CharacterEncoder.from_config(config["characters"])
            return cls(tokenizer, **config)
        except InputError as error:
            raise FileFormatError(f"the text encoder is malformed: {error}") from error
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"the text encoder is malformed ({type(error).__name__}: {error})") from error


def _tokenizer_of(entry: Any) -> Tokenizer | WordIndex | TextVectorization:
    kinds: dict[str, type[WordIndex | TextVectorization]] = {
        "WordIndex": WordIndex,
        "TextVectorization": TextVectorization,
    }
    if entry["class_name"] in kinds:
        return kinds[entry["class_name"]](**entry["config"])
    return tokenizer_from_entry(entry)


# ---- files ----------------------------------------------------------------------------------------------------------


def read_tokenizer(
    path: str | os.PathLike[str],
    kind: Literal["tokenizer", "word_index", "imdb", "vocabulary"] | None = None,
) -> Tokenizer | WordIndex | TextVectorization | TextEncoder:
    """The tokenizer of a file.

    Parameters
    ----------
    path : str or PathLike
        The JSON of a Keras Tokenizer or of a TextEncoder; a JSON object from words to numbers; a vocabulary with one
        word a line, or a JSON list of words; a pickle (tokenizer.pickle) of a Keras Tokenizer or of a dict from words
        to numbers, of which nothing is run.
    kind : {"tokenizer", "word_index", "imdb", "vocabulary"}, optional
        How the file is meant. Needed where it holds an object from words to numbers, which says nothing of offsets:
        "word_index" takes the numbers as ids, "imdb" as ranks (start 1, out of vocabulary 2, offset 3).

    Returns
    -------
    Tokenizer, WordIndex, TextVectorization or TextEncoder

    Raises
    ------
    FileFormatError
        If the file is none of these, or can be read in two ways and `kind` is not given.
    """
    if kind is not None and kind not in TYPES:
        raise InputError(f"the type of tokenizer is {kind!r}; expected one of {', '.join(map(repr, TYPES))}")
    try:
        return _read_tokenizer(path, kind)
    except (FileFormatError, InputError) as error:
        if str(path) in str(error):
            raise
        raise FileFormatError(f"{path}: {error}") from error


def _read_tokenizer(
    path: str | os.PathLike[str], kind: str | None
) -> Tokenizer | WordIndex | TextVectorization | TextEncoder:
    head = read_file(path, 200)
    if is_pickle(head):
        entry = read_pickle(read_file(path))
        if isinstance(entry, dict) and "class_name" not in entry:
            return _from_numbers(entry, path, kind)
        if not isinstance(entry, dict) or kind not in (None, "tokenizer"):
            raise FileFormatError(f"{path}: a pickle that holds no Tokenizer and no dict from words to numbers")
        return tokenizer_from_entry(entry)
    if kind == "vocabulary":
        return TextVectorization(vocabulary=read_vocabulary(path))
    text = read_text(path)
    try:
        entry = parse_json(text, path)
        # JSON in a JSON string, as TensorFlow's guides store a tokenizer.
        entry = parse_json(entry, path) if isinstance(entry, str) and entry[:1] == "{" else entry
    except FileFormatError:
        if kind is not None or text.lstrip()[:1] == "{":
            raise
        entry = None
    if kind in ("word_index", "imdb") or (isinstance(entry, dict) and "class_name" not in entry):
        return _from_numbers(entry, path, kind)
    if isinstance(entry, dict) and kind is None and entry["class_name"] == "TextEncoder":
        return TextEncoder._from_entry(entry)
    if isinstance(entry, dict):
        return tokenizer_from_entry(entry)
    if kind is not None:
        raise FileFormatError(f"{path}: is not {TYPES[kind]}")
    return TextVectorization(vocabulary=entry if isinstance(entry, list) else read_vocabulary(path))


def _from_numbers(entry: Any, path: str | os.PathLike[str], kind: str | None) -> Tokenizer | WordIndex:
    """A tokenizer of a JSON object from words to numbers."""
    numbers = isinstance(entry, dict) and all(type(number) is int for number in entry.values())
    if not entry or not numbers:
        raise FileFormatError(
            f"{path}: holds neither a Keras Tokenizer (Tokenizer.to_json()), nor a JSON object from words to whole "
            "numbers, nor a vocabulary"
        )
    if kind is None:
        raise FileFormatError(
            f"{path}: holds words and numbers, and does not say what they mean. Say it with the type of the tokenizer "
            f"(--tokenizer-type, tokenizer_type=): 'word_index' ({TYPES['word_index']}) or 'imdb' ({TYPES['imdb']})"
        )
    if kind == "tokenizer":
        raise FileFormatError(f"{path}: is not {TYPES[kind]}")
    if kind == "imdb":
        return WordIndex(entry)
    return tokenizer_from_entry({"class_name": "Tokenizer", "config": {"word_index": entry}})
