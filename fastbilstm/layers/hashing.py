"""Hashing and HashedCrossing: texts and whole numbers -> bins, by the hash functions of TensorFlow; in NumPy.

FarmHash's Fingerprint64 (google/farmhash, farmhash.cc, namespace farmhashna) without a salt, SipHash-2-4 (Aumasson and
Bernstein, 2012) with one. Each text is hashed once a call.
"""

import numpy as np

from .base import Option, Tensor, choice, integer, optional, register
from .encoding import MODES
from .preprocessing import Encoded

_ALL = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
# Of FingerprintCat64 (tensorflow/core/platform/fingerprint.h), and the key of tf.sparse.cross_hashed.
_CAT, _CROSSING_KEY = 0xC6A4A7935BD1E995, 0xDECAFCAFFE


def _rotate(value, by):
    """Right, in 64 bits."""
    return (value >> by | value << (64 - by)) & _ALL


def _mix(value):
    return value ^ value >> 47


def _of_16(u, v, factor):
    a = _mix((u ^ v) * factor & _ALL)
    return _mix((v ^ a) * factor & _ALL) * factor & _ALL


def fingerprint64(text):
    """FarmHash's 64-bit fingerprint of bytes."""
    n = len(text)
    at = lambda k, size=8: int.from_bytes(text[k : k + size], "little")  # noqa: E731
    factor = (_K2 + 2 * n) & _ALL
    if n > 64:
        return _long(n, at)
    if n > 32:
        a, b = at(0) * _K2 & _ALL, at(8)
        c, d = at(n - 8) * factor & _ALL, at(n - 16) * _K2 & _ALL
        y = (_rotate(a + b & _ALL, 43) + _rotate(c, 30) + d) & _ALL
        z = _of_16(y, (a + _rotate(b + _K2 & _ALL, 18) + c) & _ALL, factor)
        e, f = at(16) * factor & _ALL, at(24)
        g, h = (y + at(n - 32)) * factor & _ALL, (z + at(n - 24)) * factor & _ALL
        first = (_rotate(e + f & _ALL, 43) + _rotate(g, 30) + h) & _ALL
        return _of_16(first, (e + _rotate(f + a & _ALL, 18) + g) & _ALL, factor)
    if n > 16:
        a, b = at(0) * _K1 & _ALL, at(8)
        c, d = at(n - 8) * factor & _ALL, at(n - 16) * _K2 & _ALL
        first = (_rotate(a + b & _ALL, 43) + _rotate(c, 30) + d) & _ALL
        return _of_16(first, (a + _rotate(b + _K2 & _ALL, 18) + c) & _ALL, factor)
    if n >= 8:
        a, b = (at(0) + _K2) & _ALL, at(n - 8)
        c = (_rotate(b, 37) * factor + a) & _ALL
        return _of_16(c, (_rotate(a, 25) + b) * factor & _ALL, factor)
    if n >= 4:
        return _of_16((n + (at(0, 4) << 3)) & _ALL, at(n - 4, 4), factor)
    if n:
        y, z = text[0] + (text[n >> 1] << 8), n + (text[n - 1] << 2)
        return _mix((y * _K2 ^ z * _K0) & _ALL) * _K2 & _ALL
    return _K2


def _weak(at, k, a, b):
    w, x, y, z = at(k), at(k + 8), at(k + 16), at(k + 24)
    a = (a + w) & _ALL
    b = _rotate((b + a + z) & _ALL, 21)
    c = a
    a = (a + x + y) & _ALL
    return (a + z) & _ALL, (b + _rotate(a, 44) + c) & _ALL


def _long(n, at):
    """Of more than 64 bytes."""
    x, y = 81, (81 * _K1 + 113) & _ALL
    z = _mix((y * _K2 + 113) & _ALL) * _K2 & _ALL
    v, w = (0, 0), (0, 0)
    x = (x * _K2 + at(0)) & _ALL
    end = (n - 1) // 64 * 64
    for k in range(0, end, 64):
        x = _rotate((x + y + v[0] + at(k + 8)) & _ALL, 37) * _K1 & _ALL
        y = _rotate((y + v[1] + at(k + 48)) & _ALL, 42) * _K1 & _ALL
        x ^= w[1]
        y = (y + v[0] + at(k + 40)) & _ALL
        z = _rotate((z + w[0]) & _ALL, 33) * _K1 & _ALL
        v = _weak(at, k, v[1] * _K1 & _ALL, (x + w[0]) & _ALL)
        w = _weak(at, k + 32, (z + w[1]) & _ALL, (y + at(k + 16)) & _ALL)
        z, x = x, z
    factor, k = (_K1 + ((z & 0xFF) << 1)) & _ALL, n - 64
    w = (w[0] + (n - 1 & 63)) & _ALL, w[1]
    v = (v[0] + w[0]) & _ALL, v[1]
    w = (w[0] + v[0]) & _ALL, w[1]
    x = _rotate((x + y + v[0] + at(k + 8)) & _ALL, 37) * factor & _ALL
    y = _rotate((y + v[1] + at(k + 48)) & _ALL, 42) * factor & _ALL
    x ^= w[1] * 9 & _ALL
    y = (y + v[0] * 9 + at(k + 40)) & _ALL
    z = _rotate((z + w[0]) & _ALL, 33) * factor & _ALL
    v = _weak(at, k, v[1] * factor & _ALL, (x + w[0]) & _ALL)
    w = _weak(at, k + 32, (z + w[1]) & _ALL, (y + at(k + 16)) & _ALL)
    z, x = x, z
    first = (_of_16(v[0], w[0], factor) + _mix(y) * _K0 + z) & _ALL
    return _of_16(first, (_of_16(v[1], w[1], factor) + x) & _ALL, factor)


