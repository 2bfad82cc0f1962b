"""Random layers and options for random_models.py, as the source text of their constructors.

Everything of a layer's options that both frameworks share is drawn here, and what only one has (`time_major`, the
longer list of activations). Imports nothing but the standard library.
"""

BOUNDED = {
    "tanh",
    "sigmoid",
    "softsign",
    "softmax",
    "relu6",
    "hard_sigmoid",
    "hard_tanh",
    "sparse_sigmoid",
    "sparsemax",
}
TF_KERAS = (
    "linear tanh sigmoid relu softmax elu selu softplus softsign exponential hard_sigmoid swish gelu mish".split()
)
KERAS3 = """
    linear tanh sigmoid relu softmax elu selu softplus softsign exponential hard_sigmoid silu gelu mish leaky_relu relu6
    celu squareplus soft_shrink sparse_plus tanh_shrink sparse_sigmoid hard_silu hard_tanh hard_shrink log_softmax
    log_sigmoid sparsemax
""".split()


class Code(str):
    """Source text: written as it is inside other source text."""

    __repr__ = str.__str__


def code(name, *args, **options):
    """Source text of a call."""
    given = [repr(a) for a in args] + [f"{key}={value!r}" for key, value in options.items()]
    return Code(f"{name}({', '.join(given)})")


def _listed(value):
    return value if isinstance(value, list) else [value]


