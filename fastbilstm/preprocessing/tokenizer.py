"""Tokenizer: words of texts to ids by how often they occur, as the class of `keras.preprocessing.text`.

It comes from the JSON that Keras' `to_json` writes, or is fitted here. Imports NumPy only.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import FileFormatError, InputError
from .words import FILTERS, separator, split_words

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from numpy.typing import NDArray

    _Mode = Literal["binary", "count", "freq", "tfidf"]

_MODES = ("binary", "count", "freq", "tfidf")
# Of a word that has no id.
_NONE = -1
_TABLES = ("word_counts", "word_docs", "index_docs", "index_word", "word_index")


class Tokenizer:
    """Turns texts into lists of token ids, as Keras' class of this name.

    Parameters
    ----------
    num_words : int, optional
        Ids from this one on are left out (or become that of `oov_token`).
    filters, lower, split
        See `text_to_word_sequence`.
    char_level : bool
        Whether each character is a token; `filters` then have no effect, as in Keras.
    oov_token : str, optional
        Stands for all words without an id; None leaves them out.
    analyzer : callable, optional
        Splits a text instead. It is in no JSON.
    document_count : int
        Texts seen so far.

    Attributes
    ----------
    word_index, index_word : dict
        Id of each word, and the reverse; 0 is no word.
    word_counts, word_docs, index_docs : dict
        How often each word occurs, and in how many texts each word and each id does.
    """

    num_words: int | None
    filters: str | list[str] | None
    lower: bool
    split: str
    char_level: bool
    oov_token: str | None
    analyzer: Callable[[str], Iterable[str]] | None
    document_count: int
    word_counts: dict[str, int]
    word_docs: dict[str, int]
    index_docs: dict[int, int]
    word_index: dict[str, int]
    index_word: dict[int, str]

    def __init__(
        self,
        num_words: int | None = None,
        filters: str | list[str] | None = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Callable[[str], Iterable[str]] | None = None,
        document_count: int = 0,
    ) -> None:
        self.num_words, self.filters, self.lower, self.split = num_words, filters, lower, split
        self.char_level, self.oov_token, self.analyzer = char_level, oov_token, analyzer
        self.document_count = document_count
        self.word_counts, self.word_docs, self.index_docs = {}, {}, {}
        self.word_index, self.index_word = {}, {}

    # ---- fitting ----------------------------------------------------------------------------------------------------

    def fit_on_texts(self, texts: Iterable[str | list[str]]) -> None:
        """Count the words of texts (str, or lists of tokens) and number them, the most frequent first."""
        tokens = self._tokens()
        for text in texts:
            self.document_count += 1
            words = tokens(text)
            for word in words:
                self.word_counts[word] = self.word_counts.get(word, 0) + 1
            for word in dict.fromkeys(words):  # in their order: the JSON is the same in every process
                self.word_docs[word] = self.word_docs.get(word, 0) + 1
        # Of equally frequent words the one that was seen first comes first.
        ordered = sorted(self.word_counts, key=self.word_counts.__getitem__, reverse=True)
        special = [] if self.oov_token is None else [self.oov_token]
        self.word_index = {word: number for number, word in enumerate(special + ordered, start=1)}
        self.index_word = {number: word for word, number in self.word_index.items()}
        self.index_docs.update((self.word_index[word], count) for word, count in self.word_docs.items())

    def fit_on_sequences(self, sequences: Collection[Iterable[int]]) -> None:
        """Count in how many sequences of ids each id occurs, for `sequences_to_matrix`."""
        self.document_count += len(sequences)
        for sequence in sequences:
            for number in dict.fromkeys(sequence):
                self.index_docs[number] = self.index_docs.get(number, 0) + 1

    # ---- encoding ---------------------------------------------------------------------------------------------------

    def texts_to_sequences(self, texts: Iterable[str | list[str]]) -> list[list[int]]:
        """The ids of the words of each text: a list of lists of int. A text is a str or a list of tokens.

        Raises
        ------
        InputError
            If a text is neither (names its row), or the tokenizer has no id for its `oov_token`.
        """
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[str | list[str]]) -> Iterator[list[int]]:
        """Yield what `texts_to_sequences` returns."""
        return (ids.tolist() for ids in self.encode(texts))

    def encode(self, texts: Iterable[str | list[str]]) -> Iterator[NDArray[np.int64]]:
        """Yield an int64 array of ids for each text."""
        if isinstance(texts, str):
            raise InputError(f"one text was given, {texts[:40]!r}; expected a list of texts: put it in brackets")
        tokens, find, oov = self._tokens(), self.word_index.get, self._oov()
        limit = self.num_words or 0
        for row, text in enumerate(texts):
            if not isinstance(text, (str, list)):
                raise InputError(f"row {row} is of type {type(text).__name__}; expected a text (str) or list of tokens")
            try:
                words = tokens(text)
                ids = np.fromiter(map(find, words, itertools.repeat(_NONE)), np.int64, len(words))
            except (AttributeError, TypeError) as error:
                raise InputError(f"row {row}: its tokens are no texts ({error})") from error
            if limit:
                ids[ids >= limit] = _NONE
            lost = ids == _NONE
            if oov is None:
                yield ids[~lost]
            else:
                ids[lost] = oov
                yield ids

    def max_id(self) -> int:
        """The largest id that a text can get; 0 if there are no words."""
        limit = self.num_words or float("inf")
        known = max((number for number in self.word_index.values() if number < limit), default=0)
        return max(known, self._oov() or 0)

    def _oov(self) -> int | None:
        """The id of oov_token; it may lie beyond num_words, as in Keras."""
        if self.oov_token is None:
            return None
        if self.oov_token not in self.word_index:
            raise InputError(f"oov_token is {self.oov_token!r}, which has no id: fit the tokenizer after setting it")
        return self.word_index[self.oov_token]

    def _tokens(self) -> Callable[[str | list[str]], list[str]]:
        """The function from a text or a list of tokens to the words that are looked up."""
        lower, split, analyzer = self.lower, self.split, self.analyzer
        if not isinstance(split, str) or not split:
            raise InputError(f"split is {split!r}; expected a text of one or more characters")
        separated = separator(self.filters or "", split)

        def tokens(text: str | list[str]) -> list[str]:
            if isinstance(text, list):
                return [token.lower() for token in text] if lower else text
            if self.char_level:
                return list(text.lower() if lower else text)
            return split_words(text, separated, lower, split) if analyzer is None else list(analyzer(text))

        return tokens

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """The words of each sequence of ids, joined by a space."""
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable[Iterable[int]]) -> Iterator[str]:
        """Yield what `sequences_to_texts` returns."""
        oov_id = self._oov()
        oov = None if oov_id is None else self.index_word[oov_id]
        for sequence in sequences:
            words = [
                oov if self.num_words and number >= self.num_words else self.index_word.get(number, oov)
                for number in map(int, sequence)
            ]
            yield " ".join(word for word in words if word is not None)

    def texts_to_matrix(self, texts: Iterable[str | list[str]], mode: _Mode = "binary") -> NDArray[np.float64]:
        """One row of `num_words` columns for each text; see `sequences_to_matrix`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(
        self, sequences: Collection[Collection[int]], mode: _Mode = "binary"
    ) -> NDArray[np.float64]:
        """One row of `num_words` columns for each sequence of ids, float64.

        Parameters
        ----------
        sequences : list of lists of int
        mode : {"binary", "count", "freq", "tfidf"}
            1 where the id occurs; how often; that by the length of the sequence; or (1 + log(how often)) times
            log(1 + texts / (1 + texts that hold the id)), scheme 2 of Wikipedia's article on tf-idf, as Keras.

        Raises
        ------
        InputError
            For another mode, without any words and `num_words`, or for "tfidf" without fitted texts.
        """
        if mode not in _MODES:
            raise InputError(f"mode is {mode!r}; expected one of {', '.join(map(repr, _MODES))}")
        columns = self.num_words or (len(self.word_index) + 1 if self.word_index else None)
        if columns is None:
            raise InputError("the tokenizer has no words: give num_words or fit it on texts first")
        if mode == "tfidf" and not self.document_count:
            raise InputError("mode 'tfidf' needs a tokenizer that was fitted on texts")
        matrix = np.zeros((len(sequences), columns))
        for row, sequence in zip(matrix, sequences):
            for number, count in Counter(sequence).items():
                if number >= columns:
                    continue
                if mode == "tfidf":
                    holding = self.index_docs.get(number, 0)
                    row[number] = (1 + np.log(count)) * np.log(1 + self.document_count / (1 + holding))
                else:
                    row[number] = {"binary": 1, "count": count, "freq": count / len(sequence)}[mode]
        return matrix

    # ---- JSON -------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The tokenizer as a dict; as in Keras its tables are JSON in text, and `analyzer` is not in it."""
        options = ("num_words", "filters", "lower", "split", "char_level", "oov_token", "document_count")
        return {name: getattr(self, name) for name in options} | {t: json.dumps(getattr(self, t)) for t in _TABLES}

    def to_json(self, **kwargs: Any) -> str:
        """The JSON that Keras' `tokenizer_from_json` and ours read; `kwargs` go to `json.dumps`.

        Raises
        ------
        InputError
            If the tokenizer has an analyzer, which JSON does not hold (Keras leaves it out without a word).
        """
        if self.analyzer is not None:
            raise InputError("the tokenizer has an analyzer, a function, which JSON does not hold")
        return json.dumps({"class_name": "Tokenizer", "config": self.get_config()}, **kwargs)


