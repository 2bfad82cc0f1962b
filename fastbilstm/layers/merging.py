"""Layers of several inputs: Concatenate, Add, Subtract, Multiply, Average, Maximum, Minimum, Dot, and attention.

The mask of the output depends on the version of Keras. tf.keras joins the masks of the inputs by AND. Keras 3 drops
them up to 3.3. From 3.4 on it joins them by OR, and they also change the values of Multiply, Maximum and Minimum. The
specification, in NumPy.
"""

import numpy as np

from ..activations import softmax
from ..errors import InputError
from .base import (
    BaseLayer,
    Option,
    Spec,
    Tensor,
    boolean,
    broadcast_mask,
    choice,
    integer,
    integers,
    name_of,
    register,
    same_size,
)


def in_one_dtype(inputs, dtype):
    """If some inputs are floats, cast those of whole numbers (word counts, say) to the dtype of computation."""
    if len({tensor.value.dtype.kind == "f" for tensor in inputs}) == 1:
        return inputs
    return [Tensor(value if value.dtype.kind == "f" else value.astype(dtype), mask) for value, mask in inputs]


class Merge(BaseLayer):
    """Layers that join inputs element by element. An input of fewer axes gets axes of size 1 after the batch axis."""

    exact = True
    n_inputs = None
    casts_input = False
    least_inputs = 1

    @property
    def mask_rule(self):
        if not self.version.is_keras3:
            return "and"
        return "or" if self.version.version >= (3, 4) else "drop"

    def check_count(self, inputs):
        if len(inputs) < self.least_inputs:
            self.fail(f"it is called with {len(inputs)} inputs; expected at least {self.least_inputs}")

    def infer(self, inputs, kwargs):
        self.check_count(inputs)
        rank = max(len(spec.shape) for spec in inputs)
        shape = [1] * rank
        shape[0] = inputs[0].shape[0]
        for spec in inputs:
            wide = (spec.shape[0], *(1,) * (rank - len(spec.shape)), *spec.shape[1:])
            for axis, size in enumerate(wide):
                if axis == 0:
                    shape[0] = size if shape[0] is None else shape[0]
                elif shape[axis] == 1 or (shape[axis] is None and size != 1):
                    shape[axis] = size
                elif size not in (1, None) and size != shape[axis]:
                    self.fail(f"it is called with inputs of shapes {[s.shape for s in inputs]}")
        masked = [spec.masked for spec in inputs]
        joined = {"and": any, "or": all, "drop": lambda _: False}[self.mask_rule](masked)
        return [Spec(tuple(shape), joined, self.joined_dtype(inputs))]

    def joined_dtype(self, inputs):
        """The dtype of the output: that of computation as soon as one input has it, see `in_one_dtype`."""
        if any(spec.dtype is None for spec in inputs):
            return None
        rank = len(inputs[0].shape)
        return name_of(self.merge([spec.zero(self.dtype, rank) for spec in inputs], [None] * len(inputs)).dtype)

    def join_masks(self, masks):
        """The mask of the output: AND of all masks; from Keras 3.4 on OR, if every input has a mask."""
        rule, present = self.mask_rule, [mask for mask in masks if mask is not None]
        if rule == "drop" or not present or (rule == "or" and len(present) < len(masks)):
            return None
        joined = present[0]
        for mask in present[1:]:
            joined = (joined | mask) if rule == "or" else (joined & mask)
        return joined

    def merge(self, values, masks):
        raise NotImplementedError

    def call(self, inputs, kwargs, states):
        inputs = in_one_dtype(inputs, self.dtype)
        rank = max(tensor.value.ndim for tensor in inputs)
        values, masks = [], []
        for value, mask in inputs:
            if value.ndim < rank:
                value = np.reshape(value, (value.shape[0], *(1,) * (rank - value.ndim), *value.shape[1:]))
                mask = None
            values.append(value)
            masks.append(mask if self.mask_rule == "or" else None)
        return [Tensor(self.merge(values, masks), self.join_masks([tensor.mask for tensor in inputs]))]


def wide_masks(values, masks):
    return [None if m is None else np.broadcast_to(broadcast_mask(m, v), v.shape) for v, m in zip(values, masks)]


@register
class Add(Merge):
    def merge(self, values, masks):
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


@register
class Average(Add):
    def merge(self, values, masks):
        return super().merge(values, masks) / len(values)


@register
class Subtract(Merge):
    least_inputs = 2

    def check_count(self, inputs):
        if len(inputs) != 2:
            self.fail(f"it is called with {len(inputs)} inputs; expected 2")

    def merge(self, values, masks):
        return values[0] - values[1]


