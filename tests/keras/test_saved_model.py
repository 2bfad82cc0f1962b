"""SavedModel folders and TensorFlow checkpoints, as live tf_keras writes them: the answers of their .h5 twins.

FASTBILSTM_SAVED_MODELS=200 writes so many models of the golden cases of tf_keras, by default 12; FASTBILSTM_FUZZ=5000
so many mutations of each file.
"""

import os
import shutil
import zipfile

import numpy as np
import pytest
from cases import CASES

import fastbilstm
from fastbilstm import FastBiLSTMError, FileFormatError, UnsupportedLayerError

WHOLE = (".h5", ".keras")
OF_TF_KERAS = [case for case in CASES if case.writer.startswith("tf_keras 2.21") and case.file.endswith(WHOLE)]
SAMPLE = OF_TF_KERAS[5 :: max(1, len(OF_TF_KERAS) // int(os.environ.get("FASTBILSTM_SAVED_MODELS", 12)))]


@pytest.fixture(scope="module")
def k():
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    return pytest.importorskip("tf_keras", reason="needs tf_keras")


def listed(y):
    return list(y.values()) if isinstance(y, dict) else y if isinstance(y, list) else [y]


def same(first, second, x):
    first.reset_states()
    second.reset_states()
    for a, b in zip(listed(first.predict(x)), listed(second.predict(x)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_twins_of_golden_models(case, k, tmp_path):
    args = case.load_args(tmp_path)
    if "config" in args or "outputs" in args:
        pytest.skip("needs other files, or is cut")
    try:
        live = k.models.load_model(args["path"], compile=False)
        live.save(tmp_path / "folder", save_format="tf")
    except Exception as error:
        pytest.skip(f"tf_keras cannot write it: {type(error).__name__}")
    twin, x = fastbilstm.load(args["path"]), case.inputs[0]
    found = fastbilstm.load(tmp_path / "folder")
    assert "tf_keras" in found.keras
    same(found, twin, x)
    if not any(word in case.name for word in ("lookup", "vectorization", "text")):
        live.save_weights(tmp_path / "weights" / "w")
        same(fastbilstm.load(tmp_path / "weights", config=live.to_json()), twin, x)


def small(k, units=3):
    return k.Sequential(
        [k.layers.Embedding(7, 4, mask_zero=True, input_shape=(None,)), k.layers.LSTM(units), k.layers.Dense(2)]
    )


IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 3, 1]])


def test_each_way_to_name_it(k, tmp_path):
    """The folder, its saved_model.pb, a zip with and without a folder in it, bytes of a zip; convert and inspect."""
    model = small(k)
    model.save(tmp_path / "m", save_format="tf")
    expected = model.predict(IDS, verbose=0)
    shutil.make_archive(tmp_path / "flat", "zip", tmp_path / "m")
    shutil.make_archive(tmp_path / "deep", "zip", tmp_path, "m")
    paths = [tmp_path / "m", tmp_path / "m" / "saved_model.pb", tmp_path / "flat.zip", tmp_path / "deep.zip"]
    for path in [*paths, (tmp_path / "deep.zip").read_bytes()]:
        np.testing.assert_allclose(fastbilstm.load(path).predict(IDS), expected, atol=1e-6)
    fastbilstm.convert(tmp_path / "m", tmp_path / "m.fbl")
    np.testing.assert_allclose(fastbilstm.load(tmp_path / "m.fbl", check=True).predict(IDS), expected, atol=1e-6)


def test_each_way_to_name_a_checkpoint(k, tmp_path):
    model = small(k)
    model.save_weights(tmp_path / "c" / "w")
    expected = model.predict(IDS, verbose=0)
    for name in ("w", "w.index", "w.data-00000-of-00001", ""):
        found = fastbilstm.load(tmp_path / "c" / name, config=model.to_json())
        np.testing.assert_allclose(found.predict(IDS), expected, atol=1e-6)
        assert "weights are paired with layers by order, as in a TensorFlow checkpoint" in found.graph.notes
    with pytest.raises(FileFormatError, match="holds weights and no architecture"):
        fastbilstm.load(tmp_path / "c" / "w")
    other = k.Sequential([k.layers.Embedding(7, 4, input_shape=(None,)), k.layers.LSTM(3)])
    with pytest.raises(FileFormatError, match="holds 3 layers with weights, the architecture 2"):
        fastbilstm.load(tmp_path / "c" / "w", config=other.to_json())
    wide = small(k, 4)
    with pytest.raises(FileFormatError, match="shape"):
        fastbilstm.load(tmp_path / "c" / "w", config=wide.to_json())


def test_a_checkpoint_of_names(k, tmp_path):
    """TensorFlow 1: keys are names of variables; those of an optimizer lie beside them."""
    import tensorflow as tf

    model = small(k)
    arrays = {w.name.split(":")[0]: w.numpy() for w in model.weights}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = {name: tf.compat.v1.get_variable(name, initializer=array) for name, array in arrays.items()}
        lstm = next(name for name in made if name.endswith("lstm_cell/kernel") or "lstm_cell" in name)
        tf.compat.v1.get_variable(f"{lstm}/Adam", initializer=arrays[lstm] * 0)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "old" / "model.ckpt"), write_meta_graph=False)
    for name in ("model.ckpt", ""):
        found = fastbilstm.load(tmp_path / "old" / name, config=model.to_json())
        np.testing.assert_allclose(found.predict(IDS), model.predict(IDS, verbose=0), atol=1e-6)


