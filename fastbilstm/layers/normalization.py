"""BatchNormalization at inference, and layers that normalize each row by itself: the specification, in NumPy."""

import numpy as np

from .base import BaseLayer, Option, boolean, integer, integers, real, register


def batch_normalization(x, mean, variance, gamma, beta, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, in the order in which TensorFlow rounds."""
    scale = 1 / np.sqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    offset = -mean * scale if beta is None else beta - mean * scale
    return x * scale + offset


@register
class BatchNormalization(BaseLayer):
    exact = True
    options = {
        "axis": Option(integers, [-1]),
        "epsilon": Option(real, 1e-3),
        "center": Option(boolean, True),
        "scale": Option(boolean, True),
        "renorm": Option(boolean, False),
    }
    ignored = ("momentum", "synchronized", "fused", "renorm_clipping", "renorm_momentum")

    def weight_shape(self, shape):
        """(size,) for one axis. For several (only tf.keras): one size for each axis, 1 where it is not normalized."""
        rank = len(shape)
        if not self.axis or any(not -rank <= axis < rank or axis % rank == 0 for axis in self.axis):
            self.fail(f"axis is {self.axis}; expected axes from 1 to {rank - 1}")
        axes = {axis % rank for axis in self.axis}
        if len(axes) == 1:
            return (shape[axes.pop()],)
        return tuple(size if axis in axes else 1 for axis, size in enumerate(shape))

    def weight_shapes(self, shapes):
        size = self.weight_shape(shapes[0]) if shapes else (None,)
        roles = (["gamma"] if self.scale else []) + (["beta"] if self.center else [])
        # With renorm the corrections belong to training; the last three are for it alone.
        training = ("moving_stddev", "renorm_mean", "renorm_stddev") if self.renorm else ()
        return {role: size for role in (*roles, "moving_mean", "moving_variance", *training)}

    def compute(self, x, mask):
        shape = [1] * x.ndim
        for axis in self.axis:
            shape[axis] = x.shape[axis]
        weights = {role: np.reshape(array, shape) for role, array in self.weights.items()}
        return batch_normalization(
            x,
            weights["moving_mean"],
            weights["moving_variance"],
            weights.get("gamma"),
            weights.get("beta"),
            self.epsilon,
        )


@register
class LayerNormalization(BaseLayer):
    options = {
        "axis": Option(integers, [-1]),
        "epsilon": Option(real, 1e-3),
        "center": Option(boolean, True),
        "scale": Option(boolean, True),
        "rms_scaling": Option(boolean, False),
    }

    def normalized_axes(self, rank):
        if any(not -rank <= axis < rank for axis in self.axis) or not self.axis:
            self.fail(f"axis is {self.axis}; the input has {rank} axes")
        return tuple(sorted(axis % rank for axis in self.axis))

    def weight_shapes(self, shapes):
        size = tuple(shapes[0][axis] for axis in self.normalized_axes(len(shapes[0]))) if shapes else (None,)
        roles = {}
        if self.scale or self.rms_scaling:
            roles["gamma"] = size
        if self.center and not self.rms_scaling:
            roles["beta"] = size
        return roles

    def compute(self, x, mask):
        axes = self.normalized_axes(x.ndim)
        shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
        weights = {role: np.reshape(array, shape) for role, array in self.weights.items()}
        # In float64: if the features of a row are almost equal, x - mean has few correct digits in float32.
        wide = x.astype(np.float64)
        mean = np.mean(wide, axis=axes, keepdims=True)
        variance = np.mean(np.square(wide - mean), axis=axes, keepdims=True)
        if self.rms_scaling:
            # Keras divides by the deviation and does not subtract the mean.
            y = wide / np.sqrt(variance + self.epsilon) * weights["gamma"]
        else:
            y = batch_normalization(wide, mean, variance, weights.get("gamma"), weights.get("beta"), self.epsilon)
        return y.astype(x.dtype)


@register
class RMSNormalization(LayerNormalization):
    """x / sqrt(mean(x^2) + epsilon) * scale; the mean of x is not subtracted."""

    options = {"axis": Option(integers, [-1]), "epsilon": Option(real, 1e-6)}
    passes_mask = False

    def output_shape(self, shape):
        axes = self.normalized_axes(len(shape))
        if axes != tuple(range(len(shape) - len(axes), len(shape))):
            self.fail(f"axis is {self.axis} for an input of shape {shape}; expected its last axes")
        return shape

    def weight_shapes(self, shapes):
        size = tuple(shapes[0][axis] for axis in self.normalized_axes(len(shapes[0]))) if shapes else (None,)
        return {"scale": size}

    def compute(self, x, mask):
        square = np.mean(np.square(x), axis=self.normalized_axes(x.ndim), keepdims=True)
        return x / np.sqrt(square + self.epsilon) * self.weights["scale"]


@register
class UnitNormalization(LayerNormalization):
    """x / |x| along the axes. In tf.keras |x|^2 is at least 1e-12, in Keras 3 |x| is."""

    options = {"axis": Option(integers, [-1])}

    def weight_shapes(self, shapes):
        return {}

    def output_shape(self, shape):
        self.normalized_axes(len(shape))
        return shape

    def compute(self, x, mask):
        square = np.sum(np.square(x), axis=self.normalized_axes(x.ndim), keepdims=True)
        if self.version.is_keras3:
            return x * np.minimum(1 / np.sqrt(square), np.asarray(1 / 1e-12, x.dtype))
        return x / np.sqrt(np.maximum(square, np.asarray(1e-12, x.dtype)))


@register
class GroupNormalization(BaseLayer):
    """Normalizes each group of channels of each row, over all other axes too, to mean 0 and variance 1."""

    options = {
        "groups": Option(integer(-1), 32),
        "axis": Option(integer(-100), -1),
        "epsilon": Option(real, 1e-3),
        "center": Option(boolean, True),
        "scale": Option(boolean, True),
    }

    def channels(self, shape):
        """(axis, number of groups, channels of a group) for an input of this shape."""
        rank = len(shape)
        axis = self.axis + rank if self.axis < 0 else self.axis
        size = shape[axis] if 0 < axis < rank else None
        groups = size if self.groups == -1 else self.groups
        if not size or not groups or size % groups:
            self.fail(f"axis {self.axis} of an input of shape {shape} is not divided into {self.groups} groups")
        return axis, groups, size // groups

    def weight_shapes(self, shapes):
        size = None
        if shapes:
            _, groups, each = self.channels(shapes[0])
            size = groups * each
        return {role: (size,) for role, used in (("gamma", self.scale), ("beta", self.center)) if used}

    def infer(self, inputs, kwargs):
        self.channels(inputs[0].shape)
        if inputs[0].masked and not self.version.is_keras3:
            self.fail("its input has a mask, which tf.keras takes for one over the last axes")
        return super().infer(inputs, kwargs)

    def compute(self, x, mask):
        axis, groups, each = self.channels(x.shape)
        grouped = np.reshape(x, (*x.shape[:axis], groups, each, *x.shape[axis + 1 :]))
        over = tuple(k for k in range(1, grouped.ndim) if k != axis)
        mean = np.mean(grouped, axis=over, keepdims=True)
        variance = np.mean(np.square(grouped - mean), axis=over, keepdims=True)
        shape = [1] * grouped.ndim
        shape[axis : axis + 2] = groups, each
        weights = {role: np.reshape(array, shape) for role, array in self.weights.items()}
        y = batch_normalization(grouped, mean, variance, weights.get("gamma"), weights.get("beta"), self.epsilon)
        return np.reshape(y, x.shape)
