"""What the tests of the vector kernels share: guarded arrays, masks, one direction of an LSTM and its specification.

Sizes are odd and unequal, states and biases nonzero, so that no two dimensions or arrays can be swapped unnoticed.
"""

import contextlib
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fastbilstm import _kernels, activations
from fastbilstm.activations import kernel_code
from fastbilstm.layers.recurrent import lstm

FUNCTIONS = {f.__name__: f for f in activations.KERNEL_CODES}
OPTIONS = {
    "relu, max_value and threshold": partial(activations.relu, max_value=0.5, threshold=0.25),
    "relu, negative_slope and threshold": partial(activations.relu, negative_slope=0.5, threshold=0.25),
    "leaky_relu, slope 0.3": partial(activations.leaky_relu, negative_slope=0.3),
    "elu, alpha 0.5": partial(activations.elu, alpha=0.5),
    "gelu, approximate": partial(activations.gelu, approximate=True),
}
ACTIVATIONS = {**FUNCTIONS, **OPTIONS}
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
    """The arguments of one direction of `run_lstm`; `write` says where (outputs, offset, merge)."""

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
    extra: dict = field(default_factory=dict)

    @property
    def units(self):
        return len(self.recurrent_kernel)

    def packed(self):
        return _kernels.Lstm(
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            compiled(self.activation),
            compiled(self.recurrent_activation),
            self.embeddings,
            self.project,
        )

    def job(self, outputs=None, offset=0, merge=None):
        return {
            "lstm": self.packed(),
            "reverse": self.reverse,
            "flip": self.flip,
            "initial_state": self.initial_state,
            "outputs": outputs,
            "offset": offset,
            "merge": _kernels.MERGES[merge],
            "name": self.name,
        } | self.extra

    def run(self, x, mask=None, scratch=None):
        """(outputs, h, c); masked places of the outputs keep UNTOUCHED."""
        rows = _kernels.Rows(x.shape[0], x.shape[1], mask)
        guarded = Guarded(*x.shape[:2], self.units)
        job = self.job(guarded.array)
        ((h, c),) = _kernels.run_lstm([job], x, rows, _kernels.Scratch() if scratch is None else scratch)
        guarded.check()
        return guarded.array, h, c

    def specify(self, x, mask=None, dtype=np.float64, masked_output="previous"):
        """(outputs, h, c) of the specification, the outputs at the places where the kernel writes them."""
        x = (x if self.embeddings is None else self.embeddings[x]).astype(dtype)
        if self.reverse:
            x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
        with np.errstate(all="ignore"):
            outputs, _, h, c = lstm(
                x,
                self.kernel.astype(dtype),
                self.recurrent_kernel.astype(dtype),
                None if self.bias is None else self.bias.astype(dtype),
                mask,
                None if self.initial_state is None else tuple(s.astype(dtype) for s in self.initial_state),
                self.activation,
                self.recurrent_activation,
                masked_output,
            )
        return outputs[:, ::-1] if self.reverse != self.flip else outputs, h, c

    def placed(self, mask):
        """The mask at the places where the kernel writes."""
        return mask[:, ::-1] if self.flip and mask is not None else mask


def make_direction(batch, features, units, seed=0, **options):
    rng = np.random.default_rng([seed, batch, features, units])
    return Direction(
        normal(rng, features, 4 * units, scale=features**-0.5),
        normal(rng, units, 4 * units, scale=0.5 * units**-0.5),
        normal(rng, 4 * units, scale=0.3),
        (normal(rng, batch, units, scale=0.5), normal(rng, batch, units, scale=0.5)),
        **options,
    )


def make_input(batch, timesteps, features, seed=1):
    return normal(np.random.default_rng([seed, batch, timesteps, features]), batch, timesteps, features)
