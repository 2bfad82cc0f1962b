"""BatchPredictor as Ray Data and Spark call it. Ray's side is acted here from its documentation; Spark runs, with Java.

Ray Data: `ds.map_batches(BatchPredictor, fn_constructor_args=..., fn_constructor_kwargs=..., batch_format=...)` pickles
the class and the arguments, makes one object in each actor, and calls it with dicts of read-only arrays, pyarrow Tables
or pandas frames of any number of rows. Spark: `df.mapInArrow(function, schema)` pickles a function, calls it with an
iterator of RecordBatches, and checks the columns that come back.
"""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from paths import DEMO, ROOT

import fastbilstm


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(7).integers(1, 5000, (20, 400))


@pytest.fixture(scope="module")
def answers(ids):
    return fastbilstm.load(DEMO).predict(ids)[:, 0]


# ---- Ray Data --------------------------------------------------------------------------------------------------------

# What an actor of Ray does, in a process of its own: unpickle class and arguments, construct, call for each batch.
ACTOR = """
import pickle, sys
make, args, options, batches = pickle.load(sys.stdin.buffer)
function = make(*args, **options)
assert "fastbilstm.engine.vector_layers" not in sys.modules or function._model is None
results = [function(batch) for batch in batches]
sys.stdout.buffer.write(pickle.dumps(results))
"""


def map_batches(make, batches, *args, **options):
    cloudpickle = pytest.importorskip("cloudpickle", reason="needs cloudpickle, which Ray pickles with")
    content = cloudpickle.dumps((make, args, options, batches))
    done = subprocess.run([sys.executable, "-c", ACTOR], input=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def batches_of(batch_format, ids, ragged):
    """The rows in batches of 8, 0 and 12 rows, as Ray makes them; sequences as one tensor or, ragged, as objects."""
    found = []
    for start, stop in ((0, 8), (8, 8), (8, 20)):
        rows, numbers = ids[start:stop], np.arange(start, stop)
        column = np.empty(len(rows), object)
        column[:] = list(rows)
        if batch_format == "numpy":
            column = column if ragged else rows.copy()
            for array in (column, numbers):
                array.flags.writeable = False
            found.append({"n": numbers, "ids": column})
        elif batch_format == "pandas":
            found.append(pytest.importorskip("pandas").DataFrame({"n": numbers, "ids": column}))
        else:
            pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
            array = pa.array(rows.tolist(), pa.list_(pa.int32()))
            if not ragged:
                array = pa.FixedShapeTensorArray.from_numpy_ndarray(rows) if len(rows) else array
            found.append(pa.table({"n": numbers, "ids": array}))
    return found


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("batch_format", ["numpy", "pandas", "pyarrow"])
def test_as_ray_calls_it(batch_format, ragged, ids, answers):
    given = batches_of(batch_format, ids, ragged)
    found = map_batches(fastbilstm.BatchPredictor, given, str(DEMO), columns="ids", n_threads=1)
    assert [type(batch) for batch in found] == [type(batch) for batch in given]
    n, y = [], []
    for batch in found:
        columns = batch.to_pydict() if batch_format == "pyarrow" else batch
        assert list(columns) == ["n", "ids", "prediction"]
        n += list(columns["n"])
        y += list(columns["prediction"])
        if batch_format == "numpy":
            assert batch["prediction"].dtype == np.float32 and batch["prediction"].ndim == 1
    assert n == list(range(20)) and np.array_equal(np.array(y, "f4"), answers)


def test_an_object_as_ray_calls_it(ids, answers):
    """In place of the class: it travels pickled, and each task calls it."""
    found = map_batches(pickle.loads, [{"ids": ids}], pickle.dumps(fastbilstm.BatchPredictor(DEMO, n_threads=1)))
    assert np.array_equal(found[0]["prediction"], answers)


# ---- Spark -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    pytest.importorskip("pyspark", reason="needs PySpark")
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("needs Java")
    from pyspark.sql import SparkSession

    options = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "3",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
    }
    builder = SparkSession.builder.master("local[2]").appName("fastbilstm")
    for name, value in options.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield session
        finally:
            session.stop()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_on_spark(spark, ids, answers):
    """The lines of docs/many-machines.md; the rows are in two partitions, in batches of three."""
    rows = [(n, [int(token) for token in row]) for n, row in enumerate(ids)]
    rows[11][1][5] = 9999
    df = spark.createDataFrame(rows, "n long, ids array<int>")

    predictor = fastbilstm.BatchPredictor(str(DEMO), columns="ids", n_threads=1, on_error="null")
    schema = "n long, ids array<int>, prediction float"
    scored = df.mapInArrow(lambda batches: map(predictor, batches), schema)

    found = scored.collect()
    assert [row.n for row in found] == list(range(20)) and [row.ids for row in found] == [row[1] for row in rows]
    assert [row.prediction for row in found] == [None if n == 11 else float(y) for n, y in enumerate(answers)]
