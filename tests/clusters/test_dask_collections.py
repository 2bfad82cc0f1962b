"""Dask's collections scored in this process: kinds, shapes, rows and collections that are refused.

What is asked of a row is the bits of a local prediction; those of the demo model are compared with Keras elsewhere
(test_demo). What takes workers is in test_dask_workers.py.
"""

import json
import re
import shutil
import subprocess
import sys
import warnings

import make_files as mf
import numpy as np
import pytest
from dask_cases import ROWS, frame_of, spoiled
from paths import FORMAT_V1

import fastbilstm
from fastbilstm.clusters.batch_predictor import BatchPredictor
from fastbilstm.errors import FileFormatError, InputError, MissingExtraError
from fastbilstm.preprocessing import WordIndex
from fastbilstm.sample import FOLDER
from fastbilstm.tolerances import IMDB_PROBABILITY

dask = pytest.importorskip("dask", reason="needs Dask")
pytest.importorskip("distributed", reason="needs Dask's distributed")
pd = pytest.importorskip("pandas", reason="needs pandas")
da = pytest.importorskip("dask.array", reason="needs Dask")
db = pytest.importorskip("dask.bag", reason="needs Dask")
dd = pytest.importorskip("dask.dataframe", reason="needs Dask's DataFrame")

from fastbilstm.clusters import dask_collections as engine  # noqa: E402

SAMPLE = FOLDER / "sample.fbl"


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def never(block, **_):
    raise AssertionError("computed before compute()")


# ---- collections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(7, 400), (40, 150), (1, 400), ((0, 30, 0, 10), 400)])
def test_arrays(chunks, path, ids, answers):
    y = engine.predict(path, da.from_array(ids, chunks=chunks))
    assert y.shape == (ROWS, 1) and y.dtype == np.float32
    assert y.chunks == (da.core.normalize_chunks(chunks, ids.shape)[0], (1,))
    found = y.compute()
    assert found.dtype == np.float32 and np.array_equal(found, answers)
    assert np.array_equal(y[3:9].compute(), answers[3:9])


def test_arrays_of_unknown_size(path, ids, answers):
    x = da.from_array(ids, chunks=(6, 100))
    y = engine.predict(path, x[da.from_array(np.arange(ROWS) % 3 == 0, chunks=6)])
    assert y.ndim == 2 and np.isnan(y.shape[0]) and y.shape[1] == 1
    assert np.array_equal(y.compute(), answers[::3])


def test_several_inputs_and_outputs():
    model = fastbilstm.load(FORMAT_V1)
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 5, (20, 6)), rng.standard_normal((20, 2)).astype("f4")]
    expected = model.predict(x)
    for given in (
        [da.from_array(x[0], chunks=(6, 2)), da.from_array(x[1], chunks=(9, 1))],
        {"extra": da.from_array(x[1], chunks=(20, 2)), "ids": da.from_array(x[0], chunks=(3, 6))},
    ):
        y = engine.predict(model, given)
        assert [part.shape for part in y] == [(20, 2), (20, 4)]
        for part, k in zip(dask.compute(*y), expected, strict=True):
            assert part.dtype == k.dtype and np.array_equal(part, k)
    rows = [{"ids": a.tolist(), "extra": b.tolist(), "n": n} for n, (a, b) in enumerate(zip(*x))]
    for n, row in enumerate(engine.predict(FORMAT_V1, db.from_sequence(rows, npartitions=3), output="y").compute()):
        assert row["n"] == n
        assert row["y_add"] == expected[0][n].tolist() and row["y_bidirectional"] == expected[1][n].tolist()
    frame = engine.predict(
        FORMAT_V1, dd.from_pandas(pd.DataFrame({"a": [1], "b": [2]}), npartitions=1), columns=[["a"], ["b"]]
    )
    assert frame.columns.tolist() == ["a", "b", "prediction_add", "prediction_bidirectional"]


def test_frames(path, ids, answers):
    y = engine.predict(path, frame_of(ids), columns="ids", output="p")
    assert y.columns.tolist() == ["n", "ids", "p"] and y.dtypes["p"] == np.float32
    found = y.compute()
    assert found.dtypes.equals(y.dtypes) and found["n"].tolist() == list(range(ROWS))
    assert np.array_equal(found["p"].to_numpy(), answers[:, 0])
    # Partitions that became empty, and columns that nobody asks for.
    few = y[y["n"] >= 35]
    assert few["p"].compute().tolist() == answers[35:, 0].tolist()
    few = engine.predict(path, frame_of(ids).query("n >= 35"), columns="ids")
    assert few.compute()["prediction"].tolist() == answers[35:, 0].tolist()


