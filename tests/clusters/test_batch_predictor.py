"""BatchPredictor: every kind of batch, which columns are read, rows that are refused, pickling.

The demo model's answers for arrays are compared with Keras elsewhere (test_demo, test_golden); here each kind of batch
must give those bits.
"""

import gc
import json
import os
import pickle
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from paths import DEMO, FORMAT_V1

import fastbilstm
from fastbilstm.clusters import batch_predictor as batches
from fastbilstm.errors import InputError


@pytest.fixture(scope="module")
def model():
    return fastbilstm.load(DEMO)


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(3).integers(1, 5000, (7, 400))


@pytest.fixture(scope="module")
def answers(model, ids):
    return model.predict(ids)[:, 0]


@pytest.fixture(scope="module")
def predictor():
    return fastbilstm.BatchPredictor(DEMO)


# ---- kinds of batches ------------------------------------------------------------------------------------------------

FORMS = {
    "array": lambda x: x,
    "lists": lambda x: x.tolist(),
    "list of arrays": list,
    "array of objects": lambda x: np.array([row.astype("u2") for row in x] + [None], object)[:-1],
    "text": lambda x: [" ".join(map(str, row)) for row in x],
    "array of text": lambda x: np.array([" ".join(map(str, row)) for row in x]),
    "json": lambda x: [json.dumps(row.tolist()) for row in x],
    "floats in text": lambda x: [" ".join(f"{value}.0" for value in row) for row in x],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_dict_of_columns(form, predictor, ids, answers):
    names = [f"review {k}" for k in range(len(ids))]
    given = {"name": names, "input_layer": FORMS[form](ids)}
    found = predictor(given)
    assert list(found) == ["name", "input_layer", "prediction"] and list(given) == ["name", "input_layer"]
    assert found["name"] == names
    assert found["prediction"].dtype == np.float32 and np.array_equal(found["prediction"], answers)


def arrow_columns(pa, ids):
    return {
        "list": pa.array(ids.tolist(), pa.list_(pa.int32())),
        "large_list": pa.array(ids.tolist(), pa.large_list(pa.int64())),
        "fixed_size_list": pa.array(ids.tolist(), pa.list_(pa.uint16(), 400)),
        "string": pa.array([" ".join(map(str, row)) for row in ids]),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(ids)),
    }


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed_size_list", "string", "tensor"])
def test_arrow_batches_and_tables(kind, predictor, ids, answers):
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    names = pa.array([str(k) for k in range(len(ids))])
    batch = pa.RecordBatch.from_pydict({"ids": arrow_columns(pa, ids)[kind], "name": names})
    predictor = fastbilstm.BatchPredictor(DEMO, columns="ids")
    found = predictor(batch)
    assert isinstance(found, pa.RecordBatch) and found.schema.names == ["ids", "name", "prediction"]
    assert found.column("ids").equals(batch.column("ids")) and found.schema.field("prediction").type == pa.float32()
    assert np.array_equal(found.column("prediction").to_numpy(), answers)
    part = predictor(batch.slice(2, 3))
    assert np.array_equal(part.column("prediction").to_numpy(), answers[2:5])
    table = predictor(pa.Table.from_batches([batch.slice(0, 4), batch.slice(4)]))
    assert isinstance(table, pa.Table) and np.array_equal(table["prediction"].to_numpy(), answers)
    assert table["name"].to_pylist() == names.to_pylist()


def test_pandas_frames_keep_their_index(predictor, ids, answers):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frame = pd.DataFrame({"ids": list(ids), "n": range(7)}, index=range(10, 17))
    found = fastbilstm.BatchPredictor(DEMO, columns="ids")(frame)
    assert list(found.columns) == ["ids", "n", "prediction"] and list(found.index) == list(range(10, 17))
    assert np.array_equal(found["prediction"].to_numpy(), answers) and list(frame.columns) == ["ids", "n"]


def test_batches_of_no_rows_have_the_columns_and_types_of_others(predictor, ids):
    found = predictor({"ids": ids[:0]})
    assert found["prediction"].shape == (0,) and found["prediction"].dtype == np.float32
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    batch = pa.RecordBatch.from_pydict({"ids": pa.array(ids.tolist())})
    assert predictor(batch.slice(0, 0)).schema.equals(predictor(batch).schema)
    assert predictor(pa.Table.from_batches([batch]).slice(0, 0)).schema.equals(predictor(batch).schema)
    assert predictor(pa.Table.from_batches([], batch.schema)).schema.equals(predictor(batch).schema)


