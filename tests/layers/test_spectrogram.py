"""STFTSpectrogram and MelSpectrogram beside live Keras; windows and bins that were worked out by hand."""

import make_files as mf
import numpy as np
import pytest
from beside_keras import same

import fastbilstm
from fastbilstm import FileFormatError, InputError, UnsupportedLayerError
from fastbilstm.layers.spectrogram import MODES, frames, mel_weights, raised_cosine

RNG = np.random.default_rng(8)
STEREO = RNG.standard_normal((3, 100, 2)).astype("f4")
SIGNALS = RNG.standard_normal((3, 100)).astype("f4")


@pytest.fixture
def k():
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    pytest.importorskip("scipy", reason="Keras makes windows by SciPy")
    return pytest.importorskip("keras")


OPTIONS = [
    {"padding": "same", "frame_step": 7},
    {"expand_dims": True, "frame_step": 21},
    {"frame_step": 5, "fft_length": 50, "window": "hamming", "scaling": None, "periodic": True},
    {"window": None, "scaling": "spectrum", "padding": "same", "expand_dims": True},
]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "angle"])
def test_stft(mode, k, tmp_path):
    layer, form = k.layers.STFTSpectrogram, "h5" if mode == "log" else "keras"
    made = [layer(mode, frame_length=21, **options) for options in OPTIONS]
    same(k, made, STEREO, tmp_path / f"m.{form}")
    first = {"data_format": "channels_first"}
    made = [layer(mode, frame_length=21, **options, **first) for options in OPTIONS]
    same(k, made, STEREO.transpose(0, 2, 1).copy(), tmp_path / f"m.{form}")


def test_angle(k, tmp_path):
    """An angle of a small number is as uncertain as the number."""
    same(k, [k.layers.STFTSpectrogram("angle", 21)], STEREO, tmp_path / "m.keras", rtol=1e-4)


def test_its_own_weights(k, tmp_path):
    """The kernels as Keras makes them, in front of a network."""
    given = k.Input((None, 1))
    y = k.layers.LSTM(3)(k.layers.STFTSpectrogram(frame_length=16, frame_step=4)(given))
    model, x = k.Model(given, y), STEREO[..., :1]
    model.save(tmp_path / "m.keras")
    ours = fastbilstm.load(tmp_path / "m.keras")
    np.testing.assert_allclose(ours.predict(x), model.predict(x, verbose=0), rtol=0, atol=3e-6)
    with pytest.raises(InputError, match="shorter than frame_length=16"):
        ours.predict(x[:, :15])


MEL = [
    {},
    {"mag_exp": 1.5, "window": "hamming", "sequence_length": 21},
    {"window": [1.0] * 20 + [0.5] * 12},
    {"window": None, "fft_length": 33, "sequence_stride": 1},
    {"min_freq": 100.0, "max_freq": 3000.0, "sampling_rate": 8000},
    {"ref_power": 4.0, "min_power": 1e-3, "top_db": 10.0},
    {"sequence_stride": 100, "num_mel_bins": 20, "fft_length": 128},
]


@pytest.mark.parametrize("x", [SIGNALS, (SIGNALS * 1000).astype("i4")], ids=["floats", "whole"])
@pytest.mark.parametrize("decibels", [True, False])
def test_mel(x, decibels, k, tmp_path):
    """Keras' own triangles differ by up to 3e-5: logarithms in float32, of which small differences are taken."""
    common = {"fft_length": 32, "sequence_stride": 8, "num_mel_bins": 6, "power_to_db": decibels}
    made = [k.layers.MelSpectrogram(**{**common, **options}) for options in MEL]
    model = same(k, made, x, tmp_path / "m.keras", rtol=3e-5)
    assert model._plan.independent != decibels


