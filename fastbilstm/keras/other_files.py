"""What a file is that is no model of Keras, in words, and what to do: one table of signatures.

Tells by the first bytes, the names in an archive, and, where nothing else shows it, by the name of the file. Runs
nothing of the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from ..checks import read_file

# As many first bytes as the signatures need.
HEAD = 4096
_SAVE = "load it in Keras and save the model as .keras or .h5"
_FROM_KERAS = "give the Keras file that it was made from"
_RUNS = "which is not read as a model, because it runs code: open it where it was written, and save as .keras or .h5"
_UNPACK = "unpack it, and give the model that is in it"
_NO_MODEL = "it holds no model; give the model's own file"
_DOWNLOAD = "download the file itself"


class Seen(NamedTuple):
    """What is known of a file: its first bytes, its name without folder, and the names of an archive's members."""

    head: bytes
    name: str = ""
    members: tuple[str, ...] = ()

    def text(self) -> str | None:
        """The first bytes as text; None where they are none."""
        if any(byte < 32 and byte not in b"\t\n\r\f" for byte in self.head):
            return None
        try:  # a character may be cut off at the end
            return self.head.decode("utf-8-sig", "ignore" if len(self.head) >= HEAD else "strict")
        except UnicodeDecodeError:
            return None


class Kind(NamedTuple):
    """A kind of file: how it is told, and the sentence about it."""

    matches: Callable[[Seen], object]
    words: str


def _begins(*heads):
    return lambda seen: seen.head.startswith(heads)


def _begins_as_text(*texts):
    return lambda seen: seen.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:40].lower().startswith(texts)


def _member(pattern):
    return lambda seen: any(re.fullmatch(pattern, name) for name in seen.members)


def _name(pattern):
    return lambda seen: re.fullmatch(pattern, seen.name)


def _is_architecture(seen):
    return (text := seen.text()) and "class_name" in text and "config" in text


def _is_table(seen):
    lines = [line for line in (seen.text() or "").splitlines() if line][:5]
    return len(lines) > 1 and any(len({line.count(mark) for line in lines} - {0}) == 1 for mark in ",;\t")


ARCHITECTURE = "an architecture without weights: give its weights as the file, and this as config= (--config)"
KINDS = (
    Kind(_member(r"(.*/)?saved_model\.pb"), f"a zip of a TensorFlow SavedModel: {_UNPACK}"),
    Kind(_member(r".*/data\.pkl"), f"a PyTorch file, which is not supported: it holds no Keras layers; {_FROM_KERAS}"),
    Kind(_member(r".*\.npy"), f"NumPy arrays (.npz): {_NO_MODEL}"),
    Kind(_member(r"(.*/)?(config\.json|model\.json|.+\.(h5|hdf5|keras|index))"), f"a zip of other files: {_UNPACK}"),
    Kind(lambda seen: seen.members, f"a zip without a Keras model: {_NO_MODEL}"),
    Kind(_begins(b"version https://git-lfs"), "a Git LFS pointer, not the file: fetch it with `git lfs pull`"),
    Kind(
        _begins_as_text(b"<!doctype html", b"<html", b"<head"),
        f"a web page (HTML), not the file: the address gave a page about it; {_DOWNLOAD}",
    ),
    Kind(_begins_as_text(b"<?xml"), f"an XML file: {_NO_MODEL}"),
    Kind(lambda seen: seen.head[4:8] == b"TFL3", f"a TensorFlow Lite model, which is not supported; {_FROM_KERAS}"),
    Kind(
        _begins(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"),
        f"a PyTorch file, which is not supported: it holds no Keras layers; {_FROM_KERAS}",
    ),
    Kind(
        lambda seen: seen.head[:1] == b"\x80" and b"joblib" in seen.head,
        f"a joblib file, {_RUNS}",
    ),
    Kind(
        lambda seen: re.match(rb"\x80[\x02-\x05]", seen.head),
        f"a Python pickle, {_RUNS}; a pickled Tokenizer is given as tokenizer= (--tokenizer)",
    ),
    Kind(
        lambda seen: re.match(rb"\x08[\x02-\x1f][\x12\x1a\x22\x32\x3a\x42]", seen.head),
        f"an ONNX model, which is not supported: it holds no Keras layers; {_FROM_KERAS}",
    ),
    Kind(
        lambda seen: seen.head.startswith(b"\x08\x01\x12") or _name(r"saved_model\.pb")(seen),
        f"the program of a TensorFlow SavedModel (saved_model.pb): give its folder, or {_SAVE}",
    ),
    Kind(_name(r".*\.pb"), f"a TensorFlow graph, which is not supported: it holds no Keras layers; {_FROM_KERAS}"),
    Kind(
        _name(r".*\.(index|data-\d{5}-of-\d{5})"),
        "a part of a TensorFlow checkpoint that does not lie beside its other part: give both files in one folder",
    ),
    Kind(_begins(b"model_checkpoint_path:"), "the list of a folder's TensorFlow checkpoints: give one of them"),
    Kind(_begins(b"\x93NUMPY"), f"a NumPy array (.npy): {_NO_MODEL}"),
    Kind(_begins(b"PAR1"), f"a Parquet file: {_NO_MODEL}"),
    Kind(_begins(b"MATLAB"), f"a MATLAB file: {_NO_MODEL}"),
    Kind(_begins(b"GGUF"), "a GGUF model, which is not supported: it holds no Keras layers"),
    Kind(_begins(b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"), f"a compressed file: {_UNPACK}"),
    Kind(lambda seen: seen.head[257:262] == b"ustar", f"a tar archive: {_UNPACK}"),
    Kind(_is_architecture, ARCHITECTURE),
    Kind(
        lambda seen: seen.name == "weights_manifest.json" or (seen.head[:1] == b"[" and b'"paths"' in seen.head),
        "a list of weights of TensorFlow.js: give the model.json beside it",
    ),
    Kind(_is_table, f"a table of text (CSV): {_NO_MODEL}"),
    Kind(lambda seen: seen.text(), f"a text file: {_NO_MODEL}"),
)


def what_it_is(seen: Seen) -> str | None:
    """The words for a file, or None where nothing is known of it."""
    return next((kind.words for kind in KINDS if kind.matches(seen)), None)


def what_path_is(source: str | bytes, label: str) -> str | None:
    """`what_it_is` of a path or of bytes, which messages call `label`."""
    head = source[:HEAD] if isinstance(source, bytes) else read_file(source, HEAD)
    return what_it_is(Seen(head, os.path.basename(label)))


def what_json_is(value):
    """The words for a JSON value that is no index of shards and no model.json."""
    if isinstance(value, dict):
        if value.get("class_name") == "Tokenizer":
            return "a Keras Tokenizer: it holds no model; give it as tokenizer= (--tokenizer) to convert"
        if {"class_name", "layers"} & value.keys():
            return ARCHITECTURE
    return f"JSON, but no index of sharded weights (no weight_map): {_NO_MODEL}"
