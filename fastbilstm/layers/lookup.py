"""StringLookup and IntegerLookup: tokens (words or whole numbers) -> indices in a vocabulary, and back.

The specification. Strings are NumPy arrays of `bytes` objects in UTF-8, as in TensorFlow. A token that is not in the
vocabulary is out of vocabulary (OOV); of several OOV indices its hash chooses one. Imports NumPy; knows no files.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .base import BaseLayer, Option, Spec, Tensor, boolean, choice, dtype_of, integer, optional, register
from .encoding import MODES, encode, encoded_shape
from .hashing import bucket, salt

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUT_MODES = ("int", *MODES, "tf_idf", "binary", "tf-idf")


def as_bytes(value):
    return value.encode("utf-8") if isinstance(value, str) else value


def words(value):
    """Check a vocabulary of strings as Keras stores it in a config; words given as bytes are dictionaries there."""
    if isinstance(value, (list, tuple)):
        value = [_from_bytes(word) for word in value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise ValueError("expected a list of strings")
    return list(value)


def _from_bytes(word):
    if isinstance(word, dict) and word.get("class_name") == "__bytes__" and isinstance(word.get("config"), dict):
        return word["config"].get("value")
    return word


def numbers(value):
    if not isinstance(value, (list, tuple)) or any(isinstance(n, bool) or not isinstance(n, int) for n in value):
        raise ValueError("expected a list of whole numbers")
    return list(value)


def weights_list(value):
    if not isinstance(value, (list, tuple)) or any(
        isinstance(w, bool) or not isinstance(w, (int, float)) for w in value
    ):
        raise ValueError("expected a list of numbers")
    return [float(w) for w in value]


def text(value):
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


def whole(value):
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expected a whole number")
    return value


def mode(value):
    """Check an output mode; the old names that Keras had for two of them are allowed."""
    choice(*OUTPUT_MODES)(value)
    return {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(value, value)


class Vocabulary:
    """The table of a lookup layer: the index of each token, and the mask and OOV tokens before them.

    Parameters
    ----------
    tokens : list of bytes or int
        As stored; it may begin with the mask token and OOV tokens.
    mask_token, oov_token : bytes, int or None
    has_mask_index : bool
        Whether index 0 is the mask (output_mode "int" with a mask token).
    num_oov_indices : int
    """

    def __init__(
        self, tokens: list[Any], mask_token: Any, oov_token: Any, has_mask_index: bool, num_oov_indices: int
    ) -> None:
        self.first_oov = 1 if has_mask_index else 0
        self.start = self.first_oov + num_oov_indices
        front = tokens[: self.start]
        special = [mask_token] * self.first_oov + [oov_token] * (len(front) - self.first_oov)
        self.holds_special = len(front) == self.start and front == special
        self.tokens = tokens[self.start :] if self.holds_special else list(tokens)
        self.index = {token: number for number, token in enumerate(self.tokens, start=self.start)}
        self.size = self.start + len(self.tokens)


class Lookup(BaseLayer):
    """What StringLookup and IntegerLookup have in common."""

    exact = True
    options = {
        "max_tokens": Option(optional(integer(1)), None),
        "num_oov_indices": Option(integer(0), 1),
        "invert": Option(boolean, False),
        "output_mode": Option(mode, "int"),
        "sparse": Option(choice(False), False),
        "pad_to_max_tokens": Option(boolean, False),
        "idf_weights": Option(optional(weights_list), None),
        "oov_method": Option(choice("floormod", "farmhash"), "floormod"),
        "salt": Option(salt, None),
    }
    ignored = ("vocabulary_size", "has_input_vocabulary", "max_values")
    passes_mask = False
    casts_input = False
    key = staticmethod(lambda value: value)

    @classmethod
    def check_config(cls, config, version):
        if config["pad_to_max_tokens"] and not config["max_tokens"]:
            yield "pad_to_max_tokens", True, "needs max_tokens"

    def table(self) -> Vocabulary:
        """The Vocabulary; made once."""
        if "_table" not in self.__dict__:
            if self.vocabulary is None:
                self.fail("the file holds no vocabulary for it; save the model as .keras after adapt()")
            tokens = [self.key(token) for token in self.vocabulary]
            mask, oov = self.key(self.mask_token), self.key(self.oov_token)
            has_mask_index = mask is not None and self.output_mode == "int"
            table = Vocabulary(tokens, mask, oov, has_mask_index, self.num_oov_indices)
            if len(table.index) < len(table.tokens):
                self.fail("its vocabulary holds a token twice")
            self.__dict__["_table"] = table
        return self.__dict__["_table"]

    @property
    def depth(self) -> int:
        """Columns of an encoded output."""
        return self.max_tokens if self.pad_to_max_tokens else self.table().size

    def weight_shapes(self, shapes):
        stored = self.output_mode == "tf_idf" and self.idf_weights is None
        return {"idf_weights": (self.depth if shapes else None,)} if stored else {}

    def idf(self):
        """The weight of each column in output mode tf_idf."""
        if "idf_weights" in self.weights:
            return self.weights["idf_weights"]
        table, given = self.table(), np.asarray(self.idf_weights)
        if len(given) != len(self.vocabulary):
            self.fail(f"it has {len(given)} idf_weights and {len(self.vocabulary)} tokens")
        # The mask and OOV tokens get the mean.
        front = 0 if table.holds_special else table.start
        given = np.concatenate([np.full(front, np.mean(given)), given])
        return np.concatenate([given, np.zeros(self.depth - len(given))]).astype(self.dtype)

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.table()
        if self.output_mode != "int":
            shape = encoded_shape(self, shape, self.output_mode, self.depth)
        return [Spec(shape, dtype=self.output_dtype(inputs[0].dtype))]

    def output_dtype(self, dtype):
        if self.invert:
            return self.inverse_dtype
        counts = self.output_mode != "tf_idf" and self.version.is_keras3
        return "int64" if self.output_mode == "int" or counts else None

    def indices(self, keys: list[Any]) -> NDArray[np.int64]:
        """Keys in a flat sequence -> their indices, int64."""
        table = self.table()
        found = np.fromiter(map(table.index.get, keys, itertools.repeat(-1)), np.int64, len(keys))
        lost = found < 0
        mask = self.key(self.mask_token)
        if self.mask_token is not None and mask in keys:
            masked = np.fromiter((key == mask for key in keys), bool, len(keys))
            # A masked token counts in no column: it gets an index beyond the last one.
            found[masked] = 0 if self.output_mode == "int" else np.iinfo(np.int64).max
            lost &= ~masked
        if lost.any():
            found[lost] = self.oov_indices([key for key, out in zip(keys, lost) if out])
        return found

    def oov_indices(self, keys):
        if self.num_oov_indices == 0:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): {keys[0]!r} is not in its vocabulary, and it has no index "
                "for such tokens (num_oov_indices is 0)"
            )
        if self.num_oov_indices == 1:
            return self.table().first_oov
        return self.table().first_oov + self.buckets(keys)

    def buckets(self, keys):
        """Which of several OOV indices each OOV token takes: that of its hash."""
        found = {key: bucket(key, self.num_oov_indices, self.salt) for key in set(keys)}
        return np.fromiter(map(found.get, keys), np.int64, len(keys))

    def encoded(self, indices):
        """Indices in the form of the output mode."""
        if self.output_mode == "int":
            return indices
        counts = "count" if self.output_mode == "tf_idf" else self.output_mode
        return self.finished(encode(self, indices, counts, self.depth))

    def finished(self, counts):
        """The output: for tf_idf, counts times weights; else counts, as whole numbers in Keras 3, as floats before."""
        if self.output_mode == "tf_idf":
            return counts.astype(self.dtype) * self.idf()
        return counts if self.version.is_keras3 else counts.astype(self.dtype)

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        if self.invert:
            return [Tensor(self.inverse(x))]
        keys = self.keys(x)
        return [Tensor(self.encoded(np.reshape(self.indices(keys), x.shape)))]

    def inverse(self, x):
        table = self.table()
        names = dict(enumerate(table.tokens, start=table.start))
        if self.mask_token is not None:
            names[0] = self.key(self.mask_token)
        oov = self.key(self.oov_token)
        found = [names.get(number, oov) for number in x.astype(np.int64).ravel().tolist()]
        y = np.empty(len(found), dtype_of(self.inverse_dtype))
        y[:] = found
        return np.reshape(y, x.shape)


@register
class StringLookup(Lookup):
    options = {
        **Lookup.options,
        "vocabulary": Option(optional(words), None),
        "mask_token": Option(optional(text), None),
        "oov_token": Option(optional(text), "[UNK]"),
        "encoding": Option(choice("utf-8", None), "utf-8"),
    }
    key = staticmethod(as_bytes)
    inverse_dtype = "string"

    def keys(self, x):
        if x.dtype != object:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): its input has dtype {x.dtype}; expected strings"
            )
        return x.ravel().tolist()


@register
class IntegerLookup(Lookup):
    options = {
        **Lookup.options,
        "vocabulary": Option(optional(numbers), None),
        "mask_token": Option(optional(whole), None),
        "oov_token": Option(optional(whole), -1),
        "vocabulary_dtype": Option(choice("int64", "int32"), "int64"),
    }
    inverse_dtype = "int64"

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["salt"] is not None and config["oov_method"] != "farmhash":
            yield "salt", config["salt"], "is for oov_method='farmhash' alone"

    def keys(self, x):
        if x.dtype == object:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): its input holds strings; expected whole numbers"
            )
        return x.astype(np.int64).ravel().tolist()

    def buckets(self, keys):
        if self.oov_method == "farmhash":
            return super().buckets(keys)
        return np.mod(np.asarray(keys, np.int64), self.num_oov_indices)
