"""The text of `Model.summary()` and `fastbilstm inspect`: one row a layer. Imports nothing outside the package."""


def _shape(specs):
    shapes = ["(" + ", ".join("None" if size is None else str(size) for size in spec.shape) + ")" for spec in specs]
    return ", ".join(dict.fromkeys(shapes))


def _rows(network, tensors, indent=""):
    graph = network.graph
    count = {}
    for number, node in enumerate(graph.nodes):
        count.setdefault(node.layer, number)
    if not indent:
        for given in graph.inputs:
            size = "(" + ", ".join("None" if s is None else str(s) for s in given.shape) + ")"
            yield given.name, "InputLayer", size, 0, "", given.dtype
    for index, layer in enumerate(graph.layers):
        part = network.inner[index]
        specs = network.node_specs[count[index]]
        parameters = sum(tensors[name].size for _, item in layer.walk() for name in item.weights.values())
        ignored = [text for _, item in layer.walk() for text in item.ignored]
        mask = "mask" if any(spec.masked for spec in specs) else ""
        yield indent + layer.name, describe(layer), _shape(specs), parameters, mask, ", ".join(dict.fromkeys(ignored))
        if layer.graph is not None:
            yield from _rows(part, tensors, indent + "  ")


def describe(layer):
    """'Bidirectional(LSTM(64), concat)' and the like."""
    if layer.layers:
        inner = describe(layer.layers[0])
        mode = f", {layer.config['merge_mode']}" if "merge_mode" in layer.config else ""
        return f"{layer.class_name}({inner}{mode})"
    if layer.class_name == "Activation":
        return f"Activation({layer.config['activation']})"
    size = layer.config.get("units") or layer.config.get("output_dim")
    return f"{layer.class_name}({size})" if size else layer.class_name


def summary_text(model):
    """The table of a Model as text."""
    header = ("layer", "class", "output shape", "parameters", "mask", "ignored at inference")
    rows = list(_rows(model._plan.network, model._tensors))
    table = [header, *((n, c, s, f"{p:,}", m, i) for n, c, s, p, m, i in rows)]
    widths = [max(len(str(row[k])) for row in table) for k in range(len(header))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    total = sum(array.size for array in model.get_weights())
    size = sum(array.nbytes for array in model.get_weights())
    lines += [
        "",
        f"model {model.name!r} written by {model.keras}: {total:,} parameters, {size / 1e6:.2f} MB",
        f"computed in {model.dtype}, LSTM loops by {model.backend}",
        "initializers are ignored; of regularizers, constraints and dropout those that are set are listed",
    ]
    lines += [f"note: {note}" for note in model.graph.notes]
    return "\n".join(lines)
