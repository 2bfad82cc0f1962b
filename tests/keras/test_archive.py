"""Malformed .keras archives: each is refused with an error of ours that names the file and what is wrong with it."""

import io
import json
import zipfile

import make_files as mf
import numpy as np
import pytest

import fastbilstm


def repeated(name):
    content = io.BytesIO(mf.archive())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(content, "a") as handle:
        handle.writestr(name, b"{}")
    return content.getvalue()


def flagged(offset_local, offset_central, value):
    """The archive with a field changed in the headers of its second member, config.json."""
    content = bytearray(mf.archive())
    local = content.index(b"config.json") - 30
    central = content.rindex(b"config.json") - 46
    content[local + offset_local] = content[central + offset_central] = value
    return bytes(content)


BOMB = json.dumps(mf.sequential()).encode() + b" " * (64 << 20)
ARCHIVES = {
    "no config": (lambda: mf.archive({"config.json": None}), "has no config.json"),
    "no metadata": (lambda: mf.archive({"metadata.json": None}), "has no metadata.json"),
    "no weights": (lambda: mf.archive({"model.weights.h5": None}), "has no model.weights.h5"),
    "weights as npz": (
        lambda: mf.archive({"model.weights.h5": None, "model.weights.npz": b"PK"}),
        "has no model.weights.h5 .*npz is not supported",
    ),
    "metadata is a list": (lambda: mf.archive({"metadata.json": b"[]"}), "metadata.json is no dictionary"),
    "metadata cut": (lambda: mf.archive({"metadata.json": b"{"}), "metadata.json is not valid JSON"),
    "metadata without version": (lambda: mf.archive({"metadata.json": b"{}"}), "keras_version"),
    "weights are text": (lambda: mf.archive({"model.weights.h5": b"text"}), "model.weights.h5: not a readable HDF5"),
    "weights are empty": (lambda: mf.archive({"model.weights.h5": b""}), "model.weights.h5: not a readable HDF5"),
    "parent folder": (lambda: mf.archive({"assets/../../x": b""}), "'assets/../../x' leaves the archive"),
    "backslashes": (lambda: mf.archive({"..\\x": b""}), "leaves the archive"),
    "absolute path": (lambda: mf.archive({"/etc/x": b""}), "'/etc/x' leaves the archive"),
    "drive": (lambda: mf.archive({"C:/x": b""}), "'C:/x' leaves the archive"),
    "config twice": (lambda: repeated("config.json"), "holds a member twice"),
    "weights twice": (lambda: repeated("model.weights.h5"), "holds a member twice"),
    "config bomb": (
        lambda: mf.archive({"config.json": BOMB}, zipfile.ZIP_DEFLATED),
        "config.json claims .* bytes from .* stored ones; refused",
    ),
    "weights bomb": (
        lambda: mf.archive({"model.weights.h5": bytes(64 << 20)}, zipfile.ZIP_DEFLATED),
        "model.weights.h5 claims 67108864 bytes from .* stored ones; refused",
    ),
    "encrypted": (lambda: flagged(6, 8, 1), "config.json is encrypted"),
    "bzip2": (lambda: mf.archive(compression=zipfile.ZIP_BZIP2), "config.json has compression method 12"),
    "lzma": (lambda: mf.archive(compression=zipfile.ZIP_LZMA), "config.json has compression method 14"),
    "unknown compression": (lambda: flagged(8, 10, 99), "config.json has compression method 99"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archive(case, refused):
    build, words = ARCHIVES[case]
    refused(build(), words, "model.keras")


def test_archive_may_be_compressed_and_takes_no_config(refused):
    packed = mf.archive(compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(fastbilstm.load(packed).predict(mf.IDS), fastbilstm.load(mf.h5()).predict(mf.IDS))
    refused(packed, "holds its own architecture", "model.keras", config=mf.sequential())
