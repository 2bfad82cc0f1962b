"""Classes of other packages (CRF, attention, TCN) against what those packages answer; what is told apart and refused.

tests/golden/contributed.zip holds models with an output for each variant; tools/golden/contributed.py wrote them with
the packages' own sources.
"""

import io
import itertools
import json
import zipfile

import h5py
import numpy as np
import pytest
from paths import ROOT
from registered import forget_classes

import fastbilstm
from fastbilstm import FileFormatError, UnsupportedLayerError
from fastbilstm.graph import KerasVersion, Layer
from fastbilstm.layers import REGISTRY, find_contributed
from fastbilstm.layers.contributed import CLASSES, MODULES
from fastbilstm.layers.contributed.base import Contributed
from fastbilstm.tolerances import compare

ARCHIVE = ROOT / "tests" / "golden" / "contributed.zip"
FILES = ("crf.h5", "addons.h5", "attention.h5", "tcn.h5", "tcn344.h5", "tcn3.keras")
# Masked pairs lose 10000 from their scores: float32 keeps three digits of the rest, float64 keeps all.
SHORT_IN_FLOAT32 = ("window_masked.0",)


def member(name):
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(name)


def answers(file):
    with np.load(io.BytesIO(member(f"{file.partition('.')[0]}.npz"))) as npz:
        arrays = dict(npz)
    return arrays.pop("x"), arrays


VARIANTS = [(file, name) for file in FILES for name in answers(file)[1]]
MODELS = {}


def predicted(file, dtype):
    if (file, dtype) not in MODELS:
        MODELS[file, dtype] = fastbilstm.load(member(file), dtype=dtype)
    x, expected = answers(file)
    y = MODELS[file, dtype].predict(x)
    y = y if isinstance(y, list) else [y]
    assert len(y) == len(expected)
    return dict(zip(expected, y))


@pytest.fixture(autouse=True)
def forget():
    """Each test begins with no class registered."""
    yield
    forget_classes()


# ---- what the packages answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("file, name", VARIANTS)
def test_answers_of_the_package(file, name, dtype):
    y, k = predicted(file, dtype)[name], answers(file)[1][name]
    assert y.shape == k.shape and y.dtype.kind == k.dtype.kind
    if dtype == "float64" and name in SHORT_IN_FLOAT32:
        assert np.max(np.abs(y - k)) < 1e-3
        return
    result = compare(y, k, "float32")
    assert result.ok, result.message


def test_every_class_has_answers():
    read = {layer.class_name for file in FILES for _, layer in fastbilstm.load(member(file)).graph.walk()}
    known = {key for rows in CLASSES.values() for key, _ in rows}
    assert known <= read


@pytest.mark.parametrize("file", FILES)
def test_rows_do_not_depend_on_the_batch(file):
    model = fastbilstm.load(member(file))
    x, expected = answers(file)
    whole = predicted(file, "float32")
    for row in range(len(x)):
        alone = model.predict(x[row : row + 1])
        alone = alone if isinstance(alone, list) else [alone]
        for name, y in zip(expected, alone):
            result = compare(y, whole[name][row : row + 1], "float32")
            assert result.ok, f"{name}: {result.message}"


@pytest.mark.parametrize("file", FILES)
def test_converted(file, tmp_path):
    source = tmp_path / file
    source.write_bytes(member(file))
    fastbilstm.convert(source, tmp_path / "m.fbl")
    x, expected = answers(file)
    model = fastbilstm.load(tmp_path / "m.fbl")
    y = model.predict(x)
    for name, found in zip(expected, y if isinstance(y, list) else [y]):
        assert np.array_equal(found, predicted(file, "float32")[name]), name


# ---- by definition: all paths of tags, one by one -------------------------------------------------------------------


def layer_of(key, config, weights, framework="tf_keras", version=(2, 15)):
    layer = REGISTRY[key](Layer("layer", key, config, dict.fromkeys(weights, "")), KerasVersion(framework, version))
    layer.dtype, layer.weights = np.dtype("float64"), weights
    return layer


def tags_of(layer, x, mask=None):
    from fastbilstm.layers import Tensor

    return layer.call([Tensor(x, mask)], {}, None)[0].value


