"""Files that are no models of Keras: each error says what the file is and what to do. One tiny file of each kind."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile

import h5py
import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError
from fastbilstm.keras.other_files import HEAD, KINDS, Seen, what_it_is


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as handle:
        for name in names:
            handle.writestr(name, b"x")
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as handle:
        handle.addfile(tarfile.TarInfo("model.h5"))
    return file.getvalue()


def hdf5(fill=lambda file: None):
    file = io.BytesIO()
    with h5py.File(file, "w") as handle:
        fill(handle)
    return file.getvalue()


def of_pandas(file):
    file.create_group("frame").attrs["pandas_type"] = b"frame"


def of_netcdf(file):
    file.attrs["_NCProperties"] = b"version=2"


def of_anyone(file):
    for name in ("x_test", "x_train"):
        file[name] = np.zeros(3)


JOBLIB = b"\x80\x04\x95\x83\x00\x00\x00\x00\x00\x00\x00\x8c\x13joblib.numpy_pickle\x94\x8c\x11NumpyArrayWrapper\x94"
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x062.0.0B\x02\x10\x0e"
SAVED_MODEL = b"\x08\x01\x12\xb3\x1e\n\x0b"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
ARCHITECTURE = json.dumps(mf.sequential())
NO_KERAS = "it holds no Keras layers; give the Keras file that it was made from"

# Name of the file, its content, the words about it.
FILES = {
    "PyTorch": ("model.pt", archive("net/data.pkl", "net/version"), f"a PyTorch file, .*{NO_KERAS}"),
    "PyTorch before 1.6": ("model.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "a PyTorch file"),
    "TensorFlow Lite": ("model.tflite", b"\x1c\x00\x00\x00TFL3\x14\x00", "a TensorFlow Lite model, .*give the Keras"),
    "ONNX": ("model.onnx", ONNX, f"an ONNX model, .*{NO_KERAS}"),
    "ONNX as .h5": ("model.h5", ONNX, "an ONNX model"),
    "program": ("saved_model_copy", SAVED_MODEL, r"program of a TensorFlow SavedModel .*give its folder, or"),
    "graph": ("frozen.pb", b"\n\x1c\n\x05input\x12\x0bPlaceholder", f"a TensorFlow graph, .*{NO_KERAS}"),
    "index": ("ckpt.index", b"\x00\x00\x00\x00\x01", "a part of a TensorFlow checkpoint .*give both files"),
    "shard": ("ckpt.data-00000-of-00001", b"\x00\x00\x80\x3f\x00", "a part of a TensorFlow checkpoint"),
    "list of checkpoints": ("checkpoint.txt", b'model_checkpoint_path: "x"\n', "checkpoints: give one of them"),
    "pickle": ("model.pkl", pickle.dumps({"a": 1}), "a Python pickle, which is not .*, and save as"),
    "joblib": ("model.joblib", JOBLIB, "a joblib file, which is not read as a model"),
    "compressed joblib": ("model.joblib.gz", gzip.compress(JOBLIB), "a compressed file: unpack it"),
    "tar": ("model.tar", tar(), "a tar archive: unpack it, and give the model that is in it"),
    "zip of a model": ("model.zip", archive("model/net.h5"), "a zip of other files: unpack it"),
    "zip": ("office.docx", archive("word/document.xml"), "a zip without a Keras model"),
    "npz": ("rows.npz", archive("x.npy"), r"NumPy arrays \(.npz\): it holds no model"),
    "npy": ("rows.npy", b"\x93NUMPY\x01\x00v\x00", r"a NumPy array \(.npy\)"),
    "Parquet": ("rows.parquet", b"PAR1\x15\x04\x15", "a Parquet file"),
    "MATLAB": ("net.mat", b"MATLAB 5.0 MAT-file\x00\x01IM", "a MATLAB file"),
    "GGUF": ("model.gguf", b"GGUF\x03\x00\x00\x00", "a GGUF model, which is not supported"),
    "HDF5 of data": ("rows.h5", hdf5(of_anyone), r"an HDF5 file without Keras weights .*, but x_test, x_train: if"),
    "HDF5 of pandas": ("rows.h5", hdf5(of_pandas), "an HDF5 file without Keras weights .*but a table of pandas"),
    "netCDF": ("rows.nc", hdf5(of_netcdf), "but a netCDF file"),
    "empty HDF5": ("model.h5", hdf5(), "but nothing"),
    "Git LFS": ("model.h5", LFS, "a Git LFS pointer, not the file: fetch it with `git lfs pull`"),
    "web page": ("model.h5", b"\n<!DOCTYPE html>\n<html lang=en>", r"a web page \(HTML\), not the file: .*download"),
    "web page in capitals": ("model.keras", b"<HTML><HEAD>", "a web page"),
    "XML": ("model.h5", b'<?xml version="1.0"?><net/>', "an XML file: it holds no model"),
    "JSON architecture": ("model.json", ARCHITECTURE.encode(), r"an architecture without weights: .*as config="),
    "architecture as text": ("model.txt", json.dumps(ARCHITECTURE).encode(), "an architecture without weights"),
    "YAML architecture": ("net.yaml", b"backend: t\nclass_name: Model\nconfig: {}\n", "an architecture without w"),
    "tokenizer": ("words.json", b'{"class_name": "Tokenizer", "config": {}}', "a Keras Tokenizer: .*as tokenizer="),
    "JSON": ("history.json", b'{"loss": [1.0]}', r"JSON, but no index of sharded weights \(no weight_map\)"),
    "list of weights": ("weights_manifest.json", b'[{"paths": [], "weights": []}]', "give the model.json"),
    "CSV": ("rows.csv", b"a;b\r\n1;2\r\n3;4\r\n", r"a table of text \(CSV\): it holds no model"),
    "text": ("README.md", "Läuft mit Keras 2.\n".encode(), "a text file: it holds no model"),
    "keras-core": ("model.keras", mf.archive({"metadata.json": b'{"keras_version": "0.1.7"}'}),
                   "an archive of keras-core 0.1.7, the preview of Keras 3, .*build the model in Keras 3"),
    "nothing that is known": ("model.bin", b"\x01\x02\x03\x04", r"neither a converted model nor .*begins with b'\\x01"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_words(kind, tmp_path):
    name, content, words = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as caught:
        fastbilstm.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    by_name = ("graph", "index", "shard", "list of weights")
    if kind not in by_name:
        with pytest.raises(FileFormatError, match=f"<bytes>.*({words})"):
            fastbilstm.load(content)


def test_every_kind_of_the_table_is_met():
    """A kind that an earlier one hides would never be said."""
    met = set()
    for name, content, _ in FILES.values():
        members = ()
        if content.startswith(b"PK"):
            members = tuple(zipfile.ZipFile(io.BytesIO(content)).namelist())
        met.add(what_it_is(Seen(b"" if members else content[:HEAD], name, members)))
    unmet = [kind.words for kind in KINDS if kind.words not in met]
    assert [words for words in unmet if "zip of a TensorFlow SavedModel" not in words] == []


def test_a_text_that_is_cut_inside_a_character(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("ü" * HEAD, encoding="utf-8")
    path.write_bytes(b"x" + path.read_bytes())
    with pytest.raises(FileFormatError, match="a text file"):
        fastbilstm.load(path)


def test_a_damaged_archive_of_keras_stays_one():
    with pytest.raises(FileFormatError, match=r"the archive has no config\.json"):
        fastbilstm.load(mf.archive({"config.json": None}))
