"""Why the installed Keras answers otherwise than a right model: it may compute a layer as its own version does.

The specification is run as the Keras that wrote the file and as the installed one. If the second run gives what the
installed Keras gives, the versions explain the difference, and the first layer whose output or mask differs is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine import compiling
from ..errors import FastBiLSTMError
from ..graph import KerasVersion, map_refs
from ..layers import Tensor
from ..layers.functional import cast_input
from ..tolerances import compare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..graph import Graph


def difference(
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    inputs: list[NDArray[Any]],
    theirs: list[NDArray[Any]],
    title: str,
) -> str | None:
    """A sentence that names the layer on which two versions of Keras differ; None if they do not, or do not explain
    `theirs`.

    `theirs` are the outputs of the installed Keras, `title` is its name and version.
    """
    installed = KerasVersion.parse(title.split()[1])
    if (installed.framework, installed.version) == (graph.keras.framework, graph.keras.version):
        return None
    other = graph.replace(keras=installed)
    try:
        # In float32 a score may vanish beside the 1e9 of a mask: Keras may be near the specification in float32 alone.
        if not any(_explains(dtype, graph, other, tensors, inputs, theirs) for dtype in ("float64", "float32")):
            return None
        name = _first_apart(graph, other, tensors, inputs)
    except FastBiLSTMError:  # the other version does not take such a model
        return None
    return (
        f"the versions differ: {title} computes {name} otherwise than {graph.keras}, which wrote the file; "
        "fastbilstm computes as the file's version does, which is right for this file"
    )


def _explains(dtype, graph, other, tensors, inputs, theirs):
    """Whether the specification gives `theirs` for the other version, and only for it."""
    runs = (compiling.compile(one, tensors, dtype, "numpy").run(inputs, {}) for one in (other, graph))
    same = [all(compare(y, k, "float32").ok for y, k in zip(ours, theirs, strict=True)) for ours in runs]
    return same == [True, False]


def _first_apart(graph, other, tensors, inputs):
    """The first layer whose output or mask differs between two graphs that are alike but for their version."""
    runs = [_values(one, tensors, inputs) for one in (graph, other)]
    for node, ours, theirs in zip(graph.nodes, *runs):
        layer = graph.layers[node.layer]
        if not all(_same(a.value, b.value) for a, b in zip(ours, theirs)):
            return f"layer {layer.name!r} ({layer.class_name})"
        if not all(_same(a.mask, b.mask) for a, b in zip(ours, theirs)):
            return f"the mask after layer {layer.name!r} ({layer.class_name})"
    return "a layer"


def _same(a, b):
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))


def _values(graph, tensors, inputs):
    """What each call of the graph gives in float64, in order."""
    network = compiling.compile(graph, tensors, "float64", "numpy").network
    values = [[Tensor(cast_input(x, given.dtype, network.dtype))] for x, given in zip(inputs, graph.inputs)]
    for node in graph.nodes:
        args, kwargs = (map_refs(lambda ref: values[ref.node][ref.tensor], part) for part in (node.args, node.kwargs))
        values.append(network.call_part(network.inner[node.layer], args, kwargs, {}))
    return values[len(graph.inputs) :]
