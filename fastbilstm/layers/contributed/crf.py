"""Linear-chain conditional random fields of other packages: the best sequence of tags, or the marginals of each tag.

All read x (B, T, F) and hold a chain matrix (U, U) from the tag before to the tag. They differ in signs, in where
boundaries go and in what padding gets; each class says so. Imports NumPy.
"""

import numpy as np

from ... import activations
from ..base import Option, Spec, Tensor, activation, boolean, check_sequence_mask, choice, integer
from .base import Contributed, contributed


def rises(mask):
    """Where a mask (B, T) of 0 and 1 is above the timestep before; before the first one stands 0."""
    return np.diff(mask, axis=1, prepend=0) > 0


def falls(mask):
    """Where a mask (B, T) is above the timestep after; after the last one stands 0."""
    return -np.diff(mask, axis=1, append=0) > 0


def with_boundaries(x, mask, left, right, ends):
    """x (B, T, U) with `left` added where rows begin and `right` at `ends` (B, T); without a mask, at both ends."""
    x = x.copy()
    if mask is None:
        x[:, 0] += left
        x[:, -1] += right
        return x
    x += rises(mask)[:, :, np.newaxis] * left
    x += ends[:, :, np.newaxis] * right
    return x


def log_sum_exp(x, axis):
    """log(sum(exp(x))) along an axis, without overflow."""
    most = np.max(x, axis=axis, keepdims=True)
    return np.squeeze(most, axis) + np.log(np.sum(np.exp(x - most), axis=axis))


def one_hot(tags, units, dtype):
    """(B, T) whole numbers -> (B, T, units) of 0 and 1; a number below 0 gives zeros."""
    return (tags[:, :, np.newaxis] == np.arange(units)).astype(dtype)


class Chain(Contributed):
    """What the CRFs have in common."""

    def mask_of(self, x, mask):
        """The mask as 0 and 1 in the dtype of x, or None."""
        mask = check_sequence_mask(self, x, mask)
        return None if mask is None else mask.astype(x.dtype)


@contributed("keras_contrib.CRF")
class KerasContribCRF(Chain):
    """The CRF of keras_contrib: energies e = activation(x.kernel + bias), the lowest sum of energies is best.

    x (B, T, F) -> (B, T, U): one-hot tags (test_mode viterbi) or probabilities (marginal). Written after keras_contrib
    at commit 3fc5ef7 (December 2019), keras_contrib/layers/crf.py, MIT license,
    https://github.com/keras-team/keras-contrib. What is decoded did not change since CRF came in May 2017. Quirks that
    are kept, because models were trained and read with them:

    - Without a mask, the chain goes on behind the last timestep: the path is followed back from tag 0, over two more
      transitions.
    - With a mask, `right_boundary` goes to the padded timestep before the first kept one, so to none where padding is
      at the end.
    - Marginals add the energies of both directions with one sign, and the backward ones use the chain as it is.
    """

    source = "keras_contrib 2.0.8 (3fc5ef7), MIT, https://github.com/keras-team/keras-contrib"
    mask_text = "learn_mode join: one value a row is left of it; marginal: passed on"
    options = {
        "units": Option(integer()),
        "learn_mode": Option(choice("join", "marginal")),
        "test_mode": Option(choice("viterbi", "marginal")),
        "use_boundary": Option(boolean),
        "use_bias": Option(boolean),
        "activation": Option(activation),
    }
    ignored = ("sparse_target", "input_dim", "unroll", "activity_regularizer")

    def weight_shapes(self, shapes):
        units = self.units
        features = shapes[0][-1] if shapes else None
        roles = {"kernel": (features, units), "chain_kernel": (units, units)}
        if self.use_bias:
            roles["bias"] = (units,)
        if self.use_boundary:
            roles |= {"left_boundary": (units,), "right_boundary": (units,)}
        return roles

    @classmethod
    def names_in_file(cls, config):
        roles = ["kernel", "chain_kernel"] + ["bias"] * config["use_bias"]
        return {role: role for role in roles + ["left_boundary", "right_boundary"] * config["use_boundary"]}

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.require_rank(shape, 3)
        return [Spec((*shape[:2], self.units), inputs[0].masked)]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        mask = self.mask_of(x, inputs[0].mask)
        y = self.viterbi(x, mask) if self.test_mode == "viterbi" else self.marginals(x, mask)
        kept = inputs[0].mask
        if kept is not None and self.learn_mode == "join":
            kept = np.any(kept, axis=1)
        return [Tensor(y, kept)]

    def energies(self, x, mask):
        e = x @ self.weights["kernel"]
        if self.use_bias:
            e = e + self.weights["bias"]
        e = self.activation_function()(e)
        if not self.use_boundary:
            return e
        ends = None if mask is None else np.diff(mask, axis=1, append=0) > 0
        return with_boundaries(e, mask, self.weights["left_boundary"], self.weights["right_boundary"], ends)

    def steps(self, e, mask):
        """For each timestep: the energies (B, U) of its tags, and those (B or 1, U, U) of the transition behind it."""
        chain = self.weights["chain_kernel"][np.newaxis]
        following = None if mask is None else np.concatenate([mask[:, 1:], np.zeros_like(mask[:, :1])], axis=1)
        for t in range(e.shape[1]):
            if mask is None:
                yield e[:, t], chain
            else:
                kept = mask[:, t, np.newaxis]
                yield e[:, t] * kept, chain * (kept * following[:, t, np.newaxis])[:, :, np.newaxis]

    def viterbi(self, x, mask):
        e = self.energies(x, mask)
        batch, timesteps, units = e.shape
        best, tables = np.zeros((batch, units), e.dtype), []
        for here, chain in self.steps(e, mask):
            total = chain + (here + best)[:, :, np.newaxis]
            best = np.min(total, axis=1)
            tables.append(np.argmin(total, axis=1))
        rows, tags = np.arange(batch), np.zeros((batch, timesteps), np.int64)
        tag = tables[-1][:, 0]
        for t in range(timesteps - 1, -1, -1):
            tag = tags[:, t] = tables[t][rows, tag]
        return one_hot(tags, units, e.dtype)

    def logs(self, e, mask):
        """The log of the sum over all paths up to each timestep and over the transition behind it (B, T, U)."""
        sums = np.zeros_like(e)
        before = np.zeros_like(e[:, 0])
        for t, (here, chain) in enumerate(self.steps(e, mask)):
            before = sums[:, t] = log_sum_exp(-(chain + (here - before)[:, :, np.newaxis]), axis=1)
        return sums

    def marginals(self, x, mask):
        e = self.energies(x, mask)
        forward = self.logs(e, mask)
        backward = self.logs(e[:, ::-1], None if mask is None else mask[:, ::-1])[:, ::-1]
        if mask is not None:
            e = e * mask[:, :, np.newaxis]
        total = e.copy()
        total[:, 1:] += forward[:, :-1]
        total[:, :-1] += backward[:, 1:]
        return activations.resolve("softmax", self.version.framework)(-total)


