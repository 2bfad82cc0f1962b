"""Work that grows with the size of a file and not with its square or with a number in it: calls are counted.

Architectures of twice the layers may take twice the calls of functions, from the config to the first prediction.
"""

import json
import sys
import time

import make_files as mf
import numpy as np
import pytest
from small_files import run, save_model

import fastbilstm
from fastbilstm.converted import fbl_file
from fastbilstm.graph import KerasVersion
from fastbilstm.keras.config import ConfigReader
from fastbilstm.layers.lookup import Vocabulary
from fastbilstm.preprocessing import TextVectorization

LAYERS = 100


def count_calls(function):
    """(calls of functions, Python's and built-in ones, while `function` runs; its result)."""
    count = 0

    def note(*_):
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        result = function()
    finally:
        sys.setprofile(None)
    return count, result


def start(functional=True):
    return mf.input_layer("x", (None, 4), "float32", functional)


def relu(name, *inbound):
    return mf.layer("Activation", name, inbound or None, activation="relu")


def before(number):
    return f"a{number - 1}" if number else "x"


def chain_of_dense(n):
    return mf.sequential(start(False), *(mf.dense(f"d{k}", units=4) for k in range(n)))


def chain_of_calls(n):
    return mf.functional(start(), *(relu(f"a{k}", before(k)) for k in range(n)), inputs=["x"], outputs=[before(n)])


def calls_of_one_layer(n):
    layer = mf.dense("d", ["x"], units=4)
    layer["inbound_nodes"] = [[["x", 0, 0, {}]], *([["d", k, 0, {}]] for k in range(n - 1))]
    config = mf.functional(start(), layer, inputs=["x"], outputs=["d"])
    config["config"]["output_layers"] = [["d", n - 1, 0]]
    return config


def many_into_one(n):
    parts = [relu(f"a{k}", "x") for k in range(n)]
    end = mf.layer("Add", "add", [f"a{k}" for k in range(n)])
    return mf.functional(start(), *parts, end, inputs=["x"], outputs=["add"])


def folded(n):
    norm = {"axis": [1], "momentum": 0.9, "epsilon": 1e-3, "center": True, "scale": True}
    layers = [mf.dense(f"d{k}", units=4, activation="linear") for k in range(n)]
    layers = [
        part for k, dense in enumerate(layers) for part in (dense, mf.layer("BatchNormalization", f"b{k}", **norm))
    ]
    return mf.sequential(start(False), *layers)


def models_inside(n):
    def model(k):
        inner = mf.functional(start(), relu("a0", "x"), inputs=["x"], outputs=["a0"])
        inner["config"]["name"] = f"a{k}"
        return inner | {"name": f"a{k}", "inbound_nodes": [[[before(k), 1 if k else 0, 0, {}]]]}

    config = mf.functional(start(), *map(model, range(n)), inputs=["x"], outputs=[before(n)])
    config["config"]["output_layers"] = [[before(n), 1, 0]]
    return config


def calls_from_config_to_answer(config):
    """(calls to read, to compile, to predict, to read the converted file) of an architecture with weights of 1."""
    reader = ConfigReader(KerasVersion("tf_keras", (2, 15)), "net")
    reading, graph = count_calls(lambda: reader.read_model(config["class_name"], config["config"]))
    assert not reader.problems
    roles = {name: role for _, layer in graph.walk() for role, name in layer.weights.items()}
    tensors = {name: np.ones((4, 4) if role == "kernel" else 4, "f4") for name, role in roles.items()}
    compiling, model = count_calls(lambda: fastbilstm.Model(graph, tensors))
    predicting, _ = count_calls(lambda: model.predict(np.zeros((1, 4), "f4")))
    content = fbl_file.to_bytes(graph, tensors)
    return reading, compiling, predicting, count_calls(lambda: fbl_file.read(content, "net"))[0]


KINDS = [chain_of_dense, chain_of_calls, calls_of_one_layer, many_into_one, folded, models_inside]


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_layers_take_twice_the_calls(kind):
    few, many = (calls_from_config_to_answer(kind(n)) for n in (LAYERS, 2 * LAYERS))
    ratios = [b / a for a, b in zip(few, many)]
    assert max(ratios) < 2.3, ratios


# ---- numbers and names in files -------------------------------------------------------------------------------------

# Far more than what is measured (under a second), far less than what the square of the size would take.
SECONDS = 20


