"""WordIndex (ranks of words, as keras.datasets.imdb) and TextVectorization (a vocabulary) outside of a model.

What TextVectorization computes is in `layers/text.py`; here are its arguments. Imports NumPy only.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..checks import check_whole, read_file, utf8
from ..errors import FileFormatError, InputError
from .sequences import check_texts
from .tokenizer import check_ids
from .words import FILTERS, separator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

# Of a word that has no rank.
_NONE = -(2**40)


class WordIndex:
    """Turns texts into ids by the rank of each word, as `keras.datasets.imdb` (or `reuters`) is encoded.

    A word of rank r has the id r + index_from; ids below `skip_top` and from `num_words` on become `oov`, as in
    `load_data` of these datasets. (Where its num_words is None, `load_data` turns the largest id that it meets into
    `oov` too; here None keeps all.)

    Parameters
    ----------
    word_index : dict
        Rank of each word, what `get_word_index()` returns.
    num_words : int, optional
    start : int or None
        The id that begins each text (`start_char`).
    oov : int or None
        The id of words out of vocabulary (`oov_char`); None leaves them out.
    index_from : int
    skip_top : int
    unknown : {"oov", "skip"}
        What becomes of words that are not in `word_index`: the id `oov`, or nothing, as in the reviews that
        `load_data` gives, which were encoded with all the words there are.
    filters : str
        Characters that separate words, beside white space.
    lower : bool
        Whether texts are turned into lower case first.
    """

    word_index: dict[str, int]
    num_words: int | None
    start: int | None
    oov: int | None
    index_from: int
    skip_top: int
    unknown: Literal["oov", "skip"]
    filters: str | list[str]
    lower: bool

    def __init__(
        self,
        word_index: dict[str, int],
        num_words: int | None = None,
        start: int | None = 1,
        oov: int | None = 2,
        index_from: int = 3,
        skip_top: int = 0,
        unknown: Literal["oov", "skip"] = "oov",
        filters: str | list[str] = FILTERS,
        lower: bool = True,
    ) -> None:
        if not isinstance(word_index, dict) or not all(isinstance(word, str) for word in word_index):
            raise InputError("word_index is no dict from words to ranks")
        self.word_index = check_ids(word_index, "word_index")
        self.num_words = check_whole("num_words", num_words, 1)
        self.start, self.oov = check_whole("start", start, 0), check_whole("oov", oov, 0)
        self.index_from = check_whole("index_from", index_from, 0, optional=False)
        self.skip_top = check_whole("skip_top", skip_top, 0, optional=False)
        if unknown not in ("oov", "skip"):
            raise InputError(f"unknown is {unknown!r}; expected 'oov' or 'skip'")
        self.unknown, self.filters, self.lower = unknown, filters, lower
        separator(filters, " ")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Read the JSON file of a word index, such as imdb_word_index.json; `options` are those of the class."""
        entry = parse_json(read_text(path), path)
        if not isinstance(entry, dict):
            raise FileFormatError(f"{path}: is no JSON object from words to ranks")
        return cls(entry, **options)

    def texts_to_sequences(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text: a list of lists of int."""
        return [ids.tolist() for ids in self.encode(texts)]

    def encode(self, texts: Iterable[str | list[str]]) -> Iterator[NDArray[np.int64]]:
        """Yield an int64 array of ids for each text (str), or list of words."""
        separated, find = separator(self.filters, " "), self.word_index.get
        limit = self.num_words or 2**62
        for text in check_texts(texts, (str, list)):
            if isinstance(text, list):
                words = [word.lower() for word in text] if self.lower else text
            else:
                words = separated(text.lower() if self.lower else text).split()
            ids = np.fromiter(map(find, words, itertools.repeat(_NONE)), np.int64, len(words)) + self.index_from
            if self.unknown == "skip":
                ids = ids[ids >= 0]
            if self.start is not None:
                ids = np.concatenate([[self.start], ids])
            lost = (ids < self.skip_top) | (ids >= limit)
            if self.oov is None:
                yield ids[~lost]
            else:
                ids[lost] = self.oov
                yield ids

    def max_id(self) -> int:
        """The largest id that a text can get."""
        limit = self.num_words or float("inf")
        known = (rank + self.index_from for rank in self.word_index.values())
        found = [number for number in itertools.chain(known, [self.start or 0]) if number < limit]
        return max([*found, self.oov or 0])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the class."""
        names = ("num_words", "start", "oov", "index_from", "skip_top", "unknown", "filters", "lower")
        return {"word_index": self.word_index} | {name: getattr(self, name) for name in names}


class TextVectorization:
    """Keras' layer of this name with a vocabulary, outside of a model: call it on a list of texts.

    Lower case and punctuation are those of TensorFlow, which works on bytes: only A to Z are lowered.

    Parameters
    ----------
    vocabulary : list of str, str or PathLike
        The words, with or without "" and "[UNK]" in front as `get_vocabulary()` gives them; or the path of a file with
        one word a line.
    max_tokens, standardize, split, ngrams, output_mode, output_sequence_length, pad_to_max_tokens, idf_weights,
    sparse, ragged, encoding
        As in Keras. Functions for `standardize` and `split`, sparse and ragged results are refused.

    Attributes
    ----------
    name : str
        As in Keras.
    config : dict
        The arguments, `vocabulary` and `idf_weights` as lists.

    Raises
    ------
    InputError
        If an option is not supported or does not fit the vocabulary; names it.
    FileFormatError
        If the vocabulary file cannot be read.
    """

    name: str
    config: dict[str, Any]

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"]
        | None = "lower_and_strip_punctuation",
        split: Literal["whitespace", "character"] = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: Literal["int", "multi_hot", "count", "tf_idf"] = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Iterable[str] | os.PathLike[str] | None = None,
        idf_weights: Sequence[float] | NDArray[Any] | None = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str = "text_vectorization",
    ) -> None:
        from ..graph import KerasVersion, Layer  # no other class here needs a layer
        from ..layers.base import Spec
        from ..layers.text import TextVectorization as Specification  # no other class here needs a layer

        if vocabulary is None:
            raise InputError("vocabulary is None; give the words, or the file that holds them")
        if isinstance(vocabulary, (str, os.PathLike)):
            vocabulary = read_vocabulary(vocabulary)
        given = {key: value for key, value in locals().items() if key in Specification.options}
        given["vocabulary"] = [str(word) for word in vocabulary]
        for number, word in enumerate(given["vocabulary"]):
            utf8(word, f"TextVectorization: word {number} of the vocabulary")
        try:
            given["idf_weights"] = None if idf_weights is None else [float(weight) for weight in idf_weights]
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"TextVectorization: idf_weights are no numbers ({error})") from error
        config: dict[str, Any] = {}
        for option, value in given.items():
            try:
                config[option] = Specification.options[option].check(value)
            except (ValueError, TypeError) as error:
                raise InputError(f"TextVectorization: {option}={value!r} is not supported: {error}") from error
        version = KerasVersion("keras3", (3, 15, 0))
        for option, value, text in Specification.check_config(config, version):
            raise InputError(f"TextVectorization: {option}={value!r} {text}")
        if config["split"] is None:
            raise InputError("TextVectorization: split=None takes lists of tokens; outside of a model give texts")
        self.name, self.config = name, config
        self._layer = Specification(Layer(name, "TextVectorization", config), version)
        try:
            self._layer.infer([Spec((None,))], {})
            table = self._layer.table()
        except FileFormatError as error:
            raise InputError(str(error)) from error
        if not table.tokens or b"" in table.index:
            what = "it is empty" if not table.tokens else "'' is one of its words, but not the first"
            raise InputError(f"TextVectorization: vocabulary: {what}")
        if config["output_mode"] == "tf_idf" and (idf_weights is None or len(idf_weights) != len(config["vocabulary"])):
            raise InputError("TextVectorization: output_mode='tf_idf' needs idf_weights, one for each word")
        if config["max_tokens"] is not None and table.size > config["max_tokens"]:
            raise InputError(f"TextVectorization: the vocabulary has {table.size} tokens, max_tokens={max_tokens}")
        self._layer.bind({}, np.float32)

    def __call__(self, texts: Iterable[str | bytes]) -> NDArray[Any]:
        """What Keras' layer gives for these texts: int64 ids padded with 0 behind, or a row of counts for each.

        Raises
        ------
        InputError
            If `texts` is no list of str or bytes; names the row.
        """
        from ..layers.base import Tensor  # no other class here needs a layer

        found: NDArray[Any] = self._layer.call([Tensor(self._bytes(texts))], {}, {})[0].value
        return found

    def encode(self, texts: Iterable[str | bytes]) -> Iterator[NDArray[np.int64]]:
        """Yield an int64 array of ids for each text, neither cut nor padded. For output_mode "int"."""
        layer = self._layer
        return (layer.indices(layer.tokens([text])) for text in self._bytes(texts))

    @property
    def rows(self) -> bool:
        """Whether it gives rows of a fixed length by itself."""
        return self.config["output_mode"] != "int" or self.config["output_sequence_length"] is not None

    @property
    def width(self) -> int | None:
        """Columns of its rows, or None."""
        columns: int | None = self.config["output_sequence_length"]
        return self._layer.depth if self.config["output_mode"] != "int" else columns

    def get_vocabulary(self) -> list[str]:
        """The tokens by their index, "" and "[UNK]" among them."""
        table = self._layer.table()
        return [""] * table.first_oov + ["[UNK]"] + [token.decode() for token in table.tokens]

    def vocabulary_size(self) -> int:
        return self._layer.table().size

    def max_id(self) -> int:
        """The largest id that a text can get."""
        return self.vocabulary_size() - 1

    def get_config(self) -> dict[str, Any]:
        """The arguments of the class."""
        return dict(self.config)

    def _bytes(self, texts: Iterable[str | bytes]) -> NDArray[np.object_]:
        rows = check_texts(texts, (str, bytes))
        found = np.empty(len(rows), object)
        found[:] = [utf8(text, f"row {row}") for row, text in enumerate(rows)]
        return found


# ---- files ----------------------------------------------------------------------------------------------------------


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file."""
    try:
        return read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: is no UTF-8 text ({error})") from error


def parse_json(text: str, path: str | os.PathLike[str]) -> Any:
    """What a JSON text holds."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: is no valid JSON ({error})") from error


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """The words of a vocabulary file, one a line, as Keras writes it beside a TextVectorization.

    Empty lines at the end are left out, as Keras does when it reads the file back.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is empty, or holds a word twice.
    """
    words = read_text(path).replace("\r\n", "\n").split("\n")
    while words and not words[-1]:
        words.pop()
    if not words:
        raise FileFormatError(f"{path}: holds no words")
    seen = set()
    for line, word in enumerate(words, start=1):
        if word in seen:
            raise FileFormatError(f"{path}: the word {word[:40]!r} stands twice, again in line {line}")
        seen.add(word)
    return words