def test_several_inputs_and_outputs():
    given = {"ids": np.array([[1, 2, 4], [3, 0, 0]]), "extra": np.array([[0.5, -0.25], [1.0, 2.0]], "f4")}
    add, sequences = fastbilstm.load(FORMAT_V1).predict(given)
    batch = {"key": ["a", "b"], **given}
    found = fastbilstm.BatchPredictor(FORMAT_V1)(batch)
    assert list(found) == ["key", "ids", "extra", "prediction_add", "prediction_bidirectional"]
    assert np.array_equal(found["prediction_add"], add)
    assert np.array_equal(found["prediction_bidirectional"], sequences)
    renamed = {"a": given["extra"][:, 0], "b": given["extra"][:, 1], "c": given["ids"].tolist()}
    for columns in ({"ids": "c", "extra": ["a", "b"]}, ["c", ["a", "b"]]):
        again = fastbilstm.BatchPredictor(FORMAT_V1, columns=columns, output="y")(renamed)
        assert np.array_equal(again["y_add"], add)
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    arrow = fastbilstm.BatchPredictor(FORMAT_V1)(
        pa.RecordBatch.from_pydict({n: pa.array(c.tolist()) for n, c in given.items()})
    )
    assert np.array_equal(np.array(arrow.column("prediction_add").to_pylist(), "f4"), add)
    assert np.array_equal(np.array(arrow.column("prediction_bidirectional").to_pylist(), "f4"), sequences)
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frame = fastbilstm.BatchPredictor(FORMAT_V1)(pd.DataFrame({n: list(c) for n, c in given.items()}))
    assert np.array_equal(np.array(frame["prediction_add"].tolist(), "f4"), add)


def test_columns_of_one_number_each(model, ids, answers):
    one_a_step = {"key": list("abcdefg"), **{f"t{k}": ids[:, k] for k in range(400)}}
    as_text = {name: [str(value) for value in column] for name, column in one_a_step.items()}
    for batch in (one_a_step, as_text):
        for columns in ("t*", [f"t{k}" for k in range(400)], {"input_layer": "t*"}):
            found = fastbilstm.BatchPredictor(model, columns=columns)(batch)
            assert np.array_equal(found["prediction"], answers)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch, options, message",
    [
        ({"a": [[1]], "b": [[1]]}, {}, r"'input_layer'.*'a', 'b'.*columns="),
        ({"a": [[1]]}, {"columns": "ids"}, r"no column 'ids'.*'a'"),
        ({"a": [[1]]}, {"columns": "x*"}, r"no column 'x\*'"),
        ({"a": [[1]]}, {"columns": []}, "columns is empty"),
        ({"a": [[1]]}, {"columns": {"ids": "a"}}, "inputs are 'input_layer'"),
        ({"a": [[1]], "prediction": [1]}, {"columns": "a"}, r"'prediction' already.*output="),
        ({"a": [[1]], "b": [[1], [2]]}, {"columns": "a"}, "differ in their number of rows"),
        ({"a": ["some text"]}, {"text": "a"}, "takes no text.*--tokenizer"),
        ({"a": ["some text"]}, {"text": "a", "columns": "a"}, "both given"),
        ([[1, 2]], {}, "of type list"),
        ({"a": [[1] * 400, None]}, {}, "row 1: column 'a': is null"),
        ({"a": [[1] * 400, "1 x"]}, {}, "row 1: column 'a': holds '1 x'"),
        ({"a": [[1] * 400, "1_0"]}, {}, "row 1: column 'a': holds '1_0'"),
        ({"a": [[1] * 400, "1,5"]}, {}, "row 1: column 'a': holds '1,5'"),
        ({"a": [[1] * 400, "[1, 2"]}, {}, "row 1: .*no valid JSON"),
        ({"a": [[1] * 400, "[1, null]"]}, {}, "row 1: .*expected numbers"),
        ({"a": [[1] * 400, [[1], [2, 3]]]}, {}, "row 1: .*different lengths"),
        ({"a": [[1] * 400, {"x": 1}]}, {}, "row 1: .*expected numbers"),
        ({"a": [[1] * 400, "9" * 30]}, {}, "row 1: .*beyond 64 bits"),
        ({"a": [[1] * 400, [1] * 399 + [5000]]}, {}, r"row 1: .*position \(1, 399\) is 5000"),
        ({"a": [[1] * 400, [float("nan")] * 400]}, {}, r"row 1: .*position \(1, 0\) is nan"),
        ({"a": [[1] * 400, [1] * 5]}, {}, "row 1: .*400"),
    ],
)
def test_what_a_batch_may_not_hold(batch, options, message, model):
    with pytest.raises(InputError, match=message):
        fastbilstm.BatchPredictor(model, **options)(batch)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"on_error": "ignore"}, "'stop', 'skip', 'null'"),
        ({"output": ""}, "name of a column"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"n_threads": True}, "n_threads is True"),
        ({"pad": "pre", "maxlen": 1.5}, "maxlen is 1.5"),
        ({"pad": "left"}, "pad is 'left'"),
        ({"text": "a", "maxlen": 5}, "convert --maxlen"),
        ({"dtype": "float64"}, "options of load"),
        ({"pad": "pre", "nonsense": 1}, "nonsense"),
    ],
)
def test_options_are_checked_where_they_are_given(options, message, model):
    with pytest.raises((InputError, TypeError), match=message):
        fastbilstm.BatchPredictor(model, **options)


