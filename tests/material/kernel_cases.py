"""What the tests of the vector kernels share: guarded arrays, masks, one direction of a recurrent layer, specified.

Sizes are odd and unequal, states and biases nonzero, so that no two dimensions or arrays can be swapped unnoticed.
"""

import contextlib
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fastbilstm import activations
from fastbilstm.activations import kernel_code
from fastbilstm.layers.timesteps import gru_step, lstm_step, simple_rnn_step, unroll

try:
    from fastbilstm import _kernels
except ImportError:
    _kernels = None
FUNCTIONS = {f.__name__: f for f in activations.KERNEL_CODES}
OPTIONS = {
    "relu, max_value and threshold": partial(activations.relu, max_value=0.5, threshold=0.25),
    "relu, negative_slope and threshold": partial(activations.relu, negative_slope=0.5, threshold=0.25),
    "leaky_relu, slope 0.3": partial(activations.leaky_relu, negative_slope=0.3),
    "elu, alpha 0.5": partial(activations.elu, alpha=0.5),
    "gelu, approximate": partial(activations.gelu, approximate=True),
}
ACTIVATIONS = {**FUNCTIONS, **OPTIONS}
# Cells: the name for `_kernels.Recurrent`, reset_after, gates, states.
CELLS = {
    "lstm": ("lstm", True, 4, 2),
    "gru": ("gru", True, 3, 1),
    "gru without reset_after": ("gru", False, 3, 1),
    "simple_rnn": ("simple_rnn", True, 1, 1),
}
MASKS = ("none", "pre", "post", "holes", "every other row", "nothing kept")
# A NaN that no computation makes: memory that nobody wrote still has these bits.
UNTOUCHED = np.uint32(0x7FC0BEEF)


@contextlib.contextmanager
def using(isa):
    """Pack with the kernels of one instruction set."""
    before = _kernels.isa()
    _kernels.use(isa)
    try:
        yield
    finally:
        _kernels.use(before)


def compiled(function):
    return _kernels.Activation(*kernel_code(function))


def normal(rng, *shape, scale=1.0):
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def bits(x):
    return np.ascontiguousarray(x).view(np.uint32)


def same_bits(y, k):
    assert y.dtype == k.dtype == np.float32 and y.shape == k.shape
    np.testing.assert_array_equal(bits(y), bits(k))


class Guarded:
    """A float32 array between two strips of canaries, aligned to 4 bytes only, filled with UNTOUCHED."""

    STRIP = 67

    def __init__(self, *shape):
        size = int(np.prod(shape))
        self.buffer = np.full(size + 2 * self.STRIP, UNTOUCHED)
        self.array = self.buffer[self.STRIP : self.STRIP + size].view(np.float32).reshape(shape)

    def check(self, *untouched):
        """The strips, and parts of the array, were not written."""
        for part in (self.buffer[: self.STRIP], self.buffer[-self.STRIP :], *map(bits, untouched)):
            assert (part == UNTOUCHED).all()


def make_mask(kind, batch, timesteps):
    """(B, T) bool of rows of unequal lengths, or None."""
    lengths = 1 + np.arange(batch)[:, None] % timesteps
    steps = np.arange(timesteps)
    if kind == "none":
        return None
    if kind == "post":
        return np.ascontiguousarray(steps < lengths)
    if kind == "pre":
        return np.ascontiguousarray(steps >= timesteps - lengths)
    if kind == "holes":
        return np.random.default_rng(batch).random((batch, timesteps)) < 0.6
    kept = np.zeros((batch, timesteps), bool)
    kept[1::2] = kind == "every other row"
    return kept


