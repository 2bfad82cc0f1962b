"""Tables of other packages by __arrow_c_stream__: in `Model.predict_iter` and in BatchPredictor."""

import os
import subprocess
import sys

import numpy as np
import pytest
from small_files import make_ids, notes

import fastbilstm
from fastbilstm import InputError

pa = pytest.importorskip("pyarrow", reason="needs pyarrow")

needs_streams = pytest.mark.skipif(not hasattr(pa.RecordBatchReader, "from_stream"), reason="needs pyarrow 15")
ROWS = 30
IDS = make_ids(ROWS)


class Foreign:
    """A table of a package that nobody knows: no more than a stream."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.RecordBatchReader.from_batches(self.table.schema, self.table.to_batches(7)).__arrow_c_stream__()


def table(rows=ROWS):
    columns = {"n": range(rows), "x": IDS.tolist()[:rows], "note": pa.array(notes(rows)).dictionary_encode()}
    return pa.table(columns) if rows else pa.table(columns, schema=table(1).schema)


@pytest.fixture(scope="module")
def loaded(model):
    return fastbilstm.load(model)


def made(kind):
    if kind == "foreign":
        return Foreign(table())
    if kind == "reader":
        return pa.RecordBatchReader.from_stream(Foreign(table()))
    if kind in ("table", "batch"):
        return table() if kind == "table" else table().combine_chunks().to_batches()[0]
    package = pytest.importorskip(kind, reason=f"needs {kind}")
    if kind == "pandas":
        frame = table().to_pandas()
        return frame if hasattr(frame, "__arrow_c_stream__") else pytest.skip("needs pandas 2.2")
    if kind == "polars":
        return package.from_arrow(table())
    rows = table()  # DuckDB finds it by its name
    assert rows.num_rows
    return package.sql("SELECT * FROM rows ORDER BY n")


KINDS = ["foreign", "reader", "table", "batch", "pandas", "polars", "duckdb"]


@needs_streams
@pytest.mark.parametrize("kind", KINDS)
def test_predict_iter(kind, loaded, small_chunks):
    found = list(loaded.predict_iter(made(kind), batch_size=4, columns="x"))
    assert [batch.num_rows for batch in found] == [8, 8, 8, 6]
    whole = pa.Table.from_batches(found)
    assert whole.column_names == ["n", "x", "note", "prediction"]
    assert np.array_equal(whole["prediction"].to_numpy(), loaded.predict(IDS)[:, 0])
    assert whole["note"].to_pylist() == notes(ROWS) and whole["n"].to_pylist() == list(range(ROWS))


@needs_streams
@pytest.mark.parametrize("kind", ["foreign", "reader", "polars", "duckdb"])
def test_batch_predictor(kind, model, loaded):
    found = fastbilstm.BatchPredictor(model, columns="x")(made(kind))
    assert isinstance(found, pa.Table) and found.column_names == ["n", "x", "note", "prediction"]
    assert np.array_equal(found["prediction"].to_numpy(), loaded.predict(IDS)[:, 0])


def test_kinds_of_their_own_stay(model):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    predictor = fastbilstm.BatchPredictor(model, columns="x")
    assert isinstance(predictor(table().to_pandas()), pandas.DataFrame)
    assert isinstance(predictor(table()), pa.Table)
    assert isinstance(predictor(table().to_batches()[0]), pa.RecordBatch)


def test_views_of_text(tmp_path):
    """The type in which polars gives text."""
    if not hasattr(pa, "string_view"):
        pytest.skip("needs a pyarrow with views")
    sample = fastbilstm.sample_model()
    texts = ["a wonderful film", "a boring film", "äöü " * 9]
    given = Foreign(pa.table({"review": pa.array(texts, pa.string_view())}))
    (found,) = sample.predict_iter(given, text="review")
    assert found["prediction"].to_pylist() == [row["label"] for row in sample.classify(texts)]
    columns = {"review": pa.array([*texts, None], pa.string_view())}
    columns["tokens"] = pa.array([["a", "b"], [], None, ["ä"]], pa.list_(pa.string_view()))
    columns["kind"] = pa.DictionaryArray.from_arrays([1, 0, 1, None], pa.array(["a", "b"], pa.string_view()))
    predictor = fastbilstm.BatchPredictor(sample, text="review", on_error="skip")
    with pytest.warns(RuntimeWarning, match="1 of 4 rows"):
        again = predictor(Foreign(pa.table(columns)))
    assert again["prediction"].to_pylist() == found["prediction"].to_pylist()
    assert again["tokens"].to_pylist() == [["a", "b"], [], None] and again["kind"].to_pylist() == ["b", "a", "b"]


@needs_streams
def test_no_rows(loaded):
    (found,) = loaded.predict_iter(Foreign(table(0)), columns="x")
    whole = fastbilstm.BatchPredictor(loaded, columns="x")(Foreign(table(0)))
    assert whole.num_rows == 0 and whole.column_names == found.schema.names
    assert found.num_rows == 0 and found.schema.names == ["n", "x", "note", "prediction"]


def test_an_older_pyarrow_is_told(loaded, monkeypatch):
    foreign = Foreign(table())
    monkeypatch.setattr(pa, "RecordBatchReader", object)
    with pytest.raises(InputError, match=r"a Foreign \(__arrow_c_stream__\) needs pyarrow 15; this is \d+"):
        list(loaded.predict_iter(foreign, columns="x"))


@needs_streams
def test_wrong_streams(loaded, model, small_chunks):
    with pytest.raises(InputError, match="no column 'y'; the columns are 'n', 'x', 'note'"):
        list(loaded.predict_iter(Foreign(table()), columns="y"))
    with pytest.raises(InputError, match="delimiter: options for files; a Foreign is given"):
        loaded.predict_iter(Foreign(table()), columns="x", delimiter=";")
    with pytest.raises(InputError, match="a ChunkedArray gives no table of columns"):
        loaded.predict_iter(pa.chunked_array([[1, 2]]))
    twice = pa.table([[1], [2]], names=["x", "x"])
    with pytest.raises(InputError, match=r"two columns of the Foreign have the same name \(x, x\)"):
        loaded.predict_iter(Foreign(twice))

    def broken():
        yield from table().to_batches(16)
        raise RuntimeError("the disk is gone")

    reader = pa.RecordBatchReader.from_batches(table().schema, broken())
    found = loaded.predict_iter(reader, columns="x", batch_size=4)
    with pytest.raises(InputError, match=r"cannot be read from row \d+ on \(.*the disk is gone"):
        list(found)
    bad = IDS.copy()
    bad[9, 2] = 50
    with pytest.raises(InputError, match=r"row 9: .*\(9, 2\) is 50"):
        list(loaded.predict_iter(Foreign(pa.table({"x": bad.tolist()})), batch_size=4))
    with pytest.raises(InputError, match="the rows of a RecordBatchReader cannot be read"):
        reader = pa.RecordBatchReader.from_batches(table().schema, broken())
        fastbilstm.BatchPredictor(model, columns="x")(reader)


def test_pyarrow_is_imported_for_streams_alone(model):
    code = (
        "import sys, fastbilstm; p = fastbilstm.BatchPredictor(sys.argv[1], columns='x'); p({'x': [[1, 2]]})\n"
        "list(p.model.predict_iter([[[1, 2]]]))\nassert 'pyarrow' not in sys.modules\n"
        "sys.modules['pyarrow'] = None\nclass Foreign:\n    __arrow_c_stream__ = None\n"
        "try:\n    p(Foreign())\nexcept fastbilstm.MissingExtraError as error:\n    print(error)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, env=environment)
    assert "a Foreign (__arrow_c_stream__) needs pyarrow" in done.stdout, done.stderr
