"""MultiHeadAttention and GroupQueryAttention: the specification, in NumPy.

A call takes [query, value] or [query, value, key]. Which masks count depends on the version: Keras 3 uses the masks of
the inputs, tf.keras does so from 2.10 on. From Keras 3.8 on, the layer removes the masks from the tensors it is called
with; the reader puts a `ForgetMask` into the graph for that.
"""

import numpy as np

from ..activations import sigmoid, softmax
from ..errors import InputError
from .activation import masked_softmax
from .base import BaseLayer, Option, Spec, Tensor, boolean, integer, integers, optional, real, register, same_size

# The arguments of a call that are masks.
MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")


def multihead_attention(query, value, key, scale, weigh):
    """softmax(scale * Q K^T) V for every head, and the weights.

    query (..., H, Tq, D), key (..., H, Tk, D), value (..., H, Tk, E) -> (..., H, Tq, E), (..., H, Tq, Tk). `weigh`
    maps scaled scores to weights: it is a softmax over the last axis, perhaps with a mask.
    """
    scores = (query * np.asarray(scale, query.dtype)) @ np.swapaxes(key, -2, -1)
    weights = weigh(scores)
    return weights @ value, weights


def project(x, kernel, bias=None, axes=1):
    """Contract the last `axes` axes of x with the first ones of the kernel: (..., F), (F, H, D) -> (..., H, D)."""
    y = np.tensordot(x, kernel, axes)
    return y if bias is None else y + bias


def misplaced(bias, shape):
    """The bias in the shape in which Keras 3 adds it to a tensor of this shape.

    A bias such as (H, 1), which could be a vector, goes to axis 1 if that axis has its size and the last axis has not.
    """
    if bias is None or bias.ndim < 2:
        return bias
    sizes = [size for size in bias.shape if size > 1]
    if len(sizes) != 1 or shape[-1] == sizes[0] or shape[1] != sizes[0]:
        return bias
    return np.reshape(bias, (-1, *(1,) * (len(shape) - 2)))


def shape_list(value):
    return integers(value) if value is not None else None


