"""What happens inside a network for given rows: outputs of layers, states and gates of each timestep, attention scores.

Computed by the specification, which holds everything; the kernels keep none of it. Imports NumPy and the layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..layers import Functional, Tensor
from ..layers.base import broadcast_mask
from ..layers.cells import StackedRNNCells
from ..layers.functional import Watched
from ..layers.merging import Attention
from ..layers.multihead import MultiHeadAttention
from ..layers.recurrent import Bidirectional, Recurrent
from ..layers.timesteps import unroll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from .plan import Plan

# Of all others: h.
STATES = dict.fromkeys(("LSTM", "LSTMCell", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), ("h", "c"))


def trace(plan: Plan, arrays: Sequence[NDArray[Any]], names: str | Sequence[str] | None) -> Any:
    """What `Model.trace` gives; `arrays`: one for each input."""
    wanted = set() if names is None else {names} if isinstance(names, str) else set(names)
    paths, calls, found, there = {id(plan.network): ""}, {}, {}, []
    _name_networks(plan.network, paths)

    def see(network, part, inputs, kwargs, outputs):
        if id(network) not in paths:
            return  # inside TimeDistributed, where timesteps are rows
        calls[network, part] = number = calls.get((network, part), 0) + 1
        name = f"{paths[id(network)]}{part.name}" + (f"#{number}" if number > 1 else "")
        makers = {name if len(outputs) == 1 else f"{name}:{key}": lambda y=y: y.value for key, y in enumerate(outputs)}
        makers.update({f"{name}/{end}": make for end, make in _inside(part, inputs, kwargs)})
        there.extend(makers)
        found.update({full: np.array(make()) for full, make in makers.items() if full in wanted})

    plan.call(arrays if wanted else [array[:1] for array in arrays], Watched(see), plan.network)
    if missing := sorted(wanted - set(found)):
        raise InputError(f"trace: there is no tensor {missing[0]!r}; there are {', '.join(there)}")
    return there if names is None else found[names] if isinstance(names, str) else {name: found[name] for name in names}


def _name_networks(network, paths):
    """Where each model inside a model stands: "inner/"."""
    for part in network.inner:
        if isinstance(part, Functional):
            paths[id(part)] = f"{paths[id(network)]}{part.name}/"
            _name_networks(part, paths)


def _inside(part, inputs, kwargs) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(end of the name, a function that computes it) of what a layer holds beside its outputs."""
    if isinstance(part, (Attention, MultiHeadAttention)):
        asked = {**kwargs, "return_attention_scores": True}
        yield "scores", lambda: part.call(inputs, asked, {})[-1].value
    elif isinstance(part, Recurrent):
        yield from _direction(part, inputs, kwargs)
    elif isinstance(part, Bidirectional):
        sequence, given = inputs[0], inputs[1:]
        if given and part.version.is_keras3 and not kwargs.get("mask"):
            sequence = Tensor(sequence.value)
        half = len(given) // 2
        for side, layer, states in (("forward", part.forward, given[:half]), ("backward", part.backward, given[half:])):
            for end, make in _direction(layer, [sequence, *states], {"mask": True}):
                yield f"{side}/{end}", make


def _direction(layer, inputs, kwargs):
    """States and gates of an LSTM, GRU, SimpleRNN or RNN: (B, T, U) each, at the timesteps of the input."""
    runs = []

    def run():
        if not runs:
            runs.append(_run(layer, inputs, kwargs))
        return runs[0]

    for path, cell, _ in _cells(layer):
        for name in STATES.get(type(cell).__name__, ("h",)):
            yield f"{path}{name}", lambda name=f"{path}{name}": run()[name]
        for gate in cell.gate_names:
            yield f"{path}gate_{gate}", lambda name=f"{path}gate_{gate}": run()[name]


def _cells(layer):
    """(path, cell, number of its first state) of a layer's cells; the path is "" for a single one."""
    cell = getattr(layer, "cell", layer)
    if not isinstance(cell, StackedRNNCells):
        return [("", cell, 0)]
    first, found = 0, []
    for number, part in enumerate(cell.inner):
        found.append((f"cell_{number}/", part, first))
        first += part.n_states
    return found


def _run(layer, inputs, kwargs):
    """{name: (B, T, U)}. At masked timesteps states stay and gates are 0."""
    x, mask, start = layer.begin(inputs, kwargs, {})
    if layer.go_backwards:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    if start is None:
        start = tuple(np.zeros((len(x), size), x.dtype) for size in layer.state_sizes)
    before, gates = [], {}

    def step(x_t, states):
        before.append(states)
        value = x_t
        for path, cell, first in _cells(layer):
            own = states[first : first + cell.n_states]
            for gate, y in cell.gates(value, own).items():
                gates.setdefault(f"{path}gate_{gate}", []).append(y)
            value = cell.step(value, own)[cell.output_state]
        return layer.step(x_t, states)

    _, _, final = unroll(step, x, mask, tuple(start), layer.emitted(mask), layer.output_state)
    found = {}
    for path, cell, first in _cells(layer):
        for number, name in enumerate(STATES.get(type(cell).__name__, ("h",)), start=first):
            found[f"{path}{name}"] = np.stack([states[number] for states in [*before[1:], final]], axis=1)
    for name, parts in gates.items():
        y = np.stack(parts, axis=1)
        found[name] = y if mask is None else np.where(broadcast_mask(mask, y), y, 0)
    return {name: y[:, ::-1] if layer.go_backwards else y for name, y in found.items()}
