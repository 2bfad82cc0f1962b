"""`Model.summary()` and `fastbilstm inspect`, as text and as HTML: a row for each layer, then what was planned.

Imports nothing outside the package.
"""

from html import escape
from typing import Any, NamedTuple


class LayerRow(NamedTuple):
    """A row about a layer. `depth`: how many models it is inside. `runs`: what computes it, in backend "vector".
    `shape`: the `shapes` of its outputs in words."""

    name: str
    depth: int
    described: str
    shape: str
    parameters: int
    masked: bool
    runs: str
    ignored: str
    layer: object
    shapes: tuple = ()


def layer_rows(model):
    """A LayerRow for each input and layer of a Model, in Keras' order, those of models inside it after their model."""
    plan = model._plan
    return list(_rows(plan.network, model._tensors, plan.runner if plan.backend == "vector" else None))


def shape_text(shape):
    return "(" + ", ".join("None" if size is None else str(size) for size in shape) + ")"


def inner_network(runner, layer):
    """The engine's network for a model inside a model; None without the engine."""
    steps = getattr(runner, "steps", ())
    return next((step.layer for step in steps if step.layer.name == layer.name), None)


def _rows(network, tensors, runner=None, depth=0):
    graph = network.graph
    labels = getattr(runner, "labels", {})
    count = {}
    for number, node in enumerate(graph.nodes):
        count.setdefault(node.layer, number)
    if not depth:
        for given in graph.inputs:
            yield LayerRow(given.name, 0, "InputLayer", shape_text(given.shape), 0, False, "", given.dtype, None)
    for index, layer in enumerate(graph.layers):
        specs = network.node_specs[count[index]]
        parameters = sum(tensors[name].size for name in {n for _, item in layer.walk() for n in item.weights.values()})
        ignored = [text for _, item in layer.walk() for text in item.ignored]
        masked = any(spec.masked for spec in specs)
        different = tuple(dict.fromkeys(tuple(spec.shape) for spec in specs))
        shapes = ", ".join(map(shape_text, different))
        notes = ", ".join(dict.fromkeys(ignored))
        runs = labels.get(index, "")
        yield LayerRow(layer.name, depth, describe(layer), shapes, parameters, masked, runs, notes, layer, different)
        if layer.graph is not None:
            yield from _rows(network.inner[index], tensors, inner_network(runner, layer), depth + 1)


def shown_inside(layer):
    """The layers inside a layer that describe it; for Bidirectional only the forward layer."""
    return layer.layers if layer.class_name == "StackedRNNCells" else layer.layers[:1]


def describe(layer):
    """'Bidirectional(LSTM(64), concat)' and the like."""
    if layer.layers:
        inner = ", ".join(map(describe, shown_inside(layer)))
        mode = f", {layer.config['merge_mode']}" if "merge_mode" in layer.config else ""
        return f"{layer.class_name}({inner}{mode})"
    if layer.class_name == "Activation":
        return f"Activation({layer.config['activation']})"
    size = layer.config.get("units") or layer.config.get("output_dim")
    return f"{layer.class_name}({size})" if size else layer.class_name


def summary_table(model):
    """(rows of the table as text, the headings first; the sentences below it)."""
    header = ("layer", "class", "output shape", "parameters", "mask", "runs", "ignored at inference")
    rows = layer_rows(model)
    cells = [
        (2 * r.depth * " " + r.name, r.described, r.shape, f"{r.parameters:,}", r.masked * "mask", r.runs, r.ignored)
        for r in rows
    ]
    table = [header, *cells]
    if model.backend != "vector":
        table = [(*row[:5], row[6]) for row in table]
    return table, plan_lines(model, rows)


def summary_text(model: Any) -> str:
    """The table of a Model as text."""
    table, lines = summary_table(model)
    widths = [max(len(str(row[k])) for row in table) for k in range(len(table[0]))]
    text = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*text, "", *lines])


def summary_html(model: Any) -> str:
    """The same as HTML, for notebooks. Whatever comes from the file is escaped, and there is no script."""
    (header, *rows), lines = summary_table(model)
    style = ' style="text-align:left;white-space:pre-wrap"'
    head = "".join(f"<th{style}>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td{style}>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    told = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{told}</ul>"


def plan_lines(model, rows):
    """Sentences about the whole model; `rows` come from `layer_rows`."""
    plan = model._plan
    total = sum(array.size for array in model.get_weights())
    size = sum(array.nbytes for array in model.get_weights())
    lines = [
        f"model {model.name!r} written by {model.keras}: {total:,} parameters, {size / 1e6:.2f} MB",
        f"computed in {model.dtype} by backend {model.backend}, {_threads(model)}",
        "initializers are ignored; of regularizers, constraints and dropout those that are set are listed",
        plan.padding.text,
    ]
    if plan.backend == "vector":
        lines += _engine_lines(plan, rows)
    return lines + held_lines(model)


def held_lines(model):
    """What a file holds besides the network in float32: the form of its weights, tokenizer, labels, notes."""
    narrow = [] if model.weights == "float32" else [f"weights: {model.weights}", *map(str, model.measured)]
    lines = [f"text: {model.text.describe()}"] if model.text is not None else []
    lines += [f"labels: {', '.join(model.labels)}"] if model.labels is not None else []
    return narrow + lines + [f"note: {note}" for note in model.graph.notes]


def _threads(model):
    return "1 thread" if model.n_threads == 1 else f"up to {model.n_threads} threads"


def _engine_lines(plan, rows):
    """What the vector engine did with the layers, and for what its promises do not hold."""
    from .. import _kernels  # not every build has it

    if plan.table_bytes:
        size = f"{plan.table_bytes / 1e6:.2f} MB of {plan.memory_budget / 1e6:.2f} allowed"
        yield f"tables of projected embeddings, and of states after padding: {size}, made when they are worth it"
    for form in sorted({row.runs.partition("vector, ")[2] for row in rows} & {"int8", "bfloat16", "float16"}):
        kind = f" ({_kernels.dots()[0]})" if form == "int8" else ""
        yield f"products read weights in {form}{kind} where 'runs' says so, else the same weights in float32"
    exempt = [row.name for row in rows if row.runs == "numpy"]
    if exempt:
        yield f"run by NumPy, where the last bits of a row may depend on the batch: {', '.join(exempt)}"
    if not plan.independent:
        yield "rows of a batch depend on each other or on earlier batches: batches are run as given"
    elif not exempt:
        yield f"a row's result is the same to the bit in every batch and with any number of threads ({_kernels.isa()})"
