"""What `--json` prints: one JSON object on standard output. docs/json.md lists the keys, and a test compares both.

May import everything. NaN and infinities are null, since JSON has none.
"""

import json
import math

from .._version import __version__
from ..engine.summary import layer_rows


def printed(content):
    """Print a dict; the version of fastbilstm stands in it, too."""
    print(json.dumps({"fastbilstm": __version__, **_finite(content)}, ensure_ascii=False, indent=1, allow_nan=False))


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(record, *names):
    return {name: getattr(record, name) for name in names}


def of_model(model):
    """`inspect --json`."""
    arrays = model.get_weights()
    rows = [row for row in layer_rows(model) if row.layer is not None]
    layers = [
        {
            **{"name": row.name, "class_name": row.layer.class_name, "depth": row.depth, "described": row.described},
            **{"output_shapes": row.shapes, "parameters": row.parameters, "masked": row.masked},
            **{"runs": row.runs or None, "ignored": row.ignored},
        }
        for row in rows
    ]
    return {
        "name": model.name,
        "keras": model.keras,
        "dtype": model.dtype,
        "backend": model.backend,
        "parameters": model.count_params(),
        "bytes": sum(array.nbytes for array in arrays),
        "weights": model.weights,
        "measured": [_record(one, *one._fields) for one in model.measured],
        "inputs": [_record(info, "name", "shape", "dtype") for info in model.inputs],
        "outputs": [_record(info, "name", "shape", "dtype") for info in model.outputs],
        "layers": layers,
        "padding": {"matters": not model._plan.padding.free, "text": model._plan.padding.text},
        "text": None if model.text is None else model.text.describe(),
        "labels": model.labels,
        "notes": list(model.graph.notes),
    }


def of_report(found, path):
    """`report --json`."""
    timing = ("threads", "batch", "length", "seconds", "low", "high", "calls")
    keras = found.keras
    return {
        "ok": found.ok,
        "verdict": found.verdict,
        "page": path,
        "agreements": [
            {
                **_record(one, "reference", "ok", "rows", "largest", "median"),
                "outputs": [
                    {"name": o.name, "verdict": o.verdict, **_record(o.comparison, "max_abs", "max_rel")}
                    for o in one.outputs
                ],
            }
            for one in found.agreements
        ],
        "missing": [*found.missing, *found.speed.missing],
        "batches": [_record(one, *timing) for one in found.speed.batches],
        "lengths": [_record(one, *timing) for one in found.speed.lengths],
        "layers": [
            {
                **_record(one, "path", "together"),
                "times": [{"batch": batch, "seconds": seconds} for batch, seconds in one.seconds.items()],
            }
            for one in found.speed.shares
        ],
        "keras": None
        if keras is None
        else {"title": keras.title, "batches": [_record(one, *timing[1:]) for one in keras.batches]},
        "load": None if found.load is None else _record(found.load, "before", "after", "cores"),
    }


def of_texts(model, texts, answers):
    """`predict --text --json`; `answers`: the columns of a batch by name, where the model has no labels."""
    if model.labels is not None:
        found = model.classify(texts)
    else:
        values = {name: column.tolist() if hasattr(column, "tolist") else column for name, column in answers.items()}
        found = [{name: column[row] for name, column in values.items()} for row in range(len(texts))]
    return {"answers": [{"text": text, **row} for text, row in zip(texts, found)]}