@register
class Multiply(Merge):
    def merge(self, values, masks):
        masks = wide_masks(values, masks)
        product = None
        for value, mask in zip(values, masks):
            value = value if mask is None else np.where(mask, value, np.ones((), value.dtype))
            product = value if product is None else product * value
        if all(mask is not None for mask in masks):
            keep = masks[0]
            for mask in masks[1:]:
                keep = keep | mask
            product = np.where(keep, product, np.zeros((), product.dtype))
        return product


class Extremum(Merge):
    """Maximum or Minimum. From Keras 3.4 on, only the entries that are not masked count."""

    def merge(self, values, masks):
        masks = wide_masks(values, masks)
        best, best_mask = values[0], masks[0]
        for value, mask in zip(values[1:], masks[1:]):
            if mask is not None:
                value = np.where(mask, value, best)
            if best_mask is not None:
                best = np.where(best_mask, best, value)
            best_mask = None if mask is None or best_mask is None else best_mask | mask
            best = self.extremum(best, value)
        return best


@register
class Maximum(Extremum):
    extremum = staticmethod(np.maximum)


@register
class Minimum(Extremum):
    extremum = staticmethod(np.minimum)


@register
class Concatenate(Merge):
    options = {"axis": Option(integer(-100), -1)}

    def infer(self, inputs, kwargs):
        self.check_count(inputs)
        shapes = [spec.shape for spec in inputs]
        rank = len(shapes[0])
        axis = self.axis + rank if self.axis < 0 else self.axis
        fits = all(
            len(shape) == rank and all(same_size(a, b) for k, (a, b) in enumerate(zip(shape, shapes[0])) if k != axis)
            for shape in shapes
        )
        if not fits or not 0 < axis < rank:
            self.fail(f"it joins inputs of shapes {shapes} along axis {self.axis}")
        sizes = [shape[axis] for shape in shapes]
        shape = list(shapes[0])
        shape[axis] = None if None in sizes else sum(sizes)
        masked = self.mask_rule != "drop" and any(spec.masked for spec in inputs)
        return [Spec(tuple(shape), masked, self.joined_dtype(inputs))]

    def merge(self, values, masks):
        return np.concatenate(values, axis=self.axis)

    def call(self, inputs, kwargs, states):
        inputs = in_one_dtype(inputs, self.dtype)
        values, masks = [tensor.value for tensor in inputs], [tensor.mask for tensor in inputs]
        y = self.merge(values, masks)
        if self.mask_rule == "drop" or all(mask is None for mask in masks):
            return [Tensor(y)]
        wide = []
        for value, mask in zip(values, masks):
            if mask is None:
                mask = np.ones(value.shape, bool)
            # A mask of as many axes is used as it is, even if its last axis has another size
            # (TimeDistributed(Flatten)).
            full = mask.ndim == value.ndim
            wide.append(mask if full else np.broadcast_to(broadcast_mask(mask, value), value.shape))
        joined = np.concatenate(wide, axis=self.axis)
        reduce = np.any if self.mask_rule == "or" else np.all
        return [Tensor(y, reduce(joined, axis=-1))]


def l2_normalize(x, axis, version):
    """x / |x| along an axis. In tf.keras |x|^2 is at least 1e-12, in Keras 3 |x| is at least 1e-7."""
    square = np.sum(np.square(x), axis=axis, keepdims=True)
    if version.is_keras3:
        with np.errstate(divide="ignore"):
            return x * np.minimum(1 / np.sqrt(square), 1 / 1e-7)
    return x / np.sqrt(np.maximum(square, 1e-12))


@register
class Dot(BaseLayer):
    """Batch-wise dot product along one axis of each of two inputs."""

    options = {"axes": Option(integers), "normalize": Option(boolean, False)}
    n_inputs = None
    passes_mask = False

    def both_axes(self, ranks):
        axes = self.axes * 2 if len(self.axes) == 1 else self.axes
        if len(axes) != 2 or len(ranks) != 2 or any(not -r <= a < r or a % r == 0 for a, r in zip(axes, ranks)):
            self.fail(f"axes is {self.axes} for {len(ranks)} inputs of {ranks} axes")
        return [axis % rank for axis, rank in zip(axes, ranks)]

    def infer(self, inputs, kwargs):
        first, second = (list(spec.shape) for spec in inputs) if len(inputs) == 2 else ([], [])
        axes = self.both_axes([len(spec.shape) for spec in inputs])
        if not same_size(first.pop(axes[0]), second.pop(axes[1])):
            self.fail(f"axes is {self.axes} for inputs of shapes {[spec.shape for spec in inputs]}")
        shape = first + second[1:]
        return [Spec(tuple(shape) if len(shape) > 1 else (*shape, 1))]

    def call(self, inputs, kwargs, states):
        values = [tensor.value for tensor in inputs]
        axes = self.both_axes([value.ndim for value in values])
        if self.normalize:
            values = [l2_normalize(value, axis, self.version) for value, axis in zip(values, axes)]
        first, second = (np.moveaxis(value, axis, -1) for value, axis in zip(values, axes))
        batch, size = first.shape[0], first.shape[-1]
        rows, columns = first.shape[1:-1], second.shape[1:-1]
        flat = [np.reshape(v, (batch, int(np.prod(v.shape[1:-1])), size)) for v in (first, second)]
        y = flat[0] @ np.swapaxes(flat[1], 1, 2)
        return [Tensor(np.reshape(y, (batch, *rows, *columns) if rows or columns else (batch, 1)))]