class Draw:
    """Draws layers that fit a shape. `timesteps` is what a free time axis will be fed with."""

    def __init__(self, k, rng, timesteps, stateful):
        self.k, self.rng, self.timesteps, self.stateful = k, rng, timesteps, stateful
        self.keras3 = k.__name__ == "keras"
        self.floatx = "float32"

    def chance(self, probability):
        return self.rng.random() < probability

    def some(self, probability, **options):
        """The options with a probability, else none."""
        return options if self.chance(probability) else {}

    def size(self):
        return self.rng.choice([1, 2, 3, 3, 4, 5, 6, 7, 8, 13]) if self.chance(0.95) else self.rng.choice([17, 33])

    def activation(self, timesteps=None):
        """An activation; for LSTMs over more than 8 timesteps a bounded one, over more than one no exp (of an exp)."""
        names = KERAS3 if self.keras3 else TF_KERAS
        if timesteps is not None:
            names = [n for n in names if n in BOUNDED or timesteps <= (1 if n == "exponential" else 8)]
        return self.rng.choice(names)

    # ---- recurrent layers

    def cell_options(self, kind, timesteps):
        """Options of what runs in one timestep: LSTM, GRU or SimpleRNN."""
        options = {**self.some(0.3, activation=self.activation(timesteps))}
        if kind != "SimpleRNN":
            options |= self.some(0.3, recurrent_activation=self.activation(timesteps))
        if kind == "GRU":
            options |= self.some(0.4, reset_after=False)
        options |= {
            **self.some(0.15, use_bias=False),
            **self.some(0.1, dropout=0.2, recurrent_dropout=0.1),
            **self.some(0.1, kernel_regularizer="l2", bias_constraint="non_neg", kernel_initializer="he_normal"),
        }
        if not self.keras3 and kind != "SimpleRNN":
            options |= self.some(0.1, implementation=1)
        return options

    def loop_options(self, shape, wrapped=False):
        """Options of the loop over time."""
        options = {**self.some(0.15, zero_output_for_mask=True)}
        if shape[1]:
            options |= self.some(0.2, unroll=True)
        if not wrapped or not self.keras3:
            options |= self.some(0.2, go_backwards=True)
        if self.stateful:
            options |= self.some(0.7, stateful=True)
        return options

    def kind(self):
        """A class of layer: LSTM half of the time."""
        return self.rng.choices(["LSTM", "GRU", "SimpleRNN", "RNN"], [5, 3, 1, 2])[0]

    def states(self, kind, units):
        """Units of the states of a layer of a kind that gives `units`, nested as Keras takes them, and its cells."""
        if kind != "RNN":
            return ([units] * 2 if kind == "LSTM" else [units]), None
        kinds = [self.rng.choice(["LSTM", "GRU", "SimpleRNN"]) for _ in range(self.rng.choice([1, 1, 2, 3]))]
        cells = [(k, self.size()) for k in kinds[:-1]] + [(kinds[-1], units)]
        if len(cells) == 1 and self.chance(0.7):
            return ([units] * 2 if kinds[0] == "LSTM" else [units]), cells[0]
        wrap = (lambda size: [size]) if self.keras3 else (lambda size: size)
        return [[size] * 2 if k == "LSTM" else wrap(size) for k, size in cells], cells

    def layer_of(self, kind, units, cells, shape, wrapped=False, **given):
        """The constructor of a recurrent layer of a kind, its cells drawn by `states`."""
        # A free time axis may be twice as long as the input: Concatenate joins along it.
        timesteps = shape[1] or 2 * self.timesteps
        options = self.loop_options(shape, wrapped) | given
        options = {name: value for name, value in options.items() if value is not None}
        if kind != "RNN":
            return code(f"L.{kind}", units, **self.cell_options(kind, timesteps), **options)
        made = [code(f"L.{k}Cell", u, **self.cell_options(k, timesteps)) for k, u in _listed(cells)]
        return code("L.RNN", made if isinstance(cells, list) else made[0], **options)

    def single(self, shape, functional=False, units=None, sequences=None):
        """(a layer that reads in one direction, the units of its states)."""
        kind, given = self.kind(), {}
        units = units or self.size()
        sizes, cells = self.states(kind, units)
        if self.chance(0.6) if sequences is None else sequences:
            given["return_sequences"] = True
            if not self.keras3 and not self.stateful and functional:
                given |= self.some(0.05, time_major=True)
        if functional:
            given |= self.some(0.2, return_state=True)
        return self.layer_of(kind, units, cells, shape, **given), sizes

    def bidirectional(self, shape, functional=False, units=None):
        """(a Bidirectional, the units of the states of both its directions)."""
        merge_mode = self.rng.choice(["concat", "concat", "sum", "mul", "ave", *([None] if functional else [])])
        sequences, state = self.chance(0.6), functional and self.chance(0.2)
        common = {**({"return_sequences": True} if sequences else {}), **({"return_state": True} if state else {})}
        kind, first = self.kind(), units or self.size()
        sizes, cells = self.states(kind, first)
        # Keras 3 takes the shapes of the states from the forward layer; so does our merging of lists of states.
        own = self.chance(0.25)
        alone = {"go_backwards": None, "stateful": None} if own else {}
        forward = self.layer_of(kind, first, cells, shape, True, **common, **alone)
        options = {} if merge_mode == "concat" else {"merge_mode": merge_mode}
        if own:
            # Keras 3 gives the states of the backward layer the static shape of the forward layer's.
            free = units is None and merge_mode in ("concat", None) and not state
            second, other = (self.size(), self.kind()) if free else (first, kind)
            other_cells = self.states(other, second)[1] if free else cells
            backward = {**common, "go_backwards": True, "stateful": None}
            options["backward_layer"] = self.layer_of(other, second, other_cells, shape, True, **backward)
        return code("L.Bidirectional", forward, **options), sizes + sizes

    def recurrent(self, shape, functional=False, units=None, double=None):
        """(a recurrent layer, the units of its states, nested as Keras takes them)."""
        double = self.chance(0.5) if double is None else double
        return (self.bidirectional if double else self.single)(shape, functional, units)

    # ---- attention

    def attention(self):
        if self.chance(0.4):
            return code("L.AdditiveAttention", **self.some(0.4, use_scale=False))
        options = {
            **self.some(0.4, use_scale=True),
            **self.some(0.3, score_mode="concat"),
            **self.some(0.1, dropout=0.2),
        }
        return code("L.Attention", **options)

    def attention_call(self):
        return self.rng.choice(["", "", "", ", use_causal_mask=True", ", return_attention_scores=True"])

    def multihead(self):
        options = {
            **self.some(0.3, value_dim=self.rng.randint(1, 4)),
            **self.some(0.2, use_bias=False),
            **self.some(0.2, dropout=0.2),
            **self.some(0.2, output_shape=self.rng.randint(1, 6)),
        }
        if self.keras3:
            options |= self.some(0.15, use_gate=True) | self.some(0.15, sliding_window=self.rng.randint(1, 3))
            if self.chance(0.2):
                few = {name: options[name] for name in ("use_bias", "use_gate", "dropout") if name in options}
                return code("L.GroupQueryAttention", self.rng.randint(1, 4), 4, self.rng.choice([1, 2, 4]), **few)
        return code("L.MultiHeadAttention", self.rng.randint(1, 3), self.rng.randint(1, 4), **options)

    # ---- layers of one input

    def elementwise(self, shape, masked):
        """A layer that keeps the shape."""
        alpha = "negative_slope" if self.keras3 else "alpha"
        axes = [-1, len(shape) - 1, *(axis for axis in range(1, len(shape)) if shape[axis])]
        shared = [axis for axis in range(1, len(shape)) if shape[axis] is None or self.chance(0.4)]
        choices = [
            code("L.Activation", self.activation()),
            code("L.ReLU", **self.some(0.5, max_value=1.5), **self.some(0.5, negative_slope=0.25, threshold=0.5)),
            code("L.LeakyReLU", **self.some(0.5, **{alpha: 0.15})),
            code("L.ELU", **self.some(0.5, alpha=0.7)),
            code("L.PReLU", **({"shared_axes": shared} if shared else {})),
            code("L.BatchNormalization", **self.norm_options(axes)),
            code("L.BatchNormalization"),
            code("L.LayerNormalization", **self.norm_options(axes)),
            code("L.LayerNormalization"),
            code("L.Dropout", 0.5),
            code(self.rng.choice(["L.GaussianNoise", "L.GaussianDropout", "L.AlphaDropout"]), 0.3),
            code("L.ActivityRegularization", 0.1, 0.2),
            code("L.UnitNormalization", axis=self.rng.choice(axes)),
            code("L.Rescaling", 1.5, **self.some(0.5, offset=-0.3)),
            code("L.Identity"),
            code("L.Normalization", mean=0.5, variance=2.0, **self.some(0.4, invert=True)),
        ]
        channels = [axis for axis in axes if shape[axis]]
        if channels and (self.keras3 or not masked):
            axis = self.rng.choice(channels)
            groups = self.rng.choice([-1, *(d for d in range(1, shape[axis] + 1) if shape[axis] % d == 0)])
            choices.append(code("L.GroupNormalization", groups, **{**self.norm_options([axis]), "axis": axis}))
        if self.keras3:
            choices.append(code("L.RMSNormalization", **self.some(0.3, epsilon=0.1)))
        if not masked:
            axis = self.rng.choice([*axes, [1, len(shape) - 1]]) if len(shape) > 2 else self.rng.choice(axes)
            choices.append(code("L.Softmax", **self.some(0.5, axis=axis)))
        if len(shape) == 3:
            choices += [code("L.SpatialDropout1D", 0.4), code("L.Masking", **self.some(0.3, mask_value=1.0))]
        return self.rng.choice(choices)

    def norm_options(self, axes):
        return {
            **self.some(0.3, scale=False),
            **self.some(0.3, center=False),
            **self.some(0.3, epsilon=0.01),
            **self.some(0.3, axis=self.rng.choice(axes)),
        }

    def dense(self):
        options = {**self.some(0.5, activation=self.activation()), **self.some(0.15, use_bias=False)}
        layer = code("L.Dense", self.size(), **options)
        return code("L.SpectralNormalization", layer) if self.keras3 and self.chance(0.08) else layer

    def layer(self, shape, masked, functional=False):
        """A layer for one input of this shape (None: free; the batch axis first)."""
        rank = len(shape)
        if rank == 2:
            return self.vector_layer(shape)
        if rank > 3:
            return self.deep_layer(shape, masked, functional)
        kinds = {"recurrent": 10, "dense": 3, "elementwise": 5, "distributed": 2, "pooling": 2, "shape": 2, "window": 5}
        kind = self.rng.choices(list(kinds), kinds.values())[0]
        if kind == "recurrent":
            return self.recurrent(shape, functional)[0]
        if kind == "dense":
            return self.dense()
        if kind == "elementwise":
            return self.elementwise(shape, masked)
        if kind == "distributed":
            inner = self.rng.choice([self.dense(), self.elementwise((None, shape[2]), masked), code("L.Dropout", 0.5)])
            return code("L.TimeDistributed", inner)
        if kind == "window":
            return self.windowed(shape)
        return self.pooling() if kind == "pooling" else self.shaping(shape)

    def windowed(self, shape):
        """A convolution, a pooling or the like, of a sequence or an image."""
        import random_windows  # which needs what is above

        return random_windows.layer(self, shape)

    def conv_lstm(self, shape, functional):
        import random_windows  # as above

        return random_windows.conv_lstm(self, shape, functional)

    def pooling(self):
        kind = self.rng.choice(["L.GlobalAveragePooling1D", "L.GlobalMaxPooling1D"])
        return code(kind, **self.some(0.2, keepdims=True), **self.some(0.1, data_format="channels_first"))

    def shaping(self, shape):
        """Another shape of the same numbers."""
        sizes = shape[1:]
        axes = list(range(1, len(shape)))
        self.rng.shuffle(axes)
        if None in sizes:
            targets = [(-1, sizes[-1])] if sizes.count(None) == 1 and sizes[0] is None else []
            return code("L.Reshape", targets[0]) if targets and self.chance(0.3) else code("L.Permute", tuple(axes))
        total = 1
        for size in sizes:
            total *= size
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        first = self.rng.choice(divisors)
        target = self.rng.choice([(first, total // first), (first, -1), (-1, first)])
        return self.rng.choice([code("L.Flatten"), code("L.Permute", tuple(axes)), code("L.Reshape", target)])

    def vector_layer(self, shape):
        choices = [self.dense(), self.dense(), self.elementwise(shape, False)]
        choices.append(code("L.RepeatVector", self.rng.randint(1, 5)))
        if shape[1]:
            choices.append(self.shaping(shape))
        return self.rng.choice(choices)

    def deep_layer(self, shape, masked, functional=False):
        step = (None, *shape[2:])
        inner = [self.dense(), code("L.Dropout", 0.3)]
        if len(step) == 3:
            state = self.stateful
            self.stateful = False  # Keras refuses a stateful layer inside TimeDistributed
            inner += [self.single(step)[0], self.bidirectional(step)[0], self.single(step, sequences=False)[0]]
            # A model at every timestep, and TimeDistributed at every timestep.
            inner.append(code("k.Sequential", [self.single(step, sequences=True)[0], self.dense()]))
            inner.append(code("k.Sequential", [self.dense(), self.bidirectional(step)[0]]))
            inner.append(code("L.TimeDistributed", self.dense()))
            self.stateful = state
            inner += [self.pooling(), code("L.Flatten")] if step[1] else [self.pooling()]
        if len(step) in (3, 4) and None not in step[1:]:
            inner.append(self.windowed(step))
        choices = [code("L.TimeDistributed", layer) for layer in inner] + [
            self.dense(),
            self.elementwise(shape, masked),
        ]
        if len(shape) in (4, 5) and None not in shape[2:] and not masked:
            choices += [self.conv_lstm(shape, functional) for _ in range(2 if len(shape) == 4 else 4)]
        if len(shape) == 5:
            choices += [*(self.windowed(shape) for _ in range(6)), code("L.SpatialDropout3D", 0.2)]
            if None not in shape[2:]:
                choices.append(code("L.Reshape", (shape[1] or -1, shape[2] * shape[3], shape[4])))
        if len(shape) == 4:
            # As before the recurrent layers of an OCR net: images, then one row of pixels a timestep.
            windows = [self.windowed(shape) for _ in range(5)]
            choices += [*windows, self.shaping(shape), code("L.SpatialDropout2D", 0.2)]
            if shape[2] and shape[3]:
                choices += [code("L.Reshape", (shape[1] or -1, shape[2] * shape[3]))] * 2
        return self.rng.choice(choices)

    def layers(self, shape, masked, number, batch, before=()):
        """A chain of layers, each for the output of the one before; they are tried out and thrown away."""
        x = self.k.Input(shape[1:], **batch)
        names = {"k": self.k, "L": self.k.layers}
        for layer in before:
            x = eval(layer, names)(x)
        chain = []
        for _ in range(number):
            masked = masked or getattr(x, "_keras_mask", None) is not None
            layer = self.layer(tuple(x.shape), masked)
            x = eval(layer, names)(x)
            chain.append(layer)
        return chain