def tokenizer_from_json(json_string: str | bytes | bytearray) -> Tokenizer:
    """Read what `Tokenizer.to_json` of Keras, tf.keras, keras_preprocessing or this module wrote.

    Parameters
    ----------
    json_string : str or bytes
        The JSON text (not a path). JSON inside a JSON string is read too: TensorFlow's guides store it so.

    Raises
    ------
    FileFormatError
        If it is no JSON, or not that of a tokenizer.
    """
    if isinstance(json_string, (bytes, bytearray)) and json_string[:1] == b"\x80":
        raise FileFormatError("a pickle, no JSON: read_tokenizer(path) reads the file")
    try:
        entry = json.loads(json_string)
        entry = json.loads(entry) if isinstance(entry, str) else entry
    except (ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(f"the tokenizer is no valid JSON ({error})") from error
    return tokenizer_from_entry(entry)


def tokenizer_from_entry(entry: Any) -> Tokenizer:
    """A Tokenizer from parsed JSON."""
    config = entry.get("config") if isinstance(entry, dict) else None
    if not isinstance(config, dict) or entry.get("class_name", "Tokenizer") != "Tokenizer":
        raise FileFormatError("the JSON is not that of a Tokenizer: it has no class_name 'Tokenizer' and config")
    if "word_index" not in config:
        raise FileFormatError("the tokenizer has no word_index")
    tables = {name: _table(config, name) for name in _TABLES}
    word_index = check_ids(tables["word_index"], "word_index")
    if not tables["index_word"]:
        # Written before there was one.
        tables["index_word"] = {number: word for word, number in word_index.items()}
    checked: dict[str, Any] = {}
    for name, (kinds, default) in _OPTIONS.items():
        value = config.get(name, default)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise FileFormatError(f"the tokenizer's {name} is {value!r}")
        checked[name] = value
    unknown = set(config) - set(_OPTIONS) - set(_TABLES) - {"analyzer"}
    if unknown or config.get("analyzer") is not None:
        raise FileFormatError(f"the tokenizer has options that are not known: {sorted(unknown or ['analyzer'])}")
    if not checked["split"]:
        raise FileFormatError("the tokenizer's split is empty")
    if checked["num_words"] is not None and checked["num_words"] < 0:
        raise FileFormatError(f"the tokenizer's num_words is {checked['num_words']}")
    tokenizer = Tokenizer(**checked)
    try:
        separator(checked["filters"] or "", checked["split"])
        tokenizer.index_docs = {int(number): count for number, count in tables["index_docs"].items()}
        tokenizer.index_word = {int(number): word for number, word in tables["index_word"].items()}
    except ValueError as error:
        raise FileFormatError(f"the tokenizer contradicts itself ({error})") from error
    tokenizer.word_counts, tokenizer.word_docs = tables["word_counts"], tables["word_docs"]
    tokenizer.word_index = word_index
    if checked["oov_token"] is not None and word_index and checked["oov_token"] not in word_index:
        raise FileFormatError(f"the tokenizer's oov_token {checked['oov_token']!r} is not in its word_index")
    return tokenizer


# Kinds and default of each option in the JSON.
_OPTIONS: dict[str, tuple[tuple[type, ...], Any]] = {
    "num_words": ((int, type(None)), None),
    "filters": ((str, list, type(None)), FILTERS),
    "lower": ((bool,), True),
    "split": ((str,), " "),
    "char_level": ((bool,), False),
    "oov_token": ((str, type(None)), None),
    "document_count": ((int,), 0),
}


def _table(config: dict[str, Any], name: str) -> dict[Any, Any]:
    """One of the dicts of a tokenizer: JSON in text, or the object itself."""
    value = config.get(name, {})
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"the tokenizer's {name} is no valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"the tokenizer's {name} is no table but {str(value)[:40]!r}")
    return value


def check_ids(table: dict[Any, Any], name: str) -> dict[str, int]:
    """A table from words to whole numbers of at least 0."""
    for word, number in table.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
            raise FileFormatError(f"{name}: the word {word[:40]!r} has the number {number!r}; expected a whole number")
    return table