def test_nested_shared_and_renamed_layers(k, tmp_path):
    """A model in a model, called twice, a layer called twice, several shards, BatchNormalization inside."""
    inner_in = k.Input((None, 4))
    both = k.layers.Bidirectional(k.layers.GRU(3))
    inner = k.Model(inner_in, k.layers.BatchNormalization()(both(inner_in)), name="inner")
    a, b = k.Input((5, 4)), k.Input((5, 4))
    dense = k.layers.Dense(2, name="shared")
    model = k.Model([a, b], k.layers.Concatenate()([dense(inner(a)), dense(inner(b))]))
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0, 1, w.shape)) + 0.1 for w in model.get_weights()])
    x = [rng.standard_normal((2, 5, 4)).astype("f4") for _ in range(2)]
    model.save(tmp_path / "m", save_format="tf")
    model.save_weights(tmp_path / "c" / "w")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(fastbilstm.load(tmp_path / "m").predict(x), expected, atol=2e-6)
    found = fastbilstm.load(tmp_path / "c", config=model.to_json())
    np.testing.assert_allclose(found.predict(x), expected, atol=2e-6)


@pytest.mark.parametrize("mode", ["int", "multi_hot"])
def test_vocabularies(mode, k, tmp_path):
    """Of TextVectorization: adapted, or given; and of StringLookup and IntegerLookup."""
    texts = np.array([["the cat sat"], ["the dog"], ["a cat and an emu"]])
    for number, given in enumerate([None, ["the", "cat", "dog"]]):
        text = k.layers.TextVectorization(output_mode=mode, vocabulary=given)
        if given is None:
            text.adapt(texts)
        model = k.Sequential([k.Input((1,), dtype="string"), text])
        model.save(tmp_path / f"{mode}{number}", save_format="tf")
        y = fastbilstm.load(tmp_path / f"{mode}{number}").predict(texts)
        np.testing.assert_array_equal(y, model.predict(texts, verbose=0))
    for layer, x in (
        (k.layers.StringLookup(output_mode=mode), np.array([["b"], ["a"], ["b"]])),
        (k.layers.IntegerLookup(output_mode=mode), np.array([[7], [9], [7]])),
    ):
        layer.adapt(x)
        model = k.Sequential([k.Input((1,), dtype="string" if x.dtype.kind == "U" else "int64"), layer])
        folder = tmp_path / f"{mode}{layer.name}"
        model.save(folder, save_format="tf")
        np.testing.assert_array_equal(fastbilstm.load(folder).predict(x), model.predict(x, verbose=0))


