"""Small predictions without Python: records the kernels that a prediction calls, and runs them again.

Without states, a model calls the same kernels with the same sizes for all inputs of the same shapes. The second
prediction of a shape is recorded (ext/_tape.pxi). Those after it copy their inputs and run the record in one compiled
call, which calls Python only for layers without kernels. The bits are the same: same kernels, same weights.

Where several threads are worth their while, each plays a tape of its own for some of the rows.
"""

from collections import Counter

import numpy as np

from .. import _kernels
from . import threads

# Rows and bytes of the inputs, beyond which the time around the kernels does not show.
MOST_ROWS, MOST_BYTES = 36, 2**20
# Bytes of the buffers of a tape, and of all tapes.
MOST_BUFFERS, ALL_BUFFERS = 8 * 2**20, 64 * 2**20
# How many shapes have tapes. The oldest one is dropped.
MOST_SHAPES = 16
# Tapes of one shape, one for each thread that predicts it at the same time. A thread that finds none free takes the
# usual way: with two tapes, eight threads on two cores made 0.83 of the predictions of two threads, now 1.0.
MOST_TAPES = 16


class Replay:
    """The tapes of a plan. `id_limits`: for each input the number of token ids, None for one of floats."""

    def __init__(self, id_limits):
        self.id_limits, self.tapes = id_limits, _kernels.Tapes(id_limits, threads.available)
        self.run = self.tapes.run
        # Shape -> bytes of each of its tapes; None where a prediction cannot be recorded. Changed under the lock.
        self.seen, self.lock = {}, threads.fork_safe_lock()

    def learn(self, plan, arrays, n_threads):
        """The outputs for one chunk. Records the second prediction of a shape; replays later ones.

        Threads that predict the same shape at the same time get a tape each.
        """
        rows = len(arrays[0])
        usual = lambda: plan.run_chunk(arrays, slice(0, rows), {}, n_threads)  # noqa: E731
        given = self.converted(arrays)
        if given is None:
            return usual()
        outputs = self.run(given, n_threads)
        if outputs is not None:
            return outputs
        shape = shape_of(given)
        with self.lock:
            is_new = shape not in self.seen
            if is_new:
                self.seen[shape] = []
                self.drop()
        if is_new or not plan.runner.is_settled():
            return usual()
        if n_threads > 1 and shape not in self.tapes.splits:
            self.split(plan, given, n_threads)
        outputs = self.record(plan, given, n_threads)
        return usual() if outputs is None else outputs

    def record(self, plan, given, n_threads=1):
        """Record a tape; the outputs, or None where it has enough tapes or cannot have one."""
        shape = shape_of(given)
        with self.lock:
            kept = self.seen.setdefault(shape, [])
        if kept is None or self.are_enough(kept):
            return None
        most = plan.most_threads(given)
        scratch = plan.runner.new_scratch()
        tape = _kernels.Tape(given, self.id_limits, most, scratch, plan.is_short(given))
        if not tape.begin(n_threads):
            return None
        try:
            arrays = plan.call(tape.inputs, plan.runner.new_context({}, scratch, most))
        finally:
            tape.end()
        results = [np.array(y) for y in arrays]
        is_good = scratch.nbytes <= MOST_BUFFERS and tape.verify(arrays)
        with self.lock:
            if self.seen.get(shape) is not kept:
                return results  # other threads dropped the shape meanwhile, or found that it cannot be recorded
            if is_good and not self.are_enough(kept):
                kept.append(scratch.nbytes)
                self.tapes.by_shape.setdefault(shape, []).append(tape)
                self.drop()
            elif not kept:
                self.seen[shape] = None
        return results

    def split(self, plan, arrays, n_threads):
        """Record tapes that share the rows of inputs like these, one for each of so many threads, where they may."""
        given = self.converted(arrays)
        if given is None or not plan.runner.is_settled():
            return
        rows, n_threads = len(given[0]), min(n_threads, plan.most_threads(given))
        size = -(-rows // n_threads)
        parts = [[x[first : first + size] for x in given] for first in range(0, rows, size)]
        is_worth_it = 1 < len(parts) and rows <= plan.chunk_rows
        for shape, count in Counter(map(shape_of, parts)).items() if is_worth_it else ():
            part = parts[0] if shape == shape_of(parts[0]) else parts[-1]
            for _ in range(count - len(self.seen.get(shape) or ())):
                self.record(plan, part)
            is_worth_it = is_worth_it and len(self.seen.get(shape) or ()) >= count
        with self.lock:
            self.tapes.splits[shape_of(given)] = (n_threads if is_worth_it else 1, plan.is_short(given))
            while len(self.tapes.splits) > MOST_SHAPES:
                self.tapes.splits.pop(next(iter(self.tapes.splits)))

    def are_enough(self, kept):
        """Whether a shape with tapes of `kept` bytes gets no more. Small ones may be more than there are cores."""
        return len(kept) >= (MOST_TAPES if sum(kept) < MOST_BUFFERS else threads.cores())

    def drop(self):
        """Forget the oldest shapes, until the others may stay."""
        while len(self.seen) > MOST_SHAPES or sum(sum(kept or ()) for kept in self.seen.values()) > ALL_BUFFERS:
            oldest = next(iter(self.seen))
            del self.seen[oldest]
            self.tapes.by_shape.pop(oldest, None)
            self.tapes.splits.clear()  # some may need it

    def converted(self, arrays):
        """Inputs as a tape reads them; None if they are many, or of another kind. Token ids have been checked."""
        if not 0 < len(arrays[0]) <= MOST_ROWS or sum(x.nbytes for x in arrays) > MOST_BYTES:
            return None
        kinds = [("f", np.float32) if limit is None else ("iu", np.int32) for limit in self.id_limits]
        if any(x.dtype.kind not in kind for x, (kind, _) in zip(arrays, kinds)):
            return None
        return [np.ascontiguousarray(x, dtype) for x, (_, dtype) in zip(arrays, kinds)]


def shape_of(given):
    """The key of Tapes."""
    return given[0].shape if len(given) == 1 else tuple(x.shape for x in given)