CONTRIB = {"units": 3, "learn_mode": "join", "test_mode": "viterbi", "use_boundary": True, "use_bias": True}
CONTRIB["activation"] = "linear"


def contrib_weights(rng, units=3, features=2):
    shapes = {"kernel": (features, units), "chain_kernel": (units, units), "bias": (units,)}
    shapes |= {"left_boundary": (units,), "right_boundary": (units,)}
    return {role: rng.standard_normal(shape) for role, shape in shapes.items()}


def test_keras_contrib_right_boundary_does_not_count_behind_padding():
    """With padding at the end, `right_boundary` counts nowhere; with padding in front, at the last padded timestep,
    whose energy does not count: so never."""
    rng = np.random.default_rng(1)
    weights = contrib_weights(rng)
    x = rng.standard_normal((2, 4, 2))
    mask = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], bool)
    y = tags_of(layer_of("keras_contrib.CRF", CONTRIB, weights), x, mask)
    found = []
    for right in ([50.0, 0.0, -50.0], [-50.0, 0.0, 50.0]):
        layer = layer_of("keras_contrib.CRF", CONTRIB, {**weights, "right_boundary": np.array(right)})
        assert np.array_equal(y, tags_of(layer, x, mask))
        found.append(tags_of(layer, x))
    assert not np.array_equal(*found)


@pytest.mark.parametrize("seed", range(8))
def test_keras_contrib_ends_in_tag_0(seed):
    """Without a mask: the path of lowest energy to tag 0 behind the end gives t, that to t gives the tags."""
    rng = np.random.default_rng(seed)
    w = contrib_weights(rng)
    x = rng.standard_normal((1, 4, 2))
    e = x[0] @ w["kernel"] + w["bias"]
    e[0] += w["left_boundary"]
    e[-1] += w["right_boundary"]

    def best(target):
        def energy(path):
            steps = sum(e[t, tag] for t, tag in enumerate(path))
            return steps + sum(w["chain_kernel"][a, b] for a, b in itertools.pairwise((*path, target)))

        return min(itertools.product(range(3), repeat=4), key=energy)

    expected = best(best(0)[-1])
    y = tags_of(layer_of("keras_contrib.CRF", CONTRIB, w), x)
    assert tuple(np.argmax(y[0], axis=-1)) == expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [1, 2, 4])
def test_addons_by_all_paths(seed, length):
    """The highest sum over the row's own timesteps; padding gets tag 0."""
    rng = np.random.default_rng(seed)
    w = {"chain_kernel": rng.standard_normal((3, 3)), "left_boundary": rng.standard_normal(3)}
    w["right_boundary"] = rng.standard_normal(3)
    config = {"units": 3, "use_boundary": True, "use_kernel": False}
    x = rng.standard_normal((1, 4, 3))

    def score(path):
        ends = w["left_boundary"][path[0]] + w["right_boundary"][path[-1]]
        steps = sum(x[0, t, tag] for t, tag in enumerate(path))
        return ends + steps + sum(w["chain_kernel"][a, b] for a, b in itertools.pairwise(path))

    expected = max(itertools.product(range(3), repeat=length), key=score) + (0,) * (4 - length)
    mask = np.arange(4)[np.newaxis] < length
    assert tuple(tags_of(layer_of("tensorflow_addons.CRF", config, w), x, mask)[0]) == expected


# ---- what is told apart, and what is refused ------------------------------------------------------------------------


def changed(file, change, rename=None):
    """The file with its architecture changed, and its arrays renamed."""
    buffer = io.BytesIO(member(file))
    with h5py.File(buffer, "r+") as h5:
        model = json.loads(h5.attrs["model_config"])
        change(model["config"])
        h5.attrs["model_config"] = json.dumps(model)
        if rename:
            rename(h5["model_weights"])
    return buffer.getvalue()


def layer_config(config, name):
    return next(layer["config"] for layer in config["layers"] if layer["name"] == name)


