"""The HTML page of `fastbilstm report`: no script, no network, nothing but text and SVG.

Whatever comes from the model's file is escaped, and the page forbids itself to load anything.
"""

from __future__ import annotations

import datetime
import os
import platform
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from ..engine.summary import layer_rows, plan_lines, shown_inside
from ..layers.base import REGISTRY, REQUIRED
from ..tolerances import FLOAT32_FLOOR, FLOAT32_RELATIVE, FLOAT64_RELATIVE
from . import figures
from . import graph_drawing as report_graph
from . import measure as report_measure
from .agreement import OUT, WITHIN
from .verdict import sentences

if TYPE_CHECKING:
    from ..model import Model

# Options that are already shown with the class name of a layer.
_TOLD = {"units", "output_dim", "input_dim", "merge_mode", "layers"}

STYLE = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1c1f23;--soft:#59616b;--line:#d5dae0;--panel:#f5f7f9;
--s1:#0072b2;--s2:#b84a00;--kernel:#e3f0f9;--numpy:#fbeadb;--folded:#eceef1;--good:#00664a;--bad:#a8200d}
@media(prefers-color-scheme:dark){:root{--ground:#15181c;--ink:#e8ebee;--soft:#a3adb8;--line:#3a424b;--panel:#1e2329;
--s1:#56b4e9;--s2:#f0a03c;--kernel:#173549;--numpy:#4a3014;--folded:#2a3038;--good:#4fd1a5;--bad:#ff8a75}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:20px 20px 60px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:20px;margin:40px 0 10px;padding-bottom:4px;border-bottom:1px solid var(--line)}
h3{font-size:16px;margin:24px 0 6px;overflow-wrap:anywhere}h4{font-size:14px;margin:0 0 6px}
p,ul{margin:6px 0;overflow-wrap:anywhere}ul{padding-left:20px}.soft,figcaption{color:var(--soft);font-size:13px}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:8px 20px;margin:14px 0}
dt{color:var(--soft);font-size:12px}dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow:auto;border:1px solid var(--line);border-radius:6px;background:var(--panel)}
.scroll.tall{max-height:80vh}
table{border-collapse:collapse;font-size:13px;width:100%}
th,td{text-align:left;padding:4px 10px;border-bottom:1px solid var(--line);vertical-align:top;font-weight:400;
white-space:nowrap}
thead th{font-weight:600;background:var(--panel);position:sticky;top:0}tbody tr:last-child>*{border-bottom:0}
.numbers td{text-align:right}.numbers thead th:not(:first-child){text-align:right}
.layers td:nth-child(6),.layers td:nth-child(7),.layers td:nth-child(8),.verdicts td{white-space:normal;min-width:112px}
.layers td:nth-child(4){text-align:right}.layers tbody th{white-space:pre}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:24px}
figure{margin:10px 0;max-width:540px;break-inside:avoid}details{margin-top:6px;font-size:13px}
summary{cursor:pointer;color:var(--soft)}
svg{display:block;font-size:12px;fill:var(--ink)}svg.chart{width:100%;height:auto}
.grid{stroke:var(--line);fill:none}.axis{stroke:var(--soft);fill:none}.title{fill:var(--soft)}.label{font-weight:600}
.line{fill:none;stroke-width:2}.line.s1{stroke:var(--s1)}.line.s2{stroke:var(--s2);stroke-dasharray:6 3}
.whisker{stroke-width:1.5}.whisker.s1{stroke:var(--s1)}.whisker.s2{stroke:var(--s2)}
.mark.s1,.bar.s1,.label.s1{fill:var(--s1)}.mark.s2,.bar.s2,.label.s2{fill:var(--s2)}
.band{fill:var(--s2);opacity:.18}
.graph{margin:0 auto}.graph text{text-anchor:middle;font-size:11.5px}.graph text.name{font-weight:600;font-size:12px}
.graph text.shape{text-anchor:start;fill:var(--soft);font-size:11px;
paint-order:stroke;stroke:var(--panel);stroke-width:4px}
.graph .mask{fill:var(--s2);font-weight:600}
.box rect{stroke:var(--soft);fill:var(--ground)}.box.kernel rect,.key.kernel
{fill:var(--kernel);background:var(--kernel)}
.box.numpy rect,.key.numpy{fill:var(--numpy);background:var(--numpy)}
.box.folded rect,.key.folded{fill:var(--folded);background:var(--folded)}
.box.folded rect{stroke-dasharray:4 3}.box.model rect{fill:none;stroke-width:1.5}
.edge{fill:none;stroke:var(--soft);stroke-width:1.3}.edge.masked{stroke:var(--s2);stroke-width:2;stroke-dasharray:7 3}
.tip{fill:var(--soft)}
.key{display:inline-block;width:14px;height:14px;border:1px solid var(--soft);border-radius:3px;vertical-align:-2px}
.key.folded{border-style:dashed}
.dash{display:inline-block;width:24px;border-top:2px dashed var(--s2);vertical-align:4px}
.legend{font-size:13px}.legend span{white-space:nowrap;margin-right:16px}
.ok,.bad{font-weight:600}.ok{color:var(--good)}.bad{color:var(--bad)}code{overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0}.scroll,.scroll.tall{overflow:visible;max-height:none;border:0}
.graph{max-width:100%;height:auto}h2,h3{break-after:avoid}tr{break-inside:avoid}}
"""


def page(model: Model, path: str, found: Any, command: str) -> str:
    """The text of the page; `found` is a report.Report, `command` what made it."""
    title = escape(f"{model.name}: fastbilstm report")
    body = (
        _header(model, path, found),
        _graph(model),
        _layers(model),
        _agreement(model, found),
        _latency(model, found.speed, found.keras),
        _size(model, path),
        f'<h2>How it was made</h2><p><code>{escape(command)}</code></p><p class="soft">fastbilstm {__version__}, '
        f"Python {platform.python_version()}, NumPy {np.__version__}, {escape(platform.system())} on "
        f"{escape(platform.machine())}. All numbers were measured in that run.</p>",
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _facts(pairs):
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in pairs) + "</dl>"


def _megabytes(count):
    return f"{count / 1e6:.2f} MB"


def _file_size(path):
    """The bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _weights(model):
    arrays = model.get_weights()
    return sum(array.size for array in arrays), sum(array.nbytes for array in arrays)


