"""compile(graph, tensors, ...) -> Plan: from a description and its weights to something that runs.

Today a plan runs the specification node by node; with SciPy, the time loop of every LSTM in compiled code over BLAS.
Imports NumPy; SciPy only through the compiled module and only if the plan uses it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import FastBiLSTMError, FileFormatError, InputError, MissingExtraError
from .graph import Layer, flatten_refs
from .layers import Functional, Spec, Tensor
from .layers.core import Embedding
from .layers.functional import TimeDistributed
from .layers.recurrent import LSTM

BACKENDS = ("auto", "blas", "numpy")


@dataclass(frozen=True)
class Plan:
    """A compiled model: `network` runs it, `output_specs` say what comes out.

    `id_limits` holds, for each input that an Embedding reads directly, the number of its rows (else None).
    """

    network: Functional
    dtype: np.dtype
    backend: str
    output_specs: tuple
    id_limits: tuple
    stateful: tuple

    def run(self, arrays, states):
        """Arrays in, arrays out, for one batch."""
        try:
            with np.errstate(all="ignore"):
                outputs = self.network.call([Tensor(array) for array in arrays], {}, states)
        except FastBiLSTMError:
            raise
        except ValueError as error:
            # Sizes that the model leaves free meet only here.
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise InputError(f"inputs of shapes {shapes} do not fit each other or the weights ({error})") from error
        return [tensor.value for tensor in outputs]


def layers_of(network):
    """All layer objects inside a network, at every depth."""
    for layer in network.inner:
        yield layer
        yield from layers_of(layer)


def compile(graph, tensors, dtype=None, backend="auto"):
    """Make a Plan.

    Parameters
    ----------
    graph : Graph
    tensors : dict of str to ndarray
        All weights the graph names, in Keras' layout.
    dtype : {"float32", "float64"}, optional
        Precision of computation; default the model's own.
    backend : {"auto", "blas", "numpy"}
        "blas" runs LSTM loops in compiled code over SciPy's BLAS, "numpy" runs the specification; "auto" takes "blas"
        where SciPy is installed.

    Raises
    ------
    FileFormatError
        If shapes, weights and graph contradict each other.
    """
    chosen = graph.dtype if dtype is None else dtype
    try:
        dtype = np.dtype(chosen)
    except TypeError:
        dtype = None
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype is {chosen!r}; expected 'float32' or 'float64'")
    try:
        network, outputs = _build(graph, tensors, dtype)
    except FastBiLSTMError:
        raise
    except (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # A graph comes from a file: whatever no check foresaw is a fault of that file.
        text = f"model {graph.name!r} contradicts itself ({type(error).__name__}: {error})"
        raise FileFormatError(text) from error
    found = list(layers_of(network))
    lstms = [layer for layer in found if isinstance(layer, LSTM)]
    backend = _choose_backend(backend, bool(lstms))
    if backend == "blas":
        from .blas import lstm as blas_lstm

        for layer in lstms:
            layer.sequence = blas_lstm
    stateful = tuple(layer for layer in lstms if layer.stateful)
    return Plan(network, dtype, backend, outputs, _id_limits(network), stateful)


def _build(graph, tensors, dtype):
    """The network with its weights, and the Specs of its outputs."""
    for given in graph.inputs:
        if given.shape is None:
            raise FileFormatError(f"model {graph.name!r}: input {given.name!r} has no shape")
    network = Functional(Layer(graph.name, "Functional", graph=graph), graph.keras)
    named = [name for _, layer in graph.walk() for name in layer.weights.values()]
    missing = sorted(set(named) - set(tensors))
    if missing:
        raise FileFormatError(f"model {graph.name!r}: the weights {missing[:5]} are missing")
    for name in named:
        if tensors[name].dtype.kind not in "fiub":
            raise FileFormatError(f"model {graph.name!r}: the weight {name!r} has dtype {tensors[name].dtype}")
    network.set_sizes({name: tensors[name].shape for name in named})
    outputs = tuple(network.infer([Spec(given.shape) for given in graph.inputs], {}))
    network.bind(tensors, dtype)
    return network, outputs


def blas_problem() -> Any:
    """Why backend "blas" cannot be used here: None, or an exception to raise."""
    import importlib.util

    if importlib.util.find_spec("fastbilstm._recurrent") is None:
        return RuntimeError("this fastbilstm was installed without its compiled module fastbilstm._recurrent")
    for module, package in (("scipy", "SciPy"), ("threadpoolctl", "threadpoolctl")):
        if importlib.util.find_spec(module) is None:
            return MissingExtraError(package, "blas", 'backend="blas"')
    return None


def _choose_backend(backend, has_lstm):
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
    if backend == "auto":
        return "blas" if has_lstm and blas_problem() is None else "numpy"
    if backend == "blas":
        problem = blas_problem()
        if problem is not None:
            raise problem
    return backend


def _id_limits(network):
    """For each input, how many rows the smallest Embedding has that reads it directly, here or in a model inside."""
    found = [[] for _ in network.graph.inputs]
    for node in network.graph.nodes:
        layer = network.inner[node.layer]
        while isinstance(layer, TimeDistributed):
            layer = layer.inner[0]
        limits = (layer.input_dim,) if isinstance(layer, Embedding) else ()
        if isinstance(layer, Functional):
            limits = _id_limits(layer)
        for ref, limit in zip(flatten_refs(node.args), limits):
            if ref.node < len(found) and limit is not None:
                found[ref.node].append(limit)
    return tuple(min(limits, default=None) for limits in found)
