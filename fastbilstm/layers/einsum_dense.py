"""EinsumDense: a product with a kernel by an equation of axes; the specification, in NumPy."""

import re

import numpy as np

from .base import BaseLayer, Option, activation, optional, register, same_size

# The forms that Keras takes, with "..." on neither side, on the left, or on the right of input and output.
_FORMS = [
    re.compile(form)
    for form in (
        r"()([a-zA-Z]+)(),([a-zA-Z]+)->([a-zA-Z]+)",
        r"(\.{3})([a-zA-Z]+)(),([a-zA-Z]+)->\.{3}([a-zA-Z]+)",
        r"()([a-zA-Z]{2,})(\.{3}),([a-zA-Z]+)->([a-zA-Z]+)\.{3}",
    )
]


def equation(value):
    if not isinstance(value, str) or not any(form.fullmatch(value) for form in _FORMS):
        raise ValueError("expected an equation such as 'abc,cd->abd'")
    return value


def parts_of(equation):
    """(whether "..." stands left, letters of the input, whether it stands right, of the kernel, of the output)."""
    match = next(filter(None, (form.fullmatch(equation) for form in _FORMS)))
    left, given, right, kernel, output = match.groups()
    return bool(left), given, bool(right), kernel, output


def summed_axes(equation):
    """Of an equation that is a Dense over the last axes of its input, how many there are, each with its place at the
    beginning of the kernel: 'abc,cd->abd', 'abcd,cdef->abef'. 0 for other equations.
    """
    left, given, right, kernel, output = parts_of(equation)
    count = sum(letter not in output for letter in kernel)
    rows = given[: len(given) - count]
    is_dense = given == rows + kernel[:count] and output == rows + kernel[count:] and len(set(output)) == len(output)
    is_dense = is_dense and len(set(given)) == len(given) and bool(rows or left) and not right
    return count if is_dense and count < len(kernel) else 0


def axes(value):
    if not isinstance(value, str):
        raise ValueError("expected letters of the output")
    return value


def anything(value):
    return value


@register
class EinsumDense(BaseLayer):
    """activation(einsum(equation, x, kernel) + bias); the bias lies along the last axes of the output."""

    options = {
        "equation": Option(equation),
        "activation": Option(activation, None),
        "bias_axes": Option(optional(axes), None),
    }
    ignored = ("output_shape", "lora_rank", "lora_alpha", "gptq_unpacked_column_size", "quantization_config")
    passes_mask = False

    @property
    def parts(self):
        return parts_of(self.equation)

    @property
    def rows_independent(self):
        left, given, _, kernel, output = self.parts
        return left or (given[0] == output[0] and given[0] not in kernel)

    def weight_shapes(self, shapes):
        roles = {"kernel": (None,) * len(self.parts[3])}
        if self.bias_axes:
            roles["bias"] = (None,) * len(self.sizes.get("bias", ()))
        return roles

    def output_shape(self, shape):
        left, given, right, kernel, output = self.parts
        free = len(shape) - len(given)
        if free < 0 or (free and not (left or right)):
            self.fail(f"its input has shape {shape}; the equation is {self.equation!r}")
        elided, named = (shape[:free], shape[free:]) if left else (shape[len(given) :], shape[: len(given)])
        sizes, kernel_shape = dict(zip(given, named)), self.kernel_shape(shape)
        for letter, size in zip(kernel, kernel_shape):
            if not same_size(sizes.get(letter), size):
                self.fail(f"its input has shape {shape}, its kernel {kernel_shape}; equation {self.equation!r}")
            sizes[letter] = size
        if set(output) - set(sizes):
            self.fail(f"its equation {self.equation!r} has axes in the output that stand nowhere else")
        found = tuple(sizes[letter] for letter in output)
        bias = self.sizes.get("bias", ())
        whole = (*elided, *found) if left else (*found, *elided)
        if len(bias) > len(whole) or any(b != 1 and not same_size(b, s) for b, s in zip(bias[::-1], whole[::-1])):
            self.fail(f"its bias has shape {bias}, its output {whole}")
        return whole

    def kernel_shape(self, shape):
        """The shape of the kernel for an input of this shape; here the arrays tell it."""
        return self.sizes["kernel"]

    def product(self, x, kernel):
        return np.einsum(self.equation, x, kernel, optimize=True)

    def compute(self, x, mask):
        y = self.product(x, self.weights["kernel"])
        return self.activation_function()(y + self.weights["bias"] if self.bias_axes else y)
