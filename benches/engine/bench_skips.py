"""What timesteps that are skipped and rows that are equal save: reviews padded in front, random ids.

    python benches/engine/bench_skips.py [--rows 4000] [--rounds 5] [--models FILE ...]

One thread. Without --models, the demo's BiLSTM(64); reviews as `cells.reviews` has them, pad 400, unmasked. Each way
gives the same bits, which is checked, and takes its turn in each round. "random": ids without runs; a ratio below 1 is
what looking for runs costs. "twice": each review stands twice in the batch.
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

WAYS = {"all steps": (False, False), "beginnings": (True, False), "beginnings and rests": (True, True)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=[DEMO / "bilstm64.h5"], metavar="FILE")
    given = parser.parse_args()
    padded = pad(reviews(given.rows))
    random = np.random.default_rng(0).integers(1, 5000, (given.rows // 4, padded.shape[1]), dtype=np.int32)
    print(f"{'net':<24} {'input':<8} {'way':<22} {'seconds':>8} {'ratio':>6} {'steps skipped':>14}")
    for path in given.models:
        model = fastbilstm.load(path, n_threads=1)
        for name, x in {"reviews": padded, "random": random}.items():
            report(Path(path).stem, name, *measure(model, x, given.rounds), x.size)
        twice = np.concatenate([padded, padded])
        seconds = {"each": [], "once": []}
        before = equal_rows.WORTH_KEYS
        for _ in range(given.rounds):
            for way, least in (("each", sys.maxsize), ("once", before)):
                equal_rows.WORTH_KEYS = least
                seconds[way].append(timed(model, twice)[0])
        equal_rows.WORTH_KEYS = before
        report(Path(path).stem, "twice", seconds, dict.fromkeys(seconds, 0), twice.size)


def timed(model, x):
    start = time.perf_counter()
    y = model.predict(x)
    return time.perf_counter() - start, y


def measure(model, x, rounds):
    """({way: seconds}, {way: timesteps skipped}) of `rounds` turns."""
    seconds, skipped, expected = {way: [] for way in WAYS}, {}, None
    model.predict(x[:512])  # tables are made
    for _ in range(rounds):
        for way, (beginnings, rests) in WAYS.items():
            before = _kernels.skip_steps(beginnings, rests)
            spent, y = timed(model, x)
            skipped[way] = _kernels.skip_steps() - before
            seconds[way].append(spent)
            expected = y if expected is None else expected
            if not np.array_equal(y, expected):
                raise SystemExit(f"{way}: other bits")
    return seconds, skipped


def report(net, name, seconds, skipped, size):
    """`size`: timesteps of a direction."""
    first = statistics.median(next(iter(seconds.values())))
    for way, times in seconds.items():
        median = statistics.median(times)
        share = f"{skipped[way] / size:.2f}"
        print(f"{net:<24} {name:<8} {way:<22} {median:8.3f} {first / median:6.2f} {share:>14}", flush=True)


if __name__ == "__main__":
    main()
