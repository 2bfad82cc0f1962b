"""A seeded generator of random Keras models, as small programs: what is printed rebuilds the model.

`generate(k, seed)` takes the module (`keras` 3 or `tf_keras`) and gives a Case. Inputs, padding and the graph
are drawn here, layers, options and sizes in random_layers.py. Imports NumPy only; knows nothing of fastbilstm.
"""

import random

import numpy as np
from random_layers import Draw, code
from random_ops import Expressions
from random_programs import Case, Program, Refused, execute, fresh, random_value, variables

# Longest sequences; unbounded activations inside an LSTM stay below 9 timesteps, where errors cannot grow far.
SHORT, LONG = 8, 24
FORMS = {
    "keras": ("keras", "h5", "weights.h5"),
    "tf_keras": ("h5", "keras", "weights_h5", "weights.h5"),
}


class Generator:
    """Draws one model; `pool` holds the names of the tensors that a next layer may take."""

    def __init__(self, k, seed):
        self.k = k
        self.rng = random.Random(seed)
        self.arrays = np.random.default_rng(self.rng.getrandbits(64))
        self.program = Program(k)
        chance = self.chance
        self.batch = self.rng.randint(1, 5)
        self.timesteps = self.rng.randint(1, SHORT) if chance(0.85) else self.rng.randint(SHORT + 1, LONG)
        self.free = chance(0.5)
        self.stateful = chance(0.12)
        self.draw = Draw(k, self.rng, self.timesteps, self.stateful)
        # What the inputs are fed with, by the name of the variable.
        self.feeds = {}
        # Layers called so far with the shape they took, and whether a model inside the model is being drawn.
        self.shared, self.inside = [], False

    def chance(self, probability):
        return self.rng.random() < probability

    # ---- inputs

    def input_shape(self, kind):
        timesteps = None if self.free else self.timesteps
        if kind == "ids":
            return (timesteps,)
        if kind == "characters":
            return (timesteps, self.rng.randint(1, 4))
        if kind == "vector":
            return (self.draw.size(),)
        if kind == "image":
            return (timesteps, self.rng.randint(1, 6), self.rng.randint(1, 4))
        if kind == "video":
            return (timesteps, self.rng.randint(1, 4), self.rng.randint(1, 4), self.rng.randint(1, 3))
        return (timesteps, self.draw.size())

    def input(self, kind, sequence=None):
        """Add an input; return the name of the tensor that goes on from it (an Embedding or a Masking behind it)."""
        shape, program = self.input_shape(kind) if sequence is None else sequence, self.program
        options = {"batch_size": self.batch} if self.stateful else {}
        feed = {"kind": kind, "shape": shape}
        if kind in ("ids", "characters"):
            feed["vocabulary"] = self.rng.choice([2, 5, 11, 40])
            dtype = self.rng.choice(["int32", "int32", "int64", None])
            options.update({"dtype": dtype} if dtype else {})
            feed["dtype"] = dtype or "float32"
        elif kind == "mask":
            options["dtype"] = "bool"
        name = program.assign("i", code("k.Input", shape, **options))
        self.feeds[name] = feed
        if kind in ("ids", "characters"):
            kind = "L.ReversibleEmbedding" if self.draw.keras3 and self.chance(0.1) else "L.Embedding"
            layer = code(kind, feed["vocabulary"], self.draw.size(), **self.draw.some(0.65, mask_zero=True))
            return program.assign("x", f"{layer}({name})")
        if kind == "sequence" and self.chance(0.5):
            feed["mask_value"] = self.rng.choice([0.0, 0.0, -1.0, 0.1])
            layer = code("L.Masking", **({"mask_value": feed["mask_value"]} if feed["mask_value"] else {}))
            return program.assign("x", f"{layer}({name})")
        return name

    def fill(self, feed):
        """An array for an input: padding before, behind, on both sides, holes, nothing but padding, or none."""
        kind, rng = feed["kind"], self.arrays
        shape = (self.batch, *(self.timesteps if size is None else size for size in feed["shape"]))
        keep = np.ones(shape[:2], bool)
        for row in range(self.batch) if len(shape) > 1 else ():
            steps = np.arange(shape[1])
            pattern = rng.choice(["none", "pre", "post", "both", "holes", "all"], p=[0.25, 0.2, 0.2, 0.1, 0.2, 0.05])
            first, last = np.sort(rng.integers(0, shape[1] + 1, 2))
            keep[row] = {
                "none": steps >= 0,
                "pre": steps >= first,
                "post": steps < last,
                "both": (steps >= first) & (steps < last),
                "holes": rng.random(shape[1]) < 0.6,
                "all": steps < 0,
            }[pattern]
        if kind == "mask":
            return keep if len(shape) == 2 else keep[..., np.newaxis] & (rng.random(shape) < 0.8)
        if kind in ("ids", "characters"):
            ids = rng.integers(1, feed["vocabulary"], shape)
            if kind == "characters":
                keep = keep[..., np.newaxis] & (rng.random(shape) < 0.8)
            ids = np.where(keep, ids, 0)
            fraction = 0.25 if feed["dtype"] == "float32" and rng.random() < 0.3 else 0
            return (ids + fraction).astype("float32" if fraction else "int32")
        values = rng.standard_normal(shape)
        if kind == "sequence":
            values[~keep] = feed.get("mask_value", 0.0)
        return values.astype(self.floatx)

    # ---- one more layer

    def apply(self, layer, argument, calls=""):
        """Write a layer and its call; return the names of its outputs."""
        program = self.program
        name = layer if layer in program.names else program.assign("f", layer)
        result = program.assign("x", f"{name}({argument}{calls})")
        return self.parts(result)

    def parts(self, name):
        """The names of the tensors in a list of them, at any depth: states of cells above each other are nested."""
        if not isinstance(self.program[name], (list, tuple)):
            return [name]
        taken = [self.program.assign("x", f"{name}[{i}]") for i in range(len(self.program[name]))]
        return [part for item in taken for part in self.parts(item)]

    def of_rank(self, pool, rank):
        return [name for name in pool if len(self.program.shape(name)) == rank]

    def step(self, pool):
        """Add one layer over tensors of `pool`; return the names of its outputs."""
        kinds = {"unary": 10, "recurrent": 4, "merge": 4, "attention": 2, "multihead": 3, "dot": 1, "share": 2, "op": 5}
        kinds["nested"] = 0 if self.inside else 2
        kind = self.rng.choices(list(kinds), kinds.values())[0]
        return getattr(self, f"step_{kind}")(pool) or self.step_unary(pool)

    def step_unary(self, pool):
        # The newest tensors first, so that models grow deep.
        name = self.rng.choice(pool[-3:])
        shape, masked = self.program.shape(name), self.program.masked(name)
        layer = self.draw.layer(shape, masked, functional=True)
        outputs = self.apply(layer, name)
        if len(outputs) == 1 and "stateful=True" not in layer:
            self.shared.append((self.program.layers[-1], shape))
        return outputs

    def step_recurrent(self, pool):
        """An LSTM or Bidirectional with initial states or an explicit mask."""
        sequences, program = self.of_rank(pool, 3), self.program
        if not sequences:
            return None
        name = self.rng.choice(sequences)
        vectors = self.of_rank(pool, 2)
        if self.chance(0.3) and not self.inside and name in self.feeds:
            mask = self.input("mask", (program.shape(name)[1],))
            return self.apply(self.draw.recurrent(program.shape(name), functional=True)[0], name, f", mask={mask}")
        if not vectors:
            if self.inside:
                return None
            vectors = [self.input("vector")]
        units = program.shape(self.rng.choice(vectors))[1]
        layer, sizes = self.draw.recurrent(program.shape(name), functional=True, units=units)
        given = self.states(sizes, vectors)
        return self.apply(layer, name, f", initial_state={given}") if given else None

    def states(self, sizes, vectors):
        """Source text of initial states of these sizes, nested alike; None where a model inside lacks a vector."""
        parts = []
        for size in sizes:
            fits = [v for v in vectors if self.program.shape(v)[1] == size]
            if isinstance(size, list):
                part = self.states(size, vectors)
            elif fits:
                part = self.rng.choice(fits)
            else:
                part = None if self.inside else self.input("vector", (size,))
            if part is None:
                return None
            parts.append(part)
        return f"[{', '.join(parts)}]"

    def step_share(self, pool):
        """Call a layer again that was called before."""
        fits = [(layer, name) for layer, shape in self.shared for name in pool if self.program.shape(name) == shape]
        return self.apply(*self.rng.choice(fits)) if fits else None

    def partners(self, pool, name, number):
        """Tensors of the shape of `name`: there already, or made by a Dense layer."""
        program, shape, found = self.program, self.program.shape(name), [name]
        for _ in range(number - 1):
            same = [n for n in pool if program.shape(n) == shape]
            near = [n for n in pool if program.shape(n)[:-1] == shape[:-1]]
            if self.chance(0.5) and len(same) > 1:
                found.append(self.rng.choice(same))
            else:
                found += self.apply(code("L.Dense", shape[-1]), self.rng.choice(near))
        return found

    def step_merge(self, pool):
        program, name = self.program, self.rng.choice(pool)
        shape, number = program.shape(name), self.rng.choice([2, 2, 2, 3])
        kind = self.rng.choice(["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"])
        options = {}
        if kind == "Concatenate":
            axis = self.rng.choice([-1, -1, 1, len(shape) - 1])
            fits = [
                n
                for n in pool
                if len(program.shape(n)) == len(shape)
                and all(a == b for k, (a, b) in enumerate(zip(program.shape(n), shape)) if k != axis % len(shape))
            ]
            found = [name, *(self.rng.choice(fits) for _ in range(number - 1))]
            options = {"axis": axis}
        else:
            found = self.partners(pool, name, 2 if kind == "Subtract" else number)
            vectors = [v for v in self.of_rank(pool, 2) if program.shape(v)[1] == shape[-1]]
            if len(shape) == 3 and vectors and self.chance(0.3):
                found[-1] = self.rng.choice(vectors)
            self.rng.shuffle(found)
        return self.apply(code(f"L.{kind}", **options), f"[{', '.join(found)}]")

    def as_long(self, names, value):
        """Those with as many timesteps as `value`; itself where that is not known."""
        steps = self.program.shape(value)[1]
        return [n for n in names if n == value or (steps is not None and self.program.shape(n)[1] == steps)]

    def step_attention(self, pool):
        program, sequences = self.program, self.of_rank(pool, 3)
        if not sequences:
            return None
        query = self.rng.choice(sequences)
        fits = [n for n in sequences if program.shape(n)[-1] == program.shape(query)[-1]]
        value = self.rng.choice(fits)
        given = [query, value]
        if self.chance(0.25):
            given += (self.rng.choice(self.as_long(fits, value)),)
        return self.apply(self.draw.attention(), f"[{', '.join(given)}]", self.draw.attention_call())

    def step_op(self, pool):
        """An operator or a function of tensors."""
        program = self.program
        fits = [n for n in pool if len(program.shape(n)) in (2, 3) and program.shape(n)[-1] and self.is_float(n)]
        if not fits:
            return None
        name = self.rng.choice(fits[-4:])
        shape = program.shape(name)
        same = self.rng.choice([n for n in fits if program.shape(n) == shape])
        draw = Expressions(self.rng, self.k.__name__ == "keras", self.floatx)
        return [program.assign("x", draw.draw(name, shape, same))]

    def is_float(self, name):
        dtype = self.program[name].dtype
        return str(getattr(dtype, "name", dtype)).startswith("float") and name not in self.feeds

    def step_multihead(self, pool):
        """MultiHeadAttention over one, two or three sequences, then perhaps the sum of a Transformer block."""
        program, sequences = self.program, [n for n in self.of_rank(pool, 3) if self.program.shape(n)[2]]
        if not sequences:
            return None
        query = self.rng.choice(sequences[-3:])
        value = query if self.chance(0.5) else self.rng.choice(sequences)
        given = [query, value]
        if self.chance(0.25):
            given.append(self.rng.choice(self.as_long(sequences, value)))
        calls = ["", "", "", ", use_causal_mask=True", ", return_attention_scores=True"]
        if self.chance(0.1) and not self.inside and program.shape(query)[1] and program.shape(value)[1]:
            mask = self.input("mask", (program.shape(query)[1], program.shape(value)[1]))
            calls = [f", attention_mask={mask}"]
        outputs = self.apply(self.draw.multihead(), ", ".join(given), self.rng.choice(calls))
        if self.chance(0.4) and program.shape(outputs[0]) == program.shape(query):
            outputs += self.apply(
                code(f"L.{self.rng.choice(['Add', 'Add', 'Multiply', 'Maximum'])}"), f"[{query}, {outputs[0]}]"
            )
        return outputs

    def step_dot(self, pool):
        program, fits = self.program, []
        flat = self.of_rank(pool, 2) + self.of_rank(pool, 3)
        if not flat:
            return None
        name = self.rng.choice(flat)
        shape = program.shape(name)
        for other in flat:
            second = program.shape(other)
            pairs = ((a, b) for a in range(1, len(shape)) for b in range(1, len(second)))
            fits += [(other, (a, b)) for a, b in pairs if shape[a] is not None and shape[a] == second[b]]
        if not fits:
            return None
        other, axes = self.rng.choice(fits)
        axes = axes[0] if axes[0] == axes[1] and self.chance(0.5) else axes
        layer = code("L.Dot", axes=axes, **self.draw.some(0.4, normalize=True))
        return self.apply(layer, f"[{name}, {other}]")

    def step_nested(self, pool):
        """A model inside the model, perhaps frozen or partly frozen, called once or twice."""
        program = self.program
        name = self.rng.choice(pool)
        arguments, shape = [name], program.shape(name)
        batch = {"batch_size": self.batch} if self.stateful else {}
        first = len(program.layers)
        if self.chance(0.5):
            layers = self.draw.layers(shape, program.masked(name), self.rng.randint(1, 3), batch)
            if self.chance(0.6):
                layers.insert(0, code("k.Input", shape[1:], **batch))
            model = program.assign("m", f"k.Sequential([{', '.join(layers)}])")
        else:
            if self.chance(0.3):
                arguments.append(self.rng.choice(pool))
            inputs = [program.assign("i", code("k.Input", program.shape(n)[1:], **batch)) for n in arguments]
            inner, shared, self.shared, self.inside = list(inputs), self.shared, [], True
            for _ in range(self.rng.randint(1, 3)):
                inner += self.step(inner)
            self.shared, self.inside = shared, False
            outputs = inner[-1] if self.chance(0.7) else f"[{', '.join(inner[-2:])}]"
            given = inputs[0] if len(inputs) == 1 else f"[{', '.join(inputs)}]"
            model = program.assign("m", f"k.Model({given}, {outputs})")
        self.freeze(model, program.layers[first:])
        if len(arguments) == 1:
            self.shared.append((model, shape))
            return self.apply(model, name)
        return self.apply(model, f"[{', '.join(arguments)}]")

    def freeze(self, model, layers):
        choice = self.rng.random()
        if choice < 0.2:
            self.program.run(f"{model}.trainable = False")
        elif choice < 0.4 and layers:
            self.program.run(f"{self.rng.choice(layers)}.trainable = False")

    # ---- whole models

    def sequential(self):
        kind = self.rng.choices(["sequence", "ids", "vector", "characters", "image", "video"], [5, 5, 1, 1, 2, 1])[0]
        shape, feed, program = self.input_shape(kind), {"kind": kind}, self.program
        batch = {"batch_size": self.batch} if self.stateful else {}
        feed["shape"], layers = shape, []
        current = (None, *shape)
        if kind in ("ids", "characters"):
            feed.update(vocabulary=self.rng.choice([2, 5, 11, 40]), dtype="float32")
            layers.append(
                code("L.Embedding", feed["vocabulary"], self.draw.size(), **self.draw.some(0.65, mask_zero=True))
            )
        elif kind == "sequence" and self.chance(0.5):
            feed["mask_value"] = self.rng.choice([0.0, -1.0])
            layers.append(code("L.Masking", feed["mask_value"]))
        layers += self.draw.layers(current, False, self.rng.randint(1, 5), batch, before=layers)
        if self.chance(0.25):
            program.run(f"model = k.Sequential([{', '.join(layers)}])")
            program.run(f"model.build({(self.batch if self.stateful else None, *shape)})")
        else:
            layers.insert(0, code("k.Input", shape, **batch))
            program.run(f"model = k.Sequential([{', '.join(layers)}])")
        self.feeds["model"] = feed

    def functional(self):
        program, pool = self.program, []
        for _ in range(self.rng.choice([1, 1, 2, 2, 3])):
            kinds = ["sequence", "ids", "vector", "characters", "image", "video"]
            kind = self.rng.choices(kinds, [6, 5, 2, 1, 2, 1])[0]
            pool.append(self.input(kind))
        for _ in range(self.rng.randint(1, 7)):
            pool += self.step(pool)
            if self.chance(0.05) and program.layers:
                program.run(f"{program.layers[-1]}.trainable = False")
        inputs = list(self.feeds)
        text = "\n".join(line.split(" = ", 1)[1] for line in program.lines)
        ends = [n for n in pool if n not in inputs and not _used(n, text)] or pool[-1:]
        ends = ends if len(ends) < 5 else self.rng.sample(ends, 4)
        outputs = ends[0] if len(ends) == 1 and self.chance(0.7) else _listed(ends, self.chance(0.15))
        given = inputs[0] if len(inputs) == 1 and self.chance(0.7) else _listed(inputs, self.chance(0.15))
        program.run(f"model = k.Model({given}, {outputs})")
        self.structure = given[0] if given[0] in "[{" else ""

    def make(self, case):
        self.floatx = case.floatx = self.draw.floatx = "float64" if self.chance(0.15) else "float32"
        self.structure = ""
        fresh(self.k, self.floatx)
        self.sequential() if self.chance(0.35) else self.functional()
        case.lines = self.program.lines
        # Run in a clean session what is printed, without the layers that were only tried.
        case.model = execute(self.k, case.lines, self.floatx)
        for variable in variables(case.model):
            variable.assign(random_value(variable, self.arrays))
        for _ in range(2 if self.stateful else 1):
            arrays = {name: self.fill(feed) for name, feed in self.feeds.items()}
            call = list(arrays.values()) if self.structure == "[" else arrays
            case.calls.append(call if self.structure else next(iter(arrays.values())))
        case.form = self.rng.choice(FORMS[self.k.__name__])
        case.stateful, case.whole_batch = (
            self.stateful,
            any(word in str(case) for word in ("time_major=True", "axis=0")),
        )


def _used(name, text):
    return any(f"{mark}{name}{end}" in text for mark in "([, =" for end in ",)]")


def _listed(names, named):
    return "{" + ", ".join(f"{n!r}: {n}" for n in names) + "}" if named else f"[{', '.join(names)}]"


def generate(k, seed):
    """Draw the model of a seed (any string).

    Raises
    ------
    Refused
        If Keras does not build or run what was drawn.
    """
    case, generator = Case(k, seed), Generator(k, seed)
    try:
        generator.make(case)
        case.answers = case.run()
    except Exception as error:
        case.lines = generator.program.lines
        raise Refused(f"{type(error).__name__}: {str(error)[:300]}\n{case}") from error
    finally:
        k.backend.set_floatx("float32")
        k.mixed_precision.set_global_policy("float32")
    return case