@pytest.fixture
def in_time():
    begun = time.process_time()
    yield
    assert time.process_time() - begun < SECONDS


def converted_with(shape="[1]", **metadata):
    """A converted file of some megabytes whose header is this JSON text."""
    entry = f'"x": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 4]}}'
    metadata = json.dumps({"fastbilstm_format": "1", **metadata})
    return mf.join_fbl(f'{{"__metadata__": {metadata}, {entry}}}', bytes(4), sign=False)


LONG = "9" * 3_000_000
NUMBERS = {
    "one huge size": (f"[{LONG}]", "3000000 digits"),
    "many sizes": (f"[{','.join(['9' * 90] * 60_000)}]", "has shape"),
    "sizes of 64 bits": (f"[{','.join([str(2**62)] * 300_000)}]", "has shape"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_huge_numbers_in_the_header(case, tmp_path, in_time):
    shape, words = NUMBERS[case]
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # as old Pythons have it
    try:
        mf.assert_refused(tmp_path, converted_with(shape), words, "model.fbl")
    finally:
        sys.set_int_max_str_digits(before)


def test_huge_numbers_in_the_graph(tmp_path, in_time):
    def edit(header):
        header["__metadata__"]["graph"] = header["__metadata__"]["graph"].replace('"units":3', f'"units":{LONG}')

    mf.assert_refused(tmp_path, mf.edit_fbl(mf.converted(), edit), "graph .*3000000 digits", "model.fbl")


def test_ngrams_without_bound():
    options = {"vocabulary": ["a", "b"], "split": "whitespace"}
    with pytest.raises(fastbilstm.FastBiLSTMError, match="ngrams=1000000000 is not supported: expected at most 100"):
        TextVectorization(ngrams=10**9, **options)
    with pytest.raises(fastbilstm.FastBiLSTMError, match="ngrams"):
        TextVectorization(ngrams=[2, 10**9], **options)
    assert TextVectorization(ngrams=100, **options)(["a b"]).tolist() == [[2, 3, 1]]


def test_oov_indices_without_bound():
    table = Vocabulary([b"a"], None, b"?", False, 10**9)
    assert (table.start, table.size, table.holds_special) == (10**9, 10**9 + 1, False)


COLUMNS = 20_000


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_many_columns(format, tmp_path, capsys, in_time):
    model, path, out = tmp_path / "model.fbl", tmp_path / f"rows.{format}", tmp_path / "out.csv"
    config = mf.sequential(mf.input_layer("x", (None, COLUMNS), "float32"), mf.dense(units=1))
    weights = mf.weights_of(dense={"kernel": (COLUMNS, 1), "bias": (1,)})
    fastbilstm.load(mf.h5(config, weights)).save(model)
    names = [f"c{k}" for k in range(COLUMNS)]
    if format == "csv":
        path.write_text("\n".join([",".join(names), *[",".join(["1"] * COLUMNS)] * 3]))
    else:
        path.write_text((json.dumps(dict.fromkeys(names, 1)) + "\n") * 3)
    code, error = run(capsys, "predict", model, path, "-o", out, "--columns", "c*")
    assert (code, error) == (0, "")
    assert len(out.read_text().splitlines()) == 4
    code, error = run(capsys, "predict", model, path, "-o", out, "--columns", ",".join(names), "--overwrite")
    assert (code, error) == (0, "")


def test_other_keys_in_every_row(tmp_path, capsys, in_time):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({f"{k}.{n}": 1 for n in range(200)}) + "\n" for k in range(2000)))
    code, error = run(capsys, "predict", save_model(tmp_path / "model.fbl"), path, "-o", tmp_path / "out.csv")
    assert code == 2 and f"{path}: the rows up to line 1024 have 204800 different keys" in error


YAMLS = {
    "merge keys": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
        "merge key",
    ),
    "aliases as keys": (
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "? *a39\n: 1\n",
        "aliases expand",
    ),
    "sexagesimal": ("a: " + ":".join(["1"] * 100_000), "a number of 199999 characters"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_yaml_that_grows(case, tmp_path, in_time):
    pytest.importorskip("yaml", reason="needs PyYAML")
    text, words = YAMLS[case]
    path = tmp_path / "architecture.yaml"
    path.write_text(text)
    with pytest.raises(fastbilstm.FileFormatError, match=rf"architecture\.yaml.*{words}"):
        fastbilstm.load(mf.weights_h5(), config=path)
