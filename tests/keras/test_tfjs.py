"""Layers models of TensorFlow.js: as the converter writes them, as TensorFlow.js does, quantized, and damaged ones.

Golden Keras files are written again by `tfjs_files` and must give the same weights and the same graph.
"""

import json
import zipfile

import make_files as mf
import numpy as np
import pytest
import tfjs_files
from cases import CASES
from paths import GOLDEN
from shared import shared_file

import fastbilstm
from fastbilstm import FileFormatError
from fastbilstm.cli import commands as cli
from fastbilstm.tolerances import compare

# What the converter cannot write, or TensorFlow.js itself does not find again, with the reason.
NOT_THERE = {
    "format-chunked_weights-tf_keras": "the converter does not read names in pieces",
    "format-renamed_layers-tf_keras": "weights are named after layers that are not in the architecture",
    "norm2-adapted_ids-tf_keras": "the weights of Normalization have no layer in their names",
    "norm2-adapted_h5-tf_keras": "the same",
}


def written_by_converter():
    """Golden files with other content each, that the converter takes: Keras 2 as .h5, and .keras."""
    seen = set()
    for case in CASES:
        if case.file == "model.keras" or (case.file == "model.h5" and case.writer.startswith("tf_keras")):
            content = case.read(case.file)
            if not case.config and content not in seen and not case.name.startswith("lookup-"):
                seen.add(content)
                yield case, content


