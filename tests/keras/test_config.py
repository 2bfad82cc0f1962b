"""Malformed architectures, unsupported layers, cut graphs: errors name the file, the layer, the option, the value.

JSON inside whole-model files, JSON and YAML beside weights. Files are built by hand (make_files.py).
"""

import json
import re

import make_files as mf
import numpy as np
import pytest
from built_nets import Net

import fastbilstm
from fastbilstm import FileFormatError, MissingExtraError, UnsupportedLayerError


def config_attribute(content):
    """An edit that puts these bytes in the place of model_config."""

    def edit(file):
        file.attrs["model_config"] = np.bytes_(content)

    return edit


# ---- JSON -----------------------------------------------------------------------------------------------------------


def deep(depth):
    return b'{"class_name":' * depth + b"1" + b"}" * depth


JSON = {
    "cut": (b'{"class_name": "Sequential", "config": {', "not valid JSON"),
    "not UTF-8": (b'{"class_name": "\xff"}', "(UTF|utf)-8"),
    "deep": (deep(4000), "not valid JSON|nested too deeply"),
    "deep inside": (b'{"class_name": "Sequential", "config": ' + deep(400) + b"}", "no layers"),
    "list": (b"[]", "no Keras model"),
    "number": (b"12", "no Keras model"),
    "null": (b"null", "no Keras model"),
    "no config": (b'{"class_name": "Sequential"}', "no class_name and config"),
    "class is a list": (b'{"class_name": ["Sequential"], "config": {}}', "class_name"),
    "layers is a number": (b'{"class_name": "Sequential", "config": {"layers": 3}}', "has no layers"),
    "layers of null": (b'{"class_name": "Sequential", "config": {"layers": [null]}}', "no class_name and config"),
    "long number": (b'{"class_name": "Sequential", "config": ' + b"9" * 10_000 + b"}", "not valid JSON"),
}


@pytest.mark.parametrize("case", JSON)
def test_config_json(case, refused):
    content, words = JSON[case]
    refused(mf.h5(edit=config_attribute(content)), words)
    refused(mf.archive(members={"config.json": content}), words, "model.keras")


def test_subclassed_model(refused):
    error = refused(mf.h5({"class_name": "MyModel", "config": {}}), "subclassed", error=UnsupportedLayerError)
    assert error.problems


def with_lstm(**options):
    return mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(**options), mf.dense())


def graph(**changed):
    """The functional config with single layers replaced."""
    config = mf.functional()
    names = {entry["name"]: entry for entry in config["config"]["layers"]} | changed
    config["config"]["layers"] = list(names.values())
    return config


def called(*reference):
    """The LSTM, called on this reference."""
    return mf.lstm(inbound=[]) | {"inbound_nodes": [[[*reference, {}]]]}


def with_shape(*shape):
    return mf.sequential(mf.input_layer(shape=shape), mf.embedding(), mf.lstm(), mf.dense())