def test_bags(path, ids, answers):
    rows = [{"n": n, "ids": row} for n, row in enumerate(ids.tolist())]
    rows[3]["note"] = "of this row only"
    found = engine.predict(path, db.from_sequence(rows, npartitions=3), columns="ids").compute()
    assert found == [{**row, "prediction": float(y)} for row, y in zip(rows, answers[:, 0])]
    for sequences in (list(ids), ids.tolist(), [" ".join(map(str, row)).encode() for row in ids]):
        assert engine.predict(path, db.from_sequence(sequences, npartitions=7)).compute() == answers[:, 0].tolist()
    empty = db.from_sequence(rows, npartitions=3).filter(lambda row: row["n"] == 39)
    assert engine.predict(path, empty, columns="ids").map(lambda row: row["n"]).compute() == [39]


def test_nothing_is_computed_at_the_call(path, ids):
    lazy = da.from_array(ids, chunks=(10, 400)).map_blocks(never, dtype=ids.dtype, meta=np.empty((0, 0), ids.dtype))
    frame = frame_of(ids)
    collections = [
        (lazy, {}),
        (frame.map_partitions(never, meta=frame._meta), {"columns": "ids"}),
        (db.from_sequence(range(4), npartitions=2).map_partitions(never), {}),
    ]
    for collection, options in collections:
        result = engine.predict(path, collection, **options)
        with pytest.raises(AssertionError, match="computed before"):
            result.compute()


def test_tasks_are_named_by_model_and_options(path, ids, tmp_path):
    x = da.from_array(ids, chunks=(10, 400))
    assert engine.predict(path, x).name == engine.predict(path, x).name
    assert engine.predict(fastbilstm.load(path), x).name == engine.predict(fastbilstm.load(path), x).name
    copy = tmp_path / "copy.fbl"
    shutil.copy(path, copy)
    names = {engine.predict(path, x).name, engine.predict(path, x, batch_size=8).name, engine.predict(copy, x).name}
    zeroed(copy)
    names.add(engine.predict(copy, x).name)
    assert len(names) == 4


def zeroed(path):
    """Replace a file by the same model with other weights."""
    model = fastbilstm.load(path)
    arrays = {name: np.asarray(array) * 0 for name, array in model._tensors.items()}
    fastbilstm.Model(model.graph, arrays).save(path, overwrite=True)


def test_a_worker_with_another_file_of_this_name_says_so(path, ids, tmp_path):
    copy = tmp_path / "copy.fbl"
    shutil.copy(path, copy)
    y = engine.predict(copy, da.from_array(ids, chunks=(10, 400)))
    zeroed(copy)
    with pytest.raises(FileFormatError, match="copy.fbl: holds another model"):
        y.compute(scheduler="processes", num_workers=1)


# ---- text ------------------------------------------------------------------------------------------------------------


def test_a_model_that_takes_strings(tmp_path):
    keras = pytest.importorskip("keras", reason="needs Keras")
    texts = ["a film", "the cat sat", "", "a cat film"] * 3
    words = keras.layers.TextVectorization(output_sequence_length=5)
    words.adapt(texts)
    x = i = keras.Input((1,), dtype="string", name="text")
    x = keras.layers.LSTM(3)(keras.layers.Embedding(10, 3)(words(x)))
    model = keras.Model(i, keras.layers.Dense(2)(x))
    model.save(tmp_path / "model.keras")
    expected = np.asarray(model(np.array(texts)[:, None]))
    local = fastbilstm.load(tmp_path / "model.keras").predict(texts)
    np.testing.assert_allclose(local, expected, rtol=1e-5, atol=1e-6)

    def check(collection, **options):
        return engine.predict(tmp_path / "model.keras", collection, **options).compute()

    for array in (np.array(texts), np.array(texts, object), np.array(texts)[:, None]):
        assert np.array_equal(check(da.from_array(array, chunks=(5, *array.shape[1:]))), local)
    assert check(db.from_sequence(texts, npartitions=3)) == local.tolist()
    frame = pd.DataFrame({"n": range(12), "review": texts})
    for options in ({"text": "review"}, {"columns": "review"}):
        found = check(dd.from_pandas(frame, npartitions=3), **options)
        assert found["n"].tolist() == list(range(12)) and found["prediction"].tolist() == local.tolist()