@dataclass
class Direction:
    """The arguments of one direction of `run_recurrent`; `write` says where (outputs, offset, merge)."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray | None
    initial_state: tuple | None = None
    reverse: bool = False
    flip: bool = False
    activation: object = activations.tanh
    recurrent_activation: object = activations.sigmoid
    embeddings: np.ndarray | None = None
    project: bool = False
    name: str = "one"
    cell: str = "lstm"  # of CELLS
    recurrent_bias: np.ndarray | None = None
    narrow: tuple | None = None
    narrow_kernel: tuple | None = None
    joined_kernel: np.ndarray | None = None
    extra: dict = field(default_factory=dict)

    @property
    def units(self):
        return len(self.recurrent_kernel)

    def packed(self):
        cell, reset_after, _, _ = CELLS[self.cell]
        return _kernels.Recurrent(
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            compiled(self.activation),
            None if cell == "simple_rnn" else compiled(self.recurrent_activation),
            self.embeddings,
            self.project,
            cell,
            self.recurrent_bias,
            reset_after,
            self.narrow,
            self.narrow_kernel,
            self.joined_kernel,
        )

    def job(self, x, rows, outputs=None, offset=0, merge=None):
        return {
            "layer": self.packed(),
            "x": x,
            "rows": rows,
            "reverse": self.reverse,
            "flip": self.flip,
            "initial_state": self.initial_state,
            "outputs": outputs,
            "offset": offset,
            "merge": _kernels.MERGES[merge],
        } | self.extra

    def run(self, x, mask=None, scratch=None):
        """(outputs, h, c or nothing); masked places of the outputs keep UNTOUCHED."""
        batch, timesteps = (x[0] if isinstance(x, tuple) else x).shape[:2]
        rows, guarded = _kernels.Rows(batch, timesteps, mask), Guarded(batch, timesteps, self.units)
        job = self.job(x, rows, guarded.array)
        (final,) = _kernels.run_recurrent([job], _kernels.Scratch() if scratch is None else scratch)
        guarded.check()
        return guarded.array, *final

    def specify(self, x, mask=None, dtype=np.float64, masked_output="previous"):
        """(outputs, h, c or nothing) of the specification, the outputs at the places where the kernel writes them."""
        x = (x if self.embeddings is None else self.embeddings[x]).astype(dtype)
        if self.reverse:
            x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
        cell, reset_after, _, n_states = CELLS[self.cell]
        weights = [None if w is None else w.astype(dtype) for w in (self.kernel, self.recurrent_kernel, self.bias)]
        if self.recurrent_bias is not None:
            bias = np.zeros_like(self.recurrent_bias) if self.bias is None else self.bias
            weights[2] = np.stack([bias, self.recurrent_bias]).astype(dtype)
        elif cell == "gru" and reset_after and self.bias is not None:
            weights[2] = np.stack([self.bias, np.zeros_like(self.bias)]).astype(dtype)
        functions = [self.activation, self.recurrent_activation]
        step = {
            "lstm": lambda x, states: lstm_step(x, states, *weights, *functions),
            "gru": lambda x, states: gru_step(x, states, *weights, *functions, reset_after),
            "simple_rnn": lambda x, states: simple_rnn_step(x, states, *weights, self.activation),
        }[cell]
        if self.initial_state is None:
            states = (np.zeros((len(x), self.units), dtype),) * n_states
        else:
            states = tuple(state.astype(dtype) for state in self.initial_state)
        with np.errstate(all="ignore"):
            outputs, _, final = unroll(step, x, mask, states, masked_output)
        return outputs[:, ::-1] if self.reverse != self.flip else outputs, *final

    def placed(self, mask):
        """The mask at the places where the kernel writes."""
        return mask[:, ::-1] if self.flip and mask is not None else mask


def make_direction(batch, features, units, seed=0, cell="lstm", **options):
    rng = np.random.default_rng([seed, batch, features, units])
    _, _, gates, n_states = CELLS[cell]
    part = Direction(
        normal(rng, features, gates * units, scale=features**-0.5),
        normal(rng, units, gates * units, scale=0.5 * units**-0.5),
        normal(rng, gates * units, scale=0.3),
        tuple(normal(rng, batch, units, scale=0.5) for _ in range(n_states)),
        cell=cell,
        **options,
    )
    if cell == "gru":
        part.recurrent_bias = normal(rng, gates * units, scale=0.3)
    return part


def make_input(batch, timesteps, features, seed=1):
    return normal(np.random.default_rng([seed, batch, timesteps, features]), batch, timesteps, features)
