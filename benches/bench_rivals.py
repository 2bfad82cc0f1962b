"""fastbilstm beside ONNX Runtime, OpenVINO, LiteRT, PyTorch and TensorFlow: a table of ratios, RESULTS.md, JSON.

    python benches/bench_rivals.py [--quick] [--family short|around|long] [--cells NAME...] [--threads 1 2] ...
    python benches/bench_rivals.py --family around --engines fastbilstm,ort --budget 1 --nets FOLDER

The second is for who works on the engine: two engines, a small table, nets kept in FOLDER for the next run.

It needs no file from outside the repository: weights are random by a seed, those of the call with all reviews are of
the demo's model. Of the 25,000 reviews 200 are of IMDB, the others are made of their lengths and ids (`cells.reviews`).
This process builds the nets (`keras_nets`, `litert_nets`, `handmade`) and writes the report; what is measured runs in
child processes (`worker`, `start`, `sweeps`), each with its own cores and number of threads. Nothing is asserted about
times. An engine that is missing, fails or answers wrong is a row that says so. pytest collects this file and finds no
test in it; what runs without the rivals is in bench_rivals_once.py.
"""

import argparse
import compileall
import contextlib
import datetime
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cells
import handmade
import numpy as np
import report
import tails
from cells import CELLS, REVIEWS_CELL, START_CELL
from engines import ENGINES, reason
from interleave import HERE, Interleaved, child, say
from nets import AROUND, NETS, keras_file, load_weights, named_weights, random_weights, save_weights
from timing import seconds, summary

import fastbilstm
from fastbilstm import _kernels

PACKAGES = ("numpy", "scipy", "onnxruntime", "openvino", "ai-edge-litert", "torch", "tensorflow-cpu", "tensorflow")
PACKAGES += ("keras", "tf2onnx")
SWEEPS, MEMORY, TAILS = "sweeps", "memory", "tails"
FAMILIES = {family: tuple(c.name for c in CELLS.values() if c.family == family) for family in cells.BATCHES}
FAMILIES["long"] += (REVIEWS_CELL, START_CELL, SWEEPS, MEMORY, TAILS)
PARTS = tuple(part for parts in FAMILIES.values() for part in parts)
QUICK_PARTS = ("bilstm64", "masked_stack", "tagger", "lstm64_60x4", "captcha", START_CELL, SWEEPS, MEMORY, TAILS)
# What the files of nets depend on.
BUILDERS = ("nets", "cells", "keras_nets", "litert_nets", "handmade", "around_nets", "around_torch")
MEMORY_TIMESTEPS = (100, 300, 1000, 3000, 10000)


# ---- building ------------------------------------------------------------------------------------------------------


def build(names, folder):
    """Write the files of the nets that are not in the folder; return net -> {kind of file: why it is missing}.

    "net" in place of a kind: the net itself is missing.
    """
    record = folder / "built.json"
    sources = b"".join((HERE / f"{name}.py").read_bytes() for name in BUILDERS) + versions().encode()
    digest = hashlib.sha256(sources).hexdigest()
    known = json.loads(record.read_text()) if record.exists() else {}
    problems = known["problems"] if known.get("sources") == digest else {}
    if missing := [name for name in names if name not in problems]:
        problems |= build_anew(missing, folder)
        record.write_text(json.dumps({"sources": digest, "problems": problems}))
    return problems


