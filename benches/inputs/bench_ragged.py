"""`Model.predict` from a list of reviews of different lengths, beside padding them first; both on masked nets.

    python benches/inputs/bench_ragged.py [--rows 25000] [--threads 1] [--maxlen 400]     prints times and speed-ups

`make bench` times 512 rows on one thread. Without timing (as in `make test`) each runs once, on few rows. The answers
are compared first, to the bit, and no time is ever asserted. The rows are `cells.reviews`, cut in front. Other arrays
than those of the engine are not made: a list of lists goes in.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
from cells import PADDED, pad, reviews
from nets import FEATURES, NETS, SCORE, VOCABULARY, Net, keras_file, random_weights
from timing import in_turns, summary

import fastbilstm
from fastbilstm.engine import backends

pytest.importorskip("h5py", reason="the nets are written as Keras files")

MASKED = {
    "masked_stack": NETS["masked_stack"],
    "masked_bilstm64": Net((("embedding", VOCABULARY, FEATURES, True), ("bilstm", 64, False, "concat"), SCORE)),
}


def cut_reviews(rows, maxlen):
    """Lists of token ids."""
    return [review[-maxlen:].tolist() for review in reviews(rows)]


def ways(net, rows, threads, maxlen):
    """{name: what is timed}, which answer alike."""
    model = fastbilstm.load(keras_file(MASKED[net], random_weights(MASKED[net])), n_threads=threads)
    x = pad(rows, maxlen)
    found = {
        "list": lambda: model.predict(rows),
        "pad_sequences, predict": lambda: model.predict(pad(rows, maxlen)),
        "predict alone": lambda: model.predict(x),
    }
    answers = [call() for call in found.values()]
    for y in answers[1:]:
        np.testing.assert_array_equal(y, answers[0])
    return found


@pytest.mark.parametrize("way", ["list", "pad_sequences, predict"])
@pytest.mark.parametrize("net", MASKED)
def bench_ragged(benchmark, net, way):
    if problem := backends.vector_problem():
        pytest.skip(str(problem))
    rows = cut_reviews(512 if benchmark.enabled else 20, PADDED if benchmark.enabled else 60)
    benchmark.group = f"predict {len(rows)} reviews, {net}"
    benchmark.name = way
    benchmark(ways(net, rows, 1, max(map(len, rows)))[way])


def main():
    parser = argparse.ArgumentParser(description="Ragged lists beside padded arrays.")
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--maxlen", type=int, default=PADDED, help="timesteps kept, and padded to (default 400)")
    parser.add_argument("--budget", type=float, default=60, help="seconds for each net (default 60)")
    args = parser.parse_args()
    rows = cut_reviews(args.rows, args.maxlen)
    steps = sum(map(len, rows))
    print(f"{len(rows)} reviews, {steps} timesteps of {len(rows) * args.maxlen}; {args.threads} threads")
    for net in MASKED:
        calls = ways(net, rows, args.threads, args.maxlen)
        times = [summary(samples)["median"] for samples in in_turns(list(calls.values()), 9, args.budget)]
        for name, time in zip(calls, times):
            print(f"{net:16} {name:24} {time:10.1f} ms {time / times[0]:6.2f} of list, the same bits")


if __name__ == "__main__":
    main()
