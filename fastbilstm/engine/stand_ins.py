"""What stands in for a layer in a stream: it remembers what it needs between pieces of a sequence.

analysis/causality.py refuses layers that read later timesteps, and finds those that read earlier ones. A stand-in
replaces each of the latter; all other layers run as they are. Imports NumPy; the layers compute.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.causality import find_places, history
from ..graph import Node
from ..layers import Functional, Tensor, core
from ..layers.base import check_sequence_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ..analysis.causality import Place


def streamable(network: Functional, runner: Any) -> tuple[Any, list[Any]]:
    """(The network that runs pieces instead of `runner`, kinds of its outputs); InputError if it is impossible."""
    places, kinds = find_places(network)
    return _with_stand_ins(runner, places), kinds


def _stand_in(place: Place, runner: Any) -> Any:
    if isinstance(place.kind, dict):
        return _with_stand_ins(runner, place.kind)
    if isinstance(runner, core.Embedding) and place.kind == "recurrent":
        # The recurrent layer on kernels does the lookup of the Embedding before it.
        wrapper: Any = copy.copy(runner)
        wrapper.layer = StreamRecurrent(place, runner.layer)
        return wrapper
    return STAND_INS[place.kind](place, runner)


def _with_stand_ins(runner: Any, places: dict[int, Place]) -> Any:
    """A copy of the network with the stand-ins of `places` (by node number)."""
    result = copy.copy(runner)
    if hasattr(runner, "steps"):
        result.steps = [
            step._replace(layer=_stand_in(places[step.number], step.layer), beside=False)
            if step.number in places
            else step._replace(beside=False)
            for step in runner.steps
        ]
        return result
    # Each node gets its own stand-in: a layer that is called twice remembers two sequences.
    graph, first = runner.graph, len(runner.graph.inputs)
    layers = [runner.inner[node.layer] for node in graph.nodes]
    result.inner = [
        _stand_in(places[number], layer) if number in places else layer
        for number, layer in enumerate(layers, start=first)
    ]
    nodes = tuple(Node(number, node.args, node.kwargs) for number, node in enumerate(graph.nodes))
    result.graph = graph.replace(layers=tuple(graph.layers[node.layer] for node in graph.nodes), nodes=nodes)
    return result


class StandIn:
    """Is called instead of a layer. The states of the Stream hold a tuple of arrays for it, with itself as key."""

    def __init__(self, place: Place, runner: Any) -> None:
        self.layer, self.runner, self.masked = place.layer, runner, place.masked
        self.name, self.class_name = place.layer.name, place.layer.class_name
        self.casts_input, self.n_inputs = runner.casts_input, runner.n_inputs


class StreamRecurrent(StandIn):
    """A recurrent layer that continues from the states and the last output of the previous piece."""

    def project(self) -> None:
        self.runner.project()

    def remembers(self, arrays: Sequence[NDArray[Any]], batch: int) -> bool:
        """Whether arrays can be what it remembers: the states of the cell, and the last output."""
        sizes = [*self.layer.state_sizes, self.layer.units]
        return [a.shape for a in arrays] == [(batch, size) for size in sizes]

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        (x, given_mask), runner, kept = inputs[0], self.runner, states.get(self)
        mask = check_sequence_mask(runner, x, given_mask)
        start = None if kept is None else kept[:-1]
        outputs, last, *final = runner.run(x, mask, start, runner.masked_output, states)
        if mask is not None and kept is not None and runner.masked_output == "previous":
            before = kept[-1]
            if runner.return_sequences:
                waiting = ~np.logical_or.accumulate(mask, axis=1)
                outputs = np.where(waiting[:, :, np.newaxis], before[:, np.newaxis], outputs)
            last = np.where(np.any(mask, axis=1)[:, np.newaxis], last, before)
        states[self] = (*final, last)
        result = [Tensor(outputs, given_mask)] if runner.return_sequences else [Tensor(last)]
        return result + ([Tensor(state) for state in final] if runner.return_state else [])


class StreamConvolution(StandIn):
    """A causal convolution over the last timesteps of earlier pieces (zeros at first) and this piece."""

    def remembers(self, arrays: Sequence[NDArray[Any]], batch: int) -> bool:
        return [a.shape[:2] for a in arrays] == [(batch, history(self.layer))]

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        x, mask = inputs[0]
        kept, size = states.get(self), history(self.layer)
        before = np.zeros((len(x), size, *x.shape[2:]), x.dtype) if kept is None else kept[0]
        wide = np.concatenate([before, x], axis=1)
        states[self] = (wide[:, wide.shape[1] - size :].copy(),)
        wide_mask = None
        if mask is not None:
            wide_mask = np.concatenate([np.ones((len(x), size), bool), mask], axis=1)
        outputs = self.runner.call([Tensor(wide, wide_mask)], kwargs, states)
        return [Tensor(y[:, size:], None if m is None else m[:, size:]) for y, m in outputs]


class StreamReshape(StandIn):
    """A Reshape that keeps the time axis, for any number of timesteps."""

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        x = inputs[0].value
        return [Tensor(np.reshape(x, (*x.shape[:2], *self.layer.target_shape[1:])))]


STAND_INS: dict[str, type[StandIn]] = {
    "recurrent": StreamRecurrent,
    "convolution": StreamConvolution,
    "reshape": StreamReshape,
}


def stand_ins_of(runner: Any) -> Iterator[Any]:
    """All stand-ins that remember something, in the order of the nodes."""
    for layer in [step.layer for step in runner.steps] if hasattr(runner, "steps") else runner.inner:
        layer = getattr(layer, "layer", layer) if isinstance(layer, core.Embedding) else layer
        if isinstance(layer, (StreamRecurrent, StreamConvolution)):
            yield layer
        elif isinstance(layer, Functional):
            yield from stand_ins_of(layer)
