"""Malformed Keras files: each is refused with an error of ours that names the file and what is wrong with it.

Files are built by hand (make_files.py). Architectures are in test_config.py, converted files in
test_malformed_fbl_file.py, random damage in test_fuzz.py.
"""

import functools
import io
import json
import zipfile

import h5py
import make_files as mf
import numpy as np
import pytest

import fastbilstm


@pytest.fixture
def refused(tmp_path):
    return functools.partial(mf.assert_refused, tmp_path)


# ---- not a model at all ---------------------------------------------------------------------------------------------

NO_MODEL = {
    "empty": (b"", "is empty"),
    "one byte": (b"\x89", "neither a converted model nor a Keras file"),
    "wrong magic": (b"\x00" * 4096, "neither a converted model nor a Keras file"),
    "text": (b"epoch,loss\n1,0.5\n", r"neither .* begins with b'epoch,lo'"),
    "HDF5 magic only": (b"\x89HDF\r\n\x1a\n", "not a readable HDF5 file"),
    "HDF5 half": (mf.h5()[: len(mf.h5()) // 2], "not a readable HDF5 file"),
    "HDF5 less one byte": (mf.h5()[:-1], "not a readable HDF5 file"),
    "zip magic only": (b"PK\x03\x04", "damaged .keras archive"),
    "zip half": (mf.archive()[: len(mf.archive()) // 2], "damaged .keras archive"),
    "zip less one byte": (mf.archive()[:-1], "damaged .keras archive"),
}


@pytest.mark.parametrize("case", NO_MODEL)
def test_no_model(case, refused):
    refused(*NO_MODEL[case])


def test_the_files_these_tests_damage_are_good():
    expected = fastbilstm.load(mf.h5()).predict(mf.IDS)
    config = mf.sequential() | {"keras_version": mf.KERAS2}
    for options in (
        {"path": mf.h5(mf.functional())},
        {"path": mf.archive()},
        {"path": mf.h5(whole=False), "config": config},
        {"path": mf.weights_h5(), "config": config},
    ):
        np.testing.assert_array_equal(fastbilstm.load(**options).predict(mf.IDS), expected)


# ---- HDF5: groups, attributes, datasets, links ----------------------------------------------------------------------

LSTM = "model_weights/lstm"
KERNEL = f"{LSTM}/lstm/lstm_cell/kernel:0"


def replaced(path, **dataset):
    """An edit that puts another dataset in the place of one."""

    def edit(file):
        del file[path]
        file.create_dataset(path, **dataset)

    return edit


def linked(path, link):
    def edit(file):
        file["elsewhere"] = np.zeros((4, 12), "f4")
        del file[path]
        file[path] = link

    return edit


def attribute(where, name, *value):
    """An edit that sets an attribute, or deletes it if no value is given."""

    def edit(file):
        attrs = file[where].attrs
        del attrs[name]
        if value:
            attrs[name] = value[0]

    return edit


def virtual(file):
    layout = h5py.VirtualLayout((4, 12), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 12))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def chunked(*numbers):
    """An edit that splits the list of layer names as Keras splits long ones, into chunks of these numbers."""

    def edit(file):
        group = file["model_weights"]
        names = list(group.attrs["layer_names"])
        del group.attrs["layer_names"]
        for number, name in zip(numbers, names, strict=True):
            group.attrs[f"layer_names{number}"] = [name]

    return edit


def delete(path):
    return lambda file: file.__delitem__(path)


OBJECTS = {"shape": (4, 12), "dtype": h5py.string_dtype()}
COMPOUND = {"shape": (4, 12), "dtype": np.dtype([("re", "f4"), ("im", "f4")])}
REFERENCES = {"shape": (4, 12), "dtype": h5py.ref_dtype}
HUGE = {"shape": (1 << 40, 12), "dtype": "f4", "chunks": (1024, 12)}
EXTERNAL = {"shape": (4, 12), "dtype": "f4", "external": [("weights.bin", 0, h5py.h5f.UNLIMITED)]}
HDF5 = {
    "no model_weights": (delete("model_weights"), "without Keras weights"),
    "no layer_names": (attribute("model_weights", "layer_names"), "without Keras weights"),
    "no layer group": (delete(LSTM), "group 'lstm' is missing below '/model_weights'"),
    "no weight_names": (attribute(LSTM, "weight_names"), "'/model_weights/lstm' has no attribute 'weight_names'"),
    "no dataset": (delete(KERNEL), "dataset 'lstm/lstm_cell/kernel:0' is missing"),
    "model_config is no text": (attribute("/", "model_config", 7), "'model_config' .*holds 7; expected strings"),
    "layer_names of numbers": (
        attribute("model_weights", "layer_names", [1, 2, 3]),
        "layer_names.*holds 1; expected strings",
    ),
    "layer_names not UTF-8": (attribute("model_weights", "layer_names", [b"\xff\xfe"]), "layer_names.*not UTF-8"),
    "chunks with a gap": (chunked(0, 1, 3), "has layer_names3 but no layer_names2"),
    "chunks without the first": (chunked(1, 2, 3), "has layer_names3 but no layer_names0"),
    "layer is a dataset": (lambda f: (f.__delitem__(LSTM), f.create_dataset(LSTM, data=[1.0])), "is no group"),
    "dataset is a group": (lambda f: (f.__delitem__(KERNEL), f.create_group(KERNEL)), "is no dataset"),
    "soft link": (linked(KERNEL, h5py.SoftLink("/elsewhere")), "'kernel:0' .* is a soft or external link"),
    "dangling link": (linked(KERNEL, h5py.SoftLink("/nowhere")), "'kernel:0' .* link"),
    "external link": (linked(KERNEL, h5py.ExternalLink("/etc/passwd", "x")), "'kernel:0' .* link"),
    "linked group": (linked(LSTM, h5py.SoftLink("/model_weights/dense")), "'lstm' .* is a soft or external link"),
    "linked model_weights": (linked("model_weights", h5py.ExternalLink("a.h5", "/")), "without Keras weights"),
    "external dataset": (replaced(KERNEL, **EXTERNAL), "kernel:0' is stored in other files"),
    "virtual dataset": (virtual, "kernel:0' is stored in other files"),
    "terabytes": (replaced(KERNEL, **HUGE), r"kernel:0' claims 52776558133248 bytes"),
    "strings": (replaced(KERNEL, data=np.full((4, 12), b"1.0")), "kernel:0' has dtype .S3; expected numbers"),
    "objects": (replaced(KERNEL, **OBJECTS), "kernel:0' has dtype object; expected numbers"),
    "references": (replaced(KERNEL, **REFERENCES), "kernel:0' has dtype object; expected numbers"),
    "compound": (replaced(KERNEL, **COMPOUND), "kernel:0' has dtype .*; expected numbers"),
    "opaque": (replaced(KERNEL, data=np.zeros((4, 12), "V2")), "kernel' has dtype .V2; expected numbers"),
    "no values": (replaced(KERNEL, data=h5py.Empty("f4")), "kernel:0' is empty"),
    "kernel transposed": (replaced(KERNEL, data=np.zeros((12, 4), "f4")), r"layer 'lstm'.*kernel.*\(12, 4\)"),
    "kernel one short": (replaced(KERNEL, data=np.zeros((4, 11), "f4")), r"layer 'lstm'.*kernel.*\(4, 11\)"),
    "kernel a number": (replaced(KERNEL, data=np.float32(1)), r"layer 'lstm'.*kernel.*\(\)"),
    "one name too few": (
        attribute(LSTM, "weight_names", [b"lstm/lstm_cell/kernel:0"]),
        "layer 'lstm' .* holds 1 arrays for it, the architecture needs 3",
    ),
    "path leaves the group": (
        attribute(LSTM, "weight_names", [b"../dense/dense/kernel:0"] * 3),
        "is no path of a dataset",
    ),
}


@pytest.mark.parametrize("case", HDF5)
def test_hdf5(case, refused):
    edit, words = HDF5[case]
    refused(mf.h5(edit=edit), words)


def test_chunked_names_without_a_gap_are_read():
    np.testing.assert_array_equal(
        fastbilstm.load(mf.h5(edit=chunked(0, 1, 2))).predict(mf.IDS), fastbilstm.load(mf.h5()).predict(mf.IDS)
    )


WEIGHTS_H5 = {
    "no layers": (delete("layers"), "no group 'layers'|without Keras weights"),
    "no layer": (delete("layers/lstm"), r"no weights for layer 'lstm' \(LSTM\)"),
    "no vars": (delete("layers/lstm/cell/vars"), "group 'cell/vars' is missing"),
    "one array too few": (delete("layers/lstm/cell/vars/2"), "layer 'lstm' .* 2 arrays for it, it needs 3"),
    "numbers with a gap": (lambda f: f.move("layers/dense/vars/1", "layers/dense/vars/7"), "dataset '1' is missing"),
    "wrong shape": (replaced("layers/dense/vars/1", data=np.zeros(3, "f4")), r"layer 'dense'.*bias.*\(3,\)"),
    "link": (linked("layers/dense/vars/1", h5py.ExternalLink("a.h5", "/x")), "link; refused"),
}


@pytest.mark.parametrize("case", WEIGHTS_H5)
def test_weights_h5(case, refused):
    edit, words = WEIGHTS_H5[case]
    content = mf.weights_h5(edit=edit)
    refused(content, words, "model.weights.h5", config=mf.sequential() | {"keras_version": mf.KERAS2})
    refused(mf.archive(members={"model.weights.h5": content}), words, "model.keras")


def test_weights_only_needs_config(refused):
    refused(mf.h5(whole=False), "holds weights and no architecture; give .* config=", "weights.h5")


def test_version_of_weights_h5_is_not_guessed(refused):
    refused(mf.weights_h5(), "keras_version", "model.weights.h5", config=mf.sequential())


@pytest.mark.parametrize("version", ["0.3.3", "4.0.0", "", "latest", "3" * 5000, "-1.0"])
def test_unknown_keras_version(version, refused):
    refused(mf.h5(version=version), "keras_version")


def test_keras_0(refused):
    def edit(file):
        file.attrs["nb_layers"] = 1
        file["layer_0/param_0"] = np.zeros((2, 2))

    refused(mf.h5(whole=False, edit=edit), "Keras 0.x, which is not supported")


# ---- .keras archives ------------------------------------------------------------------------------------------------


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
