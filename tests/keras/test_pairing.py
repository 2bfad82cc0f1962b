"""Which array of a weights-only file belongs to which layer: by name, by order, or by class and number, as Keras does.

Live models skip where their Keras is not installed.
"""

import json

import h5py
import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError
from fastbilstm.tolerances import compare


def renamed(ids="ids", embedding="embedding", lstm="lstm", dense="dense"):
    """The model of make_files with other names of layers."""
    layers = mf.input_layer(ids), mf.embedding(embedding), mf.lstm(lstm), mf.dense(dense)
    return mf.sequential(*layers) | {"keras_version": mf.KERAS2}


EXPECTED = fastbilstm.load(mf.h5()).predict(mf.IDS)
OTHER = renamed("ids_1", "embedding_1", "lstm_1", "dense_1")


def note_of(model):
    (note,) = [note for note in model.graph.notes if "paired" in note]
    assert f"note: {note}" in "\n".join(summary(model))
    return note


def summary(model):
    lines = []
    model.summary(print_fn=lines.append)
    return lines


@pytest.mark.parametrize("config", [OTHER, renamed(lstm="forecast"), renamed(embedding="lstm", lstm="embedding_7")],
                         ids=["all", "one", "crossed"])  # fmt: skip
def test_by_order(config):
    model = fastbilstm.load(mf.h5(whole=False), config=config)
    np.testing.assert_array_equal(model.predict(mf.IDS), EXPECTED)
    assert note_of(model).endswith("by order; the file calls the layers embedding, lstm, dense")


def test_by_name_where_the_order_differs():
    arrays = dict(reversed(mf.weights().items()))
    model = fastbilstm.load(mf.h5(arrays=arrays, whole=False), config=renamed())
    np.testing.assert_array_equal(model.predict(mf.IDS), EXPECTED)
    assert note_of(model) == "weights are paired with layers by name"


def test_order_needs_as_many_layers_of_the_same_shapes():
    config = mf.sequential(mf.input_layer(), mf.embedding("e"), mf.lstm("l")) | {"keras_version": mf.KERAS2}
    with pytest.raises(
        FileFormatError, match="no weights for layer 'e'; the file holds weights for embedding, lstm, d"
    ):
        fastbilstm.load(mf.h5(whole=False), config=config)
    layers = mf.input_layer(), mf.embedding("e"), mf.lstm("l", units=5), mf.dense("d")
    with pytest.raises(FileFormatError, match=r"'l'.*\(4, 12\)"):
        fastbilstm.load(mf.h5(whole=False), config=mf.sequential(*layers) | {"keras_version": mf.KERAS2})
    with pytest.raises(FileFormatError, match="no weights for layer 'embedding_1'"):
        fastbilstm.load(mf.h5(whole=False), config=OTHER, outputs=["lstm_1"])


def test_groups_without_names_of_weights_are_empty(tmp_path):
    """TextVectorization breaks off save_weights: its group has no weight_names, the groups after it are missing."""

    def edit(file):
        names = [name.encode() for name in ("embedding", "lstm", "dense", "text", "zoo")]
        file.attrs["layer_names"] = names
        file.create_group("text")

    content = mf.h5(whole=False, edit=edit)
    model = fastbilstm.load(content, config=renamed())
    np.testing.assert_array_equal(model.predict(mf.IDS), EXPECTED)
    with pytest.raises(FileFormatError, match="no weights for layer 'zoo': the file breaks off before layer 'zoo'"):
        fastbilstm.load(content, config=renamed(dense="zoo"))
    with pytest.raises(FileFormatError, match="no weights for layer 'embedding_1': the file breaks off before"):
        fastbilstm.load(content, config=OTHER)


def test_text_vectorization_of_tf_keras(tmp_path):
    """The file that save_weights leaves. The vocabulary is in no file; here the architecture has it."""
    k = pytest.importorskip("tf_keras")
    tensorflow = pytest.importorskip("tensorflow")
    text = k.Input((1,), dtype="string", name="text")
    words = k.layers.TextVectorization(output_sequence_length=4, name="words")
    words.adapt(["a cat sat", "a cat", "a"])
    x = k.layers.Embedding(9, 3, mask_zero=True)(words(text))
    model = k.Model(text, k.layers.Dense(2)(k.layers.LSTM(2)(x)))
    with pytest.raises(NotImplementedError):
        model.save_weights(tmp_path / "model.h5")
    content = (tmp_path / "model.h5").read_bytes()
    with h5py.File(tmp_path / "model.h5") as file:
        assert "weight_names" not in file["words"].attrs
    config = json.loads(model.to_json())
    entry = next(entry for entry in config["config"]["layers"] if entry["config"]["name"] == "words")
    entry["config"]["vocabulary"] = words.get_vocabulary(include_special_tokens=False)
    x = np.array([["a cat"], ["sat the cat a"]])
    y = fastbilstm.load(content, config=config).predict(x)
    result = compare(y, model(tensorflow.constant(x)).numpy(), "float32")
    assert result.ok, result.message


def two_lstms(k):
    """Two layers of a class and of the same shapes: only the right pairing gives the right numbers."""
    layers = [k.Input((4, 3))] + [k.layers.LSTM(3, return_sequences=True) for _ in range(2)] + [k.layers.Dense(2)]
    model = k.Sequential(layers)
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(0, 0.5, array.shape) for array in model.get_weights()])
    return model


@pytest.mark.parametrize(
    "framework, file, how",
    [
        ("tf_keras", "model.h5", "by order"),
        ("tf_keras", "model.weights.h5", "by class and number"),
        ("keras", "model.weights.h5", "by class and number"),
    ],
)
def test_a_second_model_of_one_process(framework, file, how, tmp_path):
    """Its layers are lstm_1 and lstm_2 where the file says lstm and lstm_1; a name that both have is another layer."""
    k = pytest.importorskip(framework)
    k.backend.clear_session()
    first = two_lstms(k)
    first.save_weights(tmp_path / file)
    k.layers.LSTM(1)  # takes a number
    k.backend.clear_session()
    k.layers.LSTM(1)
    second = two_lstms(k)
    names = [{layer.name for layer in model.layers if "lstm" in layer.name} for model in (first, second)]
    assert len(names[0] & names[1]) == 1
    second.load_weights(tmp_path / file)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    model = fastbilstm.load(tmp_path / file, config=second.to_json())
    result = compare(model.predict(x), np.asarray(second(x)), "float32")
    assert result.ok, result.message
    assert how in note_of(model)


# ---- architectures inside a string ----------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", ["json", "yaml"])
@pytest.mark.parametrize("inner", ["json", "yaml"])
def test_an_architecture_inside_a_string(outer, inner, tmp_path):
    """model.to_yaml() written with yaml.dump, and the like."""
    yaml = pytest.importorskip("yaml")
    dump = {"json": json.dumps, "yaml": yaml.dump}
    path = tmp_path / "model.txt"
    path.write_text(dump[outer](dump[inner](renamed())))
    model = fastbilstm.load(mf.h5(whole=False), config=path)
    np.testing.assert_array_equal(model.predict(mf.IDS), EXPECTED)


@pytest.mark.parametrize("text", ["hello", '"hello"', "'\"hello\"'", "3", "- a"])
def test_a_text_that_is_no_architecture(text, tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "model.txt"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"model\.txt: is no JSON or YAML description of a model"):
        fastbilstm.load(mf.h5(whole=False), config=path)
