"""Golden models of op nodes: `tf.*` functions and operators in tf_keras, with the tensors of operations.py."""

from .operations import OPERATORS, add
from .registry import TF_KERAS

TF_OPS = {
    "operators": f"""{OPERATORS}
        x @ tf.transpose(y, (0, 2, 1))
        i + 1
        i // 2
        j % 3
        j // 2
        tf.cast(i, x.dtype) + x[:, :, 0]
    """,
    "arithmetic": """
        tf.add(x, y)
        tf.subtract(x, 0.3)
        tf.multiply(x, y)
        tf.divide(x, p)
        tf.truediv(x, 0.7)
        tf.math.divide_no_nan(x, tf.nn.relu(y))
        tf.math.floordiv(x, 0.3)
        tf.math.mod(x, 0.7)
        tf.pow(p, 1.5)
        tf.pow(i, 2)
        tf.maximum(x, y)
        tf.minimum(x, 0.1)
        tf.negative(x)
        tf.abs(j)
        tf.sign(x)
        tf.square(j)
        tf.sqrt(p)
        tf.math.rsqrt(p)
        tf.math.reciprocal(p)
        tf.clip_by_value(x, -0.5, 0.75)
        tf.math.squared_difference(x, y)
        tf.atan2(x, y)
        tf.add_n([x, y, p])
        tf.nn.bias_add(x, tf.constant([0.5, 0.25, -1.0], x.dtype))
        x * np.array([1.0, 2.0, -3.0])
        x + tf.range(5, dtype=x.dtype)[:, None]
        np.array([1.0, 2.0, -3.0]) - x
        k.backend.mean(x, axis=1)
        k.backend.exp(x)
        k.backend.softmax(x)
        k.backend.clip(x, -0.2, 0.2)
        k.activations.relu(x)
        k.activations.tanh(x)
        k.activations.gelu(x)
    """,
    "functions": """
        tf.exp(x)
        tf.math.expm1(x)
        tf.math.log(p)
        tf.math.log1p(p)
        tf.sin(x)
        tf.cos(x)
        tf.tan(x)
        tf.sinh(x)
        tf.cosh(x)
        tf.tanh(x)
        tf.asin(tf.tanh(x))
        tf.acos(tf.tanh(x))
        tf.atan(x)
        tf.asinh(x)
        tf.acosh(p + 1)
        tf.atanh(tf.tanh(x) * 0.5)
        tf.math.erf(x)
        tf.floor(x * 3)
        tf.math.ceil(x * 3)
        tf.round(x * 3)
        tf.math.is_finite(x)
        tf.math.is_nan(x)
        tf.sigmoid(x)
        tf.math.log_sigmoid(x)
        tf.nn.softplus(x)
        tf.nn.softsign(x)
        tf.nn.relu(x)
        tf.nn.relu6(x * 4)
        tf.nn.elu(x)
        tf.nn.selu(x)
        tf.nn.silu(x)
        tf.nn.leaky_relu(x)
        tf.nn.leaky_relu(x, alpha=0.1)
        tf.nn.gelu(x)
        tf.nn.gelu(x, approximate=True)
        tf.nn.softmax(x)
        tf.nn.softmax(x, axis=1)
        tf.nn.log_softmax(x, axis=-1)
        tf.math.l2_normalize(x, axis=-1)
        tf.nn.l2_normalize(x, axis=[1, 2])
        tf.identity(x)
        tf.stop_gradient(x)
        tf.ensure_shape(x, (None, 5, 3))
    """,
    "comparison": """
        tf.equal(i, 2)
        tf.not_equal(i, 0)
        tf.greater(x, y)
        tf.greater_equal(x, 0.1)
        tf.less(x, y)
        tf.less_equal(x, y)
        tf.logical_and(m, i > 1)
        tf.logical_or(m, i > 1)
        tf.math.logical_xor(m, i > 1)
        tf.logical_not(m)
        tf.where(m, i, 7)
        tf.where(x > 0, x, 0.0)
        tf.where(x > 0, x, y)
        tf.where(m[:, :, None], x, tf.zeros_like(x))
        tf.where(m, 1, 0)
        tf.cast(i, x.dtype)
        tf.cast(x * 3, tf.int32)
        tf.cast(m, x.dtype)
        tf.cast(i, "bool")
        tf.cast(i, tf.int64)
        tf.zeros_like(x)
        tf.ones_like(i)
        tf.ones_like(x, dtype="bool")
        tf.sequence_mask(i, 4)
        tf.sequence_mask(i[:, 0], 4, dtype=tf.int32)
    """,
    "slices": """
        x[:, -1]
        x[:, 0, :]
        x[:, 1:3]
        x[:, ::2, 1:]
        x[:, ::-1]
        x[..., 0]
        x[..., tf.newaxis]
        x[:, tf.newaxis]
        x[:, -2:, :-1]
        x[:, 1:4:2, None, ..., -1]
        i[:, 2]
        x[:, i[0, 0]]
        x[:, :tf.shape(x)[1] - 1]
        tf.slice(x, [0, 1, 0], [-1, 3, -1])
        tf.gather(x, [0, 2], axis=1)
        tf.gather(x, 1, axis=-1)
        tf.gather(x, np.array([[0, 4], [2, 1]]), axis=1)
        tf.gather(x, i, axis=1, batch_dims=1)
        tf.gather(x, i, batch_dims=1)
        tf.gather(tf.constant(np.arange(8).reshape(4, 2) / 8, x.dtype), i)
        tf.gather_nd(x, [[0, 1], [1, 4]])
        tf.split(x, [1, 3, -1], axis=1)[1]
        tf.split(tf.concat([x, x], -1), 3, axis=-1)[2]
        tf.unstack(x, axis=1)[3]
        tf.one_hot(i, 4, dtype=x.dtype)
        tf.one_hot(j, 3, axis=1, dtype=x.dtype)
        tf.one_hot(i, 4, on_value=0.9, off_value=0.1, dtype=x.dtype)
        tf.one_hot(i, 4, dtype=tf.int32)
    """,
    "shapes": """
        tf.reshape(x, (-1, 15))
        tf.reshape(x, [tf.shape(x)[0], 15])
        tf.reshape(x, [-1, tf.shape(x)[1] * 3])
        tf.reshape(x, tf.shape(y))
        tf.reshape(x, tf.concat([tf.shape(x)[:1], [3, 5]], axis=0))
        tf.transpose(x, (0, 2, 1))
        tf.transpose(x, perm=[0, 2, 1])
        tf.linalg.matrix_transpose(x)
        tf.expand_dims(x, 1)
        tf.expand_dims(x, axis=-1)
        tf.squeeze(tf.expand_dims(v, 1), axis=1)
        tf.squeeze(tf.expand_dims(v, 1), axis=[1])
        tf.repeat(x, 2, axis=1)
        tf.repeat(x, [1, 0, 2], axis=2)
        tf.tile(x, [1, 2, 1])
        tf.tile(x[:, :1], [1, tf.shape(y)[1], 1])
        tf.pad(x, [[0, 0], [1, 2], [0, 0]])
        tf.pad(x, [[0, 0], [0, 0], [2, 0]], constant_values=0.5)
        tf.pad(x, [[0, 0], [2, 1], [0, 0]], mode="REFLECT")
        tf.reverse(x, axis=[1])
        tf.reverse(x, [-1, 1])
        tf.roll(x, 2, axis=1)
        tf.roll(x, shift=[-1, 1], axis=[1, 2])
        tf.broadcast_to(v[:, None, :], tf.shape(x))
        tf.concat([x, y], axis=-1)
        tf.concat([x, y, x], 1)
        tf.concat([x, x[:, :1] * 0], axis=1)
        tf.stack([x, y], axis=1)
        tf.stack([x, y], axis=-1)
        tf.linalg.band_part(x, -1, 0)
        tf.linalg.band_part(x, 0, 1)
        tf.shape(x)
        tf.fill([tf.shape(x)[0], 4], 7)
        tf.zeros([tf.shape(x)[0], 2], x.dtype) + 1
        tf.range(tf.shape(x)[1]) + 1
        x + tf.cast(tf.range(tf.shape(x)[1]), x.dtype)[:, None]
        tf.size(x)
    """,
    "reductions": """
        tf.reduce_sum(x, axis=1)
        tf.reduce_sum(x, axis=(1, 2), keepdims=True)
        tf.reduce_sum(i, axis=1)
        tf.reduce_mean(x, axis=1)
        tf.reduce_mean(x, axis=-1, keepdims=True)
        tf.reduce_mean(j, axis=1)
        tf.reduce_max(x, axis=1)
        tf.reduce_max(x, axis=[1, 2])
        tf.reduce_min(x, axis=-1)
        tf.reduce_prod(x, axis=1)
        tf.math.reduce_variance(x, axis=1)
        tf.math.reduce_std(x, axis=1, keepdims=True)
        tf.reduce_any(m, axis=1)
        tf.reduce_all(m, axis=1)
        tf.math.count_nonzero(i, axis=1)
        tf.argmax(x, axis=1)
        tf.argmax(x, axis=-1, output_type=tf.int32)
        tf.argmin(x, axis=1)
        tf.reduce_logsumexp(x, axis=1)
        tf.norm(x, axis=-1)
        tf.norm(x, ord=1, axis=1)
        tf.norm(x, axis=[1, 2])
        tf.nn.moments(x, axes=[1])[1]
        tf.cumsum(x, axis=1)
        tf.cumsum(x, axis=1, exclusive=True)
        tf.cumsum(x, axis=1, reverse=True)
        tf.math.cumprod(x, axis=1)
        tf.sort(x, axis=1)
        tf.sort(x, axis=1, direction="DESCENDING")
        tf.argsort(x, axis=1)
        tf.argsort(i, direction="DESCENDING", stable=True)
        tf.math.top_k(x, k=2)[0]
        tf.math.top_k(x, k=2).indices
        tf.nn.top_k(i, 3)[1]
    """,
    "products": """
        tf.matmul(x, y, transpose_b=True)
        tf.matmul(x, y, transpose_a=True)
        tf.matmul(x, (np.arange(6) / 8 - 0.5).reshape(3, 2))
        tf.tensordot(x, tf.constant((np.arange(6) / 8 - 0.5).reshape(3, 2), x.dtype), axes=1)
        tf.tensordot(x, tf.constant((np.arange(20) / 8 - 0.5).reshape(5, 4), x.dtype), axes=[[1], [0]])
        k.backend.dot(x, tf.constant((np.arange(6) / 8 - 0.5).reshape(3, 2), x.dtype))
        k.backend.batch_dot(x, y, axes=2)
        tf.multiply(x, tf.expand_dims(v, 1))
    """,
    "rows": """
        tf.reduce_mean(x, axis=0, keepdims=True) + x
        tf.transpose(v)
        tf.reshape(x, (-1, 3))
        tf.reduce_sum(x)
        tf.concat([v, v], axis=0)
        tf.reverse(x, axis=[0])
        tf.cumsum(v)
        tf.matmul(v, v, transpose_b=True)
        x[:, :3] - v
        tf.nn.softmax(v, axis=0)
        tf.argmax(v)
    """,
}


add("tfop", TF_OPS, TF_KERAS)
