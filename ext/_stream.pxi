# A recurrent layer that is given one timestep after the other, included in _kernels.pyx: the loop of _loop.pxi, prepared
# once and run for a single step, so that the numbers are the same to the bit.


@cython.final
@cython.auto_pickle(False)
cdef class StreamStep:
    """One direction, ready to run the next timestep of a batch: weights, states and buffers in one place."""

    cdef Job job
    cdef Rows rows
    cdef Scratch scratch
    cdef dict run
    cdef object kept
    cdef Recurrent layer
    cdef bint sequences, busy
    cdef bytes format
    cdef object ids # (B,) int32 of this step, or None: a copy, which no other thread writes into

    def __cinit__(self, dict run not None, bint sequences):
        """run: a direction of `run_recurrent` without outputs and with any input of one timestep, (B, 1, F) float32 or (B, 1)
        int32; sequences: whether what `push` returns has a time axis where its input has one.
        """
        if run["reverse"] or run["outputs"] is not None or run["merge"] != FBL_STORE:
            raise ValueError("a stream runs forwards, into outputs of its own")
        self.rows, self.scratch = run["rows"], Scratch()
        self.run, self.sequences, self.layer = run, sequences, run["layer"]
        self.set_states(None)
        self.format = b"f" if self.job.ids == NULL else b"i"
        if self.job.ids != NULL:
            self.ids = np.empty(self.rows.batch, np.int32)

    def set_states(self, initial_state):
        """Go on from (h, c) or (h,), each (B, U), or from zeros (None)."""
        if self.busy:
            raise RuntimeError("another thread is pushing into this stream")
        shape = self.rows.batch, self.layer.units
        for state in initial_state or ():
            if np.shape(state) != shape:
                raise ValueError(f"a state has shape {np.shape(state)}; expected {shape}")
        cdef Job job  # so that an error leaves the one in use as it is
        kept = _prepare(&job, {**self.run, "initial_state": initial_state}, self.scratch)
        job.step.out_stride = job.step.units
        self.job, self.kept = job, kept

    def states(self):
        """The states after the last step, each (B, U)."""
        return _final_states(&self.job, self.layer)

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
        if self.busy:
            raise RuntimeError("another thread is pushing into this stream")
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
            if self.job.ids == NULL:
                self.job.x = <const float*> view.buf
            else:
                ids = <int32_t*> floats(self.ids)
                memcpy(ids, view.buf, batch * sizeof(int32_t))
                if not are_below(ids, batch, self.layer.rows_of_table):
                    return None
                self.job.ids = ids
            units = self.job.step.units
            out = np.empty((batch, units), np.float32)
            self.job.step.out = floats(out)
            self.busy = True
            with nogil:
                self.advance()
            self.busy = False
            return out[:, np.newaxis] if timed and self.sequences else out
        finally:
            PyBuffer_Release(&view)

    cdef void advance(self) noexcept nogil:
        cdef Job* job = &self.job
        cdef Py_ssize_t size = self.rows.at.batch * job.step.units_padded
        job.begin = job.filled = 0
        _step(job, 0, self.rows.at.batch)
        # Step 0 reads the first buffer of h and writes the second.
        memcpy(job.states, job.states + size, size * sizeof(float))
