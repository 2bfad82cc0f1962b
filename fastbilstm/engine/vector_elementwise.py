"""Layers that compute each element by itself, move elements, or pool a whole axis, on the kernels of _elementwise.pxi.

Each has the call and the result of the layer that it replaces, and leaves to that layer what the kernels do not take:
whole numbers, masks of unusual shapes. Imports NumPy and the compiled module `_kernels`; knows nothing of files.
"""

import numpy as np

from .. import _kernels
from ..activations import kernel_code, softmax
from ..layers import Tensor
from ..layers.activation import rules_of_masked_softmax
from ..layers.base import broadcast_mask
from ..layers.core import check_ids
from .vector_layers import compiled_activation, contiguous

FLOAT, MOST_AXES = np.dtype(np.float32), _kernels.MOST_AXES


def each(states, name, *operands, constants=()):
    """`name` of the operands, element by element; `constants`: the numbers of those that are weights."""
    operands = tuple(contiguous(x, x.dtype) for x in operands)
    dtype = _kernels.result_dtype(name, [x.dtype for x in operands])
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    return _kernels.elementwise(name, operands, states.array(*shape, dtype=dtype), constants)


def reduced(states, name, x, first, last, shape, keep=None):
    """A reduction over the axes first to last - 1, as an array of a shape."""
    x = contiguous(x, x.dtype)
    return _kernels.reduce(name, x, first, last, states.array(*shape, dtype=x.dtype), keep)


def moved(states, x, shape, view=None, place=None):
    """An array of a shape, filled from views of x and of the array."""
    y = states.array(*shape, dtype=x.dtype)
    return _kernels.copy(x, y, view, None if place is None else place(y))


def constant(value):
    return np.array(value, np.float32, order="C")


ZERO, ONE, LOWEST = constant(0), constant(1), constant(-1e9)


class OnKernels:
    """What runs instead of a layer."""

    has_kernels = True

    def __init__(self, layer):
        self.layer, self.name = layer, layer.name
        self.casts_input, self.n_inputs = layer.casts_input, layer.n_inputs


class VectorView(OnKernels):
    """A layer whose result is its input in another shape."""

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        return self.layer.call([Tensor(contiguous(x, x.dtype), mask)], kwargs, states)


# ---- elements -------------------------------------------------------------------------------------------------------


def normalization_of(layer, x):
    """BatchNormalization as x * scale + offset, in the order in which the specification rounds."""
    shape = [1] * x.ndim
    for axis in layer.axis:
        shape[axis] = x.shape[axis]
    weights = {role: np.reshape(array, shape) for role, array in layer.weights.items()}
    scale = 1 / np.sqrt(weights["moving_variance"] + layer.epsilon)
    scale = scale * weights["gamma"] if "gamma" in weights else scale
    offset = -weights["moving_mean"] * scale
    offset = weights["beta"] - weights["moving_mean"] * scale if "beta" in weights else offset
    return [("multiply_add", scale, offset)]


def adapted(layer, x):
    mean, deviation = layer.mean_and_deviation(x)
    return [("multiply_add", deviation, mean)] if layer.invert else [("subtract", mean), ("divide", deviation)]


# Class -> what is done with x, in order: (operation, the operands after x).
FORMULAS = {
    "PReLU": lambda layer, x: [("prelu", layer.weights["alpha"])],
    "ThresholdedReLU": lambda layer, x: [("above", layer.theta)],
    "BatchNormalization": normalization_of,
    "Rescaling": lambda layer, x: [("multiply_add", layer.scale, layer.offset)],
    "Normalization": adapted,
}


class VectorFormula(OnKernels):
    """One of FORMULAS."""

    def __init__(self, layer):
        super().__init__(layer)
        self.formula, self.known = FORMULAS[type(layer).__name__], (None, None)

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        shape, steps = self.known
        if shape != x.shape[1:]:
            steps = [(name, *map(constant, operands)) for name, *operands in self.formula(self.layer, x)]
            self.known = x.shape[1:], steps
        if x.ndim > MOST_AXES:
            return self.layer.call(inputs, kwargs, states)
        for name, *operands in steps:
            x = each(states, name, x, *operands, constants=(1, 2))
        return [Tensor(x, mask if self.layer.passes_mask else None)]


