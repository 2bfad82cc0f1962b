"""Golden models of op nodes: `keras.ops` and operators in Keras 3. tf_operations.py has those of tf_keras.

A line is one output. In them are x, y (B, 5, 3), v (B, 3) and p (B, 5, 3), which is positive; i (B, 5) holds whole
numbers 0 to 3 and j (B, 5) some of both signs; m (B, 5) is a mask.
"""

import numpy as np

from .registry import KERAS, case, floats

# Operators that both frameworks write.
OPERATORS = """
        x + 1
        1 - x
        x * 2.5
        x / 3
        x // 0.25
        x % 0.75
        p ** 2
        2.0 ** x
        -x
        abs(x)
        x + y * x - y / p
        x + v[:, None, :]
        x > 0
        x <= y
        i >= 2
        (x > 0) & (y < 0.5)
        (x > 0) | (y < 0.5)
        (x > 0) ^ (y > 0)
        ~(x > 0)"""
KERAS_OPS = {
    "operators": f"""{OPERATORS}
        x @ ops.transpose(y, (0, 2, 1))
        i + 1
        i * 0.5
        i / 2
        i // 2
        j % 3
        j // 2
        i + x[:, :, 0]
    """,
    "arithmetic": """
        ops.add(x, y)
        ops.subtract(x, 0.3)
        ops.multiply(x, y)
        ops.divide(x, p)
        ops.true_divide(i, j + 10)
        ops.divide_no_nan(x, ops.relu(y))
        ops.floor_divide(x, 0.3)
        ops.mod(x, 0.7)
        ops.power(p, 1.5)
        ops.power(i, 2)
        ops.maximum(x, y)
        ops.maximum(i, 2)
        ops.minimum(x, 0.1)
        ops.negative(x)
        ops.absolute(j)
        ops.sign(x)
        ops.sign(j)
        ops.square(x)
        ops.square(j)
        ops.sqrt(p)
        ops.sqrt(i)
        ops.rsqrt(p)
        ops.reciprocal(p)
        ops.clip(x, -0.5, 0.75)
        ops.clip(j, -1, 2)
        ops.logaddexp(x, y)
        ops.arctan2(x, y)
        ops.add(x, np.ones((5, 3), "float32") * 0.25)
        ops.multiply(x, ops.arange(3, dtype="float32"))
        ops.add(x, ops.expand_dims(ops.arange(5, dtype="float32"), -1) / 10.0)
    """,
    "functions": """
        ops.exp(x)
        ops.expm1(x)
        ops.log(p)
        ops.log1p(p)
        ops.log2(p)
        ops.log10(p)
        ops.exp(i)
        ops.sin(x)
        ops.cos(x)
        ops.tan(x)
        ops.sinh(x)
        ops.cosh(x)
        ops.tanh(x)
        ops.arcsin(ops.tanh(x))
        ops.arccos(ops.tanh(x))
        ops.arctan(x)
        ops.arcsinh(x)
        ops.arccosh(p + 1)
        ops.arctanh(ops.tanh(x) * 0.5)
        ops.erf(x)
        ops.floor(x * 3)
        ops.ceil(x * 3)
        ops.floor(i)
        ops.round(x * 3)
        ops.round(x, decimals=1)
        ops.isfinite(x)
        ops.isnan(x)
        ops.isinf(x)
        ops.nan_to_num(x)
        ops.stop_gradient(x)
    """,
    "activations": """
        ops.relu(x)
        ops.relu(j)
        ops.relu6(x * 4)
        ops.sigmoid(x)
        ops.softplus(x)
        ops.softsign(x)
        ops.silu(x)
        ops.log_sigmoid(x)
        ops.leaky_relu(x, negative_slope=0.1)
        ops.hard_sigmoid(x)
        ops.hard_silu(x)
        ops.elu(x)
        ops.elu(x, alpha=0.5)
        ops.selu(x)
        ops.gelu(x)
        ops.gelu(x, approximate=False)
        ops.celu(x, alpha=0.7)
        ops.glu(x[:, :, :2])
        ops.tanh_shrink(x)
        ops.hard_tanh(x)
        ops.hard_shrink(x, threshold=0.3)
        ops.soft_shrink(x, threshold=0.3)
        ops.squareplus(x)
        ops.sparse_plus(x)
        ops.sparse_sigmoid(x)
        ops.threshold(x, 0.2, -1.0)
        ops.softmax(x)
        ops.softmax(x, axis=1)
        ops.log_softmax(x, axis=1)
        ops.sparsemax(x)
    """,
    "comparison": """
        ops.equal(i, 2)
        ops.not_equal(i, 0)
        ops.equal(x, 0.5)
        ops.greater(x, y)
        ops.greater_equal(x, 0.1)
        ops.less(i, x[:, :, 0])
        ops.less_equal(x, y)
        ops.logical_and(m, i > 1)
        ops.logical_or(m, i)
        ops.logical_xor(m, i > 1)
        ops.logical_not(m)
        ops.where(m, i, 7)
        ops.where(x > 0, x, 0.0)
        ops.where(x > 0, x, y)
        ops.where(m, 1.0, 0.0)
        ops.where(m, 1, 0)
        ops.where(m, i, 0.5)
        ops.where(ops.expand_dims(m, -1), x, -1e9)
        ops.cast(i, k.backend.floatx())
        ops.cast(x * 3, "int32")
        ops.cast(m, k.backend.floatx())
        ops.cast(i, "bool")
        ops.cast(i, "int64")
        ops.convert_to_tensor(x)
        ops.zeros_like(x)
        ops.ones_like(i)
        ops.full_like(x, 0.3)
        ops.ones_like(x, dtype="bool")
    """,
    "slices": """
        x[:, -1]
        x[:, 0, :]
        x[:, 1:3]
        x[:, ::2, 1:]
        x[:, ::-1]
        x[..., 0]
        x[..., None]
        x[:, None]
        x[:, -2:, :-1]
        x[:, 1:4:2, None, ..., -1]
        v[:, None, :]
        i[:, 2]
        ops.take(x, [0, 2], axis=1)
        ops.take(x, 1, axis=-1)
        ops.take(x, np.array([[0, -1], [2, 1]]), axis=1)
        ops.take_along_axis(x, ops.expand_dims(i, -1), axis=1)
        ops.split(x, [1, 3], axis=1)[1]
        ops.split(ops.concatenate([x, x], axis=-1), 3, axis=-1)[2]
        ops.unstack(x, axis=1)[3]
        ops.one_hot(i, 4)
        ops.one_hot(j, 3, axis=1)
        ops.one_hot(i, 4, dtype="int32")
        ops.slice(v, (0, 1), (3, 2))
    """,
    "shapes": """
        ops.reshape(x, (-1, 15))
        ops.reshape(x, (-1, 3, 5))
        ops.reshape(i, (-1, 5, 1))
        ops.transpose(x, (0, 2, 1))
        ops.expand_dims(x, 1)
        ops.expand_dims(x, (1, -1))
        ops.squeeze(ops.expand_dims(v, 1), axis=1)
        ops.repeat(x, 2, axis=1)
        ops.repeat(x, [1, 0, 2], axis=2)
        ops.tile(x, (1, 2, 1))
        ops.tile(v, (1, 3))
        ops.pad(x, ((0, 0), (1, 2), (0, 0)))
        ops.pad(x, ((0, 0), (0, 0), (2, 0)), constant_values=0.5)
        ops.pad(x, ((0, 0), (2, 1), (0, 0)), mode="reflect")
        ops.flip(x, axis=1)
        ops.roll(x, 2, axis=1)
        ops.swapaxes(x, 1, 2)
        ops.moveaxis(x, 1, -1)
        ops.broadcast_to(ops.expand_dims(v, 1), (3, 4, 3))
        ops.concatenate([x, y], axis=-1)
        ops.concatenate([x, y, x], axis=1)
        ops.concatenate([i, x[:, :, 0]], axis=1)
        ops.stack([x, y], axis=1)
        ops.stack([x, y], axis=-1)
        ops.hstack([x, y])
        ops.tril(x)
        ops.triu(x, k=1)
        ops.diff(x, axis=1)
        ops.append(x, y, axis=1)
    """,
    "reductions": """
        ops.sum(x, axis=1)
        ops.sum(x, axis=(1, 2), keepdims=True)
        ops.sum(i, axis=1)
        ops.sum(m, axis=-1)
        ops.mean(x, axis=1)
        ops.mean(x, axis=-1, keepdims=True)
        ops.max(x, axis=1)
        ops.max(i, axis=1)
        ops.max(x, axis=(1, 2))
        ops.min(x, axis=-1)
        ops.amax(x, axis=1)
        ops.prod(x, axis=1)
        ops.var(x, axis=1)
        ops.std(x, axis=1, keepdims=True)
        ops.std(i, axis=1)
        ops.any(m, axis=1)
        ops.all(m, axis=1)
        ops.all(x > -1, axis=(1, 2))
        ops.count_nonzero(i, axis=1)
        ops.argmax(x, axis=1)
        ops.argmax(x, axis=-1, keepdims=True)
        ops.argmin(x, axis=1)
        ops.logsumexp(x, axis=1)
        ops.logsumexp(x, axis=(1, 2), keepdims=True)
        ops.norm(x, axis=-1)
        ops.norm(x, ord=1, axis=1)
        ops.norm(x, ord=3, axis=1, keepdims=True)
        ops.normalize(x)
        ops.normalize(x, axis=1, order=1)
        ops.moments(x, axes=[1])[1]
        ops.average(x, axis=1)
        ops.average(x, axis=1, weights=p)
        ops.cumsum(x, axis=1)
        ops.cumsum(m, axis=1)
        ops.cumprod(x, axis=1)
        ops.sort(x, axis=1)
        ops.sort(i)
        ops.argsort(x, axis=1)
        ops.argsort(i)
        ops.top_k(x, 2)[0]
        ops.top_k(i, 3)[1]
    """,
    "products": """
        ops.matmul(x, ops.transpose(y, (0, 2, 1)))
        ops.matmul(x, np.arange(6, dtype="float32").reshape(3, 2))
        ops.matmul(i, ops.transpose(ops.stack([i, j], axis=1), (0, 2, 1))[:, :, 0][:, :, None])[:, 0]
        ops.dot(x, np.ones((3, 2), "float32"))
        ops.tensordot(x, (np.arange(6, dtype="float32") / 8 - 0.5).reshape(3, 2), axes=1)
        ops.tensordot(x, (np.arange(20, dtype="float32") / 8 - 0.5).reshape(5, 4), axes=[[1], [0]])
        ops.einsum("bij,bkj->bik", x, y)
        ops.einsum("bij,bij->bi", x, y)
        ops.einsum("bij,jk->bik", x, (np.arange(6, dtype="float32") / 8 - 0.5).reshape(3, 2))
        ops.einsum("...ij->...ji", x)
        ops.einsum("bi,bj->bij", v, v)
        ops.multiply(x, ops.expand_dims(v, 1))
    """,
    "rows": """
        ops.mean(x, axis=0, keepdims=True) + x
        ops.transpose(v)
        ops.reshape(x, (-1, 3))
        ops.sum(x)
        ops.concatenate([v, v], axis=0)
        ops.flip(x, axis=0)
        ops.max(x, axis=(0, 1))
        ops.cumsum(v)
        ops.sort(v, axis=0)
        ops.matmul(v, ops.transpose(v))
        x[:, :3] - v
        ops.softmax(v, axis=0)
        ops.argmax(v)
        ops.norm(v)
    """,
}
BATCH = 3


