# A recurrent layer that is given one timestep after the other, included in _kernels.pyx: the loop of _loop.pxi, prepared
# once and run for a single step, so that the numbers are the same to the bit.


@cython.final
@cython.auto_pickle(False)
cdef class StreamStep:
    """One direction, ready to run the next timestep of a batch: weights, states and buffers in one place."""

    cdef Job job
    cdef Rows rows
    cdef object kept # what the Job points into
    cdef Recurrent layer
    cdef bint sequences
    cdef bytes format
    cdef object ids # (B,) int32 of this step, or None: a copy, which no other thread writes into
    cdef object kept_before
    cdef float* before # h and c before the last step
    cdef readonly Py_ssize_t pushed # timesteps so far

    def __cinit__(self, dict run not None, bint sequences):
        """run: a direction of `run_recurrent` without outputs and with any input of one timestep, (B, 1, F) float32 or (B, 1)
        int32; sequences: whether what `push` returns has a time axis where its input has one. One thread at a time.
        """
        if run["reverse"] or run["outputs"] is not None or run["merge"] != FBL_STORE:
            raise ValueError("a stream runs forwards, into outputs of its own")
        cdef Scratch scratch = Scratch()
        self.rows, self.sequences, self.layer = run["rows"], sequences, run["layer"]
        cdef list held = []
        given, *kept = _prepare(&self.job, run, scratch, held)
        self.kept = held, run["x"], kept
        _place_rows(&self.job)
        _begin_with(&self.job, floats(given[0]) if given else NULL, floats(given[1]) if len(given) > 1 else NULL)
        if self.job.constant:
            raise ValueError("x must be one timestep, (B, 1, F)")
        self.job.step.out_stride = self.job.step.units
        self.format = b"f" if self.job.ids == NULL else b"i"
        if self.job.ids != NULL:
            self.ids = np.empty(self.rows.batch, np.int32)
        self.kept_before = aligned((2, self.rows.batch, self.layer.units_padded))
        self.before = floats(self.kept_before)

    cdef fitting(self, given):
        """(states, B, U) float32 of (h, c) or (h,), each (B, U), or None for zeros."""
        shape = self.layer.n_states, self.rows.batch, self.layer.units
        if given is None:
            return np.zeros(shape, np.float32)
        if [np.shape(state) for state in given] != [shape[1:]] * shape[0]:
            raise ValueError(f"states have shapes {[np.shape(s) for s in given]}; expected {shape[0]} of {shape[1:]}")
        return np.array(given, np.float32, order="C")

    cdef put(self, states):
        """Go on from states that fit."""
        cdef const float* given = floats(states)
        cdef Py_ssize_t units = self.job.step.units, padded = self.job.step.units_padded, batch = self.rows.at.batch, b
        cdef Py_ssize_t size = batch * padded
        for b in range(batch):
            memcpy(self.job.states + b * padded, given + b * units, units * sizeof(float))
            if self.layer.n_states == 2:
                memcpy(self.job.step.c + b * padded, given + (batch + b) * units, units * sizeof(float))
        memcpy(self.job.states + size, self.job.states, size * sizeof(float))

    def states(self):
        """The states after the last step, each (B, U)."""
        cdef tuple states = _new_states(&self.job, self.layer)
        _write_states(&self.job, floats(states[0]), floats(states[1]) if len(states) > 1 else NULL)
        return states

    def push(self, x):
        """Run one timestep: x (B, 1, F) or (B, F) float32, or ids (B, 1) or (B,) int32, C-contiguous.

        Returns h (B, 1, U) or (B, U), a new array; None, with nothing done, if x is anything else.
        """
        cdef Py_buffer view
        cdef Py_ssize_t batch = self.rows.batch
        cdef bint good, timed = False
        cdef int32_t* ids
        if type(x) is not np.ndarray:
            return None
        try:
            PyObject_GetBuffer(x, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (ValueError, BufferError):
            return None
        try:
            good = strcmp(view.format, self.format) == 0 and view.itemsize == 4 and <size_t> view.buf % 4 == 0
            if self.job.ids == NULL:
                timed = view.ndim == 3
                good = good and 2 <= view.ndim <= 3 and view.shape[view.ndim - 1] == self.job.features
            else:
                timed = view.ndim == 2
                good = good and 1 <= view.ndim <= 2
            good = good and view.shape[0] == batch and (not timed or view.shape[1] == 1)
            if not good:
                return None
            if self.job.ids != NULL:
                ids = <int32_t*> floats(self.ids)
                memcpy(ids, view.buf, batch * sizeof(int32_t))
                if not are_below(ids, batch, self.layer.rows_of_table):
                    return None
                self.job.ids = ids
            units = self.job.step.units
            out = np.empty((batch, units), np.float32)
            self.job.step.out = floats(out)
            answer = out[:, np.newaxis] if timed and self.sequences else out
            if self.job.ids == NULL:
                self.job.x = <const float*> view.buf
            with nogil:
                self.advance()
            self.pushed += 1
            return answer
        finally:
            PyBuffer_Release(&view)

    def go_back(self):
        """Take the last timestep back, once."""
        cdef Job* job = &self.job
        cdef Py_ssize_t size = self.rows.at.batch * job.step.units_padded
        memcpy(job.states, self.before, size * sizeof(float))
        memcpy(job.states + size, self.before, size * sizeof(float))
        memcpy(job.step.c, self.before + size, size * sizeof(float))
        self.pushed -= 1

    cdef void advance(self) noexcept nogil:
        cdef Job* job = &self.job
        cdef Py_ssize_t size = self.rows.at.batch * job.step.units_padded
        memcpy(self.before, job.states, size * sizeof(float))
        memcpy(self.before + size, job.step.c, size * sizeof(float))
        job.begin = job.filled = 0
        _step(job, 0, self.rows.at.batch, 1)
        # Step 0 reads the first buffer of h and writes the second.
        memcpy(job.states, job.states + size, size * sizeof(float))


def set_states(list steps not None, list states not None):
    """Let each StreamStep go on from its states, (h, c) or (h,), each (B, U), or from zeros (None): all of them, or none
    if there is an error.
    """
    cdef Py_ssize_t k
    cdef list ready = [(<StreamStep?> step).fitting(given) for step, given in zip(steps, states, strict=True)]
    for k in range(len(ready)):
        (<StreamStep> steps[k]).put(ready[k])
