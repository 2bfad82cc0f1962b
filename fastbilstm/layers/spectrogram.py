"""STFTSpectrogram and MelSpectrogram: the frequencies in windows along a signal; the specification, in NumPy."""

import numpy as np

from ..errors import InputError
from .base import BaseLayer, Option, boolean, choice, integer, optional, real, register
from .windows import DATA_FORMAT, count, padded

# Keras' smallest number, below which no magnitude is.
EPSILON = 1e-7
MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


def frames(x, size, step):
    """The windows x[..., k*step : k*step + size] of the last axis -> (..., windows, size)."""
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=-1)[..., ::step, :]


@register
class STFTSpectrogram(BaseLayer):
    """Products of windows of each channel with the cosines and sines that are its weights.

    The window function and the scaling are in the weights.
    """

    passes_mask = False
    casts_input = False
    options = {
        "mode": Option(choice(*MODES), "log"),
        "frame_length": Option(integer(1), 256),
        "frame_step": Option(optional(integer(1)), None),
        "fft_length": Option(optional(integer(1)), None),
        "padding": Option(choice("valid", "same"), "valid"),
        "expand_dims": Option(boolean, False),
        "data_format": DATA_FORMAT,
    }
    ignored = ("window", "periodic", "scaling")

    @classmethod
    def check_config(cls, config, version):
        for name, fits in (("frame_step", int.__le__), ("fft_length", int.__ge__)):
            if config[name] is not None and not fits(config[name], config["frame_length"]):
                yield name, config[name], f"does not go with frame_length={config['frame_length']}"

    @property
    def channels_first(self):
        return self.data_format == "channels_first"

    @property
    def step(self):
        return self.frame_step or max(self.frame_length // 2, 1)

    @property
    def frequencies(self):
        whole = self.fft_length or 1 << (self.frame_length - 1).bit_length()
        return whole // 2 + 1

    def weight_shapes(self, shapes):
        shape = (self.frame_length, 1, self.frequencies)
        return {f"{part}_kernel": shape for part, other in (("real", "imag"), ("imag", "real")) if self.mode != other}

    def infer(self, inputs, kwargs):
        if inputs[0].dtype is not None:
            self.fail(f"its input has dtype {inputs[0].dtype}; Keras takes floats alone here")
        return super().infer(inputs, kwargs)

    def output_shape(self, shape):
        self.require_rank(shape, 3)
        batch, time, channels = (shape[0], shape[2], shape[1]) if self.channels_first else shape
        time = count(time, self.frame_length, self.step, self.padding)
        if time is not None and time < 1:
            self.fail(f"its input of shape {tuple(shape)} is shorter than frame_length={self.frame_length}")
        frequencies = self.frequencies * (2 if self.mode == "stft" else 1)
        if self.expand_dims:
            return (batch, channels, time, frequencies) if self.channels_first else (batch, time, frequencies, channels)
        both = None if channels is None else channels * frequencies
        return (batch, both, time) if self.channels_first else (batch, time, both)

    def compute(self, x, mask):
        x = x if self.channels_first else np.swapaxes(x, 1, 2)
        if self.padding == "valid" and x.shape[2] < self.frame_length:
            raise InputError(
                f"layer {self.name!r} (STFTSpectrogram): its input of {x.shape[2]} steps is shorter than "
                f"frame_length={self.frame_length}"
            )
        x = np.swapaxes(padded(np.swapaxes(x, 1, 2), [self.frame_length], [self.step], self.padding), 1, 2)
        windows = frames(x, self.frame_length, self.step)
        y = self.read(*(windows @ self.weights[role][:, 0] for role in self.weight_shapes(())))
        batch, channels, time, frequencies = y.shape  # as channels_first with expand_dims
        if self.expand_dims:
            return y if self.channels_first else y.transpose(0, 2, 3, 1)
        y = y.transpose(0, 1, 3, 2).reshape(batch, channels * frequencies, time)
        return y if self.channels_first else np.swapaxes(y, 1, 2)

    def read(self, real, imag=None):
        """What the mode tells of real and imaginary parts (B, C, windows, frequencies); one part for "real", "imag"."""
        if imag is None:
            return real
        if self.mode == "angle":
            return np.arctan2(imag, real)
        if self.mode == "stft":
            return np.concatenate([real, imag], axis=-1)
        power = real**2 + imag**2
        if self.mode == "psd":
            power[..., 1:-1] *= 2
            return power
        magnitude = np.sqrt(np.maximum(power, power.dtype.type(EPSILON)))
        return magnitude if self.mode == "magnitude" else np.log(np.maximum(magnitude, power.dtype.type(EPSILON)))


# ---- mel scale ------------------------------------------------------------------------------------------------------


def window(value):
    if value is None or value in ("hann", "hamming"):
        return value
    if isinstance(value, (list, tuple)):
        return [real(part) for part in value]
    raise ValueError("expected 'hann', 'hamming' or numbers")


def raised_cosine(name, size, dtype):
    """The window of TensorFlow: periodic if its size is even; one for a size of 1."""
    middle = 0.5 if name == "hann" else 0.54
    angles = 2 * np.pi * np.arange(size) / (size - size % 2) if size > 1 else np.pi
    return (middle - (1 - middle) * np.cos(angles) * np.ones(size)).astype(dtype)


def mel(hertz):
    """Mel of a frequency, in float32."""
    return np.float32(1127) * np.log(np.float32(1) + np.asarray(hertz, np.float32) / np.float32(700))


def mel_weights(bins, frequencies, sampling_rate, least, most):
    """(frequencies, bins) of triangles that are evenly spaced in mel; in float32, as Keras computes them."""
    nyquist = np.float32(sampling_rate) / np.float32(2)
    places = mel(np.linspace(0, nyquist, frequencies, dtype=np.float32)[1:])[:, np.newaxis]
    edges = np.linspace(mel(least), mel(most), bins + 2, dtype=np.float32)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (places - low) / (middle - low), (high - places) / (high - middle)
    return np.pad(np.maximum(np.float32(0), np.minimum(rising, falling)), [(1, 0), (0, 0)])


@register
class MelSpectrogram(BaseLayer):
    """|DFT| of windows of a signal (B, T), summed over bins of mel frequencies, perhaps in decibels (B, bins, windows).

    Decibels are cut off `top_db` below the loudest value of the whole batch.
    """

    passes_mask = False
    options = {
        "fft_length": Option(integer(1), 2048),
        "sequence_stride": Option(integer(1), 512),
        "sequence_length": Option(optional(integer(1)), None),
        "window": Option(window, "hann"),
        "sampling_rate": Option(real, 16000),
        "num_mel_bins": Option(integer(1), 128),
        "min_freq": Option(real, 20.0),
        "max_freq": Option(optional(real), None),
        "power_to_db": Option(boolean, True),
        "top_db": Option(real, 80.0),
        "mag_exp": Option(real, 2.0),
        "min_power": Option(real, 1e-10),
        "ref_power": Option(real, 1.0),
    }

    @classmethod
    def check_config(cls, config, version):
        length = config["sequence_length"] or config["fft_length"]
        if length > config["fft_length"]:
            yield "sequence_length", length, "is larger than fft_length"
        if isinstance(config["window"], list) and len(config["window"]) != length:
            yield "window", f"{len(config['window'])} numbers", f"does not go with sequence_length={length}"

    @property
    def rows_independent(self):
        return not self.power_to_db

    def windows(self, time):
        """How many windows lie in a signal; Keras' own count is one too many for some lengths."""
        if time is not None and time <= self.fft_length // 2:
            self.fail(f"its input of {time} steps is too short: it needs more than {self.fft_length // 2}")
        return (
            None if time is None else (time + 2 * (self.fft_length // 2) - self.fft_length) // self.sequence_stride + 1
        )

    def output_shape(self, shape):
        if len(shape) < 2:
            self.fail(f"its input has shape {shape}; expected rows of signals")
        return (*shape[:-1], self.num_mel_bins, self.windows(shape[-1]))

    def compute(self, x, mask):
        self.windows(x.shape[-1])
        size, half = self.sequence_length or self.fft_length, self.fft_length // 2
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
        windows = frames(x, self.fft_length, self.sequence_stride)
        if self.window is not None:
            named = isinstance(self.window, str)
            weights = raised_cosine(self.window, size, x.dtype) if named else np.asarray(self.window, x.dtype)
            before = (self.fft_length - size) // 2
            windows = windows * np.pad(weights, (before, self.fft_length - size - before))
        spectrum = np.abs(np.fft.rfft(windows, axis=-1)).astype(x.dtype) ** x.dtype.type(self.mag_exp)
        most = self.max_freq or int(self.sampling_rate / 2)
        bins = mel_weights(self.num_mel_bins, spectrum.shape[-1], self.sampling_rate, self.min_freq, most)
        y = spectrum @ bins.astype(x.dtype)
        return np.swapaxes(self.decibels(y) if self.power_to_db else y, -1, -2)

    def decibels(self, power):
        """10 log10(power / ref_power), at least `top_db` below the largest."""
        y = 10 * np.log10(np.maximum(power, power.dtype.type(self.min_power)))
        y -= power.dtype.type(10 * np.log10(max(abs(self.ref_power), self.min_power)))
        return np.maximum(y, y.max(initial=-np.inf) - power.dtype.type(self.top_db))
