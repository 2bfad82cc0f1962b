"""Layers models of TensorFlow.js: as the converter writes them, as TensorFlow.js does, quantized, and damaged ones.

Golden Keras files are written again by `tfjs_files` and must give the same weights and the same graph.
"""

import json

import make_files as mf
import numpy as np
import pytest
import tfjs_files
from cases import CASES
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

OWN = {"keras_version": "tfjs-layers 4.22.0", "backend": "tensor_flow.js"}


def own(class_name, name, **options):
    """A layer as `model.save` of TensorFlow.js describes it."""
    return {"class_name": class_name, "config": {**options, "name": name, "trainable": True}}


def lstm(name, units, **options):
    options = {"units": units, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True} | options
    states = {"return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False}
    regularizers = dict.fromkeys(("kernel_regularizer", "recurrent_regularizer", "bias_constraint"))
    return own("LSTM", name, **{**states, **options, **regularizers, "unroll": False, "implementation": None})


def topology(*layers, features=2):
    layers[0]["config"] |= {"batch_input_shape": [None, None, features], "dtype": "float32"}
    return {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": list(layers)}, **OWN}


def arrays(shapes):
    rng = np.random.default_rng(5)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def lstm_arrays(scope, features, units):
    return {f"{scope}/{role}": shape for role, shape in mf.lstm_weights(features, units).items()}


def as_browser(index):
    """Names of shards as a browser saves them, and what `includeOptimizer` adds, which stands behind the weights."""
    (group,) = index["weightsManifest"]
    group["paths"] = [f"./{path}" for path in group["paths"]]
    group["weights"][-1]["group"] = "optimizer"
    index["generatedBy"], index["convertedBy"] = "TensorFlow.js tfjs-layers v4.22.0", None


def twin(layers, weights):
    """The same net as an .h5 of Keras 2.2.4, whose semantics TensorFlow.js has."""
    config = {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": layers}}
    roles = {entry["config"]["name"]: {} for entry in layers}
    for name, array in weights.items():
        layer = name.split("/")[0]
        roles[layer][name.split("/", 1)[1]] = array
    return fastbilstm.load(mf.h5(config, {name: found for name, found in roles.items() if found}, version="2.2.4"))


NETS = {
    "lstm": ([lstm("lstm_LSTM1", 3), own("Dense", "dense_Dense1", units=2, activation="softmax", use_bias=True)],
             {**lstm_arrays("lstm_LSTM1", 2, 3), "dense_Dense1/kernel": (3, 2), "dense_Dense1/bias": (2,)}),
    "bidirectional": ([own("Bidirectional", "bidirectional_Bidirectional1", merge_mode="concat",
                           layer=lstm("lstm_LSTM1", 3, return_sequences=True)),
                       own("TimeDistributed", "time_distributed_TimeDistributed1",
                           layer=own("Dense", "dense_Dense1", units=2, activation="linear", use_bias=True))],
                      {**lstm_arrays("bidirectional_Bidirectional1/forward_lstm_LSTM1", 2, 3),
                       **lstm_arrays("bidirectional_Bidirectional1/backward_lstm_LSTM1", 2, 3),
                       "time_distributed_TimeDistributed1/kernel": (6, 2),
                       "time_distributed_TimeDistributed1/bias": (2,)}),
    "gru": ([own("Masking", "masking_Masking1", mask_value=0),
             own("GRU", "gru_GRU1", units=3, activation="tanh", recurrent_activation="hard_sigmoid", use_bias=True,
                 reset_after=False, return_sequences=True)],
            {"gru_GRU1/kernel": (2, 9), "gru_GRU1/recurrent_kernel": (3, 9), "gru_GRU1/bias": (9,)}),
    "cells": ([own("RNN", "rnn_RNN1", return_sequences=True, cell={"class_name": "StackedRNNCells", "config": {
        "name": "stacked_rnn_cells_StackedRNNCells1", "trainable": True, "cells": [
            own("SimpleRNNCell", f"simple_rnn_cell_SimpleRNNCell{n}", units=n + 2, activation="tanh", use_bias=True)
            for n in (1, 2)]}})],
              {f"rnn_RNN1/RNNCell_{n}/{role}": shape for n in (0, 1) for role, shape in {
                  "kernel": (2 + n, 3 + n), "recurrent_kernel": (3 + n, 3 + n), "bias": (3 + n,)}.items()}),
    "norm": ([own("BatchNormalization", "batch_normalization_BatchNormalization1", axis=-1, momentum=0.99,
                  epsilon=0.001, center=True, scale=True), lstm("lstm_LSTM1", 3)],
             {**{f"batch_normalization_BatchNormalization1/{role}": (2,) for role in ("gamma", "beta")},
              **lstm_arrays("lstm_LSTM1", 2, 3),
              **{f"batch_normalization_BatchNormalization1/{role}": (2,) for role in
                 ("moving_mean", "moving_variance")}}),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_written_by_tensorflow_js(name, tmp_path):
    layers, shapes = NETS[name]
    weights = arrays(shapes)
    if name == "norm":
        weights["batch_normalization_BatchNormalization1/moving_variance"] **= 2
    stored = {**weights, "Variable": np.ones(3, np.float32)}
    model = fastbilstm.load(tfjs_files.write(tmp_path / "net", topology(*layers), stored, edit=as_browser))
    expected = twin(layers, weights)
    assert "TensorFlow.js (tfjs-layers 4.22.0); computed as Keras 2.2.4" in " ".join(model.graph.notes)
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    x[0, :2] = x[1, 3:] = 0
    np.testing.assert_array_equal(model.predict(x), expected.predict(x))


def test_masked_steps_repeat_the_state_as_tensorflow_js_does(tmp_path):
    """A masked step gives the state of before, also in Bidirectional, where tf.keras gives zeros."""
    layers = [own("Masking", "masking_Masking1", mask_value=0),
              own("Bidirectional", "bidirectional_Bidirectional1", merge_mode="concat",
                  layer=lstm("lstm_LSTM1", 1, return_sequences=True))]  # fmt: skip
    weights = arrays({k: v for k, v in NETS["bidirectional"][1].items() if "LSTM1" in k})
    weights = {name: array[..., :4] if array.ndim < 2 else array[:2, :4] for name, array in weights.items()}
    weights = {name: array[:1] if "recurrent" in name else array for name, array in weights.items()}
    y = fastbilstm.load(tfjs_files.write(tmp_path / "net", topology(*layers), weights)).predict([[[1, 2], [0, 0]]])
    assert y[0, 1, 0] == y[0, 0, 0] != 0


# ---- quantized ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, error", [("uint8", 2e-2), ("uint16", 1e-4), ("float16", 1e-3)])
def test_quantized(dtype, error, tmp_path):
    """Numbers are (stored * scale + min), in float64 and rounded once, as TensorFlow.js computes them."""
    layers, shapes = NETS["lstm"]
    weights = arrays(shapes)
    model = fastbilstm.load(tfjs_files.write(tmp_path / "net", topology(*layers), weights, quantized=dtype))
    for array, original in zip(model.get_weights(), weights.values(), strict=True):
        stored, entry = tfjs_files.quantize(original, dtype)
        expected = stored if dtype == "float16" else stored.astype(np.float64) * entry["scale"] + entry["min"]
        np.testing.assert_array_equal(array, expected.astype(np.float32))
        assert np.abs(array - original).max() < error


def test_dequantized_by_hand(tmp_path):
    """0, 128 and 255 with scale 0.5 and min -3."""
    layers = [own("Dense", "dense_Dense1", units=3, activation="linear", use_bias=False)]
    spec = {"name": "dense_Dense1/kernel", "shape": [1, 3], "dtype": "float32"}
    spec["quantization"] = {"dtype": "uint8", "scale": 0.5, "min": -3}

    def edit(index):
        index["weightsManifest"][0]["weights"] = [spec]

    path = tfjs_files.write(
        tmp_path / "net", topology(*layers, features=1), {"x": np.array([0, 128, 255], np.uint8)}, edit=edit
    )
    np.testing.assert_array_equal(fastbilstm.load(path).predict(np.ones((1, 1, 1)))[0, 0], [-3, 61, 124.5])


# ---- the commands ---------------------------------------------------------------------------------------------------


def test_the_folder_converts_inspects_and_verifies(tmp_path, capsys):
    layers, shapes = NETS["lstm"]
    tfjs_files.write(tmp_path / "net", topology(*layers), arrays(shapes))
    assert cli.main(["convert", f"{tmp_path}/net/"]) == 0 and (tmp_path / "net.fbl").exists()
    assert cli.main(["inspect", f"{tmp_path}/net"]) == 0
    assert "written by TensorFlow.js" in capsys.readouterr().out
    assert cli.main(["verify", f"{tmp_path}/net/model.json"]) == 0
    assert cli.main(["verify", f"{tmp_path}/net.fbl", "--against", f"{tmp_path}/net"]) == 0
    assert "holds the same weights" in capsys.readouterr().out


def test_a_folder_whose_name_has_a_point_or_is_one(tmp_path, monkeypatch):
    layers, shapes = NETS["lstm"]
    bigger = {"userDefinedMetadata": "x" * 1_000_000}
    tfjs_files.write(tmp_path / "net.v2", topology(*layers), arrays(shapes), edit=lambda index: index.update(bigger))
    assert cli.main(["convert", f"{tmp_path}/net.v2"]) == 0 and (tmp_path / "net.v2.fbl").exists()
    monkeypatch.chdir(tmp_path / "net.v2")
    assert cli.main(["convert", ".", "--overwrite"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.v2", "net.v2.fbl"]
    assert cli.main(["report", ".", "-o", "page.html", "--seconds", "0.1", "--quiet"]) in (0, 1)
    assert "1.00 MB" in (tmp_path / "net.v2" / "page.html").read_text("utf-8")  # not of the folder's own entry


def test_weights_alone_with_the_architecture_beside(tmp_path):
    layers, shapes = NETS["lstm"]
    weights = arrays(shapes)
    path = tfjs_files.write(tmp_path / "net", None, weights)
    with pytest.raises(FileFormatError, match="holds weights and no architecture"):
        fastbilstm.load(path)
    config = topology(*layers) | {"keras_version": "2.2.4"}
    model = fastbilstm.load(path, config=config)
    for a, b in zip(model.get_weights(), weights.values(), strict=True):
        np.testing.assert_array_equal(a, b)


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
    layers, shapes = NETS["lstm"]
    path = tfjs_files.write(tmp_path / "net", topology(*layers), arrays(shapes))
    fastbilstm.load(path)
    path = tfjs_files.write(tmp_path / "net", topology(*layers), arrays(shapes), edit=change)
    with pytest.raises(FileFormatError, match=words) as caught:
        fastbilstm.load(path)
    assert str(path) in str(caught.value)


def test_a_shard_that_was_cut_off(tmp_path):
    layers, shapes = NETS["lstm"]
    path = tfjs_files.write(tmp_path / "net", topology(*layers), arrays(shapes), shard_size=100)
    shard = tmp_path / "net" / "group1-shard2of4.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="ends at byte 320, its shards hold 319"):
        fastbilstm.load(path)


def test_as_bytes_it_has_no_shards(tmp_path):
    layers, shapes = NETS["lstm"]
    path = tfjs_files.write(tmp_path / "net", topology(*layers), arrays(shapes))
    with pytest.raises(FileFormatError, match="names files beside it: give its path"):
        fastbilstm.load(path.read_bytes())
    assert json.loads(path.read_text())["format"] == "layers-model"
