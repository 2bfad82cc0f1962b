"""The text of `Model.summary()` and `fastbilstm inspect`: one row a layer, then what was planned. Imports nothing
outside the package.
"""


def _shape(specs):
    shapes = ["(" + ", ".join("None" if size is None else str(size) for size in spec.shape) + ")" for spec in specs]
    return ", ".join(dict.fromkeys(shapes))


def _rows(network, tensors, runner=None, indent=""):
    graph = network.graph
    labels = getattr(runner, "labels", {})
    count = {}
    for number, node in enumerate(graph.nodes):
        count.setdefault(node.layer, number)
    if not indent:
        for given in graph.inputs:
            size = "(" + ", ".join("None" if s is None else str(s) for s in given.shape) + ")"
            yield given.name, "InputLayer", size, 0, "", "", given.dtype
    for index, layer in enumerate(graph.layers):
        part = network.inner[index]
        specs = network.node_specs[count[index]]
        parameters = sum(tensors[name].size for _, item in layer.walk() for name in item.weights.values())
        ignored = [text for _, item in layer.walk() for text in item.ignored]
        mask = "mask" if any(spec.masked for spec in specs) else ""
        runs = labels.get(index, "")
        notes = ", ".join(dict.fromkeys(ignored))
        yield indent + layer.name, describe(layer), _shape(specs), parameters, mask, runs, notes
        if layer.graph is not None:
            inner = (
                next((step.layer for step in runner.steps if step.layer.name == layer.name), None) if labels else None
            )
            yield from _rows(part, tensors, inner, indent + "  ")


def describe(layer):
    """'Bidirectional(LSTM(64), concat)' and the like."""
    if layer.layers:
        shown = layer.layers if layer.class_name == "StackedRNNCells" else layer.layers[:1]
        inner = ", ".join(map(describe, shown))
        mode = f", {layer.config['merge_mode']}" if "merge_mode" in layer.config else ""
        return f"{layer.class_name}({inner}{mode})"
    if layer.class_name == "Activation":
        return f"Activation({layer.config['activation']})"
    size = layer.config.get("units") or layer.config.get("output_dim")
    return f"{layer.class_name}({size})" if size else layer.class_name


def summary_text(model):
    """The table of a Model as text."""
    plan = model._plan
    vector = plan.backend == "vector"
    header = ("layer", "class", "output shape", "parameters", "mask", "runs", "ignored at inference")
    rows = list(_rows(plan.network, model._tensors, plan.runner if vector else None))
    table = [header, *((n, c, s, f"{p:,}", m, r, i) for n, c, s, p, m, r, i in rows)]
    if not vector:
        table = [(*row[:5], row[6]) for row in table]
    widths = [max(len(str(row[k])) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    total = sum(array.size for array in model.get_weights())
    size = sum(array.nbytes for array in model.get_weights())
    lines += [
        "",
        f"model {model.name!r} written by {model.keras}: {total:,} parameters, {size / 1e6:.2f} MB",
        f"computed in {model.dtype} by backend {model.backend}, {_threads(model)}",
        "initializers are ignored; of regularizers, constraints and dropout those that are set are listed",
    ]
    lines.append(plan.padding)
    if vector:
        lines += _engine_lines(plan, rows)
    lines += [f"text: {model.text.describe()}"] if model.text is not None else []
    lines += [f"labels: {', '.join(model.labels)}"] if model.labels is not None else []
    lines += [f"note: {note}" for note in model.graph.notes]
    return "\n".join(lines)


def _threads(model):
    return "1 thread" if model.n_threads == 1 else f"up to {model.n_threads} threads"


def _engine_lines(plan, rows):
    """What the vector engine did with the layers, and what its promises do not cover."""
    from . import _kernels

    if plan.table_bytes:
        size = f"{plan.table_bytes / 1e6:.2f} MB of {plan.memory_budget / 1e6:.2f} allowed"
        yield f"tables of projected embeddings: {size}, made when as many tokens were read"
    exempt = [name.strip() for name, *_, runs, _ in rows if runs == "numpy"]
    if exempt:
        yield f"run by NumPy, where the last bits of a row may depend on the batch: {', '.join(exempt)}"
    else:
        yield f"a row's result is the same to the bit in every batch and with any number of threads ({_kernels.isa()})"
    if not plan.independent:
        yield "rows of a batch depend on each other or on earlier batches: batches are run as given"
