"""Malformed HDF5 files: each is refused with an error of ours that names the file and what is wrong with it.

Groups, attributes, datasets, links; whole models and weights alone. Files are built by hand (make_files.py).
"""

import h5py
import make_files as mf
import numpy as np
import pytest

import fastbilstm

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
    "no layer group": (delete(LSTM), "no weights for layer 'lstm': the file breaks off before layer 'lstm'"),
    "no weight_names": (
        attribute(LSTM, "weight_names"),
        "no weights for layer 'lstm'; the file holds weights for embedding, dense",
    ),
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
