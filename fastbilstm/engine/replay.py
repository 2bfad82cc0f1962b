"""Small predictions without Python: records the kernels that a prediction calls, and runs them again.

Without states, a model calls the same kernels with the same sizes for all inputs of the same shapes. The second
prediction of a shape is recorded (ext/_tape.pxi). Those after it copy their inputs and run the record in one compiled
call, which calls Python only for layers without kernels. The bits are the same: same kernels, same weights.
"""

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
        if not 0 < rows <= MOST_ROWS or sum(x.nbytes for x in arrays) > MOST_BYTES:
            return usual()
        given = [self.converted(x, limit) for x, limit in zip(arrays, self.id_limits)]
        if any(x is None for x in given):
            return usual()
        shape = given[0].shape if len(given) == 1 else tuple(x.shape for x in given)
        outputs = self.run(given, n_threads)
        if outputs is not None:
            return outputs
        with self.lock:
            is_new, kept = shape not in self.seen, self.seen.setdefault(shape, [])
            if is_new:
                self.drop()
        if is_new or kept is None or self.are_enough(kept) or not plan.runner.is_settled():
            return usual()
        most = plan.most_threads(given)
        scratch = plan.runner.new_scratch()
        tape = _kernels.Tape(given, self.id_limits, most, scratch)
        if not tape.begin(n_threads):
            return usual()
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

    def are_enough(self, kept):
        """Whether a shape with tapes of `kept` bytes gets no more. Small ones may be more than there are cores."""
        return len(kept) >= (MOST_TAPES if sum(kept) < MOST_BUFFERS else threads.cores())

    def drop(self):
        """Forget the oldest shapes, until the others may stay."""
        while len(self.seen) > MOST_SHAPES or sum(sum(kept or ()) for kept in self.seen.values()) > ALL_BUFFERS:
            oldest = next(iter(self.seen))
            del self.seen[oldest]
            self.tapes.by_shape.pop(oldest, None)

    def converted(self, x, limit):
        """An input as a tape reads it; None if it is of another kind. Token ids have been checked."""
        kind, dtype = ("f", np.float32) if limit is None else ("iu", np.int32)
        return np.ascontiguousarray(x, dtype) if x.dtype.kind in kind else None