def test_real_reviews_have_the_labels_of_keras(tmp_path):
    pytest.importorskip("fastbilstm.preprocessing", reason="needs fastbilstm.preprocessing")
    from shared import shared_file

    with open(shared_file("imdb/imdb_test_reviews_1000.jsonl"), encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file][:60]
    with np.load(shared_file("imdb/imdb_bilstm64_expected.npz")) as npz:
        keras = npz["prob"][:60]
    options = {"tokenizer": shared_file("imdb/imdb_word_index_5000.json"), "tokenizer_type": "imdb", "maxlen": 400}
    options |= {"num_words": 5000, "remove": ["<br />"], "labels": ["negative", "positive"]}
    path = tmp_path / "model.fbl"
    fastbilstm.convert(shared_file("imdb/imdb_bilstm64.h5"), path, **options)
    local = fastbilstm.load(path).predict_text(texts)
    assert np.abs(local - keras).max() <= IMDB_PROBABILITY

    array = da.from_array(np.array(texts, object), chunks=25)
    assert np.array_equal(engine.predict(path, array).compute(), local)
    found = engine.predict(path, db.from_sequence(texts, npartitions=3)).compute()
    assert [row["prediction"] for row in found] == [["negative", "positive"][int(y > 0.5)] for y in keras[:, 0]]
    assert [row["prediction_probability"] for row in found] == np.maximum(local, 1 - local)[:, 0].tolist()
    reviews = dd.from_pandas(pd.DataFrame({"review": texts}), npartitions=2)
    frame = engine.predict(path, reviews, text="review", raw=True)
    computed = frame.compute()
    assert computed.dtypes.equals(frame.dtypes) and computed["prediction_raw"].tolist() == local[:, 0].tolist()
    assert computed["prediction"].tolist() == [row["prediction"] for row in found]


# ---- files of the answers --------------------------------------------------------------------------------------------

TEXTS = ["a wonderful film", "a boring film", "great"] * 4


@pytest.mark.parametrize("outputs", [None, ["lstm"], ["embedding"]], ids=["label", "vector", "sequence"])
@pytest.mark.parametrize("on_error", ["stop", "null"])
def test_answers_are_written_as_dask_writes_them(outputs, on_error, tmp_path):
    """to_parquet, to_csv and to_json of every kind of answer hold what a local prediction gives."""
    path = tmp_path / "net.fbl"
    if outputs is None:
        shutil.copy(SAMPLE, path)
    else:
        net = mf.h5(mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense()))
        words = WordIndex({"boring": 1, "great": 2, "film": 3})
        fastbilstm.convert(net, path, outputs=outputs, tokenizer=words)
    model = fastbilstm.load(path)
    y = model.predict_text(TEXTS)
    rows = [row.tolist() for row in (y[:, 0] if outputs is None else y)]
    frame = pd.DataFrame({"n": range(12), "text": [*TEXTS[:-1], TEXTS[-1] if on_error == "stop" else None]})
    options = {"text": "text", "raw": True, "on_error": on_error}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scored = engine.predict(path, dd.from_pandas(frame, npartitions=3), **options)
        check_files(scored, rows if on_error == "stop" else [*rows[:-1], None], outputs is None, tmp_path)


def check_files(scored, rows, labelled, folder):
    raw = "prediction_raw" if labelled else "prediction"
    scored.to_parquet(folder / "parquet")
    scored.to_csv(str(folder / "csv-*.csv"), index=False)
    scored.to_json(str(folder / "json-*.jsonl"))
    # pandas' own types have no lists: it reads them back as Arrow's.
    parquet = pd.read_parquet(folder / "parquet") if labelled else read_parquet(folder / "parquet")
    lines = "".join(path.read_text() for path in sorted(folder.glob("json-*"))).splitlines()
    json_rows = [json.loads(line) for line in lines]
    csv_rows = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("csv-*"))])
    for found in (parquet[raw].tolist(), [row[raw] for row in json_rows], csv_rows[raw].tolist()):
        for value, row in zip(found, rows, strict=True):
            if row is None:
                assert value is None or value is pd.NA or np.isnan(value)
                continue
            if isinstance(value, str):  # pandas writes arrays into .csv as NumPy prints them
                value = [float(number) for number in re.findall(r"[-+.e\d]+", value.replace("dtype=float32", ""))]
            value = np.stack(value).astype(float) if np.ndim(row) == 2 and np.ndim(value[0]) else np.array(value, float)
            np.testing.assert_allclose(value.reshape(np.shape(row)), row, atol=1e-6)
    if labelled:
        labels = [None if row is None else ["neg", "pos"][row > 0.5] for row in rows]
        assert [None if value is pd.NA or value is None else value for value in parquet["prediction"]] == labels
        assert [row["prediction"] for row in json_rows] == labels
        assert csv_rows["prediction"].tolist()[:-1] == labels[:-1]


