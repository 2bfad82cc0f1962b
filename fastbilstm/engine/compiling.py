"""compile(graph, tensors, ...) -> Plan: makes what runs from a graph and its weights.

There are three backends. "vector" runs steps on the float32 kernels (fusion.py, network.py). "blas" is the
specification with LSTM and Dense on SciPy's BLAS. "numpy" is the specification itself. Imports NumPy, and SciPy only
for "blas".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..analysis import padding
from ..errors import FileFormatError, InputError
from ..graph import flatten_refs
from ..layers import Functional
from ..layers.cells import Cell
from ..layers.core import Dense, Embedding
from ..layers.functional import Wrapper, faults_of, sized
from ..layers.recurrent import LSTM, Recurrent
from .backends import choose_backend, naming_isa
from .plan import CHUNK_ROWS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from ..graph import Graph
    from ..layers import BaseLayer

# Bytes of tables: of projected embeddings, of states after padding.
MEMORY_BUDGET = 64 * 2**20
# Rows computed together where most of the work is convolutions, which gain nothing from many rows: small
# parts, of which a thread that is late holds up no large one.
CHUNK_OF_CONVOLUTIONS = 8


def layers_of(network: BaseLayer) -> Iterator[BaseLayer]:
    """All layer objects inside a network, at every depth."""
    for layer in network.inner:
        yield layer
        yield from layers_of(layer)


def compile(
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    dtype: str | None = None,
    backend: str = "auto",
    memory_budget: int | None = None,
    weights: Literal["float32", "bfloat16", "float16", "int8"] = "float32",
) -> Plan:
    """Make a Plan.

    Parameters
    ----------
    graph : Graph
    tensors : dict of str to ndarray
        All weights the graph names, in Keras' layout.
    dtype : {"float32", "float64"}, optional
        Precision of computation; default the model's own.
    backend : {"auto", "vector", "blas", "numpy"}
        See `fastbilstm.load`.
    memory_budget : int, optional
        Bytes that tables of projected embeddings and of states after padding may take together; default 64 MiB.
    weights : {"float32", "bfloat16", "float16", "int8"}
        The form that `tensors` are narrowed to (see weight_forms.py), for backend "vector": where there are kernels for
        it, they read weights of this form.

    Raises
    ------
    FileFormatError
        If shapes, weights and graph contradict each other.
    UnsupportedLayerError
        If an output of the model has no rows.
    """
    chosen = graph.dtype if dtype is None else dtype
    try:
        dtype = np.dtype(chosen)
    except TypeError:
        dtype = None
    if dtype not in (np.float32, np.float64):
        raise InputError(f"dtype is {chosen!r}; expected 'float32' or 'float64'")
    budget = MEMORY_BUDGET if memory_budget is None else memory_budget
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)) or budget < 0:
        raise InputError(f"memory_budget is {memory_budget!r}; expected a number of bytes, 0 or more")
    with faults_of(graph):
        network, outputs = _build(graph, tensors, dtype)
        all_layers = list(layers_of(network))
    padding.check_outputs(network)
    recurrent = [layer for layer in all_layers if isinstance(layer, Recurrent)]
    products = any(isinstance(layer, (LSTM, Dense)) for layer in all_layers)
    backend = choose_backend(backend, dtype, products)
    runner, tables, limits, replay = network, 0, _id_limits(network), None
    if backend == "blas":
        with naming_isa():
            from . import blas_layers as blas  # imports SciPy

        for layer in all_layers:
            if isinstance(layer, LSTM):
                layer.sequence = blas.lstm
            elif isinstance(layer, Dense):
                layer.product = blas.dense
    elif backend == "vector":
        from .calls import Budget  # with fusion alone
        from .fusion import fuse  # imports the kernels

        limit = Budget(int(budget))
        with faults_of(graph):
            runner = fuse(network, limit, weights)
        tables, pairs = limit.used, zip(graph.inputs, limits)
        if all(limit is not None or given.dtype.startswith(("float", "bfloat")) for given, limit in pairs):
            from .replay import Replay  # over kernels, as fusion

            replay = Replay(limits)
    stateful = tuple(layer for layer in recurrent if layer.stateful)
    work = sum(a.size for layer in all_layers if isinstance(layer, (Recurrent, Cell)) for a in layer.weights.values())
    work += sum(layer.weights["kernel"].size for layer in all_layers if isinstance(layer, Dense)) // 8
    convolutions = _work_of_convolutions(network)
    return Plan(
        network,
        runner,
        dtype,
        backend,
        outputs,
        limits,
        tuple(
            limit is not None or not given.dtype.startswith(("float", "bfloat", "string"))
            for given, limit in zip(graph.inputs, limits)
        ),
        stateful,
        max(work + convolutions, 1),
        CHUNK_ROWS if convolutions < 4 * work else CHUNK_OF_CONVOLUTIONS,
        not stateful and padding.rows_are_independent(network),
        padding.verdict(network, runner if backend == "vector" else None),
        tables,
        int(budget),
        [],
        replay,
        weights,
    )


def _work_of_convolutions(network, timesteps=None):
    """As `Plan.work`: of convolutions, for each timestep of the input that has most (64, if none is fixed)."""
    if timesteps is None:
        fixed = [given.shape[1] or 0 for given in network.graph.inputs if len(given.shape) > 1]
        timesteps = max(fixed, default=0) or 64
        return _work_of_convolutions(network, timesteps) // timesteps
    work = 0
    for node, specs in zip(network.graph.nodes, network.node_specs):
        layer = network.inner[node.layer]
        if isinstance(layer, Functional):
            work += _work_of_convolutions(layer, timesteps)
        while isinstance(layer, Wrapper):
            layer = layer.inner[0]
        kernel = layer.weights.get("kernel")
        if kernel is not None and layer.class_name.startswith("Conv") and not isinstance(layer, Recurrent):
            first = layer.config.get("data_format") == "channels_first"
            positions = specs[0].shape[2:] if first else specs[0].shape[1:-1]
            work += kernel.size * math.prod(timesteps if size is None else size for size in positions)
    return work


def _build(graph, tensors, dtype):
    """The network with its weights, and the Specs of its outputs."""
    for name in (name for _, layer in graph.walk() for name in layer.weights.values()):
        if name in tensors and tensors[name].dtype.kind not in "fiub":
            raise FileFormatError(f"model {graph.name!r}: the weight {name!r} has dtype {tensors[name].dtype}")
    network, outputs = sized(graph, {name: array.shape for name, array in tensors.items()}, dtype)
    network.bind(tensors, dtype)
    return network, outputs


def _id_limits(network):
    """For each input, how many rows the smallest Embedding has that reads it directly, here or in a model inside."""
    limits_of_inputs = [[] for _ in network.graph.inputs]
    for node in network.graph.nodes:
        layer = network.inner[node.layer]
        while isinstance(layer, Wrapper):
            layer = layer.inner[0]
        limits = (layer.input_dim,) if isinstance(layer, Embedding) and not node.kwargs.get("reverse") else ()
        if isinstance(layer, Functional):
            limits = _id_limits(layer)
        for ref, limit in zip(flatten_refs(node.args), limits):
            if ref.node < len(limits_of_inputs) and limit is not None:
                limits_of_inputs[ref.node].append(limit)
    return tuple(min(limits, default=None) for limits in limits_of_inputs)