@register
class MultiHeadAttention(BaseLayer):
    """Attention in `num_heads` heads over `attention_axes`, by default all axes but the first and last."""

    options = {
        "num_heads": Option(integer(1)),
        "key_dim": Option(integer(1)),
        "value_dim": Option(optional(integer(1)), None),
        "use_bias": Option(boolean, True),
        "output_shape": Option(shape_list, None),
        "attention_axes": Option(optional(integers), None),
        "use_gate": Option(boolean, False),
        "sliding_window": Option(optional(integer(1)), None),
        "softmax_robust_masking": Option(boolean, False),
        "dropout": Option(real, 0.0),
    }
    ignored = ("seed", "flash_attention", "query_shape", "key_shape", "value_shape")
    n_inputs = None

    @classmethod
    def check_config(cls, config, version):
        if any(axis < 1 for axis in config.get("attention_axes") or ()):
            yield "attention_axes", config["attention_axes"], "is not supported; expected axes from 1 on"

    # ---- sizes

    @property
    def heads(self):
        """(heads of the query, heads of key and value)."""
        return self.num_heads, self.num_heads

    @property
    def sizes_of_heads(self):
        """Columns of a head: (in query and key, in the value)."""
        return self.key_dim, self.value_dim or self.key_dim

    def output_sizes(self, features):
        return tuple(self.config.get("output_shape") or (features,))

    def weight_shapes(self, shapes):
        query, value, key = (shapes[0][-1], shapes[1][-1], shapes[-1][-1]) if shapes else (None,) * 3
        (heads, pairs), (key_dim, value_dim) = self.heads, self.sizes_of_heads
        parts = {"query": (query, heads, key_dim), "key": (key, pairs, key_dim)}
        if self.use_gate:
            parts["gate"] = (query, heads, value_dim)
        parts["value"] = (value, pairs, value_dim)
        roles = {}
        for part, shape in parts.items():
            roles[f"{part}/kernel"] = shape
            if self.use_bias:
                roles[f"{part}/bias"] = shape[1:]
        roles["attention_output/kernel"] = (heads, value_dim, *self.output_sizes(query))
        if self.use_bias:
            roles["attention_output/bias"] = self.output_sizes(query)
        return roles

    def axes(self, rank):
        """The axes of the timesteps that attend to each other, for inputs of `rank` axes."""
        axes = self.config.get("attention_axes")
        axes = list(range(1, rank - 1)) if axes is None else axes
        if not axes or len(set(axes)) < len(axes) or max(axes) > rank - 2:
            self.fail(f"attention_axes is {axes} for inputs of {rank} axes")
        return axes

    def checked_infer(self, inputs, kwargs):
        shapes = [spec.shape for spec in inputs]
        if len(shapes) not in (2, 3) or any(len(shape) < 3 for shape in shapes) or len(set(map(len, shapes))) > 1:
            self.fail(f"it is called with inputs of shapes {shapes}; expected [query, value] or [query, value, key]")
        return super().checked_infer(inputs, kwargs)

    def infer(self, inputs, kwargs):
        for name in MASKS:
            if not isinstance(kwargs.get(name), (Spec, type(None))):
                self.fail(f"it is called with {name}={str(kwargs[name])[:60]}; expected a tensor of the model")
        query, value, key = inputs[0].shape, inputs[1].shape, inputs[-1].shape
        axes = self.axes(len(query))
        free = [axis for axis in range(1, len(query) - 1) if axis not in axes]
        pairs = [*((value[axis], key[axis]) for axis in range(1, len(query) - 1))]
        if not all(same_size(a, b) for a, b in [*pairs, *((query[axis], key[axis]) for axis in free)]):
            self.fail(f"query {query}, value {value} and key {key} do not fit")
        masked = inputs[0].masked and self.sees_masks
        outputs = [Spec((*query[:-1], *self.output_sizes(query[-1])), masked)]
        if kwargs.get("return_attention_scores"):
            lead = [query[0], *(query[axis] for axis in free), self.heads[0]]
            outputs.append(Spec((*lead, *(query[axis] for axis in axes), *(key[axis] for axis in axes))))
        return outputs

    # ---- masks

    @property
    def sees_masks(self):
        return self.version.is_keras3 or self.version.version >= (2, 10)

    def joined_mask(self, inputs, kwargs):
        """All masks joined by AND, (B, Tq, Tk): of query, value, key, the window and the call; None without any."""
        given = {name: kwargs[name].value for name in kwargs if isinstance(kwargs[name], Tensor)}
        query, value, key = (tensor.mask if self.sees_masks else None for tensor in (inputs[0], inputs[1], inputs[-1]))
        key = key if len(inputs) == 3 else None
        if not (self.version.is_keras3 and self.version.version >= (3, 8)):
            query = given.get("query_mask", query)
        value, key = given.get("value_mask", value), given.get("key_mask", key)
        masks = [] if query is None else [query.astype(bool)[..., np.newaxis]]
        masks += [mask.astype(bool)[..., np.newaxis, :] for mask in (value, key) if mask is not None]
        distance = np.arange(inputs[0].value.shape[1])[:, np.newaxis] - np.arange(inputs[1].value.shape[1])
        if kwargs.get("use_causal_mask"):
            masks.append((distance >= 0)[np.newaxis])
        if self.config.get("sliding_window"):
            masks.append((np.abs(distance) < self.sliding_window)[np.newaxis])
        mask = given.get("attention_mask")
        if mask is not None and (masks or self.version.is_keras3):
            mask = mask.astype(bool)
        for other in masks:
            mask = other if mask is None else mask & other
        return mask

    def is_fused(self, rank, kwargs):
        """Whether Keras (from 3.7 on) uses a fused operation: there a row with no key has equal weights, not zeros."""
        if not self.version.is_keras3 or self.version.version < (3, 7):
            return False
        return rank == 3 and not self.dropout and not kwargs.get("return_attention_scores")

    def weigh(self, mask, n_axes, kwargs):
        """The function from scores to weights: softmax over the last `n_axes` axes, with the mask."""
        over = tuple(range(-n_axes, 0))

        def function(scores):
            wide = mask
            if wide is None:
                return softmax(scores, over)
            while wide.ndim < scores.ndim:  # an axis for the heads, before those attended over
                wide = np.expand_dims(wide, -2 * n_axes - 1)
            if self.is_fused(scores.ndim - 1, kwargs):
                return softmax(np.where(wide.astype(bool), scores, np.finfo(scores.dtype).min / 2), over)
            return masked_softmax(scores, wide, over, self.version, bool(self.config.get("softmax_robust_masking")))

        return function

    # ---- the layer

    def projected(self, part, x, axes=1):
        kernel, bias = self.weights[f"{part}/kernel"], self.weights.get(f"{part}/bias")
        if self.version.is_keras3:
            bias = misplaced(bias, (*x.shape[: x.ndim - axes], *kernel.shape[axes:]))
        return project(x, kernel, bias, axes)

    def call(self, inputs, kwargs, states):
        x, rank = inputs[0].value, inputs[0].value.ndim
        if inputs[1].value.shape[1] == 0:
            raise InputError(f"layer {self.name!r} ({self.class_name}): its value has no timesteps")
        sizes = [inputs[k].value.shape[1:-1] for k in (-1, 1)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): its key has sizes {sizes[0]}, its value {sizes[1]}"
            )
        query, value, key = (
            self.projected(part, tensor.value)
            for part, tensor in (("query", inputs[0]), ("value", inputs[1]), ("key", inputs[-1]))
        )
        repeats = self.heads[0] // self.heads[1]
        if repeats > 1:
            value, key = (np.repeat(tensor, repeats, axis=-2) for tensor in (value, key))
        # Bring (B, ..., H, D) to (B, free axes, H, attended axes joined, D) and back.
        axes = self.axes(rank)
        lead = [axis for axis in range(rank) if axis not in axes]
        order = [*lead, *axes, rank]
        query, value, key = (np.transpose(tensor, order) for tensor in (query, value, key))
        sizes = [tensor.shape[len(lead) : -1] for tensor in (query, key)]
        joined = [np.reshape(t, (*t.shape[: len(lead)], -1, t.shape[-1])) for t in (query, value, key)]
        mask = self.joined_mask(inputs, kwargs)
        weigh = self.weigh(mask, len(axes), kwargs)

        def weigh_joined(scores):
            by_axis = np.reshape(scores, (*scores.shape[:-2], *sizes[0], *sizes[1]))
            return np.reshape(weigh(by_axis), scores.shape)

        scale = 1 / np.sqrt(query.shape[-1])
        if self.version.is_keras3:
            scale = np.float32(scale)  # also where it computes in float64
        y, weights = multihead_attention(*joined, scale, weigh_joined)
        y = np.reshape(y, (*y.shape[:-2], *sizes[0], y.shape[-1]))
        y = np.transpose(y, np.argsort(order))
        if self.use_gate:
            y = y * sigmoid(self.projected("gate", x))
        y = self.projected("attention_output", y, axes=2)
        outputs = [Tensor(y, inputs[0].mask if self.sees_masks else None)]
        if kwargs.get("return_attention_scores"):
            outputs.append(Tensor(np.reshape(weights, (*weights.shape[:-2], *sizes[0], *sizes[1]))))
        return outputs