def read_parquet(path):
    """A frame of Arrow's types, without the metadata for pandas: old versions cannot read the types of lists there."""
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)


def test_tags_are_written_as_dask_writes_them(tmp_path):
    net = mf.h5(
        mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(return_sequences=True), mf.dense(activation="softmax"))
    )
    words = WordIndex({"boring": 1, "great": 2, "film": 3})
    model = fastbilstm.convert(net, tmp_path / "net.fbl", tokenizer=words, labels=["O", "B-A"])
    expected = model.classify(TEXTS)
    frame = dd.from_pandas(pd.DataFrame({"text": TEXTS}), npartitions=3)
    scored = engine.predict(tmp_path / "net.fbl", frame, text="text")
    computed = scored.compute()
    assert computed.dtypes.equals(scored.dtypes)
    scored.to_parquet(tmp_path / "parquet")
    scored.to_json(str(tmp_path / "json-*.jsonl"))
    scored.to_csv(str(tmp_path / "csv-*.csv"), index=False)
    parquet = read_parquet(tmp_path / "parquet")
    lines = "".join(path.read_text() for path in sorted(tmp_path.glob("json-*"))).splitlines()
    csv_rows = pd.concat([pd.read_csv(path) for path in sorted(tmp_path.glob("csv-*"))])["prediction"]
    for found in (computed["prediction"], parquet["prediction"], [json.loads(line)["prediction"] for line in lines]):
        assert [list(tags) for tags in found] == [row["tags"] for row in expected]
    assert [re.findall(r"O|B-A", text) for text in csv_rows] == [row["tags"] for row in expected]
    for values, row in zip(parquet["prediction_probability"], expected):
        np.testing.assert_allclose(list(values), row["scores"], atol=1e-6)
    # A Bag holds Python's lists.
    bag = engine.predict(tmp_path / "net.fbl", db.from_sequence(TEXTS, npartitions=2)).compute()
    assert [row["prediction"] for row in bag] == [row["tags"] for row in expected]


# ---- rows that are refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("array", r"block 1 \(rows 10 to 19 of the Array\): row 13: .*9999"),
        ("frame", r"partition 1 \(its rows counted from 0\): row 3: .*9999"),
        ("bag", r"partition 1 \(its rows counted from 0\): row 3: .*9999"),
    ],
)
def test_bad_rows(kind, where, path, ids, answers):
    wrong = spoiled(ids)
    collection, options = {
        "array": lambda: (da.from_array(wrong, chunks=(10, 400)), {}),
        "frame": lambda: (frame_of(wrong), {"columns": "ids"}),
        "bag": lambda: (db.from_sequence(wrong.tolist(), npartitions=4), {}),
    }[kind]()
    with pytest.raises(InputError, match=where):
        engine.predict(path, collection, **options).compute()
    lazy = engine.predict(path, collection, on_error="null", **options)
    with pytest.warns(RuntimeWarning, match=where.replace(": row", ": 2 of 10 rows have no answer; row")):
        found = lazy.compute()
    found = found["prediction"] if kind == "frame" else found
    found = np.array([np.nan if y is None else y for y in found] if kind == "bag" else found, "f4").reshape(-1)
    good = [row for row in range(ROWS) if row not in (13, 17)]
    assert np.isnan(found[[13, 17]]).all() and np.array_equal(found[good], answers[good, 0])
    if kind == "array":
        with pytest.raises(InputError, match="an Array keeps them"):
            engine.predict(path, collection, on_error="skip")
        return
    with pytest.warns(RuntimeWarning, match="2 of 10"):
        found = engine.predict(path, collection, on_error="skip", **options).compute()
    if kind == "frame":
        assert found["n"].tolist() == good
        found = found["prediction"].tolist()
    assert found == answers[good, 0].tolist()


