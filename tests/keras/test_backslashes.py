"""Files as tf.keras 2.12 or later, tf_keras and keras-core write them on Windows give the numbers of their originals.

Every group of golden files is renamed: the path a/b/c/vars becomes the one name a\\b\\c and vars in it.
"""

import io
import json
import zipfile

import h5py
import make_files as mf
import numpy as np
import pytest
from cases import CASES

import fastbilstm


def with_backslashes(content):
    """An HDF5 file with renamed groups; attributes and arrays are those of the original."""
    file = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(file, "w") as target:
        target.attrs.update(source.attrs)

        def visit(path, item):
            if isinstance(item, h5py.Group) and path.rpartition("/")[2] == "vars":
                holder = target.create_group(path.rpartition("/")[0].replace("/", "\\") or "\\")
                item.copy(item, holder, "vars")

        source.visititems(visit)
    return file.getvalue()


def archive_with_backslashes(content):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            member = source.read(name)
            if name == "model.weights.h5":
                member = with_backslashes(member)
            info = zipfile.ZipInfo(name)
            info.filename = name.replace("/", "\\")
            target.writestr(info, member)
    return file.getvalue()


def path_files():
    """Golden files with object paths inside, each content once."""
    seen = set()
    for case in CASES:
        if case.file in ("model.keras", "model.weights.h5") and case.read(case.file) not in seen:
            seen.add(case.read(case.file))
            yield case


def test_golden_files():
    counts = {"model.keras": 0, "model.weights.h5": 0}
    for case in path_files():
        change = archive_with_backslashes if case.file == "model.keras" else with_backslashes
        args = case.load_args()
        ours = fastbilstm.load(**args)
        theirs = fastbilstm.load(**args | {"path": change(args["path"])})
        assert theirs.graph == ours.graph, case.name
        for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        counts[case.file] += 1
    assert counts["model.keras"] >= 350 and counts["model.weights.h5"] >= 3, counts


def as_layer_checkpoint_dependencies(content):
    """The groups under the name that tf.keras 2.12 to 2.14 gave them; each model here has one layer of a class."""
    file = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(file, "w") as target:
        source.copy("layers", target, "_layer_checkpoint_dependencies")
    return file.getvalue()


def test_layer_checkpoint_dependencies():
    original = mf.weights_h5()
    content = with_backslashes(as_layer_checkpoint_dependencies(original))
    with h5py.File(io.BytesIO(content)) as file:
        assert r"_layer_checkpoint_dependencies\lstm\cell" in file
    expected = fastbilstm.load(mf.archive()).predict(mf.IDS)
    config = mf.sequential() | {"keras_version": "2.13.1"}
    np.testing.assert_array_equal(fastbilstm.load(content, config=config).predict(mf.IDS), expected)
    metadata = json.dumps({"keras_version": "2.13.1"}).encode()
    archive = mf.archive({"model.weights.h5": content, "metadata.json": metadata})
    np.testing.assert_array_equal(fastbilstm.load(archive).predict(mf.IDS), expected)


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_vocabularies(container):
    """assets\\layers\\string_lookup\\vocabulary.txt, two layers of a class."""
    step = 2 if container.startswith("_") else 1
    lookups = [mf.layer("StringLookup", f"s{n}", [f"x{n}"], output_mode="int", num_oov_indices=1) for n in (0, 1)]
    inputs = [mf.input_layer(f"x{n}", (None, 3), "string", functional=True) for n in (0, 1)]
    config = mf.functional(*inputs, *lookups, inputs=("x0", "x1"), outputs=("s0", "s1"))
    assets = {
        f"assets\\{container}\\string_lookup{number}\\vocabulary.txt": b"\n".join(words)
        for number, words in (("", [b"[UNK]", b"a"]), (f"_{step}", [b"[UNK]", b"b", b"a"]))
    }
    metadata = json.dumps({"keras_version": "2.13.1"}).encode()
    archive = mf.archive({**assets, "metadata.json": metadata}, config=config)
    first, second = fastbilstm.load(archive).predict([np.array([["a", "b", "c"]])] * 2)
    assert first.tolist() == [[1, 0, 0]] and second.tolist() == [[2, 1, 0]]


def test_shards(tmp_path):
    case = next(case for case in CASES if case.name == "sharded-several-keras3")
    args = case.load_args(tmp_path)
    expected = fastbilstm.load(**args)
    index = json.loads(args["path"].read_text())
    index["weight_map"] = {key.replace("/", "\\"): names for key, names in index["weight_map"].items()}
    args["path"].write_text(json.dumps(index))
    for name in case.shards:
        (tmp_path / name).write_bytes(with_backslashes((tmp_path / name).read_bytes()))
    for a, b in zip(fastbilstm.load(**args).get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [r"layers\..\lstm", r"layers\\lstm", r"layers\lstm\cell\vars", r"layers\lstm/x\y"])
def test_names_that_keras_does_not_write(name):
    def edit(file):
        file.create_group(name).create_group("vars").create_dataset("0", data=np.ones(3))

    with pytest.raises(fastbilstm.FileFormatError):
        fastbilstm.load(mf.archive(edit=edit))