@register
class GroupQueryAttention(MultiHeadAttention):
    """MultiHeadAttention whose heads share keys and values in groups."""

    options = {
        "head_dim": Option(integer(1)),
        "num_query_heads": Option(integer(1)),
        "num_key_value_heads": Option(integer(1)),
        **{name: MultiHeadAttention.options[name] for name in ("use_bias", "use_gate", "sliding_window", "dropout")},
    }

    @classmethod
    def check_config(cls, config, version):
        if config["num_query_heads"] % config["num_key_value_heads"]:
            yield "num_key_value_heads", config["num_key_value_heads"], "does not divide num_query_heads"

    @property
    def heads(self):
        return self.num_query_heads, self.num_key_value_heads

    @property
    def sizes_of_heads(self):
        return self.head_dim, self.head_dim

    def checked_infer(self, inputs, kwargs):
        if any(len(spec.shape) != 3 for spec in inputs):
            self.fail(f"it is called with inputs of shapes {[spec.shape for spec in inputs]}; expected 3 axes")
        return super().checked_infer(inputs, kwargs)


@register
class ForgetMask(BaseLayer):
    """Returns its input without the mask, for a layer that reads a tensor after Keras removed its mask."""

    exact = True
    passes_mask = False
    casts_input = False

    def compute(self, x, mask):
        return x