def test_a_padded_length_never_depends_on_the_batch():
    given = {"ids": [[1, 2]], "extra": [[1.0, 2.0]]}
    with pytest.raises(InputError, match="--maxlen"):
        fastbilstm.BatchPredictor(FORMAT_V1, pad="pre")(given)
    with pytest.raises(InputError, match="--maxlen"):
        fastbilstm.load(FORMAT_V1).predict_iter([given], pad="post")


# ---- rows that are refused -------------------------------------------------------------------------------------------


def spoiled(ids):
    given = ids.tolist()
    given[0], given[3], given[5] = None, given[3][:-1] + [5000], [1] * 7
    return given, [1, 2, 4, 6]


def test_bad_rows_are_left_out_or_null_and_others_keep_their_answers(ids, answers):
    rows, good = spoiled(ids)
    given = {"ids": rows, "n": np.arange(7)}
    for how in ("skip", "null"):
        predictor = fastbilstm.BatchPredictor(DEMO, columns="ids", on_error=how)
        with pytest.warns(RuntimeWarning, match="3 of 7 rows.*row 0: column 'ids': is null"):
            found = predictor(given)
        assert [row for row, _ in predictor.bad_rows] == [0, 3, 5]
        assert "position (3, 399) is 5000" in predictor.bad_rows[1][1] and "400" in predictor.bad_rows[2][1]
        kept = good if how == "skip" else list(range(7))
        assert found["n"].tolist() == kept and len(found["ids"]) == len(kept)
        assert np.array_equal(found["prediction"][[kept.index(row) for row in good]], answers[good])
        if how == "null":
            assert np.isnan(found["prediction"][[0, 3, 5]]).all()


@pytest.mark.parametrize("kind", ["pandas", "pyarrow"])
def test_bad_rows_of_frames_and_arrow_batches(kind, ids, answers):
    module = pytest.importorskip(kind, reason=f"needs {kind}")
    rows, good = spoiled(ids)
    given = (module.DataFrame if kind == "pandas" else module.RecordBatch.from_pydict)(
        {"ids": rows, "n": list(range(7))}
    )
    for how in ("skip", "null"):
        with pytest.warns(RuntimeWarning, match="3 of 7 rows"):
            found = fastbilstm.BatchPredictor(DEMO, columns="ids", on_error=how)(given)
        kept = good if how == "skip" else list(range(7))
        n, y = (
            found[name].tolist() if kind == "pandas" else found.column(name).to_pylist() for name in ("n", "prediction")
        )
        assert n == kept and [y[kept.index(row)] for row in good] == answers[good].tolist()
        if how == "null":
            assert all(y[row] is None or np.isnan(y[row]) for row in (0, 3, 5))


def test_a_batch_of_bad_rows_only(ids):
    given = {"ids": [None, "x"]}
    with pytest.warns(RuntimeWarning, match="2 of 2"):
        assert fastbilstm.BatchPredictor(DEMO, on_error="skip")(given)["prediction"].shape == (0,)
    with pytest.warns(RuntimeWarning, match="2 of 2"):
        assert np.isnan(fastbilstm.BatchPredictor(DEMO, on_error="null")(given)["prediction"]).all()


def test_rows_that_do_not_fit_each_other_are_no_bad_rows():
    """Each row alone is right, so none may be skipped, and none may get an answer from another way of batching."""
    model = fastbilstm.load(FORMAT_V1)
    given = {"ids": [[1, 2], [1, 2]], "extra": [[1.0, 2.0], [1.0, 2.0]]}
    predictor = fastbilstm.BatchPredictor(model, on_error="skip")
    calls = []

    def predict(x, **options):
        calls.append(len(x["ids"]))
        if len(x["ids"]) > 1:
            raise InputError("these rows do not go together")
        return type(model).predict(model, x, **options)

    predictor.model.predict = predict
    try:
        with pytest.raises(InputError, match="do not go together"):
            predictor(given)
    finally:
        del model.predict
    assert calls == [2, 2, 1, 1]


# ---- processes -------------------------------------------------------------------------------------------------------