def test_a_registered_class_wins():
    def mean(x, mask, weights, config):
        return np.zeros((len(x), x.shape[2]), x.dtype)

    fastbilstm.register_layer(
        "SeqWeightedAttention",
        mean,
        weights=lambda config: ["W", "b"] if config["use_bias"] else ["W"],
        options=("use_bias", "return_attention"),
        output_shape=lambda shape, config: (shape[0], shape[2]),
    )
    model = fastbilstm.load(member("attention.h5"), outputs=["weighted"])
    assert not model.predict(answers("attention.h5")[0]).any()


def test_keras_attention_is_keras_own():
    assert find_contributed("Attention", {"use_scale": True, "score_mode": "dot"}) is None
    assert find_contributed("Attention", {"units": 3}) == "attention4.Attention"
    assert find_contributed("Attention", {"units": 3, "score": "luong"}) == "attention.Attention"


@pytest.mark.parametrize(
    "name, config, key",
    [
        ("CRF", {"units": 3}, None),
        ("Addons>CRF", dict.fromkeys(("units", "use_boundary", "use_kernel", "chain_initializer")),
         "tensorflow_addons.CRF"),
        ("mine>AttentionWeightedAverage", {}, "deepmoji.AttentionWeightedAverage"),
        ("CRF", {"chain_initializer": "orthogonal"}, "tf2crf.CRF"),
        ("CRF", {"chain_initializer": {"class_name": "Orthogonal", "config": {}}}, None),
        ("AttentionWithContext", {"bias": True}, None),
        ("AttLayer", {"attention_dim": 3}, None),
        ("LSTM", {"units": 3}, None),
    ],
)  # fmt: skip
def test_told_apart_by_name_and_options(name, config, key):
    assert find_contributed(name, config) == key


def test_other_arrays_are_refused():
    """Another class of the same name and options: its arrays are called otherwise."""

    def rename(groups):
        group = groups["weighted"]
        names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["weight_names"]]
        group.attrs["weight_names"] = [name.replace("_W", "_V") for name in names]
        inner = next(iter(group.values()))
        for name in list(inner):
            inner.move(name, name.replace("_W", "_V"))

    content = changed("attention.h5", lambda config: None, rename)
    with pytest.raises(FileFormatError, match=r"weighted'.*names its arrays .*_V.*register_layer"):
        fastbilstm.load(content, outputs=["weighted"])


@pytest.mark.parametrize(
    "file, layer, options, text",
    [
        ("tcn.h5", "batch_norm", {"use_weight_norm": True}, "use_weight_norm=True is not possible with use_batch_norm"),
        ("tcn.h5", "causal", {"return_state": True}, "return_state"),
        ("tcn.h5", "causal", {"activation": "tanh", "go_backwards": None}, "before 3.5"),
        ("tcn.h5", "filters", {"use_skip_connections": True}, "added up"),
        ("tcn.h5", "filters", {"dilations": [1, 2, 4]}, "does not fit dilations"),
        ("tcn.h5", "causal", {"nb_stacks": 10**9}, "nb_stacks=1000000000"),
        ("tcn.h5", "causal", {"use_batch_norm": True, "use_layer_norm": True}, "use_batch_norm"),
        ("crf.h5", "join", {"test_mode": "best"}, "test_mode='best'"),
        ("crf.h5", "join", {"own_option": 3}, "own_option='3'"),
        ("attention.h5", "additive", {"attention_type": "scaled"}, "attention_type='scaled'"),
        ("attention.h5", "luong", {"score": "dot"}, "score='dot'"),
    ],
)
def test_options_are_refused_by_name(file, layer, options, text):
    content = changed(file, lambda config: layer_config(config, layer).update(options))
    with pytest.raises(UnsupportedLayerError, match=text):
        fastbilstm.load(content, outputs=[layer])


def test_a_weight_normalization_that_was_never_called_is_refused():
    def unset(groups):
        groups["weight_norm/weight_norm/residual_block_1/conv1D_0/initialized:0"][...] = False

    with pytest.raises(FileFormatError, match=r"'weight_norm' .*saved before its first call"):
        fastbilstm.load(changed("tcn344.h5", lambda config: None, unset))


def test_masks_of_old_self_attention_are_refused():
    """keras-self-attention changed what a mask does, and its files do not tell the version."""

    def older(groups):
        groups.file.attrs["keras_version"] = groups.attrs["keras_version"] = "2.2.4"

    content = changed("attention.h5", lambda config: None, older)
    fastbilstm.load(content, outputs=["additive"])
    with pytest.raises(FileFormatError, match=r"additive_masked.*versions of keras-self-attention"):
        fastbilstm.load(content, outputs=["additive_masked"])


