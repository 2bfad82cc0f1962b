"""Attention layers of other packages: a weighted mean of the timesteps for each timestep, or for each row.

All read x (B, T, F). Weights over timesteps are a softmax of scores; the classes differ in the scores, in what masked
timesteps get, and in what follows the mean. Imports NumPy.
"""

import numpy as np

from ..base import Option, Spec, Tensor, activation, boolean, check_sequence_mask, choice, integer, optional
from .base import Contributed, contributed

# What the sources subtract from the score of a timestep that must not count.
FAR = 10000.0
# Keras' epsilon, which the sources add to a sum before they divide by it.
EPSILON = 1e-7
# The first tf.keras that is younger than keras-self-attention 0.51, whose masks differ from those of 0.46 and before.
_MASKS_KNOWN_FROM = (2, 8)


def exponentials(scores):
    """exp(scores - their maximum along the last axis)."""
    return np.exp(scores - np.max(scores, axis=-1, keepdims=True))


@contributed("keras_self_attention.SeqSelfAttention")
class SeqSelfAttention(Contributed):
    """v[t] = sum over s of softmax over s(e[t, s]) x[s], with scores e of each pair of timesteps.

    additive: e[t, s] = tanh(x[t].Wt + x[s].Wx + bh).Wa + ba; multiplicative: e[t, s] = x[t].Wa.x[s] + ba; then
    attention_activation. x (B, T, F) -> (B, T, F); with return_attention also the weights (B, T, T). Written after
    keras-self-attention 0.51.0, seq_self_attention.py, MIT, https://github.com/CyberZHG/keras-self-attention.

    attention_width: only timesteps s with t - width // 2 <= s < t - width // 2 + width count, with history_only those
    with t - width < s <= t. A masked pair loses 10000 from its score only if both timesteps are masked: kept timesteps
    see masked ones, too. Versions before 0.47 took masked timesteps out, and no option tells them apart, so a mask is
    refused in files older than tf.keras 2.8.
    """

    source = "keras-self-attention 0.51.0, MIT, https://github.com/CyberZHG/keras-self-attention"
    mask_text = "passed on"
    options = {
        "units": Option(integer()),
        "attention_width": Option(optional(integer())),
        "attention_type": Option(choice("additive", "multiplicative")),
        "return_attention": Option(boolean),
        "history_only": Option(boolean),
        "use_additive_bias": Option(boolean),
        "use_attention_bias": Option(boolean),
        "attention_activation": Option(activation),
    }
    ignored = ("attention_regularizer_weight", "activity_regularizer")

    def weight_shapes(self, shapes):
        features = shapes[0][-1] if shapes else None
        if self.attention_type == "additive":
            roles = {"Wt": (features, self.units), "Wx": (features, self.units)}
            if self.use_additive_bias:
                roles["bh"] = (self.units,)
            roles["Wa"] = (self.units, 1)
        else:
            roles = {"Wa": (features, features)}
        return {**roles, "ba": (1,)} if self.use_attention_bias else roles

    @classmethod
    def names_in_file(cls, config):
        roles, kind = ["Wa"] + ["ba"] * config["use_attention_bias"], "Mul"
        if config["attention_type"] == "additive":
            roles, kind = ["Wt", "Wx"] + ["bh"] * config["use_additive_bias"] + roles, "Add"
        return {role: f"[^/]*_{kind}_{role}" for role in roles}

    def infer(self, inputs, kwargs):
        shape, masked, _ = inputs[0]
        self.require_rank(shape, 3)
        if masked and not self.version.is_keras3 and self.version.version < _MASKS_KNOWN_FROM:
            self.fail(
                "its input has a mask, which versions of keras-self-attention treat in different ways, and the file "
                "does not say which one wrote it; describe the class with fastbilstm.register_layer"
            )
        outputs = [Spec(shape, masked)]
        return [*outputs, Spec((shape[0], shape[1], shape[1]))] if self.return_attention else outputs

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        weights, timesteps = self.weights, x.shape[1]
        if self.attention_type == "additive":
            # Row by row: all pairs of timesteps of a row are T * T * units numbers.
            e = np.empty((len(x), timesteps, timesteps), x.dtype)
            for row, target, source in zip(e, x @ weights["Wt"], x @ weights["Wx"]):
                h = target[:, np.newaxis] + source
                if self.use_additive_bias:
                    h += weights["bh"]
                row[:] = (np.tanh(h, out=h) @ weights["Wa"])[..., 0]
        else:
            e = (x @ weights["Wa"]) @ np.swapaxes(x, 1, 2)
        if self.use_attention_bias:
            e = e + weights["ba"]
        e = self.activation_function("attention_activation")(e)
        far = np.asarray(FAR, x.dtype)
        width = self.attention_width
        if width is None and self.history_only:
            width = timesteps
        if width is not None:
            at = np.arange(timesteps)
            first = at[:, np.newaxis] - (width - 1 if self.history_only else width // 2)
            e = e - far * ~((first <= at) & (at < first + width))
        kept = check_sequence_mask(self, x, mask)
        if kept is not None:
            e = e - far * (~kept[:, :, np.newaxis] & ~kept[:, np.newaxis])
        a = exponentials(e)
        a = a / np.sum(a, axis=-1, keepdims=True)
        outputs = [Tensor(a @ x, mask)]
        return [*outputs, Tensor(a)] if self.return_attention else outputs


class WeightedMean(Contributed):
    """The mean of the timesteps, weighted by a softmax of one score each; with return_attention also the weights."""

    def score_roles(self, features):
        return {"W": (features, 1)}

    def weight_shapes(self, shapes):
        return self.score_roles(shapes[0][-1] if shapes else None)

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.require_rank(shape, 3)
        mean = Spec((shape[0], shape[2]))
        return [mean, Spec(shape[:2])] if self.return_attention else [mean]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        weights = self.unscaled(x, check_sequence_mask(self, x, inputs[0].mask))
        weights = weights / (np.sum(weights, axis=1, keepdims=True) + np.asarray(EPSILON, x.dtype))
        mean = Tensor(np.sum(x * weights[:, :, np.newaxis], axis=1))
        return [mean, Tensor(weights)] if self.return_attention else [mean]


@contributed("keras_self_attention.SeqWeightedAttention")
class SeqWeightedAttention(WeightedMean):
    """y = sum over t of softmax(x.W + b)[t] x[t]; masked timesteps lose 10000 from their score.

    x (B, T, F) -> (B, F); with return_attention also the weights (B, T). Written after keras-self-attention 0.51.0,
    seq_weighted_attention.py, MIT, https://github.com/CyberZHG/keras-self-attention. Versions before 0.46 gave a row
    without any kept timestep zeros; this one gives it the mean over all of them.
    """

    source = "keras-self-attention 0.51.0, MIT, https://github.com/CyberZHG/keras-self-attention"
    options = {"use_bias": Option(boolean), "return_attention": Option(boolean)}

    def score_roles(self, features):
        return {"W": (features, 1), "b": (1,)} if self.use_bias else {"W": (features, 1)}

    @classmethod
    def names_in_file(cls, config):
        return {role: f"[^/]*_{role}" for role in ["W"] + ["b"] * config["use_bias"]}

    def unscaled(self, x, kept):
        scores = x @ self.weights["W"]
        scores = (scores + self.weights["b"] if self.use_bias else scores)[:, :, 0]
        return exponentials(scores if kept is None else scores - np.asarray(FAR, x.dtype) * ~kept)


@contributed("deepmoji.AttentionWeightedAverage")
class AttentionWeightedAverage(WeightedMean):
    """y = sum over t of softmax(x.W)[t] x[t] over the kept timesteps; a row without any gives zeros.

    x (B, T, F) -> (B, F); with return_attention also the weights (B, T). Written after DeepMoji, deepmoji/attlayer.py,
    MIT, https://github.com/bfelbo/DeepMoji; textgenrnn 2.0.0 (MIT, https://github.com/minimaxir/textgenrnn) has it
    from there. Both do not store return_attention, copies of the class do.
    """

    source = "DeepMoji and textgenrnn 2.0.0, MIT, https://github.com/bfelbo/DeepMoji"
    options = {"return_attention": Option(boolean, False)}

    @classmethod
    def names_in_file(cls, config):
        return {"W": "(?:[^/]*_)?W"}  # copies of the class leave the layer's name out

    def unscaled(self, x, kept):
        weights = exponentials((x @ self.weights["W"])[:, :, 0])
        return weights if kept is None else weights * kept


@contributed("attention.Attention")
class Attention(Contributed):
    """tanh([c, h].W) with h the last timestep and c = sum over t of softmax(score)[t] x[t].

    x (B, T, F) -> (B, units). luong: score[t] = h.(x[t].luong_w); bahdanau: tanh(h.w1 + x[t].w2).v. Written after
    attention 5.0.0, Apache-2.0, https://github.com/philipperemy/keras-attention. Version 4.1 has no option `score` and
    other names, and computes luong. A mask does not count.
    """

    source = "attention 4.1 and 5.0.0, Apache-2.0, https://github.com/philipperemy/keras-attention"
    mask_text = "ignored, ends here"
    options = {"units": Option(integer()), "score": Option(choice("luong", "bahdanau"))}
    last, first = "w_c/0", "luong_w/0"

    def weight_shapes(self, shapes):
        features = shapes[0][-1] if shapes else None
        joined = None if features is None else 2 * features
        square = (features, features)
        if self.score_kind() == "luong":
            roles = {self.first: square}
        else:
            roles = {"bahdanau_v/0": (features, 1), "bahdanau_w1/0": square, "bahdanau_w2/0": square}
        return {**roles, self.last: (joined, self.units)}

    def score_kind(self):
        return self.score

    @classmethod
    def names_in_file(cls, config):
        roles = ["luong_w"] if config["score"] == "luong" else ["bahdanau_v", "bahdanau_w1", "bahdanau_w2"]
        return {f"{role}/0": f"{role}/kernel" for role in roles} | {"w_c/0": "attention_vector/kernel"}

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.require_rank(shape, 3)
        return [Spec((shape[0], self.units))]

    def compute(self, x, mask):
        weights, h = self.weights, x[:, -1]
        if self.score_kind() == "luong":
            scores = ((x @ weights[self.first]) @ h[:, :, np.newaxis])[:, :, 0]
        else:
            sums = (h @ weights["bahdanau_w1/0"])[:, np.newaxis] + x @ weights["bahdanau_w2/0"]
            scores = (np.tanh(sums) @ weights["bahdanau_v/0"])[:, :, 0]
        alpha = exponentials(scores)
        alpha = alpha / np.sum(alpha, axis=1, keepdims=True)
        c = np.sum(x * alpha[:, :, np.newaxis], axis=1)
        return np.tanh(np.concatenate([c, h], axis=1) @ weights[self.last])


@contributed("attention4.Attention")
class Attention4(Attention):
    """`Attention` of version 4.1 of the package: luong, under other names."""

    options = {"units": Option(integer())}
    first, last = "attention_score_vec/0", "attention_vector/0"

    def score_kind(self):
        return "luong"

    @classmethod
    def names_in_file(cls, config):
        return {f"{role}/0": f"{role}/kernel" for role in ("attention_score_vec", "attention_vector")}