def test_it_pickles_small_and_loads_a_file_once(tmp_path, ids, answers, monkeypatch):
    path = tmp_path / "model.fbl"
    fastbilstm.convert(DEMO, path)
    loads = []
    monkeypatch.setattr(
        batches, "load", lambda *args, **options: loads.append(args) or fastbilstm.load(*args, **options)
    )
    predictor = fastbilstm.BatchPredictor(path, columns="ids", n_threads=1)
    content = pickle.dumps(predictor)
    assert loads == [] and len(content) < 1000
    copies = [pickle.loads(content) for _ in range(3)]
    threads = [threading.Thread(target=copy, args=({"ids": ids},)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len({id(copy.model) for copy in copies}) == 1
    assert len(pickle.dumps(copies[0])) == len(content)
    other = fastbilstm.BatchPredictor(path, columns="ids", dtype="float64")
    assert other({"ids": ids})["prediction"].dtype == np.float64 and len(loads) == 2
    changed = fastbilstm.load(path)
    fastbilstm.Model(changed.graph, {n: np.asarray(a) * 0 for n, a in changed._tensors.items()}).save(
        path, overwrite=True
    )
    assert np.array_equal(copies[0]({"ids": ids})["prediction"], answers)  # what it began with
    assert (pickle.loads(content)({"ids": ids})["prediction"] == 0.5).all()


@pytest.fixture
def slow_load(monkeypatch):
    """Loads that begin and then wait until they may go on: (begun, go_on, list of the paths that were loaded)."""
    begun, go_on, loads = threading.Event(), threading.Event(), []

    def load(path, **options):
        loads.append(path)
        begun.set()
        assert go_on.wait(30)
        return fastbilstm.load(path, **options)

    monkeypatch.setattr(batches, "load", load)
    yield begun, go_on, loads
    go_on.set()


def copies_of(path, folder, names):
    for name in names:
        (folder / name).write_bytes(path.read_bytes())
    return [str(folder / name) for name in names]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_during_a_load_loads_by_itself(tmp_path, slow_load):
    begun, go_on, _ = slow_load
    path, known = copies_of(FORMAT_V1, tmp_path, ["model.fbl", "known.fbl"])
    go_on.set()
    model = batches._load_once(known, {})
    go_on.clear()
    begun.clear()
    thread = threading.Thread(target=batches._load_once, args=(path, {}))
    thread.start()
    assert begun.wait(30)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            batches.load = lambda path, **options: f"loaded {path}"
            same = batches._load_once(known, {}) is model  # what was loaded before is there
            code = 0 if same and batches._load_once(path, {}) == f"loaded {path}" else 2
        finally:
            os._exit(code)
    try:
        deadline = time.monotonic() + 30
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert ended == (child, 0)
    finally:
        go_on.set()
        thread.join()


def test_a_load_holds_up_only_those_who_ask_for_its_file(tmp_path, slow_load):
    begun, go_on, loads = slow_load
    path, known = copies_of(FORMAT_V1, tmp_path, ["model.fbl", "known.fbl"])
    go_on.set()
    model = batches._load_once(known, {})
    go_on.clear()
    begun.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(batches._load_once(path, {}))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    other = threading.Thread(target=lambda: found.append(batches._load_once(known, {})))
    other.start()
    other.join(30)
    assert found == [model]
    go_on.set()
    for thread in threads:
        thread.join()
    assert len({id(item) for item in found}) == 2 and loads == [known, path]


def test_a_load_that_failed_is_tried_again(tmp_path, monkeypatch):
    (path,) = copies_of(FORMAT_V1, tmp_path, ["model.fbl"])

    def fail(path):
        raise MemoryError

    monkeypatch.setattr(batches, "load", fail)
    with pytest.raises(MemoryError):
        batches._load_once(path, {})
    monkeypatch.setattr(batches, "load", fastbilstm.load)
    assert isinstance(batches._load_once(path, {}), fastbilstm.Model)


def test_models_of_replaced_files_and_the_oldest_are_forgotten(tmp_path):
    paths = copies_of(FORMAT_V1, tmp_path, [f"{k}.fbl" for k in range(batches._KEPT + 1)])
    models = [weakref.ref(batches._load_once(path, {})) for path in paths[:-1]]
    assert batches._load_once(paths[0], {}) is models[0]()
    assert batches._load_once(paths[-1], {}) is not None
    gc.collect()
    assert [model() is None for model in models] == [False, True] + [False] * (batches._KEPT - 2)
    # The same file with other options, before it was replaced.
    old = [weakref.ref(batches._load_once(paths[0], {"dtype": dtype})) for dtype in ("float32", "float64")]
    os.utime(paths[0], ns=(1, 1))
    batches._load_once(paths[0], {})
    gc.collect()
    assert [model() for model in [models[0], *old]] == [None] * 3


def test_a_model_in_memory_goes_along(model, ids, answers):
    copy = pickle.loads(pickle.dumps(fastbilstm.BatchPredictor(model)))
    assert np.array_equal(copy({"ids": ids})["prediction"], answers)


def test_importing_the_package_imports_no_batches():
    code = "import sys, fastbilstm; assert not {'fastbilstm.scoring', 'pyarrow', 'pandas'} & set(sys.modules)"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
