"""Random op nodes for random_models.py: operators and functions on tensors, as expressions of the program's text.

Keras 3 writes `keras.ops`, tf_keras TensorFlow's functions. Only what is continuous is drawn, so that rounding cannot
tip an answer over, and nothing that grows fast. Imports nothing but the standard library.
"""

# The same functions under other names: Keras 3, tf_keras.
NAMES = {
    "mean": "tf.reduce_mean",
    "sum": "tf.reduce_sum",
    "max": "tf.reduce_max",
    "min": "tf.reduce_min",
    "std": "tf.math.reduce_std",
    "logsumexp": "tf.reduce_logsumexp",
    "softmax": "tf.nn.softmax",
    "relu": "tf.nn.relu",
    "sigmoid": "tf.sigmoid",
    "softplus": "tf.nn.softplus",
    "concatenate": "tf.concat",
    "take": "tf.gather",
    "flip": "tf.reverse",
    "erf": "tf.math.erf",
    "log1p": "tf.math.log1p",
}


class Expressions:
    """Draws an expression of one or two tensors; `pool` maps names to shapes (None: free)."""

    def __init__(self, rng, keras3, floatx):
        self.rng, self.keras3, self.floatx = rng, keras3, floatx

    def call(self, name, *args, **options):
        function = f"ops.{name}" if self.keras3 else NAMES.get(name, f"tf.{name}")
        if name == "flip" and not self.keras3:
            options["axis"] = [options["axis"]]
        given = [*map(str, args), *(f"{key}={value!r}" for key, value in options.items())]
        return f"{function}({', '.join(given)})"

    def number(self):
        return self.rng.choice([1, 2, 0.5, -1.5, 0.1, 3])

    def draw(self, name, shape, same):
        """An expression over tensor `name`; `same` names another one of its shape."""
        kinds = [self.arithmetic, self.function, self.pair]
        if len(shape) == 3:
            kinds += [self.slice, self.reduction, self.reduction, self.shaping, self.attention]
        elif shape[1]:
            kinds += [self.row]
        return self.rng.choice(kinds)(f"({name})", shape, f"({same})")

    def arithmetic(self, x, shape, same):
        c = self.number()
        return self.rng.choice([f"{x} + {c}", f"{c} - {x}", f"{x} * {c}", f"{x} / {c}", f"-{x}", f"abs{x}"])

    def function(self, x, shape, same):
        smooth = self.rng.choice(["tanh", "sigmoid", "softplus", "relu", "sin", "erf"])
        limit = self.call("where", f"{x} > 0.1", x, 0.1)
        log = self.call("log1p", f"abs{x}")
        clip = f"ops.clip({x}, -1.0, 0.5)" if self.keras3 else f"tf.clip_by_value({x}, -1.0, 0.5)"
        axis = self.rng.choice([-1, len(shape) - 1, 1])
        return self.rng.choice([self.call(smooth, x), limit, log, clip, self.call("softmax", x, axis=axis)])

    def pair(self, x, shape, same):
        larger = self.call(self.rng.choice(["maximum", "minimum", "add", "subtract"]), x, same)
        axis = self.rng.choice([-1, 1])
        joined = self.call("concatenate", f"[{x}, {same}]", axis=axis)
        square = f"({x} - {same}) ** 2 / (1.0 + abs{x} + abs{same})"
        return self.rng.choice([f"{x} + {same}", f"{x} * {self.call('tanh', same)}", larger, joined, square])

    def slice(self, x, shape, same):
        keys = [":, -1", ":, 0", ":, ::2", ":, ::-1", ":, :, :1", ":, -1:", ":, None, 0"]
        if shape[1] and shape[1] > 1:
            keys += [":, 1:", ":, :-1", f":, {shape[1] - 1}"]
        if shape[2] > 1:
            keys += [":, :, 1:", ":, 0, 1:"]
        return f"{x}[{self.rng.choice(keys)}]"

    def reduction(self, x, shape, same):
        options = {"axis": self.rng.choice([1, 1, 1, 2, -1] if shape[1] else [1])}
        keep = {"keepdims": True} if self.rng.random() < 0.4 else {}
        name = self.rng.choice(["mean", "sum", "max", "min", "std", "logsumexp"])
        if name == "std" and shape[1] == 1:
            name = "mean"
        reduced = self.call(name, x, **options, **keep)
        if self.rng.random() < 0.3:
            return f"{x} - {self.call('mean', x, **options, keepdims=True)}"
        return f"{reduced} / 4.0" if name == "sum" else reduced

    def shaping(self, x, shape, same):
        choices = [self.call("flip", x, axis=1), self.call("cumsum", x, axis=1) + " / 4.0"]
        if shape[1]:
            choices += [
                self.call("transpose", x, (0, 2, 1)),
                self.call("reshape", x, (-1, shape[1] * shape[2])),
                self.call("reshape", x, (-1, shape[2], shape[1])),
                self.call("take", x, [0, shape[1] - 1], axis=1),
                self.call("tile", x, [1, 2, 1]),
                self.call("roll", x, 1, axis=1),
                self.call("pad", x, [[0, 0], [1, 0], [0, 0]]),
            ]
        return self.rng.choice(choices)

    def attention(self, x, shape, same):
        """Over time, by a product of the tensor with another, or the products themselves."""
        turned = self.call("transpose", same, (0, 2, 1))
        scores = self.call("softmax", f"{self.call('matmul', x, turned)} / {float(shape[2])}", axis=-1)
        context = self.call("matmul", scores, same)
        weights = self.call("softmax", self.call("sum", x, axis=-1, keepdims=True), axis=1)
        return self.rng.choice([context, self.call("sum", f"{weights} * {same}", axis=1)])

    def row(self, x, shape, same):
        column = self.call("expand_dims", x, axis=1)
        # Behind the plus Keras 3 takes a column for a bias if the batch has as many rows as the last axis elements.
        first = f"{x}[:, :1]"
        across = f"{x} - {self.call('mean', x, axis=0, keepdims=True)}"
        total = self.call("sum", x, axis=-1, keepdims=True) + " / 4.0"
        return self.rng.choices([column, first, total, f"{first} + {x}", across], [3, 3, 3, 3, 1])[0]
