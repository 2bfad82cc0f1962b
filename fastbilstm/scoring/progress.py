"""The progress line of `Model.predict(verbose=1)`. Imports the standard library."""

import sys
import time


class Progress:
    """A progress line for long predictions, on a terminal only."""

    def __init__(self, rows: int) -> None:
        self.rows, self.start, self.live = rows, time.perf_counter(), sys.stderr.isatty()

    def update(self, done: int) -> None:
        if not self.live:
            return
        seconds = time.perf_counter() - self.start
        left = seconds / done * (self.rows - done) if done else 0.0
        end = "\n" if done == self.rows else ""
        print(f"\r{done}/{self.rows} rows, {seconds:.1f} s, {left:.1f} s left ", end=end, file=sys.stderr, flush=True)