class VectorMasking(OnKernels):
    def __init__(self, layer):
        super().__init__(layer)
        self.value, version = constant(layer.mask_value), layer.version
        self.is_rounded = layer.config.get("dtype") is not None  # in half precision
        self.selects = version.is_keras3 and version.version >= (3, 15)

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        if self.is_rounded or x.ndim > MOST_AXES:
            return self.layer.call(inputs, kwargs, states)
        x = contiguous(x)
        keep = reduced(
            states, "any", each(states, "not_equal", x, self.value, constants=(1,)), x.ndim - 1, x.ndim, x.shape[:-1]
        )
        wide = keep[..., np.newaxis]
        if self.selects:
            return [Tensor(each(states, "where", wide, x, ZERO, constants=(2,)), keep)]
        return [Tensor(each(states, "multiply", x, wide), keep)]


class VectorSoftmax(OnKernels):
    """Softmax along any axes, and along one with a mask."""

    def __init__(self, layer):
        super().__init__(layer)
        self.activation = compiled_activation(kernel_code(softmax))
        self.replaces, self.zeroes = rules_of_masked_softmax(layer.version, layer.robust_masking)

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        axes = sorted({axis % x.ndim for axis in self.layer.axis})
        fits = x.size and x.ndim <= MOST_AXES and axes and len(axes) == len(self.layer.axis)
        if mask is not None:
            mask = contiguous(mask, bool)
            fits = fits and len(axes) == 1 and joins(x.shape, mask.shape)
        if not fits:
            return self.layer.call(inputs, kwargs, states)
        y = x = contiguous(x)
        if mask is not None and self.replaces:
            y = each(states, "where", mask, x, LOWEST, constants=(2,))
        elif mask is not None:
            y = each(states, "lower", x, mask)
        order = [axis for axis in range(x.ndim) if axis not in axes] + axes
        turned = y.transpose(order)
        y = moved(states, y, turned.shape, turned)
        self.activation.apply(y.reshape(-1, int(np.prod(y.shape[x.ndim - len(axes) :]))))
        if axes[0] + len(axes) < x.ndim:
            y = moved(states, y, x.shape, y.transpose(np.argsort(order)))
        if mask is not None and self.zeroes:
            y = each(states, "where", mask, y, ZERO, constants=(2,))
        return [Tensor(y, inputs[0].mask)]


def joins(shape, other):
    """Whether an array of the other shape broadcasts to this shape."""
    return len(other) <= len(shape) and all(b in (1, a) for a, b in zip(shape[::-1], other[::-1]))


class VectorEmbedding(OnKernels):
    """Embedding of ids of any rank, without a recurrent layer after it."""

    def __init__(self, layer):
        super().__init__(layer)
        self.table = contiguous(layer.weights["embeddings"])

    def call(self, inputs, kwargs, states):
        ids = inputs[0].value
        if ids.dtype not in (np.int32, np.int64, np.float32) or ids.ndim > MOST_AXES:
            return self.layer.call(inputs, kwargs, states)
        ids = contiguous(ids, ids.dtype)
        y = states.array(*ids.shape, self.table.shape[1])
        try:
            _kernels.gather(self.table, ids, y)
        except ValueError:
            check_ids(ids, len(self.table), f"layer {self.name!r} (Embedding): token id")
            raise
        if not self.layer.mask_zero:
            return [Tensor(y)]
        return [Tensor(y, each(states, "not_equal", ids, np.zeros((), ids.dtype), constants=(1,)))]


# ---- several inputs -------------------------------------------------------------------------------------------------


