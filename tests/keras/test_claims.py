"""Files that claim more than they hold: refused before the memory is taken, from bytes and from a path alike."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import h5py
import make_files as mf
import numpy as np
import pytest
from small_files import STEPS, run, save_model

import fastbilstm

# What reading a file of some kilobytes may take.
PEAK = 24 << 20


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def one_chunk_of_many(file):
    """512 MB of embeddings, of which the file stores 32 KB."""
    path = next(name for name in ("layers/embedding/vars/0", EMBEDDINGS) if name in file)
    del file[path]
    file.create_dataset(path, (1 << 24, 8), "f4", chunks=(1024, 8))[0] = 1


def compressed_zeros(file):
    """128 MB of embeddings that HDF5 compresses to 128 KB, which a zip compresses again."""
    path = next(name for name in ("layers/embedding/vars/0", EMBEDDINGS) if name in file)
    del file[path]
    file.create_dataset(path, data=np.zeros((1 << 20, 32), "f4"), chunks=(1 << 15, 32), compression="gzip")


EMBEDDINGS = "model_weights/embedding/embedding/embeddings:0"
SIZES = {"one chunk of many": one_chunk_of_many, "compressed": compressed_zeros}


@pytest.mark.parametrize("kind", ["h5", "keras"])
@pytest.mark.parametrize("case", SIZES)
def test_an_array_far_larger_than_what_is_stored(case, kind, tmp_path):
    edit = SIZES[case]
    content = mf.h5(edit=edit) if kind == "h5" else mf.archive(compression=zipfile.ZIP_DEFLATED, edit=edit)
    assert len(content) < 200_000
    words = r"claims? .* bytes .*refused"
    assert peak_of(lambda: mf.assert_refused(tmp_path, content, words, f"model.{kind}")) < PEAK


def test_many_arrays_have_one_budget(tmp_path):
    units, layers = 500, 40  # 1 MB each
    config = mf.sequential(
        mf.input_layer("x", (None, units), "float32"), *(mf.dense(f"d{k}", units=units) for k in range(layers))
    )
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for k in range(layers):
            group = file.create_group(f"layers/dense_{k}/vars" if k else "layers/dense/vars")
            group.create_dataset("0", data=np.zeros((units, units), "f4"), chunks=(units, units), compression="gzip")
            group.create_dataset("1", data=np.zeros(units, "f4"))
    members = {"model.weights.h5": content.getvalue()}
    content = mf.archive(members, zipfile.ZIP_DEFLATED, config)
    assert len(content) < 40_000
    assert peak_of(lambda: mf.assert_refused(tmp_path, content, "claims more than 100 times", "net.keras")) < PEAK


# What the architecture tells of each array, or the shape of the input does.
WRONG = {
    "embedding/embedding/embeddings:0": (70, 4),
    "lstm/lstm/lstm_cell/kernel:0": (5, 12),
    "lstm/lstm/lstm_cell/bias:0": (2400,),
    "dense/dense/kernel:0": (300, 2),
}


@pytest.fixture
def arrays_read(monkeypatch):
    """The names of the datasets that were read, in a list that grows."""
    names, read = [], h5py.Dataset.__getitem__

    def record(dataset, *keys):
        names.append(dataset.name)
        return read(dataset, *keys)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", record)
    return names


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_the_architecture_is_not_read(name, tmp_path, arrays_read):
    def edit(file):
        del file[f"model_weights/{name}"]
        file[f"model_weights/{name}"] = np.ones(WRONG[name], "f4")

    mf.assert_refused(tmp_path, mf.h5(edit=edit), "has shape .*the model needs")
    assert not arrays_read


def test_what_contradicts_the_architecture_is_not_read_from_an_archive(tmp_path, arrays_read):
    def edit(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = np.ones((300, 2), "f4")

    mf.assert_refused(tmp_path, mf.archive(edit=edit), "its kernel has shape .*the model needs", "net.keras")
    assert not arrays_read


def older_layer(class_name, arrays, version):
    """A file of Keras 1 or 2 whose only layer, of 3 units on 4 features, stores its arrays in an older form."""
    options = (
        {"units": 3} if version[0] == "2" else {"output_dim": 3, "activation": "tanh", "inner_activation": "sigmoid"}
    )
    config = mf.sequential(
        mf.input_layer("x", (None, 5, 4), "float32"), mf.layer(class_name, "lstm", return_sequences=False, **options)
    )
    names = [f"{number:02}" for number in range(len(arrays))]
    return mf.h5(config, {"lstm": dict(zip(names, arrays))}, version)


OLDER = {
    "Keras 1": ("LSTM", [(4, 3), (3, 3), (3,)] * 4, "1.2.2"),
    "CuDNNLSTM": ("CuDNNLSTM", [(4, 12), (3, 12), (24,)], "2.2.4"),
    "CuDNNGRU": ("CuDNNGRU", [(4, 9), (3, 9), (18,)], "2.2.4"),
}


@pytest.mark.parametrize("case", OLDER)
def test_what_contradicts_the_architecture_is_not_converted(case, tmp_path, arrays_read):
    class_name, shapes, version = OLDER[case]
    arrays = [np.ones(shape, "f4") for shape in shapes]
    model = fastbilstm.load(older_layer(class_name, arrays, version))
    assert len(arrays_read) == len(arrays) and len(model.get_weights()) == 3
    del arrays_read[:]
    arrays[::3] = [np.ones((400, array.shape[1]), "f4") for array in arrays[::3]]
    words = r"its kernel has shape \(400, .*the model needs"
    mf.assert_refused(tmp_path, older_layer(class_name, arrays, version), words)
    assert not arrays_read


def test_a_member_far_larger_than_its_archive(tmp_path):
    def edit(file):
        file["unused"] = np.where(np.arange(1 << 24) % 1024, 0, rng.random(1 << 24, "f4"))  # 64 MB

    rng = np.random.default_rng(0)
    content = mf.archive(compression=zipfile.ZIP_DEFLATED, edit=edit)
    assert 1 << 26 < 1000 * len(content) < 1 << 29
    words = "model.weights.h5: .*claims more than 100 times"
    assert peak_of(lambda: mf.assert_refused(tmp_path, content, words, "net.keras")) < PEAK


def test_members_that_share_their_bytes(tmp_path):
    """A directory that names the same bytes fifty times: each member is small beside what it says that it stores."""
    content = mf.archive()
    archive = zipfile.ZipFile(io.BytesIO(content))
    first = content.index(b"PK\x01\x02")
    entry = next(info for info in archive.infolist() if info.filename == "model.weights.h5")
    at = content.index(b"PK\x01\x02", content.rindex(b"model.weights.h5") - 46)
    one = content[at : at + 46 + len(entry.filename)]
    copies = b"".join(one[:46] + f"model.weights.{k:02}".encode() for k in range(50))
    directory = content[first : content.index(b"PK\x05\x06")] + copies
    count = len(archive.infolist()) + 50
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), first, 0)
    words = "members claim more stored bytes than the archive has"
    mf.assert_refused(tmp_path, content[:first] + directory + end, words, "model.keras")


def test_lack_of_memory_is_no_damaged_file(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    for content in (mf.h5(), mf.archive()):
        with pytest.raises(MemoryError):
            fastbilstm.load(content)


def fortran(path):
    np.savez_compressed(path, x=np.zeros((1 << 20, STEPS), "i8", order="F"))


def wide_rows(path):
    np.savez_compressed(path, x=np.zeros((64, 1 << 20), "i8"))


@pytest.mark.parametrize("write", [fortran, wide_rows])
def test_rows_of_an_archive(write, tmp_path, capsys):
    model = save_model(tmp_path / "model.fbl")
    path, out = tmp_path / "rows.npz", tmp_path / "out.csv"
    write(path)
    results = []
    assert peak_of(lambda: results.append(run(capsys, "predict", model, path, "-o", out))) < PEAK
    code, error = results[0]
    assert code == 2 and f"{path}, x: claims" in error and "Traceback" not in error
    assert not out.exists()


def parquet_pages(pa):
    """64 MB of numbers that take some kilobytes."""
    return pa.table({"x": np.zeros(1 << 23)}), {"use_dictionary": False}


def parquet_text(pa):
    """A text of 1 MB to which each of a hundred rows refers."""
    return pa.table({"x": pa.array(["a" * (1 << 20)] * 100)}), {"dictionary_pagesize_limit": 1 << 30}


def parquet_categories(pa):
    """The same for a column that is told to be of categories."""
    table, options = parquet_text(pa)
    return table.set_column(0, "x", table["x"].combine_chunks().dictionary_encode()), options


@pytest.mark.parametrize("make", [parquet_pages, parquet_text, parquet_categories])
def test_rows_of_parquet(make, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    model = save_model(tmp_path / "model.fbl")
    path, out = tmp_path / "rows.parquet", tmp_path / "out.csv"
    table, options = make(pa)
    pq.write_table(table, path, compression="zstd", row_group_size=1 << 24, **options)
    assert path.stat().st_size < 100_000
    code = (
        "import sys, fastbilstm.cli as c, pyarrow; code = c.main(sys.argv[1:]); "
        "print(code, pyarrow.default_memory_pool().max_memory())"
    )
    command = [sys.executable, "-c", code, "predict", model, path, "-o", out, "--columns", "x", "--on-error", "null"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    code, peak = map(int, done.stdout.split())
    assert code == 2 and f"{path}, " in done.stderr and "claims" in done.stderr and "Traceback" not in done.stderr
    assert peak < PEAK and not out.exists()


def test_rows_of_parquet_that_repeat_themselves_are_read(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    model = save_model(tmp_path / "model.fbl")
    path = tmp_path / "rows.parquet"
    rows, group = 3000, pa.array(["spam", "ham", None] * 1000, pa.large_string())
    pq.write_table(pa.table({"x": pa.array([np.zeros(STEPS, "i8")] * rows), "group": group}), path, row_group_size=700)
    assert run(capsys, "predict", model, path, "-o", tmp_path / "out.parquet", "--columns", "x")[0] == 0
    answers = pq.read_table(tmp_path / "out.parquet")
    assert answers["group"].combine_chunks() == group and len(answers) == rows


def test_rows_that_compress_well_are_read(tmp_path, capsys):
    model = save_model(tmp_path / "model.fbl")
    path, out = tmp_path / "rows.npz", tmp_path / "out.npy"
    np.savez_compressed(path, x=np.zeros((30_000, STEPS), "i8"))
    assert run(capsys, "predict", model, path, "-o", out)[0] == 0
    assert len(np.load(out)) == 30_000
