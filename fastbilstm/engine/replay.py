"""Small predictions without Python: the kernels that one prediction called are run again for inputs of the same shape.

Without masks and states, a net calls the same kernels with the same sizes for every input of one shape. The second
prediction of a shape is recorded (ext/_tape.pxi). Those after it copy their input and run the record in one compiled
call, which calls Python for layers without kernels alone. The bits are the same: the same kernels, the same weights.
"""

import numpy as np

from .. import _kernels

# Rows and bytes of an input, beyond which the time around the kernels does not show; bytes of the buffers of a tape.
MOST_ROWS, MOST_BYTES, MOST_BUFFERS = 36, 2**20, 8 * 2**20
# Shapes whose tapes are kept; the oldest one goes.
MOST_SHAPES = 16


class Replay:
    """The tapes of a plan with one input; `id_limit`: how many token ids there are, None for an input of floats."""

    def __init__(self, id_limit):
        self.id_limit, self.seen, self.tapes = id_limit, {}, _kernels.Tapes(id_limit is not None)
        self.run = self.tapes.run
        self.kind = np.float32 if id_limit is None else np.int32

    def learn(self, plan, x):
        """The outputs of the plan for one chunk on one thread; recorded when its shape comes for the second time."""
        rows = slice(0, len(x))
        small = 0 < len(x) <= MOST_ROWS and x.nbytes <= MOST_BYTES
        if not small or x.dtype != self.kind or not x.flags.c_contiguous or x.shape in self.tapes.by_shape:
            return plan.run_chunk([x], rows, {}, 1)
        if x.shape not in self.seen:
            while len(self.seen) >= MOST_SHAPES:
                self.tapes.by_shape.pop(self.seen.pop(next(iter(self.seen))), None)
            self.seen[x.shape] = x.shape
            return plan.run_chunk([x], rows, {}, 1)
        tape, scratch = _kernels.Tape(x, self.id_limit), plan.runner.new_scratch()
        if not tape.begin():
            return plan.run_chunk([x], rows, {}, 1)
        try:
            arrays = plan.call([tape.input], plan.runner.new_context({}, scratch, 1))
        finally:
            tape.end()
        results = [np.array(y) for y in arrays]
        kept = scratch.nbytes <= MOST_BUFFERS and tape.verify(arrays)
        self.tapes.by_shape[x.shape] = [tape] if kept else []
        return results