class VectorMerge(OnKernels):
    """Add, Average, Subtract, Multiply, Maximum, Minimum, Concatenate of floats."""

    def __init__(self, layer):
        super().__init__(layer)
        self.kind = type(layer).__name__

    def call(self, inputs, kwargs, states):
        masks = [tensor.mask for tensor in inputs]
        plain = all(t.value.dtype == FLOAT and t.value.ndim <= MOST_AXES for t in inputs)
        plain = plain and all(m is None or (m.dtype == bool and m.ndim <= t.value.ndim) for t, m in zip(inputs, masks))
        # A mask that broadcasts beyond its input is the specification's to refuse.
        plain = plain and all(
            m is None or m.ndim == t.value.ndim or joins(t.value.shape, m.shape + (1,) * (t.value.ndim - m.ndim))
            for t, m in zip(inputs, masks)
        )
        if not plain:
            return self.layer.call(inputs, kwargs, states)
        values = [contiguous(tensor.value) for tensor in inputs]
        masks = [None if mask is None else contiguous(mask, bool) for mask in masks]
        if self.kind == "Concatenate":
            return [self.concatenated(values, masks, states)]
        rank = max(value.ndim for value in values)
        wide = [np.reshape(v, (len(v), *(1,) * (rank - v.ndim), *v.shape[1:])) for v in values]
        used = [m if self.layer.mask_rule == "or" and v.ndim == rank else None for v, m in zip(values, masks)]
        used = [None if m is None else broadcast_mask(m, v) for v, m in zip(wide, used)]
        if any(m is not None and not joins(v.shape, m.shape) for v, m in zip(wide, used)):
            return self.layer.call(inputs, kwargs, states)
        return [Tensor(MERGES[self.kind](states, wide, used), self.joined_masks(masks, states))]

    def joined_masks(self, masks, states):
        """As in `merging.Merge.join_masks`."""
        rule, present = self.layer.mask_rule, [mask for mask in masks if mask is not None]
        if rule == "drop" or not present or (rule == "or" and len(present) < len(masks)):
            return None
        return folded(states, f"logical_{rule}", present)

    def concatenated(self, values, masks, states):
        y = joined_along(self.layer.axis, values, [None] * len(values), states)
        rule = self.layer.mask_rule
        if rule == "drop" or all(mask is None for mask in masks):
            return Tensor(y)
        views = []
        for k, (value, mask) in enumerate(zip(values, masks)):
            if mask is None:
                masks[k] = _kernels.fill(states.array(*value.shape, dtype=bool), 1)
            full = masks[k].ndim == value.ndim
            views.append(masks[k] if full else np.broadcast_to(broadcast_mask(masks[k], value), value.shape))
        keep = joined_along(self.layer.axis, masks, views, states)
        return Tensor(
            y, reduced(states, {"or": "any", "and": "all"}[rule], keep, keep.ndim - 1, keep.ndim, keep.shape[:-1])
        )


def joined_along(axis, arrays, views, states):
    """The views (None: the arrays) one behind the other along an axis."""
    views = [array if view is None else view for array, view in zip(arrays, views)]
    axis, shape, start = axis % views[0].ndim, list(views[0].shape), 0
    if any(v.shape[:axis] + v.shape[axis + 1 :] != (*shape[:axis], *shape[axis + 1 :]) for v in views):
        raise ValueError(f"inputs of shapes {[v.shape for v in views]} along axis {axis}")
    shape[axis] = sum(view.shape[axis] for view in views)
    y = states.array(*shape, dtype=views[0].dtype)
    for array, view in zip(arrays, views):
        stop = start + view.shape[axis]
        _kernels.copy(array, y, view, y[(slice(None),) * axis + (slice(start, stop),)])
        start = stop
    return y


def folded(states, name, values):
    """name(name(values[0], values[1]), ...)."""
    total, *others = values
    for value in others:
        total = each(states, name, total, value)
    return total


def average(states, values, masks):
    return each(states, "divide", folded(states, "add", values), constant(len(values)), constants=(1,))


def product(states, values, masks):
    values = [v if m is None else each(states, "where", m, v, ONE, constants=(2,)) for v, m in zip(values, masks)]
    y = folded(states, "multiply", values)
    if any(mask is None for mask in masks):
        return y
    return each(states, "where", folded(states, "logical_or", masks), y, ZERO, constants=(2,))


