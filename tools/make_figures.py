"""Draw docs/figures/*.svg, the figures of docs/from_formula_to_code.md and docs/see-inside.md (needs matplotlib).

    python tools/make_figures.py docs/figures

All numbers in them are computed by fastbilstm when the script runs: the specification's LSTM with fixed weights, and
the demo's trained model (tests/golden/demo), and the sample model.
"""

import argparse
import os
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

import fastbilstm
from fastbilstm.layers.recurrent import lstm

DEMO = Path(__file__).resolve().parent.parent / "tests" / "golden" / "demo"
FORWARD, BACKWARD, PLAIN, MEMORY = "#2f6db3", "#c2571a", "#3d3d3d", "#3f8f4f"
COLORS = "RdBu_r"

plt.rcParams.update({
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
    "svg.hashsalt": "fastbilstm", "hatch.linewidth": 0.6,
})  # fmt: skip


def canvas(width, height):
    """Empty axes whose units are inches, for drawings."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes, x, y, text, color=PLAIN, width=0.9, height=0.4, fill="white"):
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, style, ec=color, fc=fill, lw=1.4))
    axes.text(x, y, text, ha="center", va="center", color=color)


def arrow(axes, start, end, color=PLAIN, path="arc3"):
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.3, "shrinkA": 0, "shrinkB": 0,
                                    "connectionstyle": path, "mutation_scale": 11},
    )  # fmt: skip


def line(axes, points, color=PLAIN):
    axes.plot(*zip(*points), color=color, lw=1.3, solid_capstyle="round", solid_joinstyle="round")


def lstm_cell():
    """One timestep as a data flow, from left to right."""
    figure, axes = canvas(8.6, 3.9)
    gates = {"f": 3.0, "i": 2.3, "g": 1.6, "o": 0.9}
    color = {"i": PLAIN, "f": MEMORY, "g": PLAIN, "o": FORWARD}
    formula = {name: f"{name} = σ(z$_{name}$)" for name in "ifo"} | {"g": "g = tanh(z$_g$)"}
    box(axes, 2.1, 1.95, "z = x$_t$·kernel\n+ h$_{t-1}$·recurrent_kernel\n+ bias", width=2.1, height=1.0)
    axes.text(0.12, 2.3, "x$_t$  (F)", va="center")
    axes.text(0.12, 1.6, "h$_{t-1}$  (U)", va="center", color=FORWARD)
    axes.text(0.12, 3.55, "c$_{t-1}$  (U)", va="center", color=MEMORY)
    arrow(axes, (0.68, 2.3), (1.05, 2.3))
    arrow(axes, (0.85, 1.6), (1.05, 1.6), FORWARD)
    line(axes, [(3.15, 1.95), (3.4, 1.95)])
    line(axes, [(3.4, gates["o"]), (3.4, gates["f"])])
    axes.text(3.27, 0.42, "z (4U), split\ninto i f g o", ha="center", va="center", fontsize=9)
    for name, y in gates.items():
        arrow(axes, (3.4, y), (3.75, y))
        box(axes, 4.35, y, formula[name], color[name], width=1.2)

    def operation(x, y, text, tint=PLAIN):
        axes.add_patch(plt.Circle((x, y), 0.16, ec=tint, fc="white", lw=1.4))
        axes.text(x, y, text, ha="center", va="center", color=tint)

    arrow(axes, (0.85, 3.55), (5.29, 3.55), MEMORY)
    operation(5.45, 3.55, "×", MEMORY)
    line(axes, [(4.95, gates["f"]), (5.45, gates["f"])], MEMORY)
    arrow(axes, (5.45, gates["f"]), (5.45, 3.39), MEMORY)
    operation(5.75, 1.95, "×")
    line(axes, [(4.95, gates["i"]), (5.75, gates["i"])])
    arrow(axes, (5.75, gates["i"]), (5.75, 2.11))
    line(axes, [(4.95, gates["g"]), (5.75, gates["g"])])
    arrow(axes, (5.75, gates["g"]), (5.75, 1.79))
    arrow(axes, (5.61, 3.55), (6.04, 3.55), MEMORY)
    operation(6.2, 3.55, "+", MEMORY)
    line(axes, [(5.91, 1.95), (6.2, 1.95)])
    arrow(axes, (6.2, 1.95), (6.2, 3.39))
    arrow(axes, (6.36, 3.55), (7.85, 3.55), MEMORY)
    axes.text(7.92, 3.55, "c$_t$  (U)", va="center", color=MEMORY)
    arrow(axes, (7.0, 3.55), (7.0, 2.75), MEMORY)
    box(axes, 7.0, 2.55, "tanh", MEMORY, width=0.7)
    arrow(axes, (7.0, 2.35), (7.0, 1.06), MEMORY)
    arrow(axes, (4.95, gates["o"]), (6.84, gates["o"]), FORWARD)
    operation(7.0, gates["o"], "×", FORWARD)
    arrow(axes, (7.16, gates["o"]), (7.85, gates["o"]), FORWARD)
    axes.text(7.92, gates["o"], "h$_t$  (U)", va="center", color=FORWARD)
    return figure


def bidirectional():
    """Four timesteps unrolled: what each half reads, the flip, and what is concatenated."""
    figure, axes = canvas(8.6, 4.3)
    columns = [2.0, 3.6, 5.2, 6.8]
    x_row, forward_row, backward_row, join_row = 0.45, 1.45, 2.45, 3.55
    for label, y, color in (
        ("input", x_row, PLAIN),
        ("forward_layer", forward_row, FORWARD),
        ("backward_layer", backward_row, BACKWARD),
        ("concat", join_row, PLAIN),
    ):
        axes.text(0.12, y, label, va="center", color=color)
    for t, x in enumerate(columns):
        box(axes, x, x_row, f"x$_{t}$", width=0.8)
        box(axes, x, forward_row, f"→h$_{t}$", FORWARD, width=0.8)
        box(axes, x, backward_row, f"←h$_{t}$", BACKWARD, width=0.8)
        axes.text(x + 0.47, backward_row + 0.33, f"step {3 - t}", fontsize=8, color=BACKWARD)
        axes.text(x - 0.19, forward_row - 0.4, f"step {t}", fontsize=8, color=FORWARD, va="center", ha="right")
        box(axes, x, join_row, "", width=1.3)
        axes.text(x - 0.33, join_row, f"→h$_{t}$", ha="center", va="center", color=FORWARD)
        axes.text(x + 0.33, join_row, f"←h$_{t}$", ha="center", va="center", color=BACKWARD)
        axes.plot([x, x], [join_row - 0.2, join_row + 0.2], color=PLAIN, lw=0.8)
        arrow(axes, (x - 0.12, x_row + 0.2), (x - 0.12, forward_row - 0.2), FORWARD)
        arrow(axes, (x + 0.3, x_row + 0.2), (x + 0.3, backward_row - 0.2), BACKWARD, "arc3,rad=0.42")
        arrow(axes, (x - 0.3, forward_row + 0.2), (x - 0.38, join_row - 0.2), FORWARD, "arc3,rad=-0.35")
        arrow(axes, (x + 0.2, backward_row + 0.2), (x + 0.33, join_row - 0.2), BACKWARD)
    for left, right in pairwise(columns):
        arrow(axes, (left + 0.4, forward_row), (right - 0.4, forward_row), FORWARD)
        arrow(axes, (right - 0.4, backward_row), (left + 0.4, backward_row), BACKWARD)
    caption = (
        "return_sequences=True: every column.   return_sequences=False: the framed halves, each the last of its layer."
    )
    axes.text(0.12, 4.08, caption, fontsize=9)
    for x, y, color in ((columns[-1], forward_row, FORWARD), (columns[0], backward_row, BACKWARD)):
        axes.add_patch(Rectangle((x - 0.47, y - 0.27), 0.94, 0.54, ec=color, fc="none", lw=1.2, ls=(0, (3, 2))))
    return figure


TIMESTEPS, FEATURES, UNITS = 12, 3, 6
PADDING = {"pre": (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1), "post": (1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0),
           "holes": (1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1)}  # fmt: skip


def padded_rows():
    """The same seven tokens padded in three ways: x (3, T, F) with zeros at masked steps, mask (3, T)."""
    mask = np.array(list(PADDING.values()), bool)
    x = np.zeros((*mask.shape, FEATURES))
    x[mask] = np.tile(np.random.default_rng(3).normal(size=(7, FEATURES)), (3, 1))
    return x, mask


def weights(seed):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(FEATURES, 4 * UNITS)),
        rng.normal(size=(UNITS, 4 * UNITS)) / 2,
        rng.normal(size=4 * UNITS) / 2,
    )


def shade(axes, mask, units):
    for t in np.flatnonzero(~mask):
        axes.add_patch(Rectangle((t - 0.5, -0.5), 1, units, fc="none", ec="#555555", hatch="////", lw=0))


def padding():
    """Heat maps of what each half emits for pre-padded, post-padded and holed rows, by version."""
    x, mask = padded_rows()
    panels = []
    for name, emits in (("output before", "previous"), ("zeros", "zero")):
        forward = lstm(x, *weights(1), mask=mask, masked_output=emits)[0]
        backward = lstm(x[:, ::-1], *weights(2), mask=mask[:, ::-1], masked_output=emits)[0][:, ::-1]
        panels += [(f"forward half,\n{name}", forward, FORWARD), (f"backward half,\n{name}", backward, BACKWARD)]
    figure, grid = plt.subplots(4, 3, figsize=(8.6, 5.9), sharex=True, sharey=True, layout="constrained")
    for axes, kind in zip(grid[0], PADDING):
        axes.set_title(kind if kind == "holes" else f"{kind}-padded")
    for row, (label, outputs, color) in zip(grid, panels):
        for column, axes in enumerate(row):
            image = axes.imshow(outputs[column].T, cmap=COLORS, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
            shade(axes, mask[column], UNITS)
            axes.set(xticks=range(0, TIMESTEPS, 2), yticks=[0, UNITS - 1])
        row[0].set_ylabel(f"{label}\nunit", color=color)
    for axes in grid[-1]:
        axes.set_xlabel("timestep (hatched: masked)")
    figure.colorbar(image, ax=grid, label="emitted output", shrink=0.5, aspect=30, pad=0.015)
    return figure


REVIEW, PADDING_SHOWN = 105, 25


def review():
    """The hidden states of the trained model on one review of the demo, and its prediction after every token."""
    with np.load(DEMO / "reviews.npz") as npz:
        ids, keras = np.split(npz["ids"], npz["offsets"][1:-1])[REVIEW], npz["keras_prob"][REVIEW]
    model = fastbilstm.load(DEMO / "bilstm64.h5")
    embeddings, *arrays = model.get_weights()
    forward, backward, kernel = arrays[:3], arrays[3:6], arrays[6][:, 0]
    x = np.zeros((1, 400), np.int32)
    x[0, 400 - len(ids) :] = ids
    vectors = embeddings[x]
    first = 400 - len(ids) - PADDING_SHOWN
    h_forward = lstm(vectors, *forward)[0][0, first:]
    h_backward = lstm(vectors[:, ::-1], *backward)[0][:, ::-1][0, first:]
    extent = (-PADDING_SHOWN - 0.5, len(ids) - 0.5, 63.5, -0.5)

    prefixes = np.zeros((len(ids), 400), np.int32)
    for k, row in enumerate(prefixes, 1):
        row[400 - k :] = ids[:k]
    probability = model.predict(prefixes)[:, 0]
    assert abs(probability[-1] - keras) < 1e-5

    figure, grid = plt.subplots(3, 1, figsize=(8.6, 6.2), sharex=True, layout="constrained", height_ratios=[2, 2, 1.6])
    for axes, h, w, label, color in (
        (grid[0], h_forward, kernel[:64], "forward half →", FORWARD),
        (grid[1], h_backward, kernel[64:], "backward half ←", BACKWARD),
    ):
        votes = (h * w)[:, np.argsort(w)]
        edge = np.quantile(np.abs(votes), 0.995)
        image = axes.imshow(
            votes.T, cmap=COLORS, vmin=-edge, vmax=edge, aspect="auto", interpolation="nearest", extent=extent
        )
        axes.axvline(-0.5, color=PLAIN, lw=1)
        axes.set_ylabel(f"{label}\nunit, by weight", color=color)
        axes.set_yticks([0, 63])
        figure.colorbar(image, ax=axes, label="h · weight in Dense", pad=0.01)
    grid[2].plot(probability, color=PLAIN, lw=1.4)
    grid[2].axhline(0.5, color="#999999", lw=0.8, ls="--")
    grid[2].axhline(0, color="#cccccc", lw=0.6)
    grid[2].plot(len(ids) - 1, keras, "o", color=BACKWARD, ms=6, label="Keras, whole review")
    grid[2].set(ylim=(0, 1), xlim=extent[:2], xlabel="token of the review (below 0: padding)")
    grid[2].axvline(-0.5, color=PLAIN, lw=1)
    grid[2].set_ylabel("P(positive)\nafter this token")
    grid[2].legend(frameon=False, loc="upper center")
    return figure


def inside():
    """Attention, what each word adds to the answer, and the states of the forward LSTM along a review."""
    model, review = fastbilstm.sample_model(), 6
    x = fastbilstm.sample_reviews()[0][review][np.newaxis]
    names = ["bidirectional", "bidirectional/forward/h", "attention/scores"]
    values, h, scores = (array[0] for array in model.trace(x, names).values())
    weights, steps = scores.mean(axis=0), np.arange(x.shape[1])
    adds = weights * (values @ model.get_layer("dense").weights["kernel"][:, 0])
    words = {rank + 3: word for word, rank in model.text.tokenizer.word_index.items()}
    figure, axes = plt.subplots(3, figsize=(8.6, 5.6), sharex=True, layout="constrained")
    axes[0].vlines(steps, 0, weights * len(steps), color=PLAIN, lw=1.6)
    axes[0].set(ylabel="looked at\n(1: as all others)", ylim=(0, None))
    for sign, color in ((adds > 0, FORWARD), (adds <= 0, BACKWARD)):
        axes[1].vlines(steps[sign], 0, adds[sign], color=color, lw=1.6)
    for t in np.argsort(-abs(adds))[:4]:
        axes[1].annotate(words.get(int(x[0, t]), "?"), (t, adds[t]), (2, 2), textcoords="offset points", fontsize=9)
    axes[1].set(ylabel="adds to\nthe logit", ylim=(None, 1.25 * adds.max()))
    image = axes[2].imshow(h.T, aspect="auto", cmap=COLORS, vmin=-1, vmax=1, interpolation="nearest")
    axes[2].set(xlabel="timestep", ylabel="unit of forward h")
    figure.colorbar(image, ax=axes[2], pad=0.01)
    return figure


FIGURES = {
    "lstm_cell": lstm_cell,
    "bidirectional": bidirectional,
    "padding": padding,
    "review": review,
    "inside": inside,
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--png", action="store_true", help="write .png instead of .svg, to look at")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        suffix, options = (".png", {}) if args.png else (".svg", {"metadata": {"Date": None}})
        draw().savefig(args.out / f"{name}{suffix}", dpi=110, **options)


if __name__ == "__main__":
    main()