SAME_NAME = mf.sequential(mf.input_layer(), mf.embedding("a"), mf.lstm("a"))
TWICE = mf.functional(
    mf.input_layer(functional=True), mf.embedding("dense", ["ids"]), mf.lstm("dense", ["dense"]), outputs=("dense",)
)
CONFIGS = {
    "cycle": (graph(embedding=mf.embedding(inbound=["lstm"])), "cycle through layer"),
    "own output": (graph(lstm=mf.lstm(inbound=["lstm"])), "cycle through layer 'lstm'"),
    "missing layer": (graph(lstm=mf.lstm(inbound=["gone"])), "layer 'lstm': .*'gone'.* no reference to a tensor"),
    "missing call": (graph(lstm=called("embedding", 5, 0)), "call 5 .* missing"),
    "negative call": (graph(lstm=called("embedding", -1, 0)), "embedding"),
    "missing tensor": (graph(lstm=called("embedding", 0, 9)), "output 9"),
    "negative tensor": (graph(lstm=called("embedding", 0, -1)), "output -1"),
    "nodes are a number": (graph(lstm=mf.lstm(inbound=[]) | {"inbound_nodes": 5}), "'lstm': inbound_nodes is no list"),
    "output not called": (graph(dense=mf.dense(inbound=[])), "call 0 of layer 'dense' is used and missing"),
    "unknown output": (mf.functional() | {"config": mf.functional(outputs=("gone",))["config"]}, "gone"),
    "unknown input": (mf.functional() | {"config": mf.functional(inputs=("gone",))["config"]}, "gone"),
    "input is no InputLayer": (mf.functional(inputs=("lstm",)), "'lstm' is no InputLayer"),
    "two layers of one name": (TWICE, "two layers share a name"),
    "two layers of one name, Sequential": (SAME_NAME, "share the name 'a'"),
    "input with the name of a layer": (
        mf.sequential(mf.input_layer("lstm"), mf.embedding(), mf.lstm(), mf.dense()),
        "an input and a layer share the name 'lstm'",
    ),
    "units huge": (with_lstm(units=10**12), r"layer 'lstm'.*\(4, 4000000000000\)"),
    "units of another size": (with_lstm(units=4), r"layer 'lstm'.*kernel has shape \(4, 12\).*\(4, 16\)"),
    "shape negative": (with_shape(None, -4), r"input 'ids' has shape"),
    "shape of text": (with_shape(None, "4"), r"input 'ids' has shape"),
    "rank does not fit": (with_shape(None, 3, 3), "3 axes"),
    "units missing": (mf.sequential(mf.input_layer(), mf.embedding(), mf.layer("LSTM", "lstm")), "'units' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_config(case, refused):
    config, words = CONFIGS[case]
    refused(mf.h5(config), words)
    refused(mf.archive(config=config), words, "model.keras")


REFUSED_OPTIONS = [
    ("units", -3), ("units", 0), ("units", 1.5), ("units", "3"), ("units", None), ("units", float("inf")),
    ("units", True), ("activation", "tanhh"), ("activation", 3), ("return_sequences", "yes"), ("mystery", 1),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), REFUSED_OPTIONS)
def test_option_is_refused_by_name_and_value(option, value, refused):
    words = rf"layer 'lstm' \(LSTM\): option {option}={re.escape(repr(value))}"
    if option == "mystery":
        words = r"layer 'lstm' \(LSTM\): option mystery='1' is not known"
    refused(mf.h5(with_lstm(**{option: value})), words, error=UnsupportedLayerError)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_whole_numbers_beyond_64_bits(value, refused):
    config = mf.sequential(mf.input_layer(), mf.embedding(), mf.layer("ZeroPadding1D", "pad", padding=[value, 1]))
    weights = mf.weights_of(embedding={"embeddings": (7, 4)})
    refused(mf.h5(config, weights), "a whole number beyond 64 bits")
    config["config"]["layers"][2]["config"]["padding"] = [1, 1]

    def edit(graph):
        graph["layers"][1]["config"]["padding"] = [1, value]

    content = mf.edit_fbl(mf.converted(mf.h5(config, weights)), edit_graph=edit)
    refused(content, f"graph .*{value} is beyond 64 bits", "model.fbl")


def test_all_that_is_unsupported_is_listed(refused):
    config = mf.sequential(
        mf.input_layer(),
        mf.embedding(),
        mf.lstm(activation="wavy", return_sequences=True),
        mf.layer("TFSMLayer", "conv", units=3),
        mf.layer("Lambda", "double", function=["4wEAAAA=", None, None]),
        mf.layer("my>Layer", "own"),
        mf.dense(activation="sideways"),
    )
    error = refused(mf.h5(config), "outputs=", error=UnsupportedLayerError)
    assert len(error.problems) == 5
    for problem, words in zip(
        error.problems,
        (
            "'lstm' (LSTM): option activation='wavy'",
            "'conv' (TFSMLayer): is not supported",
            "'double' (Lambda): would run Python code from the file",
            "'own' (my>Layer)",
            "'dense' (Dense): option activation='sideways'",
        ),
        strict=True,
    ):
        assert words in problem and problem in str(error)


# ---- cutting the graph ----------------------------------------------------------------------------------------------

LAMBDA = mf.layer("Lambda", "loss", ["dense"], function=["4wEAAAA=", None, None])
ENDS_IN_LAMBDA = mf.functional(*mf.functional()["config"]["layers"], LAMBDA, outputs=("loss",))


def called_with(class_name, **kwargs):
    """A file whose layer 'one' is called with these keyword arguments."""
    net = Net()
    if class_name == "LSTM":
        net.lstm("one", "x")
    elif class_name == "Bidirectional":
        net.bidirectional("one", "x")
    elif class_name == "MultiHeadAttention":
        inner = {f"{part}/kernel": (5, 2, 3) for part in ("query", "key", "value")}
        weights = {**inner, "attention_output/kernel": (2, 3, 5)}
        net.add(class_name, "one", "x", weights=weights, num_heads=2, key_dim=3, use_bias=False)
        kwargs["value"] = ["x", 0, 0]
    else:
        options = {"Attention": {"use_scale": False, "score_mode": "dot"}, "Activation": {"activation": "linear"}}
        options |= {"GlobalAveragePooling1D": {"keepdims": False}, "Dropout": {"rate": 0.5}}
        net.add(class_name, "one", *["x"] * (1 + (class_name == "Attention")), **options[class_name])
    net.layers[1]["inbound_nodes"][0][0][3] = kwargs
    return net.content("one")


@pytest.mark.parametrize("backend", ["auto", "numpy"])
@pytest.mark.parametrize("mask", [True, 1, [[True] * 6] * 2, [None, True], "keep"])
@pytest.mark.parametrize(
    ("class_name", "option"),
    [
        *((name, "mask") for name in ("LSTM", "Bidirectional", "Attention", "GlobalAveragePooling1D")),
        *((name, "mask") for name in ("Activation", "Dropout")),
        *(("MultiHeadAttention", f"{part}_mask") for part in ("query", "value", "key", "attention")),
    ],
)
def test_a_constant_as_mask_is_refused(class_name, option, mask, backend, refused):
    words = rf"layer 'one' \({class_name}\): it is called with {option}={re.escape(str(mask)[:20])}"
    refused(called_with(class_name, **{option: mask}), words, backend=backend)
    fastbilstm.load(called_with(class_name, **{option: None}), backend=backend)

    def edit(graph):
        graph["nodes"][0]["kwargs"][option] = True

    converted = mf.edit_fbl(mf.converted(called_with(class_name)), edit_graph=edit)
    refused(converted, rf"layer 'one' \({class_name}\): it is called with {option}=True", "model.fbl", backend=backend)


def test_cut_before_a_lambda(refused):
    refused(mf.h5(ENDS_IN_LAMBDA), "'loss' .Lambda.: would run Python code", error=UnsupportedLayerError)
    model = fastbilstm.load(mf.h5(ENDS_IN_LAMBDA), outputs=["dense"])
    np.testing.assert_array_equal(model.predict(mf.IDS), fastbilstm.load(mf.h5()).predict(mf.IDS))


@pytest.mark.parametrize("config", [mf.sequential(), mf.functional()], ids=["Sequential", "functional"])
def test_unknown_outputs_name_the_layers(config, refused):
    refused(mf.h5(config), "outputs names 'softmax'; the layers are embedding, lstm, dense", outputs=["softmax"])
    refused(mf.h5(config), "'dense' is called 1 times", outputs=["dense:1"])
    refused(mf.h5(config), "outputs is empty", outputs=[])


# ---- JSON and YAML beside the weights -------------------------------------------------------------------------------

WEIGHTS = mf.h5(whole=False)
YAML = """\
class_name: Sequential
keras_version: 2.2.4
config:
  name: net
  layers:
  - class_name: Embedding
    config: {name: embedding, input_dim: 7, output_dim: 4, mask_zero: true, batch_input_shape: SHAPE}
  - class_name: LSTM
    config: {name: lstm, units: 3, activation: tanh, recurrent_activation: sigmoid}
  - class_name: Dense
    config: {name: dense, units: 2, activation: sigmoid}
"""
TUPLE = "!!python/tuple [null, null]"


def test_yaml_with_tuples_is_read(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(YAML.replace("SHAPE", TUPLE))
    model = fastbilstm.load(WEIGHTS, config=path)
    assert model.inputs[0].shape == (None, None)
    np.testing.assert_array_equal(model.predict(mf.IDS), fastbilstm.load(mf.h5()).predict(mf.IDS))


def bomb(depth):
    """YAML whose aliases expand to 10 ** depth strings."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n" + YAML.replace("SHAPE", f"*a{depth - 1}")


TEXTS = {
    "JSON cut": ('{"class_name": "Sequential", ', "neither valid JSON nor YAML"),
    "YAML cut": ("class_name: [Sequential", "neither valid JSON nor YAML"),
    "a list": ("- 1\n- 2\n", "no JSON or YAML description of a model"),
    "empty": ("", "no JSON or YAML description of a model"),
    "not UTF-8": (b"class_name: \xff", "no UTF-8 text"),
    "deep": ("[" * 100_000, "neither valid JSON nor YAML|nested too deeply"),
    "control characters": ("a: \x00", "neither valid JSON nor YAML"),
    "command": (YAML.replace("SHAPE", "!!python/object/apply:os.system ['touch ran']"), "apply:os.system"),
    "new": (YAML.replace("SHAPE", "!!python/object/new:os.system ['touch ran']"), "python/object/new:os.system"),
    "module": (YAML.replace("SHAPE", "!!python/module:os"), "python/module:os"),
    "name": (YAML.replace("SHAPE", "!!python/name:os.system"), "python/name:os.system"),
    "tuple of text": (YAML.replace("SHAPE", "!!python/tuple x"), "neither valid JSON nor YAML"),
    "impossible date": (YAML.replace("SHAPE", "2001-13-45"), "neither valid JSON nor YAML"),
    "empty integer": (YAML.replace("SHAPE", "!!int ''"), "neither valid JSON nor YAML"),
    "cycle": (YAML.replace("SHAPE", "&shape [*shape]"), "aliases"),
    "alias bomb": (bomb(12), "aliases"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_config_file(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, words = TEXTS[case]
    path = tmp_path / "architecture.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileFormatError, match=rf"(?s)architecture\.yaml.*({words})"):
        fastbilstm.load(WEIGHTS, config=path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("config", ["gone.json", "a\0b", 5, ["x"]], ids=repr)
def test_config_that_is_no_file(config):
    with pytest.raises((FileFormatError, TypeError), match="config"):
        fastbilstm.load(WEIGHTS, config=config)


def test_config_as_dict_text_and_file(tmp_path):
    expected = fastbilstm.load(mf.h5()).predict(mf.IDS)
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(mf.sequential()))
    twice = tmp_path / "written_with_json_dump.json"
    twice.write_text(json.dumps(json.dumps(mf.sequential())))
    for config in (mf.sequential(), json.dumps(mf.sequential()), path, str(path), twice):
        np.testing.assert_array_equal(fastbilstm.load(WEIGHTS, config=config).predict(mf.IDS), expected)


def test_missing_yaml_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingExtraError, match="pip install 'PyYAML"):
        fastbilstm.load(WEIGHTS, config="{class_name: Sequential")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_arithmetic_nodes_of_keras_3_are_told_from_layers(suffix, tmp_path):
    """An .h5 does not tell operations from layers of the same name."""
    pytest.importorskip("tensorflow", reason="live file: TensorFlow is not installed")
    import keras

    a = keras.Input((3,))
    b = keras.layers.Dense(3, name="b")(a)
    net = keras.Model(a, keras.layers.SpatialDropout1D(0.5)(keras.ops.expand_dims(a * b, 1)))
    net.save(tmp_path / f"m{suffix}")
    ours, x = fastbilstm.load(tmp_path / f"m{suffix}"), np.ones((2, 3), np.float32)
    assert {"ops.Multiply", "ops.ExpandDims"} <= {layer.class_name for layer in ours.layers}
    np.testing.assert_allclose(ours(x), net(x), rtol=1e-5)
    keras.Model(a, keras.ops.erfinv(a * b)).save(tmp_path / f"m{suffix}")
    with pytest.raises(UnsupportedLayerError, match=r"'erfinv(_\d+)?' \(keras\.ops\.Erfinv\)") as error:
        fastbilstm.load(tmp_path / f"m{suffix}")
    assert len(error.value.problems) == 1
