"""Weights in shards with an index (.weights.json): damaged indices and shards, and where the shards are looked for.

The numbers are those of the golden family "sharded".
"""

import json
import shutil

import h5py
import numpy as np
import pytest
from cases import CASES

import fastbilstm
from fastbilstm import FileFormatError

SEVERAL = next(case for case in CASES if case.name == "sharded-several-keras3")


@pytest.fixture
def shards(tmp_path):
    """The arguments of a good sharded file, written to tmp_path."""
    return SEVERAL.load_args(tmp_path)


def change_index(shards, change):
    index = json.loads(shards["path"].read_text())
    change(index["weight_map"])
    shards["path"].write_text(json.dumps(index))


def set_entry(key, value):
    return lambda entries: entries.update({key: value})


DENSE = "/layers/dense/vars"
INDICES = {
    "leaves": (set_entry(DENSE, "../model_00000.weights.h5"), "not in the folder of the index"),
    "absolute": (set_entry(DENSE, "/etc/passwd"), "not in the folder of the index"),
    "drive": (set_entry(DENSE, "C:x.h5"), "not in the folder of the index"),
    "backslash": (set_entry(DENSE, "..\\x.h5"), "not in the folder of the index"),
    "dots": (set_entry(DENSE, ".."), "not in the folder of the index"),
    "missing": (set_entry(DENSE, "model_00077.weights.h5"), "shard 'model_00077.weights.h5' is missing"),
    "no list": (set_entry(DENSE, {"a": 1}), "expected names of files"),
    "empty": (set_entry(DENSE, []), "expected names of files"),
    "twice": (set_entry(DENSE, ["a.h5", "a.h5"]), "each once"),
    "object": (set_entry("/layers/../x/vars", "model_00000.weights.h5"), "expected a path"),
    "no vars": (set_entry("/layers/dense", "model_00000.weights.h5"), "expected a path"),
    "other shard": (
        set_entry(DENSE, "model_00000.weights.h5"),
        "group 'layers/dense/vars' is missing|is missing below",
    ),
    "no entry": (lambda entries: entries.pop(DENSE), "dense"),
}


@pytest.mark.parametrize("case", INDICES)
def test_index_of_shards(case, shards):
    change, words = INDICES[case]
    change_index(shards, change)
    with pytest.raises(FileFormatError, match=words) as raised:
        fastbilstm.load(**shards)
    assert str(shards["path"]) in str(raised.value)


CONTENTS = {
    "cut": (b'{"weight_map": {', "begins like JSON and is none"),
    "no map": (b'{"metadata": {}}', "no weight_map"),
    "list": (b'{"weight_map": []}', "no weight_map"),
    "architecture": (b'{"class_name": "Functional", "config": {}}', "an architecture without weights"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_json_that_is_no_index(case, shards):
    content, words = CONTENTS[case]
    shards["path"].write_bytes(content)
    with pytest.raises(FileFormatError, match=words):
        fastbilstm.load(**shards)


def test_shards_need_a_path_and_an_architecture(shards):
    with pytest.raises(FileFormatError, match="give its path"):
        fastbilstm.load(shards["path"].read_bytes(), config=shards["config"])
    with pytest.raises(FileFormatError, match="no architecture; give"):
        fastbilstm.load(shards["path"])


def test_shard_that_is_damaged_or_repeats_an_array(shards, tmp_path):
    names = SEVERAL.shards
    assert len(names) > 2
    entries = json.loads(shards["path"].read_text())["weight_map"]
    key, files = next((key, files) for key, files in entries.items() if len(files) == 2)
    with h5py.File(tmp_path / files[1], "r+") as file:
        file[f"{key}/0"] = np.zeros(3)
    with pytest.raises(FileFormatError, match="as another shard does"):
        fastbilstm.load(**shards)
    (tmp_path / files[1]).write_bytes(b"no HDF5")
    with pytest.raises(FileFormatError, match=f"shard {files[1]}: not a readable HDF5 file"):
        fastbilstm.load(**shards)


def test_shards_are_found_beside_the_index(shards, tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for file in tmp_path.glob("model*"):
        shutil.move(file, folder)
    monkeypatch.chdir(folder)
    y = fastbilstm.load("model.weights.json", config=SEVERAL.read(SEVERAL.config).decode()).predict(SEVERAL.inputs[0])
    np.testing.assert_allclose(y, SEVERAL.expected("float32")[0], rtol=1e-4, atol=1e-6)