def test_golden_files_as_the_converter_writes_them(tmp_path):
    counts, refused = {"model.h5": 0, "model.keras": 0}, {}
    for case, content in written_by_converter():
        options = {"outputs": list(case.outputs)} if case.outputs else {}
        read = tfjs_files.from_h5 if case.file == "model.h5" else tfjs_files.from_keras
        try:
            path = tfjs_files.write(tmp_path / case.name, *read(content), shard_size=10_000)
            theirs = fastbilstm.load(path, **options)
        except (KeyError, ValueError) as error:  # KeyError: bfloat16, which the converter does not have
            if not isinstance(error, KeyError):
                refused[case.name] = error
            continue
        ours = fastbilstm.load(content, **options)
        assert theirs.graph == ours.graph, case.name
        arrays = [tfjs_files.as_tfjs(array) for array in ours.get_weights()]
        for a, b in zip(theirs.get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(a, b)
        counts[case.file] += 1
    assert sorted(refused) == sorted(NOT_THERE)
    assert counts["model.h5"] >= 350 and counts["model.keras"] >= 350, counts


def test_a_public_file():
    model = fastbilstm.load(shared_file("models/tfjs/model.json"))
    with np.load(shared_file("models/tfjs/model.npz")) as npz:
        for batch in ("b1", "b3"):
            result = compare(model.predict(npz[f"{batch}.in0"]), npz[f"{batch}.out0"], "float32")
            assert result.ok, result.message


# ---- what TensorFlow.js writes itself -------------------------------------------------------------------------------

RECORDED = GOLDEN / "tfjs.zip"  # tools/golden/make_tfjs.js
CASES_OF_TFJS = sorted({name.partition("/")[0] for name in zipfile.ZipFile(RECORDED).namelist()})


@pytest.mark.parametrize("name", CASES_OF_TFJS)
def test_saved_by_tensorflow_js(name, tmp_path):
    """What TensorFlow.js 4.22 saved and answered: masks, cells, shared layers, models inside, initial states."""
    with zipfile.ZipFile(RECORDED) as archive:
        archive.extractall(tmp_path)
    values = json.loads((tmp_path / name / "values.json").read_text())
    model = fastbilstm.load(tmp_path / name)
    y = model.predict([np.array(x, np.int32 if name == "embedding" else np.float32) for x in values["inputs"]])
    outputs = y if isinstance(y, list) else [y]
    for y, k in zip(outputs, values["outputs"], strict=True):
        result = compare(y, np.array(k, np.float32), "float32")
        assert result.ok, result.message
    assert "TensorFlow.js (tfjs-layers 4.22.0); computed as Keras 2.2.4" in " ".join(model.graph.notes)


# A net by hand, in the words of TensorFlow.js.
TOPOLOGY = {
    "keras_version": "tfjs-layers 4.22.0",
    "backend": "tensor_flow.js",
    "class_name": "Sequential",
    "config": {
        "name": "sequential_1",
        "layers": [
            mf.lstm("lstm_LSTM1", recurrent_activation="hard_sigmoid", batch_input_shape=[None, None, 2]),
            mf.dense("dense_Dense1"),
        ],
    },
}
LSTM_SHAPES = {f"lstm_LSTM1/{role}": shape for role, shape in mf.lstm_weights(2, 3).items()}
SHAPES = {**LSTM_SHAPES, "dense_Dense1/kernel": (3, 2), "dense_Dense1/bias": (2,)}
WEIGHTS = mf.weights_of(net=SHAPES)["net"]


def write(folder, **options):
    """The net in a folder of its own; the path of its model.json."""
    return tfjs_files.write(folder / "net", **{"topology": TOPOLOGY, "weights": WEIGHTS, **options})


def assert_same_weights(model):
    for a, b in zip(model.get_weights(), WEIGHTS.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def as_browser(index):
    """Names of shards as a browser saves them, and what `includeOptimizer` adds behind the weights."""
    (group,) = index["weightsManifest"]
    group["paths"] = [f"./{path}" for path in group["paths"]]
    group["weights"][-1]["group"] = "optimizer"


def test_saved_by_a_browser_with_its_optimizer(tmp_path):
    path = write(tmp_path, weights={**WEIGHTS, "Variable": np.ones(3, np.float32)}, edit=as_browser)
    assert_same_weights(fastbilstm.load(path))


def test_without_a_version(tmp_path):
    """A topology by hand, of which TensorFlow.js takes the defaults of Keras 2.2.4."""
    topology = {key: value for key, value in TOPOLOGY.items() if key != "keras_version"}
    model = fastbilstm.load(write(tmp_path, topology=topology))
    assert model.keras == "keras 2.2.4" and "written by TensorFlow.js; computed" in model.graph.notes[-1]
    assert_same_weights(model)


# ---- quantized ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, error", [("uint8", 2e-2), ("uint16", 1e-4), ("float16", 1e-3)])
def test_quantized(dtype, error, tmp_path):
    """Numbers are (stored * scale + min), in float64 and rounded once, as TensorFlow.js computes them."""
    model = fastbilstm.load(write(tmp_path, quantized=dtype))
    for array, original in zip(model.get_weights(), WEIGHTS.values(), strict=True):
        stored, entry = tfjs_files.quantize(original, dtype)
        expected = stored if dtype == "float16" else stored.astype(np.float64) * entry["scale"] + entry["min"]
        np.testing.assert_array_equal(array, expected.astype(np.float32))
        assert np.abs(array - original).max() < error


def test_dequantized_by_hand(tmp_path):
    """0, 128 and 255 with scale 0.5 and min -3."""
    layer = mf.dense("dense_Dense1", units=3, activation="linear", use_bias=False, batch_input_shape=[None, 1])
    spec = {"name": "dense_Dense1/kernel", "shape": [1, 3], "dtype": "float32"}
    spec["quantization"] = {"dtype": "uint8", "scale": 0.5, "min": -3}

    def edit(index):
        index["weightsManifest"][0]["weights"] = [spec]

    topology = {**TOPOLOGY, "config": {"name": "net", "layers": [layer]}}
    path = write(tmp_path, topology=topology, weights={"x": np.array([0, 128, 255], np.uint8)}, edit=edit)
    np.testing.assert_array_equal(fastbilstm.load(path).predict(np.ones((1, 1)))[0], [-3, 61, 124.5])


# ---- the commands ---------------------------------------------------------------------------------------------------


def test_the_folder_converts_inspects_and_verifies(tmp_path, capsys):
    write(tmp_path)
    assert cli.main(["convert", f"{tmp_path}/net/"]) == 0 and (tmp_path / "net.fbl").exists()
    assert cli.main(["inspect", f"{tmp_path}/net"]) == 0
    assert "written by TensorFlow.js" in capsys.readouterr().out
    assert cli.main(["verify", f"{tmp_path}/net/model.json"]) == 0
    assert cli.main(["verify", f"{tmp_path}/net.fbl", "--against", f"{tmp_path}/net"]) == 0
    assert "holds the same weights" in capsys.readouterr().out


def test_a_folder_whose_name_has_a_point_or_is_one(tmp_path, monkeypatch):
    bigger = {"userDefinedMetadata": "x" * 1_000_000}
    write(tmp_path, edit=lambda index: index.update(bigger)).parent.rename(tmp_path / "net.v2")
    assert cli.main(["convert", f"{tmp_path}/net.v2"]) == 0 and (tmp_path / "net.v2.fbl").exists()
    monkeypatch.chdir(tmp_path / "net.v2")
    assert cli.main(["convert", ".", "--overwrite"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.v2", "net.v2.fbl"]
    assert cli.main(["report", ".", "-o", "page.html", "--seconds", "0.1", "--quiet"]) in (0, 1)
    assert "1.00 MB" in (tmp_path / "net.v2" / "page.html").read_text("utf-8")  # not of the folder's own entry


def test_weights_alone_with_the_architecture_beside(tmp_path):
    path = write(tmp_path, topology=None)
    with pytest.raises(FileFormatError, match="holds weights and no architecture"):
        fastbilstm.load(path)
    assert_same_weights(fastbilstm.load(path, config=TOPOLOGY | {"keras_version": "2.2.4"}))


# ---- damaged --------------------------------------------------------------------------------------------------------


def entry(position, **values):
    return lambda index: index["weightsManifest"][0]["weights"][position].update(values)


def paths(*values):
    return lambda index: index["weightsManifest"][0].update(paths=list(values))


def whole(**values):
    return lambda index: index.update(values)


QUANTIZED = {"dtype": "uint8", "scale": 1.0, "min": 0.0}
DAMAGES = {
    "graph model": (whole(format="graph-model"), "graph model of TensorFlow.js.*--output_format=tfjs_layers_model"),
    "graph model by content": (whole(modelTopology={"node": [], "library": {}}), "graph model of TensorFlow.js"),
    "leaves": (paths("../group1-shard1of1.bin"), "not in the folder of model.json; refused"),
    "absolute": (paths("/etc/passwd"), "not in the folder"),
    "drive": (paths("C:x.bin"), "not in the folder"),
    "backslash": (paths("..\\x.bin"), "not in the folder"),
    "dots": (paths("./.."), "not in the folder"),
    "url": (paths("https://host/x.bin"), "not in the folder"),
    "no text": (paths(3), "no name of a file"),
    "twice": (paths("group1-shard1of1.bin", "./group1-shard1of1.bin"), "twice"),
    "missing": (paths("gone.bin"), "the shard 'gone.bin' is missing"),
    "none": (paths(), "ends at byte 96, its shards hold 0"),
    "no manifest": (whole(weightsManifest=None), "no list of weights"),
    "manifest of numbers": (whole(weightsManifest=[3]), "no list of weights"),
    "no weights": (lambda index: index["weightsManifest"][0].pop("weights"), "has no paths and weights"),
    "topology": (whole(modelTopology=[1]), "modelTopology is"),
    "version": (lambda index: index["modelTopology"].update(keras_version=[2]), "keras_version is"),
    "no model": (whole(modelTopology={"keras_version": "2.15.0"}), "no class_name and config"),
    "name": (entry(0, name=3), "no name and shape"),
    "shape": (entry(0, shape=[2, -6]), "has shape"),
    "shape of floats": (entry(0, shape=[2.0, 12]), "has shape"),
    "many axes": (entry(0, shape=[1] * 40), "has shape"),
    "other shape": (entry(0, shape=[12, 2]), r"expected \(2, 12\)|shape"),
    "too long": (entry(0, shape=[2**40, 2**40]), "ends at byte"),
    "too short": (entry(0, shape=[1, 12]), "weights of 272 bytes are in shards of 320"),
    "string": (entry(0, dtype="string"), "has dtype 'string'"),
    "complex": (entry(0, dtype="complex64"), "has dtype 'complex64'"),
    "unhashable dtype": (entry(0, dtype=[]), "has dtype"),
    "two of a name": (entry(1, name="lstm_LSTM1/kernel"), "two weights have the name"),
    "unknown": (entry(1, name="other/kernel"), "'other/kernel' is of no layer"),
    "two layers": (entry(1, name="lstm_LSTM1/dense_Dense1/kernel"), "is of layers"),
    "layer left out": (entry(0, group="optimizer"), "holds 2 arrays for it, the architecture needs 3"),
    "quantization": (entry(0, quantization=3), "quantization 3"),
    "scale": (entry(0, quantization=QUANTIZED | {"scale": None}), "has scale None"),
    "scale of infinity": (entry(0, quantization=QUANTIZED | {"scale": 1e308 * 10}), "has scale inf"),
    "no min": (entry(0, quantization={"dtype": "uint8", "scale": 1}), "min None"),
    "int4": (entry(0, quantization=QUANTIZED | {"dtype": "uint4"}), "uint4"),
    "size of quantized": (entry(0, quantization=QUANTIZED), "weights of 248 bytes are in shards of 320"),
    "path of an object": (entry(0, name="layers/../vars/0"), "has the name"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged(case, tmp_path):
    change, words = DAMAGES[case]
    path = write(tmp_path)
    fastbilstm.load(path)
    path = write(tmp_path, edit=change)
    with pytest.raises(FileFormatError, match=words) as caught:
        fastbilstm.load(path)
    assert str(path) in str(caught.value)


def test_a_shard_that_was_cut_off(tmp_path):
    path = write(tmp_path, shard_size=100)
    shard = tmp_path / "net" / "group1-shard2of4.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="ends at byte 320, its shards hold 319"):
        fastbilstm.load(path)


def test_as_bytes_it_has_no_shards(tmp_path):
    path = write(tmp_path)
    with pytest.raises(FileFormatError, match="names files beside it: give its path"):
        fastbilstm.load(path.read_bytes())
    assert json.loads(path.read_text())["format"] == "layers-model"
