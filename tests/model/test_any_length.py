"""`any_length=True`: sequences of other timesteps than the model fixes, as Keras 3 takes them."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError, InputError
from fastbilstm.cli.commands import main

RNG = np.random.default_rng(3)
X = np.array([[[1.0], [2.0]]], np.float32)
ONE = {
    "lstm": {
        "kernel": np.array([[0.5, 0.5, 1, 0.5]], np.float32),
        "recurrent_kernel": np.array([[0.1, 0.2, 0.3, 0.4]], np.float32),
        "bias": np.zeros(4, np.float32),
    }
}


def one(timesteps=4):
    """LSTM(1) whose state after the steps 1, 2 is known."""
    return mf.h5(mf.sequential(mf.input_layer("x", (None, timesteps, 1), "float32"), mf.lstm(units=1)), ONE)


def test_two_steps_of_four(tmp_path):
    model = fastbilstm.load(one(), any_length=True)
    assert model.inputs[0].shape == (None, None, 1)
    np.testing.assert_allclose(model.predict(X), [[0.5924925]], atol=2e-7)
    for steps in (1, 3, 9):
        x = RNG.standard_normal((2, steps, 1)).astype(np.float32)
        np.testing.assert_array_equal(model.predict(x), fastbilstm.load(one(None)).predict(x))
    # The converted file keeps it, and a converted file takes the option, too.
    fastbilstm.convert(one(), tmp_path / "any.fbl", any_length=True)
    fastbilstm.convert(one(), tmp_path / "four.fbl")
    for path, options in (("any.fbl", {}), ("four.fbl", {"any_length": True})):
        found = fastbilstm.load(tmp_path / path, check=True, **options)
        np.testing.assert_allclose(found.predict(X), [[0.5924925]], atol=2e-7)


@pytest.mark.parametrize("x", [X, [np.ones(9)]], ids=["two", "nine"])
def test_the_error_names_the_option(x):
    with pytest.raises(InputError, match=r"any_length=True.*stream\(\)"):
        fastbilstm.load(one()).predict(x)


def test_other_wrong_shapes_do_not_name_it():
    for x in (np.ones((1, 4, 3)), np.ones((1, 4, 1, 2))):
        with pytest.raises(InputError) as caught:
            fastbilstm.load(one()).predict(x)
        assert "any_length" not in str(caught.value)


def test_a_decoder_is_called_token_by_token():
    """Its states are inputs with an axis 1 of features, which stays."""
    layers = (
        mf.input_layer("ids", (None, 5), "int32", functional=True),
        mf.input_layer("h", (None, 3), "float32", functional=True),
        mf.input_layer("c", (None, 3), "float32", functional=True),
        mf.embedding(inbound=["ids"], mask_zero=False),
        mf.lstm(inbound=["embedding", "h", "c"], return_state=True),
        mf.dense(inbound=["lstm"]),
    )
    config = mf.functional(*layers, inputs=("ids", "h", "c"))
    config["config"]["output_layers"] = [["dense", 0, 0], ["lstm", 0, 1], ["lstm", 0, 2]]
    content = mf.h5(config, mf.weights())
    model = fastbilstm.load(content, any_length=True)
    assert [given.shape for given in model.inputs] == [(None, None), (None, 3), (None, 3)]
    ids, states = np.array([[1, 4, 2, 2, 6]]), [np.zeros((1, 3), np.float32)] * 2
    whole = fastbilstm.load(content).predict([ids, *states])
    for token in ids[0]:
        y, *states = model.predict([[[token]], *states])
    np.testing.assert_allclose(y, whole[0], atol=1e-6)
    np.testing.assert_allclose(states, whole[1:], atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        (mf.layer("Flatten", "flat"), mf.dense(), {"dense": {"kernel": (10, 2), "bias": (2,)}}),
        (mf.layer("Reshape", "fold", target_shape=[10]), mf.dense(), {"dense": {"kernel": (10, 2), "bias": (2,)}}),
    ],
    ids=["Flatten", "Reshape"],
)
def test_a_model_that_needs_its_timesteps_is_refused(layers):
    *layers, shapes = layers
    config = mf.sequential(mf.input_layer("x", (None, 5, 2), "float32"), *layers)
    with pytest.raises(FileFormatError, match=r"any_length=True: the model needs the timesteps.*layer '(dense|fold)'"):
        fastbilstm.load(mf.h5(config, mf.weights_of(**shapes)), any_length=True)


def test_features_are_no_timesteps():
    config = mf.sequential(mf.input_layer("x", (None, 5), "float32"), mf.dense())
    with pytest.raises(FileFormatError, match="any_length=True"):
        fastbilstm.load(mf.h5(config, mf.weights_of(dense={"kernel": (5, 2), "bias": (2,)})), any_length=True)


def test_a_model_without_fixed_timesteps_stays_as_it_is():
    assert fastbilstm.load(one(None), any_length=True).inputs == fastbilstm.load(one(None)).inputs


def test_command_line(tmp_path):
    (tmp_path / "net.h5").write_bytes(one())
    np.save(tmp_path / "x.npy", X)
    predict = ["predict", str(tmp_path / "net.h5"), str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]
    assert main(predict) == 2
    assert main([*predict, "--any-length"]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), [[0.5924925]], atol=2e-7)
    assert main(["convert", str(tmp_path / "net.h5"), "--any-length"]) == 0
    np.testing.assert_allclose(fastbilstm.load(tmp_path / "net.fbl").predict(X), [[0.5924925]], atol=2e-7)