def extremum(name):
    """As in `merging.Extremum`: only what is not masked counts."""

    def merge(states, values, masks):
        best, kept = values[0], masks[0]
        for value, mask in zip(values[1:], masks[1:]):
            if mask is not None:
                value = each(states, "where", mask, value, best)
            if kept is not None:
                best = each(states, "where", kept, best, value)
            kept = None if mask is None or kept is None else each(states, "logical_or", kept, mask)
            best = each(states, name, best, value)
        return best

    return merge


MERGES = {
    "Add": lambda states, values, masks: folded(states, "add", values),
    "Average": average,
    "Subtract": lambda states, values, masks: folded(states, "subtract", values),
    "Multiply": product,
    "Maximum": extremum("maximum"),
    "Minimum": extremum("minimum"),
}


# ---- moves ----------------------------------------------------------------------------------------------------------


def cropped(layer, x):
    """What is left of x after cropping, or where x goes in what ZeroPadding makes of it; the spatial axes decide."""
    first = 2 if layer.channels_first else 1
    places = [slice(None)] * x.ndim
    for axis, (before, after) in enumerate(layer.widths, start=first):
        places[axis] = slice(before, x.shape[axis] - after)
    return x[tuple(places)]


def spread(layer, x):
    """x with an axis of the repeats behind each spatial axis."""
    factors = [layer.size] if layer.rank == 1 else layer.size
    first, shape = 2 if layer.channels_first else 1, list(x.shape)
    for axis, factor in reversed(list(enumerate(factors, start=first))):
        x = np.expand_dims(x, axis + 1)
        shape.insert(axis + 1, factor)
    return np.broadcast_to(x, shape)


# Class -> the view of x that becomes the result, in its order.
VIEWS = {
    "Permute": lambda layer, x: np.transpose(x, (0, *layer.dims)),
    "RepeatVector": lambda layer, x: np.broadcast_to(x[:, np.newaxis], (len(x), layer.n, x.shape[1])),
    "Flatten": lambda layer, x: np.moveaxis(x, 1, -1) if x.ndim > 2 else x,
    **{f"Cropping{rank}D": cropped for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": spread for rank in (1, 2, 3)},
}


class VectorMove(OnKernels):
    """Layers that copy elements: VIEWS and ZeroPadding."""

    def call(self, inputs, kwargs, states):
        x, layer = inputs[0].value, self.layer
        if x.itemsize not in (1, 4, 8) or x.dtype == object or x.ndim > MOST_AXES:
            return layer.call(inputs, kwargs, states)
        x = contiguous(x, x.dtype)
        if hasattr(layer, "check_room"):
            layer.check_room(np.moveaxis(x, 1, -1) if layer.channels_first else x)
        shape = layer.output_shape(x.shape)
        view = VIEWS.get(type(layer).__name__)
        if view is None:
            y = _kernels.fill(states.array(*shape, dtype=x.dtype), 0)
            return [Tensor(_kernels.copy(x, y, x, cropped(layer, y)))]
        view = view(layer, x)
        return [Tensor(moved(states, x, shape, view, lambda y: y.reshape(view.shape)))]


# ---- whole axes -----------------------------------------------------------------------------------------------------


class VectorGlobalPooling(OnKernels):
    """Global average and maximum pooling of floats; masks leave timesteps out of averages."""

    def __init__(self, layer):
        super().__init__(layer)
        self.averages = "Average" in type(layer).__name__
        self.axes = (layer.time_axis,) if hasattr(layer, "time_axis") else layer.axes

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        keep = None
        if mask is not None and self.averages:
            keep = contiguous(mask, bool)
        fits = x.dtype == FLOAT and x.size and (keep is None or (keep.shape == x.shape[:2] and self.axes == (1,)))
        if not fits:
            return self.layer.call(inputs, kwargs, states)
        shape, last = self.layer.output_shape(x.shape), self.axes[-1] + 1
        return [Tensor(reduced(states, "mean" if self.averages else "max", x, self.axes[0], last, shape, keep))]