def _header(model, path, found):
    parameters, nbytes = _weights(model)
    isa = ""
    if model.backend == "vector":
        from .. import _kernels  # not every build has it

        isa = f", {_kernels.isa()}"
    first, *others = sentences(found)
    kind = "bad" if not found.ok else "ok" if found.agreements else "soft"
    verdict = " ".join([f'<span class="{kind}">{escape(first)}</span>', *map(escape, others)])
    load = found.load
    busy = "not told" if load is None else f"{load.before:.2f} before, {load.after:.2f} after the timings"
    facts = (
        ("file", f"{os.path.basename(os.path.normpath(path))}, {_megabytes(_file_size(path))}"),
        ("written by", model.keras),
        ("parameters", f"{parameters:,}, {_megabytes(nbytes)}"),
        *((("weights", "; ".join([model.weights, *map(str, model.measured)])),) if model.weights != "float32" else ()),
        ("computed by", f"backend {model.backend}{isa}, {model.dtype}"),
        ("CPU", report_measure.cpu_name()),
        ("threads at most", model.n_threads),
        ("load: programs that want a core", busy + ("" if load is None else f", {load.cores} cores")),
        ("fastbilstm", __version__),
        ("date", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    )
    return f"<h1>{escape(model.name)}</h1><p>{verdict}</p>{_facts(facts)}"


def _graph(model):
    vector = model.backend == "vector"
    svg = report_graph.draw(model._plan.network, model._plan.runner if vector else None)
    key = '<span><i class="key kernel"></i> our kernels</span><span><i class="key folded"></i> folded into another '
    key += 'layer, or dropped</span><span><i class="key numpy"></i> NumPy</span>' if vector else ""
    key = key if vector else f"<span>all layers run by backend {escape(model.backend)}</span>"
    key += '<span><i class="dash"></i> carries a mask</span>'
    graph, hidden = model.graph, report_graph.mask_nodes(model.graph)
    names = [graph.layers[node.layer].name for k, node in enumerate(graph.nodes, len(graph.inputs)) if k in hidden]
    told = f"Calls that only make masks are part of dashed lines: {', '.join(names)}." if names else ""
    told = f'<p class="soft">{escape(told)}</p>' if told else ""
    return (
        f'<h2>Graph</h2><p class="legend">{key}</p>{told}<div class="scroll tall" tabindex="0" role="region" '
        f'aria-label="Graph of the layers">{svg}</div>'
    )


def options_text(layer):
    """The options of a layer and of those inside it that change what is computed and are not Keras' defaults."""
    known = getattr(REGISTRY.get(layer.class_name), "options", {})
    told = []
    for name, value in layer.config.items():
        default = known[name].default if name in known else REQUIRED
        if name in _TOLD or value is None or (default is not REQUIRED and value == default):
            continue
        text = str(value)
        told.append(f"{name}={text if len(text) <= 40 else text[:39] + '…'}")
    inner = [] if layer.graph is not None else map(options_text, shown_inside(layer))
    return ", ".join(dict.fromkeys([*told, *filter(None, inner)]))


def _layers(model):
    rows = layer_rows(model)
    header = ("layer", "class", "output shape", "parameters", "mask", "runs", "options", "input type, ignored")
    cells = [
        (
            2 * row.depth * "\u00a0" + row.name,
            row.described,
            row.shape,
            f"{row.parameters:,}",
            "mask" if row.masked else "",
            row.runs or ("" if row.layer is None else model.backend),
            "" if row.layer is None else options_text(row.layer),
            row.ignored,
        )
        for row in rows
    ]
    lines = "".join(f"<li>{escape(line)}</li>" for line in plan_lines(model, rows))
    return f"<h2>Layers</h2>{figures.table(header, cells, 'layers')}<ul>{lines}</ul>"


def _verdict(agreements):
    verdicts = {outcome.verdict for one in agreements for outcome in one.outputs}
    if not all(one.ok for one in agreements):
        return f'<span class="bad">{OUT}</span>'
    return (
        f'<span class="ok">{WITHIN if verdicts <= {WITHIN} else "within tolerance or rounding (see the table)"}</span>'
    )


def _agreement(model, found):
    parts = ["<h2>Agreement</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in found.missing]
    if model.dtype == "float32":
        band = (FLOAT32_RELATIVE * FLOAT32_FLOOR, FLOAT32_RELATIVE)
        rule = f"{band[1]:g} of an element, or of a tenth of the largest element where the element is smaller"
    else:
        band, rule = (FLOAT64_RELATIVE, FLOAT64_RELATIVE), f"{FLOAT64_RELATIVE:g} of the largest element"
    parts.append(f'<p class="soft">Tolerance: {rule}, of each output.</p><div class="grid2">')
    for one in found.agreements:
        word = _verdict([one])
        checked = [
            (o.name, o.verdict, figures.number(o.comparison.max_abs), figures.number(o.comparison.max_rel))
            for o in one.outputs
        ]
        total = sum(one.counts) + one.equal
        numbers = [(f"{figures.number(a)} to {figures.number(b)}", f"{c:,}")
                   for a, b, c in zip(one.edges, one.edges[1:], one.counts)]  # fmt: skip
        numbers = [("equal", f"{one.equal:,}"), *numbers]
        if one.special:
            numbers.append(("no finite numbers: compared as equal or not", f"{one.special:,}"))
        caption = (
            f"{one.rows} rows, {total:,} elements; largest error {figures.number(one.largest)}, median "
            f"{figures.number(one.median)} of the largest element. The band is the tolerance."
        )
        title = f"Errors against {one.reference}"
        drawing = figures.histogram(title, one.edges, one.counts, one.equal, band)
        parts.append(f"<section><h3>{escape(one.reference)}</h3><p>{word}; {escape(one.remark)}.</p>")
        parts.append(figures.figure(title, drawing, caption, ("error / largest element", "elements"), numbers))
        parts.append(figures.table(("output", "verdict", "largest error", "/ largest element"), checked, "verdicts"))
        told = [f"{o.name}: {o.comparison.message}" for o in one.outputs if o.verdict == OUT]
        parts += [f'<p class="bad">{escape(text)}</p>' for text in told]
        parts.append("</section>")
    return "".join(parts) + "</div>"


def _threads(model, timing):
    """What computed a timing; only our kernels use exactly the given number of threads."""
    if model.backend != "vector":
        return model.backend
    return f"{timing.threads} thread{'s' * (timing.threads > 1)}"


def _lines(model, timings, key):
    """{"1 thread": [(x, milliseconds, low, high), ...], ...}"""
    series = {}
    for t in timings:
        series.setdefault(_threads(model, t), []).append((getattr(t, key), 1e3 * t.seconds, 1e3 * t.low, 1e3 * t.high))
    return series


def _time_figure(model, title, x_title, timings, key):
    series = _lines(model, timings, key)
    rows = [
        (
            f"{getattr(t, key)}, {_threads(model, t)}",
            *(figures.number(1e3 * value) for value in (t.seconds, t.low, t.high)),
            f"{t.batch / t.seconds:,.0f}",
            t.calls,
        )
        for t in timings
    ]
    header = (x_title, "median, ms", "lower quartile", "upper quartile", "rows a second", "calls")
    drawing = figures.line_chart(title, x_title, "milliseconds a call", series)
    caption = "Medians of calls of predict; whiskers are quartiles. Both axes are logarithmic."
    return figures.figure(title, drawing, caption, header, rows)


def _spread(timing):
    """Median and quartiles, in milliseconds."""
    middle, low, high = (figures.number(1e3 * value) for value in (timing.seconds, timing.low, timing.high))
    return f"{middle} ({low} to {high})"


def _beside_keras(speed, keras):
    """A table of our times and those of Keras, for the batches that both have."""
    ours = {timing.batch: timing for timing in sorted(speed.batches, key=lambda timing: timing.threads)}
    rows = []
    for theirs in (theirs for theirs in keras.batches if theirs.batch in ours):
        mine = ours[theirs.batch]
        ratio = f"{figures.number(theirs.seconds / mine.seconds)} times"
        rows.append((str(theirs.batch), _spread(mine), _spread(theirs), ratio, theirs.calls))
    header = ("rows in a batch", "fastbilstm, ms", f"{keras.title}, ms", "Keras takes", "calls of Keras")
    text = (
        "Medians and quartiles: fastbilstm's predict on the most threads above; predict_on_batch of Keras, in a "
        "process of its own, on as many threads as it likes, after the call that compiles it."
    )
    return f'<h3>Beside Keras</h3><p class="soft">{text}</p>{figures.table(header, rows, "numbers")}'


def _latency(model, speed, keras):
    shapes = ", ".join(str(("rows", *i.shape[1:])).replace("'", "").replace("None", "any") for i in model.graph.inputs)
    text = any(i.dtype == "string" for i in model.graph.inputs)
    unit = "words a text, at most" if text else "timesteps"
    at = f"inputs {shapes}" if speed.length is None else f"{speed.length} {unit}"
    parts = ["<h2>Latency</h2>", f'<p class="soft">Made-up inputs; {escape(at)}.</p>']
    parts += [f"<p>{escape(line)}</p>" for line in speed.missing]
    parts.append('<div class="grid2">')
    if speed.batches:
        parts.append(_time_figure(model, f"Time against batch, {at}", "rows in a batch", speed.batches, "batch"))
    for batch in dict.fromkeys(t.batch for t in speed.lengths):
        chosen = [t for t in speed.lengths if t.batch == batch]
        parts.append(_time_figure(model, f"Time against length, batch {batch}", unit, chosen, "length"))
    if speed.shares:
        parts.append(_share_figure(model, speed.shares, at))
    return "".join(parts) + "</div>" + (_beside_keras(speed, keras) if keras is not None else "")


def _share_figure(model, shares, at):
    batches = list(shares[0].seconds)
    names = [f"batch {batch}" for batch in batches]
    totals = [sum(s.seconds[batch] for s in shares) or 1.0 for batch in batches]
    rows, cells = [], []
    for s in shares:
        label = " / ".join(s.path) + (f" with {', '.join(s.together)}" if s.together else "")
        rows.append((label, tuple(1e3 * s.seconds[batch] for batch in batches)))
        cell = [label]
        for batch, total in zip(batches, totals):
            cell += [figures.number(1e3 * s.seconds[batch]), f"{100 * s.seconds[batch] / total:.1f} %"]
        cells.append(cell)
    header = ["layer", *(text for name in names for text in (f"{name}, ms", "share"))]
    caption = (
        f"Medians, {'on one thread' if model.backend == 'vector' else model.backend}. Layers folded into another one "
    )
    caption += "are timed with it; dropped ones take no time."
    title = f"Share of each layer, {at}"
    return figures.figure(title, figures.share_chart(title, rows, names), caption, header, cells)


def _size(model, path):
    parameters, nbytes = _weights(model)
    rows = [
        ("file", _megabytes(_file_size(path))),
        ("weights, as in the file", f"{_megabytes(nbytes)}, {parameters:,} numbers"),
    ]
    if model.backend == "vector":
        budget = _megabytes(model._plan.memory_budget)
        size = f"{_megabytes(model._plan.table_bytes)} (at most {budget})"
        rows.append(("tables of projected embeddings, and of states after padding", size))
    return f"<h2>Size</h2>{figures.table(('what', 'size'), rows)}"
