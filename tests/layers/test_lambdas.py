"""Lambda layers: the user's NumPy function in place of the code in the file."""

import functools
import pickle

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FastBiLSTMError, FileFormatError, UnsupportedLayerError
from fastbilstm.report.verify import verify

RNG = np.random.default_rng(7)
CODE = ["4wEAAAA=", None, None]
X = RNG.standard_normal((3, 5, 4)).astype(np.float32)


def lambda_layer(name="own", inbound=None, **options):
    return mf.layer("Lambda", name, inbound, function=CODE, function_type="lambda", arguments={}, **options)


def in_the_middle(timesteps=5, lead=(), **options):
    """LSTM(3, return_sequences) -> Lambda -> Dense(2)."""
    layers = (mf.input_layer("x", (None, timesteps, 4), "float32"), *lead, mf.lstm(return_sequences=True))
    config = mf.sequential(*layers, lambda_layer(**options), mf.dense())
    return mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(4, 3), dense={"kernel": (3, 2), "bias": (2,)}))


def last(x):
    return x[:, -1]


def time_sum(x):
    return x.sum(axis=1)


def as_keras(layer):
    """The same model with a layer that Keras has in place of the Lambda."""
    layers = (mf.input_layer("x", (None, 5, 4), "float32"), mf.lstm(return_sequences=True), layer, mf.dense())
    shapes = mf.weights_of(lstm=mf.lstm_weights(4, 3), dense={"kernel": (3, 2), "bias": (2,)})
    return fastbilstm.load(mf.h5(mf.sequential(*layers), shapes))


@pytest.mark.parametrize("timesteps", [5, None])
@pytest.mark.parametrize("backend", ["auto", "blas", "numpy"])
def test_mean_over_time_is_the_pooling(timesteps, backend):
    model = fastbilstm.load(in_the_middle(timesteps), lambdas={"own": lambda x: x.mean(1)}, backend=backend)
    expected = as_keras(mf.layer("GlobalAveragePooling1D", "pool")).predict(X)
    np.testing.assert_allclose(model.predict(X), expected, atol=1e-6)
    assert model.outputs[0].shape == (None, 2)


def test_functions_that_reshape():
    model = fastbilstm.load(in_the_middle(None), lambdas={"own": lambda x: x[..., None].swapaxes(2, 3)[:, :, 0]})
    assert model.outputs[0].shape == (None, None, 2)
    # One that needs some timesteps: zeros of more of them follow.
    model = fastbilstm.load(in_the_middle(None), lambdas={"own": lambda x: x[:, 4]})
    np.testing.assert_array_equal(model.predict(X), fastbilstm.load(in_the_middle(5), lambdas={"own": last}).predict(X))


def test_several_tensors_and_token_ids():
    layers = (
        mf.input_layer("ids", (None, None), "int32", functional=True),
        lambda_layer("shift", ["ids"]),
        mf.embedding(inbound=["shift"], mask_zero=False),
        mf.embedding("other", inbound=["ids"], mask_zero=False),
        lambda_layer("join", ["embedding", "other"]),
    )
    arrays = {"embedding": mf.weights()["embedding"], "other": mf.weights(1)["embedding"]}
    content = mf.h5(mf.functional(*layers, outputs=("join",)), arrays)
    model = fastbilstm.load(content, lambdas={"shift": lambda x: (x + 1) % 7, "join": lambda xs: xs[0] - 2 * xs[1]})
    first, second = (arrays[name]["embeddings"] for name in arrays)
    np.testing.assert_allclose(model.predict(mf.IDS), first[(mf.IDS + 1) % 7] - 2 * second[mf.IDS], atol=1e-6)


@pytest.mark.parametrize("version", ["2.2.4", mf.KERAS2])
def test_masks_end_unless_the_function_returns_its_argument(version):
    """As in Keras; Keras without TensorFlow's version copies the tensor, and the mask ends there, too."""
    layers = (mf.input_layer(), mf.embedding(), lambda_layer(), mf.lstm())
    arrays = {name: mf.weights()[name] for name in ("embedding", "lstm")}
    content = mf.h5(mf.sequential(*layers), arrays, version)
    found = [fastbilstm.load(content, lambdas={"own": f}).predict(mf.IDS) for f in (lambda x: x, lambda x: x * 1)]
    plain = [mf.sequential(mf.input_layer(), mf.embedding(mask_zero=mask), mf.lstm()) for mask in (True, False)]
    masked, unmasked = (fastbilstm.load(mf.h5(config, arrays)).predict(mf.IDS) for config in plain)
    assert not np.allclose(masked, unmasked)
    np.testing.assert_allclose(found[0], masked if version == mf.KERAS2 else unmasked, atol=1e-6)
    np.testing.assert_allclose(found[1], unmasked, atol=1e-6)


