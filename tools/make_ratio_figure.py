"""Draw docs/figures/ratios.svg: how many times as long as fastbilstm the best rival takes, for every cell of
benches/results.json (needs matplotlib).

    python tools/make_ratio_figure.py
    python tools/make_ratio_figure.py --results benches/results.json --out ratios.png

The ratios are those of the table in benches/RESULTS.md, computed from the rows by `benches/report.py`. A cell without
a rival that answers has a line without a dot.
"""

import argparse
import json
import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from make_figures import BACKWARD, FORWARD, MEMORY, PLAIN

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benches"))

from cells import CELLS
from report import ratios

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {
    "short": "Short sequences",
    "long": "Long sequences",
    "around": "Networks with other layers around",
    "whole": "All reviews; start of a process",
}
MARKERS = {1: ("o", FORWARD), 8: ("^", MEMORY), 32: ("s", BACKWARD)}  # of a batch
SHIFTS = {1: -0.035, 32: 0.035}  # inches down, so that dots of a row do not hide each other
LARGER = ("D", PLAIN)  # of any other batch
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
WIDTH, LABELS, WRAP = 9.0, 3.7, 58  # inches, inches, characters
LINE, GAP, HEAD, FOOT = 0.155, 0.09, 0.45, 1.15  # inches: line of a label, between rows, above and below the panels

plt.rcParams |= {"svg.fonttype": "none", "font.family": ["DejaVu Sans", "sans-serif"]}  # text as text: a small file


def rows_of_figure(results):
    """[(family, label, {(threads, batch): ratio})] in the order of the families; the ratio is None without a rival."""
    family = {cell.title: cell.family for cell in CELLS.values()}
    found = {}
    for line in ratios(results["rows"]):
        label = line["cell"] if line["form"] == "any" else f"{line['cell']}: {line['form']}"
        key = family.get(line["cell"], "whole"), label
        found.setdefault(key, {})[line["threads"], line["batch"]] = line["ratio"]
    return [(name, label, dots) for name in FAMILIES for (mine, label), dots in found.items() if mine == name]


def caption(header):
    cpu, date, commit = (header.get(name, "unknown") for name in ("CPU", "date", "commit"))
    return (
        "Time of the best rival that answers right, divided by fastbilstm's (medians). Right of the line at 1,\n"
        f"fastbilstm is faster. The peak of memory is compared in the same way.\n{cpu}; {date}; commit {commit}."
    )


def draw(results):
    rows = rows_of_figure(results)
    threads = sorted({key[0] for _, _, dots in rows for key in dots})
    values = [ratio for _, _, dots in rows for ratio in dots.values() if ratio]
    low, high = min([*values, 1]) / 1.25, max([*values, 2]) * 1.25
    ticks = [tick for tick in TICKS if low < tick < high]
    batches = sorted({key[1] for _, _, dots in rows for key in dots})

    labels, places, heads, depth, last = [], [], [], 0.0, None  # depth: inches below the top of the panels
    for family, label, _ in rows:
        if family != last:
            heads.append((depth + GAP + LINE / 2, FAMILIES[family]))
            depth, last = depth + LINE + 2 * GAP, family
        labels.append("\n".join(textwrap.wrap(label, WRAP)))
        height = LINE * (labels[-1].count("\n") + 1) + GAP
        places.append(depth + height / 2)
        depth += height

    total = depth + HEAD + FOOT
    figure = plt.figure(figsize=(WIDTH, total))
    width = (WIDTH - LABELS - 0.15) / len(threads)
    for at, count in enumerate(threads):
        left = LABELS + at * width
        axes = figure.add_axes([left / WIDTH, FOOT / total, (width - 0.15) / WIDTH, depth / total])
        axes.set(xscale="log", xlim=(low, high), ylim=(depth, 0))
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(axis="x", color="#e4e4e4", lw=0.6)
        axes.axvspan(low, 1, color="#f3e3dc", lw=0)
        axes.axvline(1, color=PLAIN, lw=1.2)
        axes.set_axisbelow(True)
        axes.set_title(f"{count} thread{'s' * (count > 1)}", fontweight="bold")
        axes.set_yticks(places, labels if at == 0 else [""] * len(places), fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        for place, (_, _, dots) in zip(places, rows):
            axes.axhline(place, color="#eeeeee", lw=0.6, zorder=0)
            for (of_threads, batch), ratio in dots.items():
                if of_threads == count and ratio:
                    marker, color = MARKERS.get(batch, LARGER)
                    axes.plot(ratio, place + SHIFTS.get(batch, 0), marker, color=color, ms=5, mew=0.5, mec="white")
        if at == 0:
            for place, text in heads:
                axes.annotate(text, (0, place), (-LABELS * 72 + 8, 0), xycoords=("axes fraction", "data"),
                              textcoords="offset points", va="center", fontsize=9, fontweight="bold")  # fmt: skip
    shown = {MARKERS.get(batch, LARGER): f"batch {batch:,}" for batch in batches}
    handles = [plt.Line2D([], [], marker=m, color=c, ls="", ms=5, label=text) for (m, c), text in shown.items()]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8.5,
                  bbox_to_anchor=(0.5, (FOOT - 0.6) / total), borderaxespad=0)  # fmt: skip
    figure.text(0.1 / WIDTH, 0.08 / total, caption(results["header"]), fontsize=8, va="bottom", linespacing=1.35)
    return figure


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benches" / "results.json", help="what to draw")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "ratios.svg", help="file to write")
    args = parser.parse_args(argv)
    options = {"metadata": {"Date": None}} if args.out.suffix == ".svg" else {}
    draw(json.loads(args.results.read_text(encoding="utf-8"))).savefig(args.out, dpi=110, **options)


if __name__ == "__main__":
    main()
