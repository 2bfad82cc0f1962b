"""Watches the values of a sensor as they come, and says when a machine no longer vibrates as sound ones do.

    python examples/sensor_stream/watch.py --demo       # a made-up machine, whose bearing knocks after 10 of 20 seconds
    reader | python examples/sensor_stream/watch.py     # lines "x,y,z" in g, 100 a second, from a program of yours

The net (train.py) foretells the next sample; a stream of the model remembers what came before. What was foretold badly
for half a second, beside the first seconds, is an alarm. Needs NumPy and fastbilstm. Exit code 1 if there was an alarm.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from signal_source import RATE, vibration

import fastbilstm

MODEL = Path(__file__).with_name("model.fbl")
WARM_UP, LEARN = RATE, 4 * RATE  # samples: until the net knows the machine; until its usual error is known
FORGET = 1 / (RATE / 2)  # of the running mean of errors: half a second
LIMIT = 3.0  # times the usual error


class Watch:
    """Takes one sample after another. `alarm` says whether they are unusual, `ratio` how much."""

    def __init__(self, model):
        self.stream, self.foretold = model.stream(), None
        self.samples, self.usual, self.mean, self.alarm = 0, 0.0, 0.0, False

    @property
    def ratio(self):
        """The mean error of the last half second over the usual one; 0 while that is learned."""
        return self.mean / self.usual if self.samples > LEARN else 0.0

    def take(self, sample):
        """Returns True where an alarm begins, False where it ends, None else."""
        error = 0.0 if self.foretold is None else float(np.square(self.foretold - sample).sum())
        self.foretold = self.stream.push(sample[np.newaxis])[0]
        self.samples += 1
        if WARM_UP < self.samples <= LEARN:
            self.usual += error / (LEARN - WARM_UP)
            self.mean = self.usual
        elif self.samples > LEARN:
            self.mean += FORGET * (error - self.mean)
        unusual = self.ratio > (LIMIT / 2 if self.alarm else LIMIT)  # it ends well below where it begins
        if unusual == self.alarm:
            return None
        self.alarm = unusual
        return unusual


def read(lines):
    """The samples of lines of three numbers; others are named on standard error."""
    for number, line in enumerate(lines, 1):
        try:
            sample = np.array([float(part) for part in line.split(",")], np.float32)
        except ValueError:
            sample = np.empty(0, np.float32)
        if sample.shape == (3,) and np.isfinite(sample).all():
            yield sample
        else:
            print(f"line {number}: expected three numbers, found {line.strip()!r}; left out", file=sys.stderr)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", action="store_true", help="a made-up signal in place of standard input")
    given = parser.parse_args(arguments)
    watch, alarms, spent = Watch(fastbilstm.load(MODEL, n_threads=1)), 0, []
    for sample in vibration(20 * RATE, seed=1000, worn_from=10 * RATE) if given.demo else read(sys.stdin):
        start = time.perf_counter()
        change = watch.take(sample)
        spent.append(time.perf_counter() - start)
        if change is not None:
            alarms += change
            state = f"unusual, {watch.ratio:.0f} times the error" if change else "as before"
            print(f"{watch.samples / RATE:7.2f} s: {state}", flush=True)
    if spent:
        print(f"{len(spent)} samples, {1e6 * float(np.median(spent)):.0f} us each (median); alarms: {alarms}")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
