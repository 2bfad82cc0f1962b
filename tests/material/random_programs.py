"""Random Keras models as small programs: Program writes one line by line, Case runs, saves and repeats it.

Each line is run as it is written, so that the next one can look at the shapes there are; the lines rebuild the model,
so a failure prints them. Imports NumPy only; knows nothing of fastbilstm and draws nothing but weights.
"""

from dataclasses import dataclass, field

import numpy as np


class Refused(Exception):
    """Keras refuses to build, run or save the model that was drawn."""


@dataclass
class Case:
    """A random model: the program that builds it, and what it is fed.

    Attributes
    ----------
    k : module
        keras or tf_keras.
    model : keras.Model
        With random weights.
    lines : list of str
        The program: `k` is the framework, `L` its layers.
    calls : list
        Inputs of successive calls: an array, or a list or dict of them.
    form : str
        The file to save: "h5", "keras", "weights.h5", or "weights_h5" (weights only, in groups by layer).
    floatx : str
        The dtype the model computes in.
    stateful, whole_batch : bool
        Whether rows must stay together: because states are remembered, or because axis 0 is time.
    """

    k: object
    seed: str
    model: object = None
    lines: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    form: str = "keras"
    floatx: str = "float32"
    stateful: bool = False
    whole_batch: bool = False

    def __str__(self):
        shapes = [[f"{a.dtype}{a.shape}" for a in _arrays(call)] for call in self.calls]
        return "\n".join([*self.lines, f"# seed {self.seed}, saved as {self.form}, inputs {shapes}"])

    def run(self, model=None):
        """Outputs of the successive calls, in Keras' structure, as arrays."""
        model = model or self.model
        return [_as_arrays(model(call, training=False)) for call in self.calls]

    def save(self, folder):
        """Save the model below `folder` (a Path); return the keyword arguments of fastbilstm.load."""
        kind, config = (self.form, None) if self.form in ("h5", "keras") else (self.form.replace("_", "."), True)
        path = folder / ("model.h5" if self.form == "weights_h5" else f"model.{kind}")
        try:
            (self.model.save_weights if config else self.model.save)(path)
            return {"path": path, "config": self.model.to_json()} if config else {"path": path}
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error

    def in_float64(self):
        """Outputs of the same program, weights and inputs where Keras computes in float64."""
        twin = execute(self.k, self.lines, "float64")
        for target, source in zip(variables(twin), variables(self.model), strict=True):
            target.assign(np.asarray(source).astype("float64"))
        calls = [_map(lambda a: a.astype("float64") if a.dtype.kind == "f" else a, call) for call in self.calls]
        return [_as_arrays(twin(call, training=False)) for call in calls]


def _map(function, structure):
    if isinstance(structure, dict):
        return {name: function(a) for name, a in structure.items()}
    return [function(a) for a in structure] if isinstance(structure, list) else function(structure)


def _arrays(structure):
    if isinstance(structure, dict):
        return list(structure.values())
    return structure if isinstance(structure, list) else [structure]


def _as_arrays(y):
    return _map(np.asarray, list(y) if isinstance(y, tuple) else y)


# ---- programs -------------------------------------------------------------------------------------------------------


def fresh(k, floatx):
    k.backend.clear_session()
    k.backend.set_floatx(floatx)
    k.mixed_precision.set_global_policy(floatx)
    k.utils.set_random_seed(0)


def module_names(k):
    """What the lines of a program may use: the framework, its layers, and the functions for tensors."""
    if k.__name__ == "keras":
        return {"k": k, "L": k.layers, "ops": k.ops}
    import tensorflow

    return {"k": k, "L": k.layers, "tf": tensorflow}


def execute(k, lines, floatx):
    """Run a program in a clean session; its last name is `model`."""
    fresh(k, floatx)
    names = module_names(k)
    for line in lines:
        exec(line, names)
    return names["model"]


class Program:
    """A program in the making: `assign` writes a line and runs it; `layers` names the layers so far."""

    def __init__(self, k):
        self.names, self.lines, self.count = module_names(k), [], 0
        self.layers = []

    def run(self, line):
        exec(line, self.names)
        self.lines.append(line)

    def assign(self, prefix, expression):
        self.count += 1
        name = f"{prefix}{self.count}"
        self.run(f"{name} = {expression}")
        if prefix == "f":
            self.layers.append(name)
        return name

    def __getitem__(self, name):
        return self.names[name]

    def shape(self, name):
        return tuple(self.names[name].shape)

    def masked(self, name):
        return getattr(self.names[name], "_keras_mask", None) is not None


# ---- weights --------------------------------------------------------------------------------------------------------


def variables(model):
    """The weights of a model, without states and seeds."""
    kept = []
    for variable in model.weights:
        path = getattr(variable, "path", variable.name)
        if not ("rnn_state" in path or "seed_generator" in path or path.split("/")[-1].startswith("Variable")):
            kept.append(variable)
    return kept


def random_value(variable, rng):
    """Values whose variances keep an LSTM away from chaos; positive ones where a layer expects them."""
    name = getattr(variable, "path", variable.name).split("/")[-1].split(":")[0]
    shape = tuple(variable.shape)
    if name in ("kernel", "depthwise_kernel", "pointwise_kernel", "real_kernel", "imag_kernel"):
        value = rng.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape)
    elif name == "recurrent_kernel":
        value = rng.normal(0, np.sqrt(1 / (4 * np.prod(shape[:-1]))), shape)
    elif name in ("bias", "beta", "moving_mean"):
        value = rng.normal(0, 0.5, shape)
    elif name in ("gamma", "moving_variance", "scale", "concat_score_weight"):
        value = rng.uniform(0.5, 1.5, shape)
    elif name in ("embeddings", "reverse_embeddings", "vector_u", "alpha"):
        value = rng.normal(0, 0.3 if name == "alpha" else 1, shape)
    else:
        raise ValueError(f"no rule for a variable called {name!r}")
    dtype = variable.dtype if isinstance(variable.dtype, str) else variable.dtype.name
    return value.astype(dtype)