def lines(text):
    return [line.strip() for line in text.strip().split("\n")]


INPUTS = {
    "x": floats(BATCH, 5, 3),
    "y": floats(BATCH, 5, 3),
    "v": floats(BATCH, 3),
    "p": lambda rng: rng.uniform(0.2, 2, (BATCH, 5, 3)).astype(np.float32),
    "i": lambda rng: rng.integers(0, 4, (BATCH, 5)).astype(np.int32),
    "j": lambda rng: rng.integers(-4, 5, (BATCH, 5)).astype(np.int32),
    "m": lambda rng: rng.random((BATCH, 5)) < 0.6,
}


def tensors(k, free=False):
    sizes = {"v": (3,), **{name: (None if free else 5,) for name in "ijm"}}
    dtypes = {"i": "int32", "j": "int32", "m": "bool"}
    return {n: k.Input(sizes.get(n, (None if free else 5, 3)), name=n, dtype=dtypes.get(n)) for n in INPUTS}


def values(k, given, text):
    names = {"k": k, "np": np, **given}
    if k.__version__.startswith("3."):
        names["ops"] = k.ops
    else:
        import tensorflow

        names["tf"] = tensorflow
    return [eval(line, names) for line in lines(text)]


def model(k, text):
    given = tensors(k)
    return k.Model(list(given.values()), values(k, given, text))


def add(family, table, framework):
    for name, text in table.items():
        case(
            family,
            name,
            f"op nodes: {name}",
            list(INPUTS.values()),
            lambda k, t=text: model(k, t),
            on=(framework,),
            form="h5" if name in ("slices", "reductions") else "keras",
        )


add("ops", KERAS_OPS, KERAS)