def test_what_is_refused(k, tmp_path):
    import tensorflow as tf

    class Own(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.ones((1, 3), "f4"))
    own.save(tmp_path / "own", save_format="tf")
    with pytest.raises(UnsupportedLayerError, match="a subclassed model has no architecture"):
        fastbilstm.load(tmp_path / "own")
    own.save_weights(tmp_path / "c" / "w")
    with pytest.raises(FileFormatError, match="its layers are attributes .*as of a subclassed model"):
        fastbilstm.load(tmp_path / "c", config=small(k).to_json())
    module = tf.Module()
    module.v = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "plain"))
    with pytest.raises(FileFormatError, match=r"without a Keras model in it, as model.export\(\)"):
        fastbilstm.load(tmp_path / "plain")


def test_damage_is_seen(k, tmp_path):
    """A byte of a weight, a shard cut short or missing, an index of another kind."""
    model = small(k)
    model.save(tmp_path / "m", save_format="tf")
    variables = tmp_path / "m" / "variables"
    data, index = variables / "variables.data-00000-of-00001", variables / "variables.index"
    content = data.read_bytes()
    position = content.index(model.get_weights()[0].tobytes())
    flipped = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    cases = {"checksum of its bytes is wrong": flipped, "beyond the end": content[: position + 8]}
    for message, spoiled in cases.items():
        data.write_bytes(spoiled)
        with pytest.raises(FileFormatError, match=message):
            fastbilstm.load(tmp_path / "m")
    data.unlink()
    with pytest.raises(FileFormatError, match="is missing"):
        fastbilstm.load(tmp_path / "m")
    data.write_bytes(content)
    kept = index.read_bytes()
    index.write_bytes(kept[:-1])
    with pytest.raises(FileFormatError, match="no index of a TensorFlow checkpoint, or cut off"):
        fastbilstm.load(tmp_path / "m")


def blocks_of(index):
    """(offset, size) of each block of an index."""
    from fastbilstm.keras.tensorflow import table

    view, found = memoryview(index), []
    footer = view[-table._FOOTER :]
    _, _, position = table._handle(footer, 0, "index")
    offset, size, _ = table._handle(footer, position, "index")
    for _, handle in table._entries(view[offset : offset + size], table.Budget(len(index)), "index"):
        found.append(table._handle(handle, 0, "index")[:2])
    return [*found, (offset, size)]


def test_mutations(k, tmp_path):
    """Bytes of the program, its metadata and the index, also with checksums put right: our error, or an answer."""
    from fastbilstm.keras.tensorflow import crc32c

    model = small(k)
    model.save(tmp_path / "m", save_format="tf")
    rng = np.random.default_rng(0)
    variables = [f"variables/variables.{end}" for end in ("index", "data-00000-of-00001")]
    for name in ("saved_model.pb", "keras_metadata.pb", *variables):
        path = tmp_path / "m" / name
        content = path.read_bytes()
        blocks = blocks_of(content) if name.endswith(".index") else []
        for number in range(int(os.environ.get("FASTBILSTM_FUZZ", 60))):
            spoiled = bytearray(content)
            edge = len(spoiled) if number % 2 else min(4096, len(spoiled))
            for _ in range(rng.integers(1, 5)):
                spoiled[rng.integers(edge)] = rng.integers(256)
            for offset, size in blocks if number % 3 else ():
                checksum = crc32c.masked(crc32c.crc32c(bytes(spoiled[offset : offset + size + 1])))
                spoiled[offset + size + 1 : offset + size + 5] = checksum.to_bytes(4, "little")
            path.write_bytes(spoiled)
            try:
                fastbilstm.load(tmp_path / "m").predict(IDS)
            except FastBiLSTMError:
                pass
        path.write_bytes(content)


def test_zips_that_leave_their_folder(k, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("../saved_model.pb", b"x")
    with pytest.raises(FileFormatError, match="leaves the archive"):
        fastbilstm.load(tmp_path / "m.zip")


def test_checksums():
    """RFC 3720, B.4, and long contents in pieces."""
    from fastbilstm.keras.tensorflow.crc32c import crc32c

    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E and crc32c(b"") == 0 and crc32c(b"123456789") == 0xE3069283
    content = np.random.default_rng(0).bytes(300_001)
    for cut in (0, 1, 3, 4, 65_536, 65_537, 200_000):
        assert crc32c(content[cut:], crc32c(content[:cut])) == crc32c(content)