def test_the_loudest_of_a_batch_cuts_the_others_off(k, tmp_path):
    """Batches are run as Keras runs them, on any number of threads."""
    x = RNG.standard_normal((70, 100)) * np.exp(5 * RNG.standard_normal((70, 1)))
    x = np.concatenate([x, x[:10]]).astype("f4")
    layer = k.layers.MelSpectrogram(fft_length=32, sequence_stride=8, num_mel_bins=6, top_db=20.0)
    given = k.Input((100,))
    model = k.Model(given, layer(given))
    model.save(tmp_path / "m.keras")
    ours = fastbilstm.load(tmp_path / "m.keras")
    answers = []
    for size in (32, 7):
        answers.append(model.predict(x, verbose=0, batch_size=size))
        for threads in (1, 2):
            y = ours.predict(x, batch_size=size, n_threads=threads)
            np.testing.assert_allclose(y, answers[-1], rtol=0, atol=1e-3)
    assert np.abs(answers[0] - answers[1]).max() > 1


def test_windows():
    np.testing.assert_allclose(raised_cosine("hann", 4, "f8"), [0, 0.5, 1, 0.5])
    np.testing.assert_allclose(raised_cosine("hann", 5, "f8"), [0, 0.5, 1, 0.5, 0], atol=1e-15)
    np.testing.assert_allclose(raised_cosine("hamming", 2, "f8"), [0.08, 1])
    np.testing.assert_allclose(raised_cosine("hamming", 1, "f8"), [1])
    assert frames(np.arange(6), 3, 2).tolist() == [[0, 1, 2], [2, 3, 4]]
    assert frames(np.arange(7), 3, 4).tolist() == [[0, 1, 2], [4, 5, 6]]


def test_triangles():
    """One bin from 0 to 1000 Hz: its middle lies halfway in mel, 1127 log(1 + f / 700)."""
    middle = 700 * (np.sqrt(1 + 1000 / 700) - 1)
    weights = mel_weights(1, 5, 2 * middle, 0.0, 1000.0)[:, 0]
    places = np.log1p(middle * np.arange(1, 5) / 4 / 700) / np.log1p(middle / 700)
    np.testing.assert_allclose(weights, [0, *places], rtol=1e-5)


def loaded(class_name, shape, dtype="float32", weights=(), **options):
    layer = mf.layer(class_name, "heard", **options)
    arrays = mf.weights_of(heard={role: (4, 1, 3) for role in weights})
    return fastbilstm.load(mf.h5(mf.sequential(mf.input_layer("x", shape, dtype), layer), arrays, version="3.15.0"))


def test_what_is_wrong_is_named():
    kernels = ("real_kernel", "imag_kernel")
    with pytest.raises(UnsupportedLayerError, match="frame_step=5 does not go with frame_length=4"):
        loaded("STFTSpectrogram", (None, 9, 1), frame_length=4, frame_step=5)
    with pytest.raises(UnsupportedLayerError, match="fft_length=3 does not go with frame_length=4"):
        loaded("STFTSpectrogram", (None, 9, 1), frame_length=4, fft_length=3)
    with pytest.raises(FileFormatError, match="Keras takes floats alone"):
        loaded("STFTSpectrogram", (None, 9, 1), "int32", kernels, frame_length=4)
    with pytest.raises(FileFormatError, match="shorter than frame_length=4"):
        loaded("STFTSpectrogram", (None, 3, 1), weights=kernels, frame_length=4)
    with pytest.raises(UnsupportedLayerError, match="sequence_length=9 is larger than fft_length"):
        loaded("MelSpectrogram", (None, 20), fft_length=8, sequence_length=9)
    with pytest.raises(UnsupportedLayerError, match="window='3 numbers' does not go with sequence_length=8"):
        loaded("MelSpectrogram", (None, 20), fft_length=8, window=[1.0, 2.0, 1.0])
    with pytest.raises(UnsupportedLayerError, match="window='boxcar'"):
        loaded("MelSpectrogram", (None, 20), fft_length=8, window="boxcar")
    with pytest.raises(FileFormatError, match="needs more than 4"):
        loaded("MelSpectrogram", (None, 4), fft_length=8)
    with pytest.raises(InputError, match="needs more than 4"):
        loaded("MelSpectrogram", (None, None), fft_length=8).predict(np.zeros((1, 4), "f4"))
