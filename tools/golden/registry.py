"""The table of golden models: `case(...)` adds a row; inputs are named recipes, so that a row stays one line.

Imports NumPy only. A recipe takes a random generator and gives an array; `build(k)` takes the framework's module
(`keras` or `tf_keras`) and gives a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

KERAS, TF_KERAS = "keras", "tf_keras"
BOTH = (KERAS, TF_KERAS)


@dataclass(frozen=True)
class Spec:
    """One golden model: what is built, what it is fed (a list of successive calls) and how it is saved."""

    family: str
    name: str
    why: str
    build: Callable[[Any], Any]
    calls: tuple
    on: tuple[str, ...] = BOTH
    form: str | None = None
    outputs: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    # The model whose answers are recorded, where it is not the saved one: same weights in the same order.
    reference: Callable[[Any], Any] | None = None
    reference_loads: bool = False  # the reference reads its weights from the saved file, converting them
    policy: str | None = None  # dtype policy of the saved model
    rewrite: Callable | None = None  # changes the saved HDF5 file (its path) into an equivalent one

    @property
    def title(self):
        return f"{self.family}-{self.name}"


SPECS: dict[str, Spec] = {}


def case(family, name, why, inputs, build, *, calls=None, **options):
    """Add a golden model; `calls` lists the inputs of successive calls where there is more than one."""
    spec = Spec(family, name, why, build, tuple(calls) if calls else (inputs,), **options)
    if spec.title in SPECS:
        raise ValueError(f"two golden models are called {spec.title}")
    SPECS[spec.title] = spec


def is_keras3(k):
    return k.__version__.startswith("3.")


def chain(k, shape, *layers, batch=None, dtype=None):
    """Functional model of one input: each layer is called with what the one before gave."""
    x = inputs = k.Input(shape, batch_size=batch, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return k.Model(inputs, x)


def kept(batch=6, timesteps=6):
    """Padding patterns (B, T): un-padded, pre, post, a hole, every second step, nothing; True = keep."""
    keep = np.ones((6, timesteps), bool)
    keep[1, :2] = False
    keep[2, -2:] = False
    keep[3, 2:4] = False
    keep[4, ::2] = False
    keep[5] = False
    return keep[:batch]


def floats(*shape, scale=1.0):
    return lambda rng: (scale * rng.standard_normal(shape)).astype(np.float32)


def padded(features=3, timesteps=6, batch=6, value=0.0):
    """Floats (B, T, F) whose masked steps hold `value`, in the patterns of `kept`."""

    def make(rng):
        x = rng.standard_normal((batch, timesteps, features)).astype(np.float32)
        x[~kept(batch, timesteps)] = value
        return x

    return make


def ids(vocabulary=11, timesteps=6, batch=6, dtype="int32"):
    """Token ids (B, T) from 1; masked steps hold 0, in the patterns of `kept`."""
    return lambda rng: (rng.integers(1, vocabulary, (batch, timesteps)) * kept(batch, timesteps)).astype(dtype)


def fixed(values, dtype="float32"):
    """The very values given."""
    return lambda rng: np.array(values, dtype)


def case_name(title, label):
    """The name of the case that framework `label` makes of a golden model."""
    tag = {KERAS: "keras3", TF_KERAS: TF_KERAS}.get(label, f"keras{label}")
    return f"{title}-{tag}"


def make_inputs(structure, rng):
    """Turn a recipe, or a list or dict of recipes, into arrays."""
    if isinstance(structure, dict):
        return {name: recipe(rng) for name, recipe in structure.items()}
    if isinstance(structure, list):
        return [recipe(rng) for recipe in structure]
    return structure(rng)


def flat(structure):
    """{key: array} of an array, list or dict; keys sort back into the structure (see tests/material/cases.py)."""
    if isinstance(structure, dict):
        return {f"dict/{name}": x for name, x in structure.items()}
    if isinstance(structure, list):
        return {f"list/{i}": x for i, x in enumerate(structure)}
    return {"array": structure}
