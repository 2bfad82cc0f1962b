"""What is not computed, and what that saves: shared beginnings, states at rest, equal rows.

    python benches/engine/bench_skips.py [--rows 4000] [--rounds 5] [--case MODEL ROWS.npy ...]

One thread. Each way gives the same bits, which is checked, and takes its turn in each round; the first computes every
timestep of every row. Without --case, the demo's BiLSTM(64) gets "reviews" as `cells.reviews` has them, pad 400,
unmasked; "random", ids without runs, where a ratio below 1 is what looking for runs costs; and "twice", where each
review stands twice. A case of yours is a model file and an array of its one input. Prints the table of RESULTS.md.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
from cells import DEMO, pad, reviews

import fastbilstm
from fastbilstm import _kernels
from fastbilstm.engine import equal_rows

# Shared beginnings, states at rest, equal rows.
WAYS = {
    "nothing": (False, False, False),
    "beginnings": (True, False, False),
    "and rests": (True, True, False),
    "and equal rows": (True, True, True),
}
_NEVER = sys.maxsize


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4000, help="reviews of the demo's net (default: 4000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", nargs=2, action="append", type=Path, metavar=("MODEL", "ROWS.npy"))
    given = parser.parse_args()
    print("| net | rows | " + " | ".join(f"{way}: s" for way in WAYS) + " | times | steps skipped |")
    print("| --- " * (len(WAYS) + 4) + "|")
    for path, name, x in cases(given):
        model = fastbilstm.load(path, n_threads=1)
        seconds, skipped = measure(model, x, given.rounds)
        medians = [statistics.median(times) for times in seconds.values()]
        cells = [Path(path).stem, f"{name}, {' x '.join(map(str, x.shape))}", *(f"{m:.3g}" for m in medians)]
        steps = x.shape[0] * x.shape[1]
        print(
            "| " + " | ".join([*cells, f"{medians[0] / medians[-1]:.2f}", f"{skipped / steps:.2f}"]) + " |", flush=True
        )


def cases(given):
    """Yield (model file, name of the rows, the rows)."""
    for path, rows in given.case or ():
        yield path, rows.stem, np.load(rows)
    if not given.case:
        padded = pad(reviews(given.rows))
        random = np.random.default_rng(0).integers(1, 5000, (given.rows // 4, padded.shape[1]), dtype=np.int32)
        for name, x in {"reviews": padded, "random": random, "twice": np.concatenate([padded, padded])}.items():
            yield DEMO / "bilstm64.h5", name, x


def measure(model, x, rounds):
    """({way: seconds}, timesteps skipped, of all directions and layers, in one prediction of the last way)."""
    seconds, expected, worth = {way: [] for way in WAYS}, None, equal_rows.WORTH_KEYS
    model.predict(x[:512])  # tables are made
    try:
        for _ in range(rounds):
            for way, (beginnings, rests, equal) in WAYS.items():
                before = _kernels.skip_steps(beginnings, rests)
                equal_rows.WORTH_KEYS = worth if equal else _NEVER
                start = time.perf_counter()
                y = model.predict(x)
                seconds[way].append(time.perf_counter() - start)
                skipped = _kernels.skip_steps() - before
                expected = y if expected is None else expected
                if not np.array_equal(y, expected):
                    raise SystemExit(f"{way}: other bits")
    finally:
        equal_rows.WORTH_KEYS = worth
    return seconds, skipped


if __name__ == "__main__":
    main()