def siphash(text, key):
    """SipHash-2-4 of bytes with a key of two numbers."""
    left = lambda value, by: (value << by | value >> (64 - by)) & _ALL  # noqa: E731
    first, second = key[0] & _ALL, key[1] & _ALL
    a, b = first ^ 0x736F6D6570736575, second ^ 0x646F72616E646F6D
    c, d = first ^ 0x6C7967656E657261, second ^ 0x7465646279746573
    last = len(text) % 8
    words = [text[k : k + 8] for k in range(0, len(text) - last, 8)]
    words.append(text[len(text) - last :].ljust(7, b"\0") + bytes([len(text) & 0xFF]))
    for number, word in enumerate([*words, None]):
        m = int.from_bytes(word, "little") if word is not None else 0
        c ^= 0xFF if word is None else 0
        d ^= m
        for _ in range(2 if number < len(words) else 4):
            a, c = (a + b) & _ALL, (c + d) & _ALL
            b, d = left(b, 13) ^ a, left(d, 16) ^ c
            a = left(a, 32)
            c, a = (c + b) & _ALL, (a + d) & _ALL
            b, d = left(b, 17) ^ c, left(d, 21) ^ a
            c = left(c, 32)
        a ^= m
    return a ^ b ^ c ^ d


def bucket(value, n_buckets, salt):
    """The hash of a text (bytes) or of a whole number's decimal digits, modulo `n_buckets`."""
    text = value if isinstance(value, bytes) else b"%d" % value
    return (fingerprint64(text) if salt is None else siphash(text, salt)) % n_buckets


def each(function, values):
    """A function of bytes or whole numbers at each element; equal ones are computed once."""
    known = {}
    flat = [known.setdefault(value, None) for value in values.ravel().tolist()]
    known = {value: function(value) for value in known}
    flat = [known[value] for value in values.ravel().tolist()]
    return np.array(flat, np.int64).reshape(values.shape)


def salt(value):
    """None, or two whole numbers."""
    if value is None:
        return None
    pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
    if len(pair) != 2 or not all(type(part) is int for part in pair):
        raise ValueError("expected a whole number or two")
    return pair


def masked(value):
    """A text, a number or None."""
    if value is not None and not isinstance(value, (str, int)):
        raise ValueError("expected a text or a whole number")
    return value


@register
class Hashing(Encoded):
    """Bin of each value: hash of its text modulo `num_bins`; with a mask_value, bin 0 is kept for it."""

    options = {
        "num_bins": Option(integer(1)),
        "mask_value": Option(masked, None),
        "salt": Option(optional(salt), None),
        "output_mode": Option(choice("int", *MODES), "int"),
        "sparse": Option(choice(False), False),
    }

    @property
    def depth(self):
        return self.num_bins

    def infer(self, inputs, kwargs):
        (spec,) = super().infer(inputs, kwargs)
        return [spec._replace(dtype="int64") if self.output_mode == "int" else spec]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        if x.dtype.kind == "f":
            x = x.astype(np.int64)
        bins, kept = self.num_bins, self.mask_value is not None and self.num_bins > 1
        mask = self.mask_value.encode() if isinstance(self.mask_value, str) else self.mask_value
        bins -= kept

        def bin_of(value):
            if kept and value == mask:
                return 0
            return bucket(value, bins, self.salt) + kept

        indices = each(bin_of, x)
        if self.output_mode != "int":
            return [self.encoded(indices)]
        return [Tensor(indices)]


@register
class HashedCrossing(Encoded):
    """Bin of each tuple of values: their hashes in turn, joined, modulo `num_bins`."""

    options = {
        "num_bins": Option(integer(1)),
        "output_mode": Option(choice("int", "one_hot"), "int"),
        "sparse": Option(choice(False), False),
    }
    n_inputs = None

    @property
    def depth(self):
        return self.num_bins

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1) or len({spec.shape for spec in inputs}) > 1:
            self.fail(f"its inputs have shapes {[spec.shape for spec in inputs]}; expected (batch, 1) or (batch,)")
        (spec,) = super().infer(inputs, kwargs)
        return [spec._replace(dtype="int64") if self.output_mode == "int" else spec]

    def call(self, inputs, kwargs, states):
        flat = [tensor.value.ravel().tolist() for tensor in inputs]

        def joined(values):
            hashed = _CROSSING_KEY
            for value in values:
                part = fingerprint64(value) if isinstance(value, bytes) else value & _ALL
                hashed ^= _CAT
                hashed = (hashed ^ _mix(part * _CAT & _ALL) * _CAT) * _CAT & _ALL
                hashed = _mix(_mix(hashed) * _CAT & _ALL)
            return hashed % self.num_bins

        indices = np.array([joined(values) for values in zip(*flat)], np.int64).reshape(inputs[0].value.shape)
        return [self.encoded(indices)] if self.output_mode != "int" else [Tensor(indices)]
