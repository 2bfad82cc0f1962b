"""Golden models with op nodes between layers, as people write them: attention by hand, positions, masked means."""

import numpy as np

from .registry import KERAS, TF_KERAS, case, floats, ids, is_keras3


class Functions:
    """The same functions under the names of one framework."""

    def __init__(self, k):
        self.keras3 = is_keras3(k)
        if self.keras3:
            self.o, names = k.ops, {}
        else:
            import tensorflow as tf

            self.o = tf
            names = {
                "mean": tf.reduce_mean,
                "sum": tf.reduce_sum,
                "max": tf.reduce_max,
                "softmax": tf.nn.softmax,
                "relu": tf.nn.relu,
                "concatenate": tf.concat,
                "take": tf.gather,
            }
        self.names = names

    def __getattr__(self, name):
        return self.names.get(name) or getattr(self.o, name)


def tokens_and_states(k, masked=True, units=3):
    tokens = k.Input((None,), dtype="int32")
    x = k.layers.Embedding(12, 4, mask_zero=masked)(tokens)
    return tokens, x, k.layers.Bidirectional(k.layers.LSTM(units, return_sequences=True))(x)


def attention(k):
    """Scores by a Dense layer, softmax over time, weighted sum; then dot-product attention."""
    o = Functions(k)
    tokens, _, h = tokens_and_states(k)
    scores = k.layers.Dense(1, activation="tanh")(h)
    context = o.sum(o.softmax(scores, axis=1) * h, axis=1)
    q, key = k.layers.Dense(4)(h), k.layers.Dense(4)(h)
    weights = o.softmax(o.matmul(q, o.transpose(key, (0, 2, 1))) / np.sqrt(4.0).item(), axis=-1)
    second = o.mean(o.matmul(weights, h), axis=1)
    third = o.sum(weights[..., 0, None] * h if o.keras3 else o.expand_dims(weights[:, :, 0], -1) * h, axis=1)
    return k.Model(tokens, k.layers.Dense(2)(o.concatenate([context, second, third], axis=-1)))


def masked_mean(k):
    """The mean over tokens that are not padding, and the last of them."""
    o = Functions(k)
    tokens, _, h = tokens_and_states(k)
    keep = o.cast(o.not_equal(tokens, 0), h.dtype)
    total = o.sum(h * o.expand_dims(keep, -1), axis=1)
    mean = total / o.maximum(o.sum(keep, axis=1, keepdims=True), 1.0)
    hidden = o.where(o.expand_dims(o.equal(tokens, 0), -1), -1e9, h) if o.keras3 else h
    return k.Model(tokens, k.layers.Dense(3)(o.concatenate([mean, o.max(hidden, axis=1), h[:, -1], h[:, 0]], axis=-1)))


def positions(k):
    """Sines added to the embedding, a table of positions, residuals and a gate."""
    o = Functions(k)
    tokens = k.Input((6,), dtype="int32")
    x = k.layers.Embedding(12, 4)(tokens)
    angles = np.arange(6)[:, None] / 10.0 ** (np.arange(4) / 4)
    x = x * 2.0 + np.sin(angles).astype(np.float32)[None]
    table = k.layers.Embedding(6, 4)
    places = o.cumsum(o.ones_like(tokens), axis=1) - 1
    x = x + table(places)
    y = k.layers.LSTM(4, return_sequences=True)(x)
    gate = k.layers.Dense(4, activation="sigmoid")(x)
    z = gate * y + (1.0 - gate) * x
    return k.Model(tokens, [k.layers.LayerNormalization()(x + y), z[:, -1] - z[:, 0], o.relu(z) ** 2])


def masks(k):
    """What an op does to the mask: some hand on the tensor they were given, with its mask."""
    o = Functions(k)
    tokens, x, _ = tokens_and_states(k)
    same = o.cast(x, x.dtype)
    scaled = x * 1.0
    return k.Model(tokens, [k.layers.LSTM(3)(same), k.layers.LSTM(3)(scaled), k.layers.LSTM(3)(x)])


def heads(k):
    """Several heads by reshaping and transposing, as transformers do it by hand."""
    o = Functions(k)
    x = k.Input((6, 4))
    split = lambda t: o.transpose(o.reshape(k.layers.Dense(4)(t), (-1, 6, 2, 2)), (0, 2, 1, 3))  # noqa: E731
    q, key, value = split(x), split(x), split(x)
    scores = o.matmul(q, o.transpose(key, (0, 1, 3, 2))) * 0.7
    causal = np.triu(np.full((6, 6), -1e9, np.float32), 1)
    y = o.matmul(o.softmax(scores + causal), value)
    y = o.reshape(o.transpose(y, (0, 2, 1, 3)), (-1, 6, 4))
    return k.Model(x, k.layers.LayerNormalization()(x + k.layers.Dense(4)(y)))


def free_heads(k):
    """The same with a free number of timesteps, from tf.shape."""
    import tensorflow as tf

    x = k.Input((None, 4))
    size = tf.shape(x)

    def split(t):
        return tf.transpose(tf.reshape(k.layers.Dense(4)(t), (size[0], size[1], 2, 2)), (0, 2, 1, 3))

    y = tf.matmul(tf.nn.softmax(tf.matmul(split(x), split(x), transpose_b=True)), split(x))
    y = tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (size[0], -1, 4))
    places = tf.range(size[1])
    return k.Model(x, [x + y + k.layers.Embedding(9, 4)(places), y[:, : size[1] - 1]])


_TOKENS = ids(12, 6, batch=6)
for _name, _inputs, _build in (
    ("attention", _TOKENS, attention),
    ("masked_mean", _TOKENS, masked_mean),
    ("positions", _TOKENS, positions),
    ("masks", _TOKENS, masks),
    ("heads", floats(3, 6, 4), heads),
):
    case("ops", f"model_{_name}", _build.__doc__.strip().split("\n")[0], _inputs, _build, on=(KERAS,))
    case("tfop", f"model_{_name}", _build.__doc__.strip().split("\n")[0], _inputs, _build, on=(TF_KERAS,))
case("tfop", "model_free_heads", "several heads with sizes from tf.shape", floats(3, 6, 4), free_heads, on=(TF_KERAS,))
