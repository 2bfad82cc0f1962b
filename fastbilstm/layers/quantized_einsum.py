"""EinsumDense with int8 or int4 kernel; see quantized.py. The specification, in NumPy."""

import math

from .base import REGISTRY, Option, integer
from .einsum_dense import EinsumDense
from .quantized import (
    BLOCK_SIZE,
    LEVELS,
    FloatWeights,
    QuantizedInputs,
    group_shapes,
    packed_size,
    quantize_rows,
    unpack,
)


def along(scale, own, wanted):
    """A scale whose axes are the letters `own`, with the axes `wanted`; an axis that it has not gets size 1.

    The axes that are not wanted must have size 1.
    """
    kept = [letter for letter in own if letter in wanted]
    scale = scale.reshape([scale.shape[own.index(letter)] for letter in kept])
    scale = scale.transpose([kept.index(letter) for letter in wanted if letter in kept])
    sizes = iter(scale.shape)
    return scale.reshape([next(sizes) if letter in kept else 1 for letter in wanted])


def sizes(value):
    """A size, or a list of them with None for an axis that the input tells."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [None if size is None else integer(1)(size) for size in values]


class _QuantizedKernel(FloatWeights, EinsumDense):
    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if "..." in config["equation"]:
            yield "equation", config["equation"], "is quantized, which Keras cannot do with '...'"


class Int8WeightsEinsumDense(_QuantizedKernel):
    """EinsumDense with int8 kernel; the input is not quantized (activation_quantizer=None).

    The scale has the axes of the output, with size 1 where the kernel has none.
    """

    def weight_shapes(self, shapes):
        return {**super().weight_shapes(shapes), "kernel_scale": (None,) * len(self.parts[4])}

    def kernel_shape(self, shape):
        found, scale = self.sizes["kernel"], self.sizes["kernel_scale"]
        *_, kernel, output = self.parts
        known = dict(zip(kernel, found))
        expected = tuple(known.get(letter, 1) for letter in output)
        if scale != expected:
            self.fail(f"its kernel_scale has shape {scale}; the model needs {expected}")
        return found

    def floats(self, role, values, scale, *parts):
        *_, kernel, output = self.parts
        return super().floats(role, values, along(scale, output, kernel), *parts)


class Int4WeightsEinsumDense(_QuantizedKernel):
    """EinsumDense with int4 kernel; the input is not quantized.

    On disk the kernel has two axes: those that are summed over, and the others, without a change of their order. Its
    shape follows from the input and from `output_shape`.
    """

    options = {**EinsumDense.options, **BLOCK_SIZE, "output_shape": Option(sizes)}
    ignored = tuple(name for name in EinsumDense.ignored if name != "output_shape")

    def weight_shapes(self, shapes):
        roles = {**super().weight_shapes(shapes), "kernel": (None, None), **group_shapes(self, "kernel", None, None)}
        return roles if self.block_size == -1 else {**roles, "g_idx": (None,)}

    def kernel_shape(self, shape):
        _, given, _, kernel, output = self.parts
        told = zip(output[1:], self.config["output_shape"])
        known = {**dict(zip(given, shape)), **{letter: size for letter, size in told if size is not None}}
        found = tuple(known.get(letter) for letter in kernel)
        if None in found:
            self.fail(f"its input of shape {shape} and its output_shape do not tell the shape {found} of its kernel")
        self.compare(kernel, output, found)
        return found

    def compare(self, kernel, output, shape):
        """Raise FileFormatError if the arrays on disk have other shapes than a kernel of `shape` has there."""
        summed = math.prod(size for letter, size in zip(kernel, shape) if letter not in output)
        rest = math.prod(size for letter, size in zip(kernel, shape) if letter in output)
        expected = {"kernel": (summed, packed_size(rest)), **group_shapes(self, "kernel", summed, rest)}
        for role, stored in {**expected, "g_idx": (summed,)}.items():
            if self.sizes.get(role, stored) != stored:
                self.fail(f"its {role} has shape {self.sizes[role]}; the model needs {stored}")

    def floats(self, role, values, scale, *parts):
        return super().floats(role, unpack(values, scale.shape[-1]), scale, *parts)

    def product(self, x, kernel):
        return super().product(x, kernel.reshape(self.kernel_shape(x.shape)))


class _QuantizedInput(QuantizedInputs):
    """Each call quantizes the input to int8, with a scale for all that one sum runs over."""

    def product(self, x, kernel):
        _, given, _, _, output = self.parts
        axis = tuple(place for place, letter in enumerate(given) if letter not in output)
        whole, scale = quantize_rows(x, *self.levels, axis)
        return super().product(whole, kernel) / along(scale, given, output)


class Int8EinsumDense(_QuantizedInput, Int8WeightsEinsumDense):
    options = {**Int8WeightsEinsumDense.options, **LEVELS}


class Int4EinsumDense(_QuantizedInput, Int4WeightsEinsumDense):
    options = {**Int4WeightsEinsumDense.options, **LEVELS}


REGISTRY.update(
    {
        "int8.EinsumDense": Int8EinsumDense,
        "int8.weights.EinsumDense": Int8WeightsEinsumDense,
        "int4.EinsumDense": Int4EinsumDense,
        "int4.weights.EinsumDense": Int4WeightsEinsumDense,
    }
)
