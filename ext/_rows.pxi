# Which rows run at which step, included in _kernels.pyx.


@cython.final
@cython.auto_pickle(False)
cdef class Rows:
    """The timesteps that a mask keeps, row by row, longest row first: step s runs the rows that have more than s.

    Without a mask every row has all timesteps.
    """

    cdef readonly Py_ssize_t batch, timesteps
    cdef readonly bint masked, has_empty
    cdef object order, counts, starts, kept
    cdef const Py_ssize_t* order_at
    cdef const Py_ssize_t* counts_at
    cdef const Py_ssize_t* starts_at
    cdef const Py_ssize_t* kept_at

    def __cinit__(self, batch, timesteps, mask=None):
        """mask (B, T) bool or None."""
        elements((batch, timesteps))
        self.batch, self.timesteps = batch, timesteps
        if mask is not None and (matrix_of("mask", mask, (batch, timesteps)) is not mask or mask.dtype != np.bool_):
            raise ValueError(f"mask must be a bool array, got {type(mask).__name__}")
        self.masked = mask is not None and self.read(np.ascontiguousarray(mask))

    cdef bint read(self, mask) except -1:
        """Number the kept timesteps of a contiguous mask; False if it keeps all."""
        cdef const uint8_t* keep = <const uint8_t*> floats(mask)
        cdef Py_ssize_t size = self.batch * self.timesteps, total = 0, b, t
        for t in range(size):
            total += keep[t] != 0
        if total == size:
            return False
        counts, starts, self.kept = np.empty(self.batch, np.intp), np.empty(self.batch, np.intp), np.empty(total, np.intp)
        cdef Py_ssize_t* count_at = sizes(counts)
        cdef Py_ssize_t* start_at = sizes(starts)
        cdef Py_ssize_t* kept_at = sizes(self.kept)
        total = 0
        for b in range(self.batch):
            start_at[b] = total
            for t in range(self.timesteps):
                if keep[b * self.timesteps + t]:
                    kept_at[total] = t
                    total += 1
            count_at[b] = total - start_at[b]
            self.has_empty |= count_at[b] == 0
        self.order = np.argsort(-counts, kind="stable")
        self.counts, self.starts = counts[self.order], starts[self.order]
        self.order_at, self.counts_at = sizes(self.order), sizes(self.counts)
        self.starts_at, self.kept_at = sizes(self.starts), kept_at
        return True

    cdef inline Py_ssize_t row(self, Py_ssize_t r) noexcept nogil:
        """The batch row that runs at place r."""
        return self.order_at[r] if self.masked else r

    cdef inline Py_ssize_t count(self, Py_ssize_t r) noexcept nogil:
        return self.counts_at[r] if self.masked else self.timesteps

    cdef inline Py_ssize_t time(self, Py_ssize_t r, Py_ssize_t step, bint reverse) noexcept nogil:
        """The timestep that place r runs at a step."""
        if not self.masked:
            return self.timesteps - 1 - step if reverse else step
        if reverse:
            step = self.counts_at[r] - 1 - step
        return self.kept_at[self.starts_at[r] + step]

    @property
    def steps(self):
        """Timesteps of all rows together."""
        return len(self.kept) if self.masked else self.batch * self.timesteps

    @property
    def empty(self):
        """(B,) bool: the rows without any timestep; None if there is none."""
        if not self.has_empty:
            return None
        empty = np.zeros(self.batch, bool)
        empty[self.order] = self.counts == 0
        return empty
