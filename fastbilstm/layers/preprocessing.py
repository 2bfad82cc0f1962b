"""Preprocessing of numbers: Rescaling, Normalization, Discretization, CategoryEncoding; the specification, in NumPy."""

import numpy as np

from ..errors import InputError
from .base import BaseLayer, Option, Spec, Tensor, boolean, choice, integer, integers, optional, register
from .encoding import MODES, encode, encoded_shape


def array(value):
    """Numbers in nested lists, or an array as Keras 3 stores it -> nested lists of floats, or one float."""
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":
        value = (value.get("config") or {}).get("value")
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("expected numbers") from error
    return numbers.tolist()


def rounded(value):
    """`array`, rounded to float32, as TensorFlow does with Python's numbers even if it computes in float64."""
    numbers = array(value)
    if isinstance(value, dict):
        return numbers
    return np.asarray(numbers, np.float32).astype(np.float64).tolist()


class Elementwise(BaseLayer):
    """Preprocessing of every number by itself; tf.keras drops the mask, Keras 3 passes it on."""

    @property
    def passes_mask(self):
        return self.version.is_keras3


@register
class Rescaling(Elementwise):
    """x * scale + offset."""

    exact = True
    options = {"scale": Option(rounded), "offset": Option(rounded, 0.0)}

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        for part in (np.shape(self.scale), np.shape(self.offset)):
            if len(part) > len(shape) or any(
                p not in (1, s) and s is not None for p, s in zip(part[::-1], shape[::-1])
            ):
                self.fail(f"scale or offset of shape {part} does not fit its input {shape}")
        return super().infer(inputs, kwargs)

    def compute(self, x, mask):
        return x * np.asarray(self.scale, x.dtype) + np.asarray(self.offset, x.dtype)


@register
class Normalization(Elementwise):
    """(x - mean) / deviation along the axes that are kept; `invert` undoes that.

    Mean and variance are in the config; after adapt() they are weights.
    """

    exact = True
    options = {
        "axis": Option(lambda value: integers(value) if value is not None else [], [-1]),
        "mean": Option(optional(array), None),
        "variance": Option(optional(array), None),
        "invert": Option(boolean, False),
    }

    @classmethod
    def check_config(cls, config, version):
        if np.shape(config["mean"]) != np.shape(config["variance"]):
            yield "variance", config["variance"], "does not go with mean"

    def kept_axes(self, rank):
        axes = sorted(axis % rank for axis in self.axis if -rank <= axis < rank)
        if len(set(axes)) < len(self.axis):
            self.fail(f"axis is {self.axis}; its input has {rank} axes")
        return axes

    def weight_shapes(self, shapes):
        if self.mean is not None:
            return {}
        size = tuple(shapes[0][axis] for axis in self.kept_axes(len(shapes[0]))) if shapes else (None,)
        return {"mean": size, "variance": size, "count": ()}

    def output_shape(self, shape):
        axes = self.kept_axes(len(shape))
        given = np.shape(self.mean) if self.mean is not None else ()
        sizes = [shape[axis] for axis in axes]
        if len(given) > len(sizes) or any(g not in (1, s) and s is not None for g, s in zip(given[::-1], sizes[::-1])):
            self.fail(f"its mean of shape {given} does not fit axis {self.axis} of its input {shape}")
        return shape

    def mean_and_deviation(self, x):
        """Both broadcast against x."""
        axes = self.kept_axes(x.ndim)
        sizes = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
        mean, variance = (
            np.reshape(np.broadcast_to(np.asarray(part, x.dtype), [x.shape[axis] for axis in axes]), sizes)
            for part in (
                (self.weights[role] if self.mean is None else self.config[role]) for role in ("mean", "variance")
            )
        )
        if self.mean is not None and self.version.is_keras3:
            mean, variance = mean.astype(np.float32).astype(x.dtype), variance.astype(np.float32).astype(x.dtype)
        return mean, np.maximum(np.sqrt(variance), np.asarray(1e-7, x.dtype))

    def compute(self, x, mask):
        mean, deviation = self.mean_and_deviation(x)
        return mean + x * deviation if self.invert else (x - mean) / deviation


class Encoded(BaseLayer):
    """Whole numbers, or their one_hot, multi_hot or count encoding over `depth` columns."""

    exact = True
    passes_mask = False
    casts_input = False

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        if self.output_mode == "int":
            return [Spec(shape, dtype="int32" if self.version.is_keras3 else "int64")]
        return [Spec(encoded_shape(self, shape, self.output_mode, self.depth))]

    def encoded(self, indices):
        return Tensor(encode(self, indices, self.output_mode, self.depth).astype(self.dtype))


@register
class Discretization(Encoded):
    """The number of bin boundaries that are not above x."""

    options = {
        "bin_boundaries": Option(optional(array), None),
        "output_mode": Option(choice("int", *MODES), "int"),
        "sparse": Option(choice(False), False),
    }
    ignored = ("num_bins", "epsilon", "bins")

    @classmethod
    def check_config(cls, config, version):
        if config["bin_boundaries"] is None:
            yield "bin_boundaries", None, "is missing: the layer was saved without adapt()"

    @property
    def depth(self):
        return len(self.bin_boundaries) + 1

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        # TensorFlow stores the boundaries in float32; NaN counts as above all of them.
        boundaries = np.asarray(self.bin_boundaries, np.float32).astype(x.dtype if x.dtype.kind == "f" else np.float64)
        indices = np.searchsorted(boundaries, x, side="right")
        if self.output_mode != "int":
            return [self.encoded(indices)]
        return [Tensor(indices.astype(np.int32 if self.version.is_keras3 else np.int64))]


@register
class CategoryEncoding(Encoded):
    options = {
        "num_tokens": Option(integer(1)),
        "output_mode": Option(lambda value: choice(*MODES)({"binary": "multi_hot"}.get(value, value)), "multi_hot"),
        "sparse": Option(choice(False), False),
    }

    @property
    def depth(self):
        return self.num_tokens

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        indices = x if x.dtype.kind in "iu" else x.astype(np.int64)
        if not self.version.is_keras3 and ((x < 0) | (x >= self.num_tokens)).any():
            raise InputError(f"layer {self.name!r} (CategoryEncoding): values must be from 0 to {self.num_tokens - 1}")
        return [self.encoded(indices)]
