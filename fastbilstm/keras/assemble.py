"""Layers and their calls -> a Graph, cut at the chosen outputs, ordered and numbered. Knows no files and no arrays."""

import json

from ..errors import FileFormatError
from ..graph import Graph, Node, Ref
from .nodes import Pending, map_pending, pending_in


def assemble(version, label, name, inputs, built, calls, ends, structure, outputs):
    """Order the calls, cut the graph, number everything."""
    names = [p.layer for p in ends]
    if outputs:
        ends, structure = _cut(outputs, calls, label), "list"
        names = list(outputs)
    index = {layer.name: number for number, layer in enumerate(built)}
    order = _order(ends, calls, {i.name for i in inputs}, f"{label}: model {name!r}")
    if outputs:
        used = {p.layer for key in order for p in _needs(calls, key)} | {p.layer for p in ends}
        inputs = [i for i in inputs if i.name in used]
    numbers = {(i.name, 0): k for k, i in enumerate(inputs)}
    numbers.update({key: len(inputs) + k for k, key in enumerate(order)})
    kept = sorted({index[layer] for layer, _ in order})
    place = {built[k].name: number for number, k in enumerate(kept)}

    def number(p):
        return Ref(numbers[(p.layer, p.call)], p.tensor)

    nodes = []
    for key in order:
        call = calls[key[0]][key[1]]
        nodes.append(Node(place[key[0]], map_pending(number, call.args), map_pending(number, call.kwargs)))
    return Graph(
        name=name,
        keras=version,
        inputs=tuple(inputs),
        layers=tuple(built[k] for k in kept),
        nodes=tuple(nodes),
        outputs=tuple(number(p) for p in ends),
        output_names=tuple(names),
        input_structure="list",
        output_structure=structure,
    )


def _needs(calls, key):
    call = calls[key[0]][key[1]]
    return pending_in((call.args, call.kwargs))


def _cut(outputs, calls, label):
    ends = []
    for output in outputs:
        layer, _, call = str(output).partition(":")
        count = len(calls.get(layer, ()))
        if not count:
            known = ", ".join(calls)
            raise FileFormatError(f"{label}: outputs names {layer!r}; the layers are {known}")
        if not call and count > 1:
            raise FileFormatError(f"{label}: layer {layer!r} is called {count} times; say {layer}:0 or so")
        if call and (not call.isdigit() or int(call) >= count):
            raise FileFormatError(f"{label}: outputs names {output!r}; {layer!r} is called {count} times")
        ends.append(Pending(layer, int(call or 0), 0))
    return ends


def _order(ends, calls, inputs, where):
    """The calls that `ends` need, each one after the calls that it reads (depth first, without recursion)."""
    order, state = [], {}
    stack = [(p.layer, p.call) for p in reversed(ends)]
    while stack:
        key = stack[-1]
        if key[0] in inputs or state.get(key) == "done":
            stack.pop()
            continue
        if key[0] not in calls or not 0 <= key[1] < len(calls[key[0]]):
            raise FileFormatError(f"{where}: call {key[1]} of layer {key[0]!r} is used and missing")
        needed = [(p.layer, p.call) for p in _needs(calls, key)]
        open_ = [k for k in needed if k[0] not in inputs and state.get(k) != "done"]
        if state.get(key) == "open":
            if open_:
                raise FileFormatError(f"{where}: the graph has a cycle through layer {key[0]!r}")
            state[key] = "done"
            order.append(key)
            stack.pop()
        else:
            state[key] = "open"
            if any(state.get(k) == "open" for k in open_):
                raise FileFormatError(f"{where}: the graph has a cycle through layer {key[0]!r}")
            stack.extend(reversed(open_))
    return order


def outputs_of(layer):
    """(How many tensors a layer gives, their structure as a Graph has it) of a layer with its options."""
    if layer.graph is not None:
        return len(layer.graph.outputs), layer.graph.output_structure
    parts, config = [layer], layer.config
    if layer.class_name == "Bidirectional":
        parts, config = layer.layers[:1] * 2, layer.layers[0].config
    count = 2 if layer.class_name == "Bidirectional" and layer.config.get("merge_mode", "concat") is None else 1
    numbers = list(range(count))
    for part in parts if config.get("return_state") else ():
        cells = part.layers or (part,)
        for cell in cells[0].layers or cells:  # those of StackedRNNCells
            states = list(range(count, count + _STATES.get(cell.class_name, 1)))
            count += len(states)
            stacked = len(states) > 1 and bool(cells[0].layers)
            numbers += [states] if stacked else states
    nested = any(isinstance(number, list) for number in numbers)
    return count, f"nested:{json.dumps(numbers)}" if nested else "list" if count > 1 else "single"


# States of a cell, where it has more than one.
_STATES = {"LSTM": 2, "LSTMCell": 2, "ConvLSTM1D": 2, "ConvLSTM2D": 2, "ConvLSTM3D": 2}
