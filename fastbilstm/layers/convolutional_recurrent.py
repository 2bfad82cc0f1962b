"""ConvLSTM1D, ConvLSTM2D and ConvLSTM3D: the specification, in NumPy.

An LSTM whose products are convolutions: each timestep is a sequence, an image or a volume, and so is each state. The
options of the loop over time are those of recurrent.py, the windows those of convolution.py. Imports NumPy.
"""

import numpy as np

from .base import Option, activation, choice, integer, register
from .cells import Cell
from .convolution import Convolution, convolve, options
from .recurrent import Recurrent
from .timesteps import lstm_states, split_gates
from .windows import Spatial, padded


class ConvLSTM(Recurrent, Convolution):
    """z = conv(x, K) + b + conv(h, R), gates i f c o in 4F channels; then as LSTM.

    x (B, T, *spatial, C), or (B, T, C, *spatial); kernel (*taps, C, 4F), recurrent_kernel (*taps, F, 4F), bias (4F,).
    Strides, dilation and padding are those of the input; the state keeps its size in the second convolution.
    """

    ignored = (*Convolution.ignored, *Cell.ignored)
    gate_names, n_states, output_state = "ifco", 2, 0

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["recurrent_activation"] == "glu":
            yield "recurrent_activation", "glu", "halves the number of filters, which is not supported"
        if version.framework == "keras1" and config["data_format"] == "channels_first":
            yield "data_format", "channels_first", "of Keras 1 is not supported"

    @property
    def input_rank(self):
        return self.rank + 3

    @property
    def zero_output_for_mask(self):
        """Only Keras 3's loop over images knows this option."""
        return self.version.is_keras3 and self.config["zero_output_for_mask"]

    def weight_shapes(self, shapes):
        channels = shapes[0][2 if self.channels_first else -1] if shapes else None
        width = 4 * self.filters
        kernels = {
            "kernel": (*self.kernel_size, channels, width),
            "recurrent_kernel": (*self.kernel_size, self.filters, width),
        }
        return self.with_bias(kernels, width)

    def state_shapes(self, shape):
        size = self.output_shape((shape[0], *shape[2:]))[1:]
        return size, size

    def begin(self, inputs, kwargs, states):
        """As for LSTM, but x is what all timesteps add to the gates, (B, T, *windows, 4F), and the states are given."""
        x, mask, start = super().begin(inputs, kwargs, states)
        if start is None:
            start = tuple(np.zeros((len(x), *size), x.dtype) for size in self.state_shapes(x.shape))
        y = Spatial.compute(self, np.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:])), None)
        return np.reshape(y, (*x.shape[:2], *y.shape[1:])), mask, start

    def slide(self, x):
        y = convolve(self.padded(x), self.weights["kernel"], self.strides, self.dilation_rate)
        return y + self.weights["bias"] if self.use_bias else y

    def convolve_state(self, h):
        """h (B, *windows, F) -> conv(h, R) (B, *windows, 4F); the channels are where the layer has them."""
        ones, kernel = [1] * self.rank, self.weights["recurrent_kernel"]
        h = np.moveaxis(h, 1, -1) if self.channels_first else h
        y = convolve(padded(h, self.kernel_size, ones, "same"), kernel, ones, ones)
        return np.moveaxis(y, -1, 1) if self.channels_first else y

    def gates(self, x, states):
        z, functions = x + self.convolve_state(states[0]), map(self.activation_function, ACTIVATIONS)
        return dict(zip(self.gate_names, split_gates(z, *functions, 1 if self.channels_first else -1)))

    def step(self, x, states):
        """One timestep: x as `begin` gives it, (h, c) -> (h, c)."""
        return lstm_states(self.gates(x, states).values(), states[1], self.activation_function())


ACTIVATIONS = ("activation", "recurrent_activation")


def all_options(rank):
    window = options(rank, filters=Option(integer(1)), recurrent_activation=Option(activation, "sigmoid"))
    del window["groups"]
    return {
        **window,
        **Recurrent.options,
        "activation": Option(activation, "tanh"),
        "time_major": Option(choice(False), False),
    }


@register
class ConvLSTM1D(ConvLSTM):
    options = all_options(1)


@register
class ConvLSTM2D(ConvLSTM):
    rank = 2
    options = all_options(2)


@register
class ConvLSTM3D(ConvLSTM):
    rank = 3
    options = all_options(3)
