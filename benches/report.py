"""Turns measured rows into the tables of RESULTS.md and the JSON beside it.

The ratio of a cell is the best rival's median over fastbilstm's; only rivals whose answer is right count. Text after
the line `<!-- notes -->` of an existing RESULTS.md is kept. Imports nothing but the standard library and `cells`.
"""

import json
from pathlib import Path

from cells import (
    AS_CONVERTED,
    BATCHES,
    CELLS,
    HAND_MADE,
    MEMORY_RATIO,
    REVIEWS_CELL,
    REVIEWS_RATIO,
    START_CELL,
    START_RATIO,
)

OURS, BASELINE = "fastbilstm", "not counted"  # as in engines.py
NOTES = "<!-- notes -->"
_RIVALS = (AS_CONVERTED, HAND_MADE)
INTRODUCTION = """\
Written by `benches/bench_rivals.py`; do not edit above the notes. Times are medians in milliseconds with the quartiles
in brackets, float32, same weights, same inputs. Every output is compared with the float64 specification before anything
is timed: hand-made nets within 1e-5, converted ones within 3e-5, of the largest element if that is above 1; an engine
that answers wrong is named and not counted. Each number of threads has a process of its own, on as many cores. Engines
take turns, in an order that rotates; a turn begins with calls that do not count.

- **As converted**: the Keras model saved, exported as SavedModel and put through tf2onnx without an edit, run by ONNX
  Runtime and OpenVINO (which reads the SavedModel where it cannot read the ONNX file), and TensorFlow itself. LiteRT
  runs what TensorFlow's converter makes of the Keras model, a file for each batch, with built-in operations only.
- **Hand-made**: the same weights as ONNX LSTM operators (ONNX Runtime, OpenVINO) and as PyTorch's `nn.LSTM`, with
  time-major input. Where there is a mask, rows are shifted to post-padding, sorted by length and cut at the longest,
  with `sequence_lens` or packed. Shifting, sorting, packing and transposing are not timed for rivals; fastbilstm gets
  the rows as they come. Nets with other layers around the recurrent ones, or without recurrent ones, are written in
  PyTorch, which exports them to ONNX. LiteRT gets the Keras model with its recurrent layers unrolled, where these have
  100 timesteps at most.
- **Reviews**: the masked net gets reviews of IMDB, of the 200 in tests/golden/demo. The one call gets these 200 and
  made ones: each has the length of one of the 200, cut at 400, and ids drawn from all of theirs. It runs the demo's
  trained net; the weights of the other nets are random, by a seed.
- **Ratio**: the best rival's median over fastbilstm's.
- **Floor**: the least time that the products of a net need on one thread at the rate at which this run multiplied two
  matrices that lie in the cache (above: products a second); activations and all else not counted. No cell can be faster
  in float32, so where the floor is near, no more can be gained."""

TAILS_INTRODUCTION = """\
Percentiles of the time of one call, one after the other, in ms; every engine with its default threads, as many as there
are cores, and fastbilstm on one thread, too. "idle": no other process computes; "busy": one other process does, without
end. "calls/s of N": together, of N Python threads that share one model."""

COLD_INTRODUCTION = """\
Before each call of an engine, the thread that calls writes {touched} MB of other memory, as a service does between
requests; this is not timed. Its caches hold little of the model then, and the other threads of a pool may sleep. Median
and quartiles of one call in ms; no other process computes. Ratio: the best rival's median over this engine's."""


def table(head, lines):
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, rule, *lines])