def decode(potentials, chain, lengths):
    """The tags (B, T) of the highest sum of potentials (B, T, U) and of chain (U, U), over `lengths` (B,) timesteps.

    Timesteps behind a row's length get tag 0; a row of length 0 counts as one of length 1.
    """
    batch, timesteps, _ = potentials.shape
    score, rows = potentials[:, 0], np.arange(batch)
    before = np.zeros(potentials.shape, np.int32)
    for t in range(1, timesteps):
        total = score[:, :, np.newaxis] + chain
        before[:, t] = np.argmax(total, axis=1)
        score = np.where((t < lengths)[:, np.newaxis], potentials[:, t] + np.max(total, axis=1), score)
    tags = np.zeros((batch, timesteps), np.int32)
    tag = np.argmax(score, axis=1)
    for t in range(timesteps - 1, -1, -1):
        inside = t < np.maximum(lengths, 1)
        tags[:, t] = np.where(inside, tag, 0)
        tag = np.where(inside, before[rows, t, tag], tag)
    return tags


def decoded(potentials, chain, mask, kept):
    """What the CRFs of TensorFlow Addons and tf2crf give: tags with the mask, potentials, lengths, chain."""
    batch, timesteps, _ = potentials.shape
    lengths = np.full(batch, timesteps) if mask is None else np.sum(mask != 0, axis=1)
    tags = decode(potentials, chain, lengths)
    return [Tensor(tags, kept), Tensor(potentials), Tensor(lengths.astype(np.int64)), Tensor(chain)]


@contributed("tensorflow_addons.CRF")
class AddonsCRF(Chain):
    """The CRF of TensorFlow Addons: potentials p = x.kernel + bias, the highest sum is best.

    x (B, T, F) -> tags (B, T) int32, potentials (B, T, U), lengths (B,) int64, chain_kernel (U, U). Written after
    tensorflow-addons 0.23.0, layers/crf.py and text/crf.py, Apache-2.0, https://github.com/tensorflow/addons.
    `left_boundary` goes to the first kept timestep, `right_boundary` to the last one; a row has as many timesteps as
    its mask keeps, counted from the first one, so padding must be at the end (the package refuses other padding in
    eager mode). Padding gets tag 0, as since version 0.15. With use_kernel=False the potentials are x. The chain has no
    rows, so a model that gives it is refused until it is cut at the layer.
    """

    source = "tensorflow-addons 0.23.0, Apache-2.0, https://github.com/tensorflow/addons"
    mask_text = "passed on with the tags"
    outputs_without_rows = (3,)
    options = {"units": Option(integer()), "use_boundary": Option(boolean), "use_kernel": Option(boolean)}

    def weight_shapes(self, shapes):
        units = self.units
        roles = {"chain_kernel": (units, units)}
        if self.use_boundary:
            roles |= {"left_boundary": (units,), "right_boundary": (units,)}
        if self.use_kernel:
            roles |= {"_dense_layer/0": (shapes[0][-1] if shapes else None, units), "_dense_layer/1": (units,)}
        return roles

    @classmethod
    def names_in_file(cls, config):
        names = {"chain_kernel": "chain_kernel"}
        if config["use_boundary"]:
            names |= {"left_boundary": "left_boundary", "right_boundary": "right_boundary"}
        if config["use_kernel"]:
            names |= {"_dense_layer/0": "kernel", "_dense_layer/1": "bias"}
        return names

    def infer(self, inputs, kwargs):
        shape, masked, _ = inputs[0]
        self.require_rank(shape, 3)
        units = self.units
        if not self.use_kernel and shape[-1] not in (None, units):
            self.fail(f"its input has {shape[-1]} features; with use_kernel=False it needs {units}")
        potentials = Spec((*shape[:2], units))
        return [Spec(shape[:2], masked, "int32"), potentials, Spec(shape[:1], False, "int64"), Spec((units, units))]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        mask = self.mask_of(x, inputs[0].mask)
        potentials = x
        if self.use_kernel:
            potentials = x @ self.weights["_dense_layer/0"] + self.weights["_dense_layer/1"]
        if self.use_boundary:
            left, right = self.weights["left_boundary"], self.weights["right_boundary"]
            potentials = with_boundaries(potentials, mask, left, right, None if mask is None else falls(mask))
        return decoded(potentials, self.weights["chain_kernel"], mask, inputs[0].mask)