def test_inside_wrappers_and_models():
    each = mf.layer("TimeDistributed", "each", layer=lambda_layer("inner"))
    inner = mf.sequential(mf.input_layer("x", (None, 5, 4), "float32"), lambda_layer("half"), each)
    inner["config"]["name"] = "part"
    config = mf.sequential(mf.input_layer("x", (None, 5, 4), "float32"), inner, mf.lstm())
    content = mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(4, 3)))
    lambdas = {"part/half": lambda x: x / 2, "part/each/inner": lambda x: x + 1}
    expected = mf.floats(4).predict(X / 2 + 1)
    np.testing.assert_allclose(fastbilstm.load(content, lambdas=lambdas).predict(X), expected, atol=1e-6)
    with pytest.raises(UnsupportedLayerError, match="lambdas={'part/half': function}") as caught:
        fastbilstm.load(content)
    assert "lambdas={'part/each/inner': function}" in str(caught.value)


def test_converted_files_are_given_the_function_again(tmp_path):
    path = tmp_path / "net.fbl"
    lambdas = {"own": functools.partial(np.sum, axis=1)}
    model = fastbilstm.convert(in_the_middle(), path, lambdas=lambdas)
    expected = fastbilstm.load(in_the_middle(), lambdas={"own": time_sum}).predict(X)
    np.testing.assert_array_equal(model.predict(X), expected)
    np.testing.assert_array_equal(fastbilstm.load(path, lambdas=lambdas, check=True).predict(X), expected)
    assert verify(path, lambdas=lambdas).ok
    with pytest.raises(FileFormatError, match=r"net\.fbl: the functions of its Lambda .*lambdas={'own': function}"):
        fastbilstm.load(path)
    with pytest.raises(FileFormatError, match="lambdas names 'other'; the Lambda layers are 'own'"):
        fastbilstm.load(path, lambdas={"other": last})
    assert not fastbilstm.load(path, lambdas={"own": last}).self_check()


def test_pickles_hold_the_function_by_its_name():
    model = fastbilstm.load(in_the_middle(), lambdas={"own": time_sum})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("lambdas", "error", "words"),
    [
        ({"oven": last}, FileFormatError, "lambdas names 'oven'; the Lambda layers are 'own'"),
        ({"own": last, "lstm": last}, FileFormatError, "lambdas names 'lstm'"),
        ({"own": 3}, FastBiLSTMError, "expected a dict from names"),
        ([last], FastBiLSTMError, "expected a dict from names"),
        (
            {"own": lambda x: x.sum()},
            FileFormatError,
            "'own' .Lambda.: its function gives shapes .. and .. for batches",
        ),
        ({"own": lambda x: x[:, 70]}, FileFormatError, "'own' .Lambda.: its function raised IndexError on zeros"),
        ({"own": lambda x: x.sum(2)}, FileFormatError, "layer 'dense'"),
    ],
)
def test_refused_when_loaded(lambdas, error, words):
    with pytest.raises(error, match=words.replace("..", r"\(.*\)")):
        fastbilstm.load(in_the_middle(), lambdas=lambdas)


def test_a_mask_of_its_own_is_refused():
    with pytest.raises(UnsupportedLayerError, match="own.*mask='...' is Python code"):
        fastbilstm.load(in_the_middle(mask=CODE), lambdas={"own": last})


def test_what_the_function_does_at_prediction():
    def grows(x):
        return x[:, : 2 + int(x[0, 0, 0] != 0)].sum(axis=1, keepdims=True)[:, 0] if x.any() else x[:, 0]

    model = fastbilstm.load(in_the_middle(), lambdas={"own": grows})
    assert model.predict(X).shape == (3, 2)
    for function, words in (
        (lambda x: x[:, 0] if not x.any() else x, r"gave an array of shape \(3, 5, 3\); expected \(3, 3\)"),
        (lambda x: x[:, 0] if not x.any() else 1 / 0, "raised ZeroDivisionError"),
        (
            lambda x: x[:, 0] if not x.any() else np.multiply(x, 0, out=x),
            "raised ValueError: output array is read-only",
        ),
    ):
        with pytest.raises(FastBiLSTMError, match=f"layer 'own' .Lambda.: its function {words}"):
            fastbilstm.load(in_the_middle(), lambdas={"own": function}).predict(X)
