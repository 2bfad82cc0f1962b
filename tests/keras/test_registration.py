"""The `register_layer` call that a refusal prints: completed as it stands, it loads the file that was refused."""

import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest
from paths import ROOT

import fastbilstm
from fastbilstm import UnsupportedLayerError
from fastbilstm.cli.commands import main
from fastbilstm.keras.registration import count_inputs, skeleton
from fastbilstm.layers import REGISTRY, CustomLayer

ARCHIVE = ROOT / "tests" / "golden" / "contributed.zip"


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in [name for name, cls in REGISTRY.items() if issubclass(cls, CustomLayer)]:
        del REGISTRY[name]


def member(name):
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(name)


def renamed_h5(old, new):
    """attention.h5 with a class of another name."""
    buffer = io.BytesIO(member("attention.h5"))
    with h5py.File(buffer, "r+") as file:
        text = file.attrs["model_config"]
        text = text.decode() if isinstance(text, bytes) else text
        assert old in text
        file.attrs["model_config"] = text.replace(f'"class_name": "{old}"', f'"class_name": "{new}"')
    return buffer.getvalue()


def renamed_keras(new, package):
    """tcn3.keras with its TCN under another name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(member("tcn3.keras"))) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                (layer,) = [layer for layer in config["config"]["layers"] if layer["class_name"] == "TCN"]
                layer |= {"class_name": new, "registered_name": f"{package}>{new}"}
                content = json.dumps(config)
            if name == "model.weights.h5":
                with h5py.File(inner := io.BytesIO(content), "r+") as h5:
                    h5["layers"].move("tcn", new.lower())
                content = inner.getvalue()
            target.writestr(name, content)
    return buffer.getvalue()


def completed(text, call, output_shape):
    """Run the call that a refusal printed, with its two gaps filled."""
    shape = "lambda shape, config: shape,  # of the output, from that of the input"
    assert shape in text and "    call,  #" in text
    exec(text.replace(shape, "output_shape,"), {"fastbilstm": fastbilstm, "call": call, "output_shape": output_shape})


def test_h5():
    content = renamed_h5("SeqWeightedAttention", "AttLayer")
    with pytest.raises(UnsupportedLayerError) as caught:
        fastbilstm.load(content, outputs=["weighted"])
    (text,) = caught.value.registrations
    assert text in str(caught.value) and "'AttLayer'" in text
    assert "weights={'W': (3, 1), 'b': (1,)}" in text
    assert "options={'use_bias': True, 'return_attention': False}" in text
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.registrations == caught.value.registrations
    seen = {}

    def call(x, mask, weights, config):
        seen.update({role: array.shape for role, array in weights.items()})
        return x[:, 0]

    completed(text, call, lambda shape, config: (shape[0], shape[2]))
    x = np.ones((2, 4, 3), "f4")
    assert fastbilstm.load(content, outputs=["weighted"]).predict(x).shape == (2, 3)
    assert list(seen.values()) == [(3, 1), (1,)]


def test_keras_archive_with_layers_inside():
    content = renamed_keras("Net", "mine")
    with pytest.raises(UnsupportedLayerError, match="author") as caught:
        fastbilstm.load(content)
    (text,) = caught.value.registrations
    assert "'mine>Net'" in text and "'residual_block_0/conv1D_0/0': (3, 3, 2)" in text
    found = {}

    def call(x, mask, weights, config):
        found.update(weights)
        return x[:, -1, :2]

    completed(text, call, lambda shape, config: (shape[0], 2))
    fastbilstm.load(content).predict(np.ones((1, 4, 3), "f4"))
    layer = next(layer for layer in fastbilstm.load(member("tcn3.keras")).graph.layers if layer.weights)
    assert set(found) == {role for role in layer.weights if not role.startswith("residual_block_1/matching")}


def test_inspect_prints_it(tmp_path, capsys):
    file = tmp_path / "m.h5"
    file.write_bytes(renamed_h5("SeqWeightedAttention", "AttLayer"))
    assert main(["inspect", str(file)]) == 2
    assert "fastbilstm.register_layer(\n    'AttLayer'," in capsys.readouterr().err


def test_a_class_twice_is_described_once_and_only_where_it_is_kept():
    content = renamed_h5("AttentionWeightedAverage", "Mean")
    with pytest.raises(UnsupportedLayerError) as caught:
        fastbilstm.load(content)
    assert len(caught.value.problems) == 2 and len(caught.value.registrations) == 1
    fastbilstm.load(content, outputs=["weighted"])


@pytest.mark.parametrize(
    "nodes, count",
    [
        ([], 1),
        (None, 1),
        ([[["a", 0, 0, {}]]], 1),
        ([[["a", 0, 0, {}], ["b", 0, 1, {}]]], 2),
        ([["a", 0, 0, {"k": ["b", 0, 0]}]], 2),
        ([{"args": [[{"class_name": "__keras_tensor__"}, {"class_name": "__keras_tensor__"}]], "kwargs": {}}], 2),
        ([{"args": [{"class_name": "__keras_tensor__"}], "kwargs": {"k": {"class_name": "__keras_tensor__"}}}], 2),
    ],
)
def test_number_of_inputs(nodes, count):
    assert count_inputs(nodes) == count


def test_text():
    text = skeleton(
        "Own", {"name": "own", "a": 1, "W_regularizer": {}, "long": "x" * 99}, [("W", (3,)), ("W", (2,))], 2
    )
    assert text == (
        "fastbilstm.register_layer(\n    'Own',\n    call,  # call(x, mask, weights, config) -> array\n"
        "    weights={'W': (3,), 'W_2': (2,)},\n    options={'a': 1, 'long': ...},\n"
        "    output_shape=lambda shape, config: shape,  # of the output, from that of the input\n    n_inputs=2,\n)"
    )