def number(value):
    """Three significant digits without an exponent."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def spread(row):
    return f"{number(row['median'])} ({number(row['q1'])} to {number(row['q3'])})"


def of(rows, **wanted):
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def best_rival(rows, form=None, time="median"):
    rivals = [row for row in rows if row["status"] == "ok" and row["form"] in ([form] if form else _RIVALS)]
    return min(rivals, key=lambda row: row[time], default=None)


# ---- ratios --------------------------------------------------------------------------------------------------------


def _ratio_line(title, batch, threads, rows, required, floor=None, form=None):
    """A dictionary with what a line of the table of ratios says."""
    ours = next(iter(of(rows, engine=OURS, status="ok")), None)
    rival = best_rival(rows, form)
    line = {"cell": title, "batch": batch, "threads": threads, "form": form or "any", "required": required}
    line |= {"ours": ours and ours["median"], "ours_spread": ours and spread(ours), "floor": floor}
    line |= {"rival": rival and f"{rival['engine']} ({rival['form']})", "rival_ms": rival and rival["median"]}
    line["ratio"] = rival["median"] / ours["median"] if ours and rival else None
    line["floor_reached"] = floor / ours["median"] if ours and floor else None
    line["reached"] = None if None in (line["ratio"], required) else line["ratio"] >= required
    if line["ratio"] is None:
        line["why"] = "; ".join(dict.fromkeys(row["reason"] for row in rows if row.get("reason"))) or "not measured"
    return line


def ratios(rows, rate=None):
    """The lines of the table of ratios, one for each cell, batch, number of threads and requirement.

    rate: products a second on one thread.
    """
    lines = []
    for cell in CELLS.values():
        for threads in sorted({row["threads"] for row in rows}):
            for at, batch in enumerate(BATCHES[cell.family]):
                mine = of(rows, cell=cell.name, batch=batch, threads=threads)
                known = rate and cell.products and threads == 1
                floor = batch * cell.products / rate * 1e3 if known else None
                for form, required in (cell.ratio or {"any": None}).items() if mine else ():
                    wanted = required and required.get(threads, required[1])[at]
                    form = None if form == "any" else form
                    lines.append(_ratio_line(cell.title, batch, threads, mine, wanted, floor, form))
    for threads in sorted({row["threads"] for row in rows}):
        reviews = of(rows, cell=REVIEWS_CELL, threads=threads)
        if reviews:
            count = max(row["batch"] for row in reviews)
            title = f"{count:,} reviews, BiLSTM(64), pad 400, one call"
            lines.append(_ratio_line(title, count, threads, reviews, REVIEWS_RATIO))
        start = of(rows, cell=START_CELL, threads=threads)
        if start:
            lines.append(_ratio_line("process start to first answer", 1, threads, start, START_RATIO))
            memory = [{**row, "median": row["peak_mb"], "q1": row["peak_mb"], "q3": row["peak_mb"]}
                      for row in start if row.get("peak_mb")]  # fmt: skip
            lines.append(_ratio_line("peak memory of that process (MB)", 1, threads, memory, MEMORY_RATIO))
    return lines


def ratio_table(rows, rate=None):
    head = ["cell", "batch", "threads", "fastbilstm", "best rival", "its median", "ratio", "must be", "reached"]
    lines = []
    for line in ratios(rows, rate):
        form = "" if line["form"] == "any" else f", {line['form']}"
        rival, reached = line["rival"] or f"none: {line['why']}", {True: "yes", False: "no", None: "-"}
        lines.append(
            [line["cell"] + form, line["batch"], line["threads"], line["ours_spread"] or "-", rival]
            + [number(line["rival_ms"]), number(line["ratio"]), line["required"] or "-", reached[line["reached"]]]
            + [number(line["floor"]), "-" if line["floor_reached"] is None else f"{line['floor_reached']:.0%}"]
        )
    return table([*head, "floor", "floor / fastbilstm"], lines)


def small_table(rows):
    """fastbilstm beside the best of few rivals, in columns for a terminal.

    "of smallest": the ratio of the smallest times, which other processes on the same cores change less.
    """
    lines = [("cell", "batch", "threads", "fastbilstm, ms", "rival, ms", "ratio", "of smallest", "rival")]
    for cell, batch, threads in dict.fromkeys((row["cell"], row["batch"], row["threads"]) for row in rows):
        mine = of(rows, cell=cell, batch=batch, threads=threads)
        ours, rival = next(iter(of(mine, engine=OURS, status="ok")), None), best_rival(mine)
        figures = [spread(row) if row else "-" for row in (ours, rival)]
        for time in ("median", "smallest"):
            best = best_rival(mine, time=time)
            figures.append(number(best[time] / ours[time] if ours and best else None))
        named = f"{rival['engine']} ({rival['form']})" if rival else "none"
        lines.append((cell, batch, threads, *figures, named))
    widths = [max(len(str(line[at])) for line in lines) for at in range(7)]
    return "\n".join("  ".join([*(str(text).ljust(w) for text, w in zip(line, widths)), line[-1]]) for line in lines)


def absent(rows):
    """One line for each engine that was not counted in some cell, with the reason."""
    cells = {}
    for row in rows:
        if row["status"] in ("missing", "failed", "wrong"):
            key = f"{row['engine']}{row['form'] and ', '}{row['form']}", row["status"], row["reason"]
            cells.setdefault(key, []).append(row["cell"])
    lines = [
        f"- {engine}: {status} in {', '.join(dict.fromkeys(names))}: {reason}"
        for (engine, status, reason), names in cells.items()
    ]
    return "\n".join(["Not counted, because missing, failed or wrong:\n", *lines]) if lines else ""


def detail_tables(rows):
    """Every engine of every cell, those that failed with the reason."""
    parts = []
    for name in [*CELLS, REVIEWS_CELL, START_CELL]:
        mine = of(rows, cell=name)
        if not mine:
            continue
        keys = list(dict.fromkeys((row["threads"], row["batch"]) for row in mine))
        engines = list(dict.fromkeys((row["engine"], row["form"]) for row in mine))
        lines = []
        for engine, form in engines:
            line = [engine, form]
            for threads, batch in keys:
                found = of(mine, engine=engine, form=form, threads=threads, batch=batch)
                line.append(_detail(found[0]) if found else "-")
            lines.append(line)
        head = [f"{t} thread{'s' * (t > 1)}, batch {b}" for t, b in keys]
        title = CELLS[name].title if name in CELLS else {REVIEWS_CELL: "All reviews in one call"}.get(name)
        lengths = {f"batch {r['batch']}: {r['mean_length']:.0f}" for r in mine if "mean_length" in r}
        note = f"\n\nMean number of tokens of a row: {', '.join(sorted(lengths))}." if lengths else ""
        parts.append(
            f"### {title or 'Process start to first answer'}{note}\n\n" + table(["engine", "form", *head], lines)
        )
    return "\n\n".join(parts)


def _detail(row):
    if row["status"] == "ok":
        extra = f", {number(row['peak_mb'])} MB" if row.get("peak_mb") else ""
        extra += f"; {row['detail']}" if row.get("detail") else ""
        return spread(row) + extra
    return f"{row['status']}: {row['reason']}".replace("|", "/")


# ---- growth --------------------------------------------------------------------------------------------------------


def sweep_tables(points):
    parts = []
    titles = {"T": "time against timesteps, BiLSTM(64)", "batch": "time against batch, BiLSTM(64), T 400"}
    titles["units"] = "time against units, LSTM of 128 floats, T 100"
    for sweep, title in titles.items():
        lines = []
        for row in of(points, sweep=sweep):
            auto, blas = row["backends"].get("auto"), row["backends"].get("blas")
            steps = row["batch"] * row["timesteps"]
            lines.append(
                [row["value"], row["batch"], spread(auto) if auto else row["problems"]["auto"]]
                + [spread(blas) if blas else row["problems"]["blas"]]
                + [number(blas["median"] / auto["median"]) if auto and blas else "-"]
                + [number(auto["median"] * 1e6 / steps) if auto else "-"]
            )
        if lines:
            head = [sweep, "batch", "auto, ms", "blas, ms", "blas / auto", "auto, ns a row and step"]
            parts.append(f"### {title[0].upper()}{title[1:]}\n\n{table(head, lines)}")
    slower = [row for row in points if len(row["backends"]) == 2 and _auto_loses(row["backends"])]
    if points:
        named = ", ".join(f"{row['sweep']} {row['value']} at batch {row['batch']}" for row in slower) or "none"
        parts.append(f"Points where `auto` is slower than `blas` (the quartiles do not overlap): {named}.")
    return "\n\n".join(parts)


def _auto_loses(backends):
    return backends["auto"]["q1"] > backends["blas"]["q3"]


def memory_table(points):
    """Peak memory of a fresh process against T."""
    lines = [[row["timesteps"], row["batch"], row["threads"], number(row["peak_mb"])] for row in points]
    head = ["timesteps", "batch", "threads", "peak of the process, MB"]
    return "### Memory against timesteps, BiLSTM(64), sequences not returned\n\n" + table(head, lines)


# ---- tails -------------------------------------------------------------------------------------------------------


def tail_tables(rows):
    """For each net, percentiles idle and beside a busy process, and calls a second of several Python threads."""
    parts = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        mine = of(rows, cell=cell, status="ok")
        loads = list(dict.fromkeys(row["load"] for row in mine if "load" in row))
        callers = list(dict.fromkeys(row["callers"] for row in mine if "callers" in row))
        lines = []
        for engine, threads in dict.fromkeys((row["engine"], row["threads"]) for row in mine):
            line = [engine, _threads_of(engine, threads)]
            for load in loads:
                found = next(iter(of(mine, engine=engine, load=load)), {})
                line += [number(found.get(key)) for key in ("p50", "p95", "p99")]
            for count in callers:
                line.append(number(next(iter(of(mine, engine=engine, callers=count)), {}).get("calls")))
            lines.append(line)
        head = ["engine", "threads", *(f"{load}: {key}" for load in loads for key in ("p50", "p95", "p99"))]
        head += [f"calls/s of {count}" for count in callers]
        parts.append(f"### {CELLS[cell].title}, one row\n\n" + table(head, lines))
    return "\n\n".join(parts)


def _threads_of(engine, threads):
    return 1 if engine.endswith(", 1 thread") else threads


def cold_table(rows):
    """Every net and engine: one row after other work. Nothing if that was not measured."""
    cold, lines = [row for row in rows if "touched" in row], []
    for cell in dict.fromkeys(row["cell"] for row in cold):
        mine = of(cold, cell=cell)
        best = best_rival(mine)
        for row in mine:
            line = [CELLS[cell].title, row["engine"], _threads_of(row["engine"], row["threads"]), spread(row)]
            lines.append([*line, number(best and best["median"] / row["median"])])
    if not cold:
        return ""
    introduction = COLD_INTRODUCTION.format(touched=cold[0]["touched"])
    head = ["net", "engine", "threads", "median", "ratio"]
    return f"### After other work, one row\n\n{introduction}\n\n{table(head, lines)}"


# ---- files ---------------------------------------------------------------------------------------------------------


def header_text(header):
    lines = [f"- {name}: {text}" for name, text in header.items() if name != "show_config"]
    return "\n".join(lines) + "\n\n```\n" + header.get("show_config", "").strip() + "\n```"


def markdown(results, notes=""):
    parts = ["# fastbilstm beside other CPU runtimes", header_text(results["header"]), INTRODUCTION]
    if results["rows"]:
        parts += [
            "## Ratios",
            ratio_table(results["rows"], results.get("rate")),
            absent(results["rows"]),
            "## Every engine",
            detail_tables(results["rows"]),
        ]
    if results["sweeps"] or results["memory"]:
        parts += ["## Growth", "fastbilstm alone, one thread.", sweep_tables(results["sweeps"])]
    if results["memory"]:
        parts.append(memory_table(results["memory"]))
    if results["tails"]:
        parts += ["## Tails", TAILS_INTRODUCTION, tail_tables(results["tails"]), cold_table(results["tails"])]
    return "\n\n".join(part for part in parts if part) + f"\n\n{NOTES}\n{notes}"


def write(results, folder):
    """Write RESULTS.md and results.json into the folder; return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / "RESULTS.md", folder / "results.json"
    notes = ""
    if text.exists():
        notes = text.read_text(encoding="utf-8").partition(f"{NOTES}\n")[2]
    text.write_text(markdown(results, notes), encoding="utf-8")
    data.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return text, data
