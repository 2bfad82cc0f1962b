"""Small predictions without Python: records the kernels that a prediction calls, and runs them again.

Without states, a model calls the same kernels with the same sizes for all inputs of the same shapes. The second
prediction of a shape is recorded (ext/_tape.pxi). Those after it copy their inputs and run the record in one compiled
call, which calls Python only for layers without kernels. The bits are the same: same kernels, same weights.

Where several threads are worth their while, they share the directions and the units of a tape, or each plays a tape of
its own for some of the rows.
"""

import numpy as np

from .. import _kernels
from . import threads

# Rows and bytes of the inputs, beyond which the time around the kernels does not show.
MOST_ROWS, MOST_BYTES = 36, 2**20
# How many shapes have tapes. The oldest one is dropped.
MOST_SHAPES = 512
# Arenas, one for each thread that predicts at the same time. A thread that finds none free takes the usual way: with
# two, eight threads on two cores made 0.83 of the predictions of two threads, now 1.0.
MOST_ARENAS = 16
# Rows for each thread with which these read weights as often as they compute.
FEW_ROWS = 3
# Bytes of an arena, and of all arenas.
ARENA_BYTES, ALL_BYTES = 16 * 2**20, 64 * 2**20


class Replay:
    """The tapes of a plan. `id_limits`: for each input the number of token ids, None for one of floats.

    The tapes of all shapes lie in one arena, since one thread plays one at a time; a thread that plays at the same time
    has an arena of its own, and its tapes there.
    """

    def __init__(self, id_limits):
        self.id_limits, self.tapes = id_limits, _kernels.Tapes(id_limits, threads.available)
        self.run = self.tapes.run
        # Shape -> the arenas of its tapes; None where a prediction cannot be recorded. Changed under the lock.
        self.seen, self.arenas, self.lock = {}, [], threads.fork_safe_lock()

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
            is_new, used = shape not in self.seen, self.seen.setdefault(shape, [])
            if len(self.seen) > MOST_SHAPES:
                self.drop()
        if is_new or not plan.runner.is_settled():
            return usual()
        arena = None if used is None else self.claim(used)
        if arena is None:
            return usual()
        try:
            outputs = self.record(plan, given, n_threads, arena)
        finally:
            arena.release()
        if n_threads > 1 and shape not in self.tapes.splits:
            self.split(plan, given, n_threads)
        return usual() if outputs is None else outputs

    def claim(self, used):
        """An arena that no thread plays in and that is none of `used`, claimed; None if there are enough."""
        with self.lock:
            for arena in self.arenas:
                if arena not in used and arena.claim():
                    return arena
            sizes = [arena.nbytes for arena in {*self.arenas, *used}]
            if len(sizes) >= MOST_ARENAS or sum(sizes) + max(sizes, default=0) > ALL_BYTES:
                return None
            arena = _kernels.Scratch()
            arena.claim()
            self.arenas.append(arena)
            return arena

    def record(self, plan, given, n_threads, arena):
        """Record a tape in an arena that is claimed; the outputs, None if this thread is recording already."""
        shape, before, most = shape_of(given), arena.nbytes, plan.most_threads(given)
        tape = _kernels.Tape(given, self.id_limits, most, arena, plan.is_short(given))
        if not tape.begin(n_threads):
            return None
        try:
            arrays = plan.call(tape.inputs, plan.runner.new_context({}, arena, most))
        finally:
            tape.end()
        results = [np.array(y) for y in arrays]
        is_good = arena.nbytes <= ARENA_BYTES and tape.verify(arrays)
        del arrays  # they lie in the arena
        with self.lock:
            used = self.seen.get(shape, [])  # other threads may have dropped the shape
            if is_good and used is not None:
                self.seen[shape] = [*used, arena]
                self.tapes.by_shape.setdefault(shape, []).append(tape)
            elif not used:
                self.seen[shape] = None
            tape = None
            if not arena.is_empty():
                # Steps in Python hold arrays in it: later shapes get another one.
                self.arenas = [other for other in self.arenas if other is not arena]
            if arena.nbytes > ARENA_BYTES:
                arena.trim(before)
            while len(self.seen) > MOST_SHAPES or (self.seen and self.nbytes() > ALL_BYTES):
                self.drop()
        return results

    def split(self, plan, arrays, n_threads):
        """Record the tapes that so many threads play for inputs like these.

        One for all rows, and where that has too few parts for so many threads, those that share the rows.
        """
        given = self.converted(arrays)
        if given is None or not plan.runner.is_settled():
            return
        rows, n_threads, taken = len(given[0]), min(n_threads, plan.most_threads(given)), []
        try:
            whole = self.take(plan, given, n_threads, taken)
            while taken:
                taken.pop().release()
            count = n_threads // min(n_threads, parts_within(whole, plan.products(given), rows, n_threads))
            size = -(-rows // count)
            shares = [[x[first : first + size] for x in given] for first in range(0, rows, size)]
            is_worth_it = 1 < len(shares) and rows <= plan.chunk_rows
            is_worth_it = is_worth_it and all([self.take(plan, share, 1, taken) is not None for share in shares])
        finally:
            for arena in taken:
                arena.release()
        with self.lock:
            self.tapes.splits[shape_of(given)] = (len(shares) if is_worth_it else 1, plan.is_short(given))
            while len(self.tapes.splits) > MOST_SHAPES:
                self.tapes.splits.pop(next(iter(self.tapes.splits)))

    def take(self, plan, given, n_threads, taken):
        """A tape for inputs like these, whose arena is claimed and added to `taken`; None if there is none."""
        shape = shape_of(given)
        for tape, arena in zip(self.tapes.by_shape.get(shape, ()), self.seen.get(shape) or ()):
            if arena.claim():
                taken.append(arena)
                return tape
        arena = self.claim(self.seen.get(shape) or ())
        if arena is None:
            return None
        taken.append(arena)
        self.record(plan, given, n_threads, arena)
        tapes = self.tapes.by_shape.get(shape)
        return tapes[-1] if tapes and (self.seen.get(shape) or (None,))[-1] is arena else None

    def nbytes(self):
        """Of all arenas."""
        found = {arena for used in (self.arenas, *self.seen.values()) for arena in used or ()}
        return sum(arena.nbytes for arena in found)

    def drop(self):
        """Forget the oldest shape."""
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
        with np.errstate(over="ignore"):
            return [np.ascontiguousarray(x, dtype) for x, (_, dtype) in zip(arrays, kinds)]


def parts_within(tape, products, rows, n_threads):
    """How many threads should share what is computed for each row, before they share the rows.

    Few rows for each thread read the same weights as many; directions and units of a step divide these.
    """
    if tape is None or rows > FEW_ROWS * n_threads or 4 * tape.shared < 3 * products:
        return 1
    return max(1, tape.parts)


def shape_of(given):
    """The key of Tapes."""
    return given[0].shape if len(given) == 1 else tuple(x.shape for x in given)
