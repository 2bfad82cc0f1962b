"""A text to its words, and words to numbers by a hash: text_to_word_sequence, hashing_trick, one_hot of Keras.

Imports the standard library only.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from ..checks import check_whole
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# What Keras takes for separators of words.
FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def separator(filters: str | list[str], split: str) -> Callable[[str], str]:
    """The function that turns each character of `filters` in a text into `split`."""
    try:
        if not all(isinstance(character, str) for character in filters):
            raise TypeError
        table = str.maketrans(dict.fromkeys(filters, split))
    except (TypeError, ValueError):
        raise InputError(f"filters is {filters!r}; expected a text or a list of single characters") from None
    if not all(map(str.isascii, [*filters, split])) or len(split) != 1:
        return lambda text: text.translate(table)
    # ASCII is the same bytes in UTF-8, and bytes are translated ten times faster.
    in_bytes = bytearray(range(256))
    for code in table:
        in_bytes[code] = ord(split)

    def separated(text: str) -> str:
        return text.encode("utf-8", "surrogatepass").translate(in_bytes).decode("utf-8", "surrogatepass")

    return separated


def text_to_word_sequence(
    input_text: str, filters: str | list[str] = FILTERS, lower: bool = True, split: str = " "
) -> list[str]:
    """Split a text into words.

    Parameters
    ----------
    input_text : str
    filters : str or list of str
        Characters that separate words, beside `split`.
    lower : bool
        Whether the text is turned into lower case first, as `str.lower` does.
    split : str
        What separates words.

    Returns
    -------
    list of str
    """
    if not isinstance(input_text, str):
        raise InputError(f"the text is of type {type(input_text).__name__}; expected str")
    if not isinstance(split, str) or not split:
        raise InputError(f"split is {split!r}; expected a text of one or more characters")
    return split_words(input_text, separator(filters, split), lower, split)


def split_words(text: str, separated: Callable[[str], str], lower: bool, split: str) -> list[str]:
    # Filters that hold capitals see the text in lower case, as in Keras.
    return list(filter(None, separated(text.lower() if lower else text).split(split)))


def hashing_trick(
    text: str,
    n: int,
    hash_function: Callable[[str], int] | Literal["md5"] | None = None,
    filters: str | list[str] = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """Words of a text to numbers from 1 to n - 1, by a hash of each word; different words may share one.

    Parameters
    ----------
    text : str
    n : int
        One more than there are numbers.
    hash_function : {None, "md5"} or callable
        None is Python's `hash`, as in Keras: it gives other numbers in every process unless PYTHONHASHSEED is set, so a
        model that was trained on it cannot be used in another process, by Keras either. "md5" is stable.
    filters, lower, split
        See `text_to_word_sequence`.
    analyzer : callable, optional
        Splits the text instead.

    Returns
    -------
    list of int
    """
    n = check_whole("n", n, 2, optional=False)
    if hash_function is None:
        hash_function = hash
    elif hash_function == "md5":
        hash_function = _md5
    elif not callable(hash_function):
        raise InputError(f"hash_function is {hash_function!r}; expected None, 'md5' or a function")
    words = text_to_word_sequence(text, filters, lower, split) if analyzer is None else analyzer(text)
    return [hash_function(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


def one_hot(
    input_text: str,
    n: int,
    filters: str | list[str] = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """`hashing_trick` with Python's `hash`, which is what Keras calls one_hot: a list of numbers from 1 to n - 1.

    It gives other numbers in every process; see `hashing_trick`.
    """
    return hashing_trick(input_text, n, hash, filters, lower, split, analyzer)
