"""The self-check of nets that magnify rounding errors: right files pass, a single wrong weight does not."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError, tolerances
from fastbilstm.converted import fbl_file, self_check


def wild(seed, scale=0.8, ids=False):
    """LSTM(64) over sequences with weights N(0, scale), Dense(20, softmax): errors grow from timestep to timestep."""
    rng = np.random.default_rng(seed)
    shapes = {"lstm": mf.lstm_weights(8, 64), "dense": {"kernel": (64, 20), "bias": (20,)}}
    arrays = {
        name: {role: rng.normal(0, scale, shape).astype(np.float32) for role, shape in roles.items()}
        for name, roles in shapes.items()
    }
    layers = [mf.lstm(units=64, return_sequences=True), mf.dense(units=20, activation="softmax")]
    first = [mf.input_layer("x", (None, 40, 8), "float32")]
    if ids:
        first = [mf.input_layer("ids", (None, 40)), mf.embedding(input_dim=30, output_dim=8, mask_zero=False)]
        arrays = {"embedding": {"embeddings": rng.normal(0, 1, (30, 8)).astype(np.float32)}} | arrays
    return mf.h5(mf.sequential(*first, *layers), arrays)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_right_files_pass(seed, ids, tmp_path):
    model = fastbilstm.convert(mf_path(tmp_path, wild(seed, ids=ids)), tmp_path / "m.fbl")
    assert fastbilstm.load(tmp_path / "m.fbl", check=True).self_check().ok
    assert fastbilstm.load(tmp_path / "m.fbl", backend="numpy", check=True).self_check().ok
    assert model.vector.computed_by == self_check.SPECIFICATION


def mf_path(folder, content):
    (folder / "m.h5").write_bytes(content)
    return folder / "m.h5"


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_one_wrong_weight_fails(seed, ids, tmp_path):
    """The largest of a kernel with another sign, and one of the recurrent kernel that became 0."""
    model = fastbilstm.convert(mf_path(tmp_path, wild(seed, ids=ids)), tmp_path / "m.fbl")
    for role in ("kernel", "recurrent_kernel"):
        name = next(name for name in model._tensors if name.endswith(f"lstm/{role}"))
        spoiled = np.array(model._tensors[name])
        at = np.unravel_index(np.argmax(np.abs(spoiled)), spoiled.shape)
        spoiled[at] = -spoiled[at] if role == "kernel" else 0
        wrong = fastbilstm.Model(model.graph, {**model._tensors, name: spoiled})
        assert not self_check.check(wrong, model.vector).ok


def test_tame_nets_note_nothing():
    model = mf.floats(timesteps=6)
    vector = self_check.make(model.graph, model._tensors)
    assert vector.roundings == () and vector.computed_by == self_check.SPECIFICATION


def test_smaller_floats_are_tried(tmp_path):
    """Of a net that is steady near zero alone."""
    model = fastbilstm.load(wild(1, 0.55))
    plan = model._plan
    first = next(self_check.made_inputs(plan))
    vector = self_check.make(model.graph, model._tensors)
    assert np.abs(vector.inputs[0]).max() <= np.abs(first[0]).max()
    assert not vector.roundings or max(vector.roundings) <= tolerances.MOST_ROUNDING


def test_what_the_file_says():
    model = mf.floats(timesteps=6)
    vector = fbl_file.Vector(
        *((v.inputs, v.outputs) for v in [self_check.make(model.graph, model._tensors)]).__next__(), "x", (1e-5,)
    )
    content = fbl_file.to_bytes(model.graph, model._tensors, vector)
    assert fbl_file.read(content, "m")[2].roundings == (1e-5,)
    for bad in ((-1.0,), (2.0,), (1e-5, 1e-5), (float("nan"),)):
        with pytest.raises(FileFormatError, match="self-check vector is malformed"):
            fbl_file.read(fbl_file.to_bytes(model.graph, model._tensors, vector.replace(roundings=bad)), "m")


def test_the_message_names_the_worst_output():
    """Of two outputs the one that is out of its tolerance, though the other has the larger absolute error."""
    good = tolerances.compare(np.array([1e6 + 1]), np.array([1e6]))
    bad = tolerances.compare(np.array([1.001]), np.array([1.0]))
    message = self_check.Check(False, "x", (good, bad)).message
    assert good.ok and not bad.ok and "1.001" in message