def attention(query, value, key, score, keep=None):
    """softmax(score(Q, K)) V; query (B, Tq, D), value (B, Tv, E), key (B, Tv, D) -> (B, Tq, E), weights (B, Tq, Tv).

    `keep` is broadcast against (B, Tq, Tv). Where it is False, 1e9 is subtracted from the scores, as in Keras.
    """
    scores = score(query, key)
    if keep is not None:
        scores = np.where(keep, scores, scores - 1e9)
    weights = softmax(scores)
    return weights @ value, weights


@register
class Attention(BaseLayer):
    """Dot-product (Luong) attention over [query, value] or [query, value, key].

    With inputs of two axes, the rows of the batch attend to each other, as in Keras: the output depends on the batch.
    """

    options = {
        "use_scale": Option(boolean, False),
        "score_mode": Option(choice("dot", "concat"), "dot"),
        "causal": Option(boolean, False),
    }
    ignored = ("dropout", "seed")
    n_inputs = None

    def weight_shapes(self, shapes):
        roles = {"scale": ()} if self.use_scale else {}
        if self.score_mode == "concat":
            roles["concat_score_weight"] = ()
        return roles

    def infer(self, inputs, kwargs):
        shapes = [spec.shape for spec in inputs]
        if len(shapes) not in (2, 3) or any(len(shape) < 2 for shape in shapes) or len(set(map(len, shapes))) > 1:
            self.fail(f"it is called with inputs of shapes {shapes}; expected [query, value] or [query, value, key]")
        query, value, key = shapes[0], shapes[1], shapes[-1]
        if not same_size(query[-1], key[-1]) or not same_size(value[-2], key[-2]):
            self.fail(f"query {query}, value {value} and key {key} do not fit")
        passes = not (self.version.is_keras3 and self.version.version < (3, 4))
        outputs = [Spec((*query[:-1], value[-1]), passes and inputs[0].masked)]
        if kwargs.get("return_attention_scores"):
            outputs.append(Spec((*query[:-1], key[-2])))
        return outputs

    def score(self, query, key):
        if self.score_mode == "dot":
            scores = query @ np.swapaxes(key, -2, -1)
            return scores * self.weights["scale"] if self.use_scale else scores
        total = query[..., :, np.newaxis, :] + key[..., np.newaxis, :, :]
        if self.use_scale:
            total = total * self.weights["scale"]
        return self.weights["concat_score_weight"] * np.sum(np.tanh(total), axis=-1)

    def call(self, inputs, kwargs, states):
        query, value, key = inputs[0].value, inputs[1].value, inputs[-1].value
        query_mask, value_mask = inputs[0].mask, inputs[1].mask
        if value.shape[-2] == 0:
            raise InputError(f"layer {self.name!r} ({self.class_name}): its value has no timesteps")
        keep = None if value_mask is None else value_mask[..., np.newaxis, :]
        if self.config.get("causal") or kwargs.get("use_causal_mask"):
            causal = np.tril(np.ones((query.shape[-2], key.shape[-2]), bool))
            keep = causal if keep is None else keep & causal
        y, weights = attention(query, value, key, self.score, keep)
        if query_mask is not None:
            wide = query_mask[..., np.newaxis]
            y = np.where(wide, y, 0) if self.version.is_keras3 else y * wide
        lost = self.version.is_keras3 and self.version.version < (3, 4)
        result = [Tensor(y, None if lost else query_mask)]
        return [*result, Tensor(weights)] if kwargs.get("return_attention_scores") else result


@register
class AdditiveAttention(Attention):
    """Additive (Bahdanau) attention."""

    options = {"use_scale": Option(boolean, True), "causal": Option(boolean, False)}

    def weight_shapes(self, shapes):
        return {"scale": (shapes[0][-1] if shapes else None,)} if self.use_scale else {}

    def score(self, query, key):
        activity = np.tanh(query[..., :, np.newaxis, :] + key[..., np.newaxis, :, :])
        if self.use_scale:
            activity = activity * self.weights["scale"]
        return np.sum(activity, axis=-1)