def test_a_block_of_bad_rows_only(path, ids, answers):
    wrong = np.where(np.arange(ROWS)[:, None] < 10, -1, ids)
    with pytest.warns(RuntimeWarning, match="10 of 10"):
        found = engine.predict(path, da.from_array(wrong, chunks=(10, 400)), on_error="null").compute()
    assert np.isnan(found[:10]).all() and np.array_equal(found[10:], answers[10:])


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda ids: ids, {}, TypeError, "of type numpy.ndarray; expected a dask DataFrame, Bag or Array"),
        (lambda ids: [], {}, TypeError, "of type builtins.list; expected a dask DataFrame"),
        (lambda ids: [ids], {}, TypeError, "of type numpy.ndarray"),
        (lambda ids: frame_of(ids)["ids"], {}, TypeError, r"Series; expected a dask DataFrame"),
        (lambda ids: da.from_array(ids[:, :399]), {}, InputError, r"shape \(0, 399\); expected \(rows, 400\)"),
        (lambda ids: da.from_array(np.array(3)), {}, InputError, r"shape \(\); expected rows first"),
        (lambda ids: da.from_array(ids.astype("c8")), {}, InputError, "dtype complex64; expected numbers"),
        (lambda ids: [da.from_array(ids)] * 2, {}, InputError, "has 1 inputs .*; got 2 Arrays"),
        (lambda ids: {"x": da.from_array(ids)}, {}, InputError, "the inputs are 'input_layer'; got 'x'"),
        (lambda ids: da.from_array(ids), {"columns": "ids"}, InputError, "an Array has none"),
        (lambda ids: da.from_array(np.array(["a b"])), {}, InputError, "takes no text"),
        (frame_of, {}, InputError, "no column is named as the input 'input_layer'; the columns are 'n', 'ids'"),
        (frame_of, {"columns": "id"}, InputError, "there is no column 'id'"),
        (frame_of, {"columns": "ids", "output": "n"}, InputError, "has a column 'n' already"),
        (frame_of, {"columns": "ids", "nothreads": 1}, TypeError, "unknown options nothreads"),
        (frame_of, {"columns": "ids", "n_threads": 0}, InputError, "n_threads is 0"),
    ],
)
def test_what_is_refused_at_the_call(make, options, error, message, path, ids):
    with pytest.raises(error, match=message):
        engine.predict(path, make(ids), **options)


def test_what_is_refused_of_several_arrays():
    x = [da.ones((8, 6), chunks=4, dtype=int), da.ones((9, 2), chunks=4)]
    with pytest.raises(InputError, match=r"differ in their number of rows \({'ids': 8, 'extra': 9}\)"):
        engine.predict(FORMAT_V1, x)
    unknown = x[1][x[1][:, 0] > 0]
    with pytest.raises(InputError, match=r"have \[2, 3\] blocks of rows; call compute_chunk_sizes"):
        engine.predict(FORMAT_V1, [x[0], unknown])
    with pytest.raises(InputError, match="several inputs"):
        engine.predict(FORMAT_V1, db.from_sequence([[1, 2]])).compute()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"ids": [1]}, [1]], {}, r"partition 0 .*: holds dict, list; expected rows of one kind"),
        ([{"ids": [1]}], {"columns": "id"}, r"partition 0 .*: there is no column 'id'; the columns are 'ids'"),
        ([{"ids": [1], "prediction": 3}], {"columns": "ids"}, "has a column 'prediction' already"),
        ([{"ids": None}], {"columns": "ids"}, "row 0: column 'ids': is null; expected numbers"),
        ([[1]], {"columns": "ids"}, "columns and text name keys of dicts"),
        (["a film"], {}, "takes no text"),
    ],
)
def test_what_is_refused_of_bags(rows, options, message, path):
    with pytest.raises(InputError, match=message):
        engine.predict(path, db.from_sequence(rows, npartitions=1), **options).compute()


def test_models_whose_answers_depend_on_other_rows_are_refused():
    import make_files as mf

    with pytest.raises(InputError, match="layer 'lstm' is stateful"):
        engine.predict(mf.floats(batch=5, stateful=True), da.ones((5, 3, 4), chunks=5))
    stateful = BatchPredictor(mf.floats(batch=5, stateful=True))
    stateful.in_order = True
    with pytest.raises(InputError, match="layer 'lstm' is stateful"):
        next(engine.predict_chunks(stateful, [{}], "tcp://127.0.0.1:1"))
    layers = mf.input_layer("x", (None, 4), functional=True), mf.layer("Attention", "mix", ["x", "x"])
    mixing = fastbilstm.load(mf.h5(mf.functional(*layers, inputs=["x"], outputs=["mix"]), {}))
    with pytest.raises(InputError, match="depend on other rows"):
        engine.predict(mixing, da.ones((5, 4), chunks=5))


def test_without_dask(path, ids, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match="needs dask; install it with: pip install 'dask"):
        engine.predict(path, ids)
    with pytest.raises(MissingExtraError, match="needs dask; install it with: pip install 'dask"):
        next(engine.predict_chunks(len, [[]], "tcp://127.0.0.1:1"))


def test_importing_the_module_imports_no_dask():
    code = "import sys, fastbilstm; fastbilstm.dask.predict; assert not {'dask', 'distributed'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