@contributed("tf2crf.CRF")
class Tf2CRF(Chain):
    """The CRF of tf2crf: that of TensorFlow Addons without boundaries and kernel; the potentials are x itself.

    x (B, T, U) -> tags (B, T) int32, x, lengths (B,) int64, transitions (U, U). Written after tf2crf 0.1.33,
    tf2crf/crf.py, MIT, https://github.com/xuxingya/tf2crf. Its config does not hold `units`: with a Dense layer of its
    own, neither Keras nor this reads it back. Before version 0.1.27 it gave the tags alone; those are refused.
    """

    source = "tf2crf 0.1.27 to 0.1.33, MIT, https://github.com/xuxingya/tf2crf"
    mask_text = "passed on with the tags"
    outputs_without_rows = (3,)

    def weight_shapes(self, shapes):
        units = shapes[0][-1] if shapes else None
        return {"transitions": (units, units)}

    @classmethod
    def names_in_file(cls, config):
        return {"transitions": "transitions"}

    def infer(self, inputs, kwargs):
        shape, masked, _ = inputs[0]
        self.require_rank(shape, 3)
        square = (shape[-1], shape[-1])
        return [Spec(shape[:2], masked, "int32"), Spec(shape), Spec(shape[:1], False, "int64"), Spec(square)]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        return decoded(x, self.weights["transitions"], self.mask_of(x, inputs[0].mask), inputs[0].mask)


@contributed("phipleg.ChainCRF")
class ChainCRF(Chain):
    """The ChainCRF of phipleg's Keras: the potentials are x itself, the highest sum is best; one-hot tags.

    x (B, T, U) -> (B, T, U). Written after keras/layers/crf.py of https://github.com/phipleg/keras (branch crf, a fork
    of Keras 1.2, MIT), as copied by its users. Boundaries go to the first and the last kept timestep; between a kept
    timestep and a masked one no transition counts; masked timesteps give zeros in place of a tag.
    """

    source = "phipleg/keras, branch crf (Keras 1.2), MIT, https://github.com/phipleg/keras"
    mask_text = "one value a row is left of it"
    ignored = ("init", "activity_regularizer")

    def weight_shapes(self, shapes):
        units = shapes[0][-1] if shapes else None
        return {"U": (units, units), "b_start": (units,), "b_end": (units,)}

    @classmethod
    def names_in_file(cls, config):
        return {role: f"[^/]*{role}" for role in ("U", "b_start", "b_end")}

    def infer(self, inputs, kwargs):
        self.require_rank(inputs[0].shape, 3)
        return [Spec(inputs[0].shape, inputs[0].masked)]

    def call(self, inputs, kwargs, states):
        x, kept = inputs[0]
        mask = self.mask_of(x, kept)
        chain = self.weights["U"][np.newaxis]
        joined = None
        if mask is not None:
            x = x * mask[:, :, np.newaxis]
            joined = (mask[:, :-1] * mask[:, 1:])[:, :, np.newaxis, np.newaxis]
        ends = None if mask is None else falls(mask)
        x = with_boundaries(x, mask, self.weights["b_start"], self.weights["b_end"], ends)
        batch, timesteps, units = x.shape
        score, tables = x[:, 0], []
        for t in range(1, timesteps):
            here = chain if joined is None else chain * joined[:, t - 1]
            total = score[:, :, np.newaxis] + (x[:, t, np.newaxis] + here)
            score = np.max(total, axis=1)
            tables.append(np.argmax(total, axis=1))
        rows, tags = np.arange(batch), np.zeros((batch, timesteps), np.int64)
        tag = tags[:, -1] = np.argmax(score, axis=1)
        for t in range(timesteps - 2, -1, -1):
            tag = tags[:, t] = tables[t][rows, tag]
        if mask is not None:
            tags = np.where(mask > 0, tags, -1)
            kept = np.any(kept, axis=1)
        return [Tensor(one_hot(tags, units, x.dtype), kept)]
