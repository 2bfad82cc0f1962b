"""Single rows with the default threads beside one thread, idle and beside a busy process; calls a second of callers.

    python benches/engine/bench_threads.py [--rounds 16] [--nets bilstm64 stack attention]

The two take turns of a quarter of a second. "ratio": p95 of the default threads over that of one, of all calls and the
median of the rounds; beside a busy process it is to stay below 1.3. Other work on the machine makes "idle" a busy one.
"""

import argparse
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
from cells import CELLS, cell_input
from nets import NETS, keras_file, random_weights
from tails import CALLERS, LOADS, NETS_OF_TAILS, PERCENTILES, load

import fastbilstm

SPAN = 0.25
WARM_UP = 300


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--nets", nargs="+", default=NETS_OF_TAILS, choices=NETS_OF_TAILS)
    given = parser.parse_args()
    for name in given.nets:
        content, x = keras_file(NETS[name], random_weights(NETS[name])), cell_input(CELLS[name], 1)
        models = {"default": fastbilstm.load(content), "one": fastbilstm.load(content, n_threads=1)}
        for model in models.values():
            for _ in range(WARM_UP):
                model.predict(x)
        for way in LOADS:
            with load(way):
                print(f"{name:<10} {way:<5}", tails(models, x, given.rounds), flush=True)
        for threads, model in models.items():
            found = [f"{calls_a_second(model, x, count, given.rounds):8.0f}" for count in CALLERS]
            print(f"{name:<10} calls a second of {CALLERS} Python threads, {threads:<7}", *found, flush=True)


def tails(models, x, rounds):
    """Percentiles in ms of each model, and the ratios."""
    seconds, ratios = {name: [] for name in models}, []
    for number in range(rounds):
        turn = {name: calls(models[name], x) for name in (models if number % 2 else reversed(models))}
        ratios.append(np.percentile(turn["default"], 95) / np.percentile(turn["one"], 95))
        for name, found in turn.items():
            seconds[name] += found
    found = {name: np.percentile(times, PERCENTILES) * 1e3 for name, times in seconds.items()}
    text = [f"{name}: " + " ".join(f"p{p} {ms:.3f}" for p, ms in zip(PERCENTILES, found[name])) for name in models]
    return ", ".join(text) + f", ratio {found['default'][1] / found['one'][1]:.2f}, rounds {np.median(ratios):.2f}"


def calls(model, x):
    """Seconds of each call of one turn."""
    seconds, now = [], time.perf_counter()
    end = now + SPAN
    while now < end:
        model.predict(x)
        before, now = now, time.perf_counter()
        seconds.append(now - before)
    return seconds


def calls_a_second(model, x, count, rounds):
    """Of so many Python threads together: the median of the rounds."""
    found = []
    for _ in range(rounds):
        done = [0] * count

        def call(number, done=done):
            done[number] = len(calls(model, x))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found.append(sum(done) / (time.perf_counter() - start))
    return np.median(found)


if __name__ == "__main__":
    main()