def test_wide_blocks_are_compared_before_they_are_made():
    """The identity in the place of a convolution that is not there is made after all shapes were compared."""
    content = changed("tcn.h5", lambda config: layer_config(config, "causal").update(nb_filters=10**8))
    with pytest.raises(FileFormatError, match="causal.*shape"):
        fastbilstm.load(content, outputs=["causal"])


def test_masks_do_not_count_in_tcn():
    """As in tf_keras and Keras 3, where the mask ends at it, too."""

    def masked(config):
        for layer in config["layers"]:
            if layer["name"] == "causal":
                layer["inbound_nodes"] = [[["masking", 0, 0, {}]]]

    x, expected = answers("tcn.h5")
    model = fastbilstm.load(changed("tcn.h5", masked), outputs=["causal"])
    assert [layer.class_name for layer in model.graph.layers] == ["Masking", "keras_tcn.TCN"]
    assert compare(model.predict(x), expected["causal.0"], "float32").ok


@pytest.mark.parametrize("name", ["plain", "tf2crf"])
def test_the_chain_is_no_output(name):
    """It has no rows; the tags do."""

    def with_chain(config):
        config["output_layers"] = [[name, 0, 0], [name, 0, 3]]

    content = changed("addons.h5", with_chain)
    with pytest.raises(UnsupportedLayerError, match=rf"'{name}'.*output 1 of the model.*outputs=\['{name}'\]"):
        fastbilstm.load(content)
    x, expected = answers("addons.h5")
    many = np.tile(x, (30, 1, 1))
    y = fastbilstm.load(content, outputs=[name]).predict(many)
    assert np.array_equal(y, np.tile(expected[f"{name}.0"], (30, 1)))


def test_the_wrapper_of_addons_is_refused_with_the_way_out():
    buffer = io.BytesIO(member("addons.h5"))
    with h5py.File(buffer, "r+") as h5:
        model = json.loads(h5.attrs["model_config"])
        h5.attrs["model_config"] = json.dumps({**model, "class_name": "Addons>CRFModelWrapper"})
    with pytest.raises(UnsupportedLayerError, match=r"CRFModelWrapper\).*keras.Model\(base.input, crf"):
        fastbilstm.load(buffer.getvalue())


def test_tcn_in_archives_of_tf_keras():
    """tf.keras calls the layers inside by their classes, and has them in lists."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(member("tcn3.keras"))) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "model.weights.h5":
                with h5py.File(inner := io.BytesIO(content), "r+") as h5:
                    tcn = h5["layers/tcn"]
                    for block, new in (
                        ("residual_block_0", "residual_block"),
                        ("residual_block_1", "residual_block_1"),
                    ):
                        tcn.move(block, f"residual_blocks/{new}")
                        group = tcn[f"residual_blocks/{new}"]
                        group.move("conv1D_0", "layers/conv1d")
                        group.move("conv1D_1", "layers/conv1d_1")
                        for norm in ("batch_normalization", "batch_normalization_1"):
                            group.move(f"batch_norm_layers/{norm}", f"layers/{norm}")
                        if "matching_conv1D" in group:
                            group.move("matching_conv1D", "shape_match_conv")
                        group.require_group("shape_match_conv/vars")
                content = inner.getvalue()
            target.writestr(name, content)
    x, expected = answers("tcn3.keras")
    y = fastbilstm.load(buffer.getvalue()).predict(x)
    assert compare(y, expected["batch_norm.0"], "float32").ok


def test_every_class_names_its_source():
    REGISTRY.complete()
    classes = {name: cls for name, cls in REGISTRY.items() if issubclass(cls, Contributed)}
    assert set(classes) == {key for rows in CLASSES.values() for key, _ in rows}
    for name, cls in classes.items():
        assert "https://github.com/" in cls.source and cls.__doc__, name
    assert {f"contributed.{cls.__module__.rpartition('.')[2]}" for cls in classes.values()} == set(MODULES)