def build_anew(names, folder):
    problems = {name: {} for name in names}
    for name in names:
        if name in AROUND:
            continue
        net = NETS[name]
        weights = random_weights(net)
        if net.trained:
            weights = named_weights(net, fastbilstm.load(cells.DEMO / net.trained).get_weights())
        save_weights(folder / f"{name}.npz", weights)
        (folder / f"{name}.h5").write_bytes(keras_file(net, weights))
        try:
            handmade.write_onnx(net, weights, folder / f"{name}.onnx")
            if net.masked:
                handmade.write_onnx(net, weights, folder / f"{name}.lengths.onnx", masked=True)
        except Exception as error:
            problems[name]["handmade"] = reason(error, str(folder))
    say("building the nets in Keras")
    done = child("keras_nets.py", [folder, *names], 1, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
        for name in names:
            kinds = ["keras", "saved", "converted", *cells.litert_files(name)] + ["net"] * (name in AROUND)
            problems[name] |= dict.fromkeys(kinds, f"Keras: {lines[-1][:150]}")
        return problems
    for name, missing in json.loads((folder / "keras_nets.json").read_text()).items():
        missing = {kind: reason(RuntimeError(text), str(folder)) for kind, text in missing.items() if text}
        problems[name] |= missing
        if name in AROUND:
            try:
                import around_torch

                x = cells.as_tuple(cells.cell_input(CELLS[name], 2))
                around_torch.write_onnx(name, load_weights(folder / f"{name}.npz"), x, folder / f"{name}.onnx")
            except Exception as error:
                problems[name]["handmade"] = reason(error, str(folder))
    convert_for_litert(names, folder, problems)
    return problems


def convert_for_litert(names, folder, problems):
    say("converting the nets for LiteRT")
    report = folder / "litert_nets.json"
    report.unlink(missing_ok=True)
    done = child("litert_nets.py", [folder, *names], 1, stderr=subprocess.PIPE, text=True)
    found = json.loads(report.read_text()) if report.exists() else {}
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
    for name in names:
        missing = found.get(name, dict.fromkeys(cells.litert_files(name), f"the converter ended: {last[0]}"))
        problems[name] |= {kind: reason(RuntimeError(text), str(folder)) for kind, text in missing.items()}


# ---- process start -------------------------------------------------------------------------------------------------

STARTS = (  # engine of start.py, its name, form, kind of file, whether it starts in less than a second
    ("numpy", "import numpy alone", report.BASELINE, "npz", True),
    ("fastbilstm", report.OURS, "", "fbl", True),
    ("onnxruntime", "ONNX Runtime", cells.AS_CONVERTED, "converted.onnx", True),
    ("onnxruntime", "ONNX Runtime", cells.HAND_MADE, "onnx", True),
    ("openvino", "OpenVINO", cells.HAND_MADE, "onnx", True),
    ("litert", "LiteRT", cells.AS_CONVERTED, "1.tflite", True),
    ("torch", "PyTorch", cells.HAND_MADE, "npz", False),
    ("tensorflow", "TensorFlow, SavedModel", cells.AS_CONVERTED, "saved", False),
)


START_KINDS = {"converted.onnx": "converted", "onnx": "handmade", "saved": "saved"}


def measure_starts(folder, threads, rounds, problems):
    """Wall time from the start of Python to an answer, and the peak memory: BiLSTM(64), one row of 400 ids."""
    fastbilstm.convert(folder / "bilstm64.h5", folder / "bilstm64.fbl", overwrite=True)
    # The rivals were compiled to bytecode when pip installed them; a package in place may not be.
    compileall.compile_dir(Path(fastbilstm.__file__).parent, quiet=1)
    rows, samples, peaks, answers = {}, {}, {}, {}
    for number in range(rounds + 1):  # the first round reads the files into the cache and does not count
        for start in STARTS[number % len(STARTS) :] + STARTS[: number % len(STARTS)]:
            engine, name, form, suffix, fast = start
            row = {"cell": START_CELL, "batch": 1, "threads": threads, "engine": name, "form": form, "status": "ok"}
            row = rows.setdefault(start, row)
            if problem := problems.get(START_KINDS.get(suffix, suffix)):
                row |= {"status": "failed", "reason": problem}
            if row["status"] != "ok" or (not fast and number > 3):
                continue
            begin = time.perf_counter()
            done = child(
                "start.py", [engine, folder / f"bilstm64.{suffix}", threads], threads, capture_output=True, text=True
            )
            elapsed = time.perf_counter() - begin
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                missing = "No module named" in lines[-1]
                row |= {
                    "status": "missing" if missing else "failed",
                    "reason": reason(RuntimeError(lines[-1]), str(folder)),
                }
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            answers[start] = result["answer"]
            if number:
                samples.setdefault(start, []).append(elapsed)
                peaks.setdefault(start, []).append(result["peak_kb"] or 0)
        say(f"  process start, {threads} thread{'s' * (threads > 1)}: round {number} of {rounds}")
    ours = answers.get(STARTS[1])
    for start, row in rows.items():
        if row["status"] == "ok" and row["form"] != report.BASELINE and abs(answers[start] - ours) > 3e-5:
            row |= {"status": "wrong", "reason": f"answers {answers[start]:.7g}, fastbilstm {ours:.7g}"}
        elif row["status"] == "ok":
            row |= summary(samples[start])
            row["peak_mb"] = sorted(peaks[start])[len(peaks[start]) // 2] / 1024
    return list(rows.values())


def measure_memory(folder, timesteps):
    fastbilstm.convert(folder / "bilstm64.h5", folder / "bilstm64.fbl", overwrite=True)
    points = []
    for batch in (1, 32):
        for steps in timesteps:
            arguments = ["fastbilstm", folder / "bilstm64.fbl", 1, steps, batch]
            done = child("start.py", arguments, 1, stdout=subprocess.PIPE, text=True, check=True)
            peak = json.loads(done.stdout.splitlines()[-1])["peak_kb"]
            points.append({"timesteps": steps, "batch": batch, "threads": 1, "peak_mb": peak and peak / 1024})
            say(f"  memory, {steps} timesteps, batch {batch}")
    return points


# ---- the run -------------------------------------------------------------------------------------------------------


def versions():
    found = [f"fastbilstm {fastbilstm.__version__}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found)


def header():
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        fastbilstm.show_config()
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, AttributeError):
        info = Path("/proc/cpuinfo").read_text()
        cpu = re.search(r"model name\s*: (.*)", info)[1]
        family = re.search(r"cpu family\s*: (\d+)", info)[1], re.search(r"model\s*: (\d+)", info)[1]
        cpu += " (family {}, model {})".format(*family)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    arguments = re.sub(r" --(output|nets)[ =]\S+", "", " ".join(["python benches/bench_rivals.py", *sys.argv[1:]]))
    return {
        "CPU": f"{cpu}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores",
        "versions": versions(),
        "commit": commit.stdout.strip() or "unknown",
        "load before the run": ", ".join(f"{load:.2f}" for load in os.getloadavg())
        if hasattr(os, "getloadavg")
        else "-",
        "date": datetime.date.today().isoformat(),
        "command": f"`{arguments}`",
        "show_config": text.getvalue(),
    }


def product_rate(size=256, rows=192, rounds=200):
    """Multiplications a second of our kernel on one thread, of two matrices in the cache: the best of the rounds."""
    x, y = np.ones((rows, size), np.float32), np.empty((rows, size), np.float32)
    kernel = _kernels.Matrix(np.ones((size, size), np.float32))
    return rows * size * size / min(seconds(lambda: kernel.product(x, y)) for _ in range(rounds))


def engine_names(text):
    names = text.split(",")
    if unknown := set(names) - set(ENGINES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not of {', '.join(ENGINES)}")
    return names


def read_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=f"parts: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="about 5 minutes: fewer cells, rounds and points")
    parser.add_argument("--family", choices=FAMILIES, help="measure the cells of this family only")
    parser.add_argument("--cells", nargs="+", choices=PARTS, metavar="PART", help="measure these parts only")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    sizes = sorted({size for family in cells.BATCHES.values() for size in family})
    parser.add_argument("--batches", nargs="+", type=int, choices=sizes, metavar="N", help="only these of a family's")
    parser.add_argument("--rounds", type=int, help="rounds of turns in a cell, at most (default 25, quick 7)")
    parser.add_argument("--budget", type=float, help="seconds for a cell beyond which rounds end (default 12, quick 2)")
    parser.add_argument(
        "--engines", type=engine_names, metavar="NAME,...", help=f"of {','.join(ENGINES)}: a small table, nets alone"
    )
    parser.add_argument("--nets", type=Path, metavar="FOLDER", help="keep the built nets there, and use those there")
    parser.add_argument("--reviews", type=int, default=25000, help="reviews of the one call (default 25000)")
    parser.add_argument("--review-rounds", type=int, default=3, help="rounds over all reviews (default 3)")
    parser.add_argument("--output", type=Path, help="folder of RESULTS.md and results.json (default, if no part is "
                        "left out by --family, --cells or --engines: this one; else they are not written)")  # fmt: skip
    given = parser.parse_args(argv)
    if not (given.output or given.family or given.cells or given.engines):
        given.output = HERE
    if not given.cells:
        given.cells = FAMILIES[given.family] if given.family else QUICK_PARTS if given.quick else PARTS
        given.cells = [part for part in given.cells if part in CELLS or not given.engines]
    given.rounds = given.rounds or (7 if given.quick else 25)
    given.budget = given.budget or (2 if given.quick else 12)
    return given


def measure(given, folder):
    """All rows, the points of the sweeps and those of memory."""
    special = {REVIEWS_CELL: "bilstm64_imdb", START_CELL: "bilstm64", MEMORY: "bilstm64"}
    nets = {part: special.get(part, part) for part in given.cells if part in special or part in CELLS}
    of_tails = tails.NETS_OF_TAILS[: 1 if given.quick else None] if TAILS in given.cells else ()
    problems = build(sorted({*nets.values(), *of_tails}), folder)
    job = {"folder": str(folder), "problems": problems, "rounds": given.rounds, "budget": given.budget}
    rows, points, memory, tail_rows = [], [], [], []
    for threads in given.threads:
        say(f"measuring on {threads} thread{'s' * (threads > 1)}")
        with Interleaved(job, threads, given.engines or ENGINES) as interleaved:
            for part in nets:
                if part == REVIEWS_CELL:
                    rows += interleaved.reviews(nets[part], given.reviews, given.review_rounds)
                elif part in CELLS:
                    batches = [b for b in cells.BATCHES[CELLS[part].family] if b in (given.batches or [b])]
                    rows += [row for batch in batches for row in interleaved.cell(part, batch)]
        if START_CELL in given.cells:
            rows += measure_starts(folder, threads, 5 if given.quick else 11, problems["bilstm64"])
    if SWEEPS in given.cells:
        results = folder / "sweeps.jsonl"
        results.write_text("")
        sweep = {"threads": 1, "quick": given.quick, "results": str(results)}
        sweep |= {"rounds": 3 if given.quick else 7, "budget": 1 if given.quick else 6}
        (folder / "sweeps.json").write_text(json.dumps(sweep))
        child("sweeps.py", [folder / "sweeps.json"], 1, check=True)
        points = [json.loads(line) for line in results.read_text().splitlines()]
    if MEMORY in given.cells:
        memory = measure_memory(folder, MEMORY_TIMESTEPS[::2] if given.quick else MEMORY_TIMESTEPS)
    if of_tails:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        with Interleaved(job, cores, given.engines or ENGINES) as interleaved:
            span = (2, 0.5) if given.quick else (6, 1.0)
            tail_rows = [row for net in of_tails for row in tails.measure(interleaved, net, *span)]
    return {"rows": rows, "sweeps": points, "memory": memory, "tails": tail_rows}


def main(argv=None):
    given = read_arguments(argv)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fastbilstm-") as folder:
        folder = given.nets or Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rate = product_rate()
        about = header() | {"products a second": f"{rate / 1e9:.0f} billion, float32, one thread"}
        results = {"header": about, "rate": rate, **measure(given, folder)}
    rows = results["rows"]
    results["ratios"] = report.ratios(rows, results["rate"])
    print(report.small_table(rows) if given.engines else report.ratio_table(rows, results["rate"]))
    print(report.absent([*rows, *results["tails"]]))
    if results["tails"]:
        print(report.tail_tables(results["tails"]))
        print(f"\n{report.cold_table(results['tails'])}")
    if given.output:
        text, data = report.write(results, given.output)
        say(f"wrote {text.name} and {data.name}")
    elif not given.engines:
        print(f"\n{report.detail_tables(rows)}")
    say(f"{(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
