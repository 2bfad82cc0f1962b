# Which rows run at which step, included in _kernels.pyx.


cdef struct Order:
    Py_ssize_t batch, timesteps
    bint masked
    const Py_ssize_t* order      # these where there is a mask; see Rows
    const Py_ssize_t* counts
    const Py_ssize_t* starts
    const Py_ssize_t* kept


cdef inline Py_ssize_t row_at(const Order* rows, Py_ssize_t r) noexcept nogil:
    """The batch row that runs at place r."""
    return rows.order[r] if rows.masked else r


cdef inline Py_ssize_t count_at(const Order* rows, Py_ssize_t r) noexcept nogil:
    """Timesteps of the row at place r."""
    return rows.counts[r] if rows.masked else rows.timesteps


cdef inline Py_ssize_t time_at(const Order* rows, Py_ssize_t r, Py_ssize_t step, bint reverse) noexcept nogil:
    """The timestep that place r runs at a step."""
    if not rows.masked:
        return rows.timesteps - 1 - step if reverse else step
    return rows.kept[rows.starts[r] + (rows.counts[r] - 1 - step if reverse else step)]


@cython.final
@cython.auto_pickle(False)
cdef class Rows:
    """The timesteps that a mask keeps, row by row, longest row first: step s runs the rows that have more than s.

    Without a mask every row has all timesteps.
    """

    cdef Order at
    cdef readonly bint has_empty
    cdef object index # what the Order points into

    def __cinit__(self, batch, timesteps, mask=None):
        """mask (B, T) bool or None."""
        elements((batch, timesteps))
        self.at.batch, self.at.timesteps = batch, timesteps
        if mask is not None and (matrix_of("mask", mask, (batch, timesteps)) is not mask or mask.dtype != np.bool_):
            raise ValueError(f"mask must be a bool array, got {type(mask).__name__}")
        self.at.masked = mask is not None and self.read(np.array(mask, order="C"))

    cdef bint read(self, mask) except -1:
        """Number the kept timesteps of a contiguous mask that no one else writes into; False if it keeps all."""
        cdef const uint8_t* keep = <const uint8_t*> floats(mask)
        cdef Py_ssize_t batch = self.at.batch, timesteps = self.at.timesteps, size = batch * timesteps, total = 0, b, t
        for t in range(size):
            total += keep[t] != 0
        if total == size:
            return False
        # For each place the batch row, its number of timesteps and where they begin; the timesteps, row by row.
        self.index = np.empty(3 * batch + total, np.intp)
        cdef Py_ssize_t* order = sizes(self.index)
        cdef Py_ssize_t* counts = order + batch
        cdef Py_ssize_t* starts = counts + batch
        cdef Py_ssize_t* kept = starts + batch
        total = 0
        for b in range(batch):
            order[b], starts[b] = b, total
            for t in range(timesteps):
                if keep[b * timesteps + t]:
                    kept[total] = t
                    total += 1
            counts[b] = total - starts[b]
            self.has_empty |= counts[b] == 0
        if batch > 1:
            _, found, begins = places = self.index[:3 * batch].reshape(3, batch)
            sequence = np.argsort(-found, kind="stable")
            places[...] = sequence, found[sequence], begins[sequence]
        self.at.order, self.at.counts, self.at.starts, self.at.kept = order, counts, starts, kept
        return True

    @property
    def batch(self):
        return self.at.batch

    @property
    def timesteps(self):
        return self.at.timesteps

    @property
    def masked(self):
        """Whether a mask leaves any timestep out."""
        return self.at.masked

    cdef order(self):
        """(B,) intp: with a mask, the batch rows in the order they are run in."""
        return self.index[:self.at.batch]

    @property
    def steps(self):
        """Timesteps of all rows together."""
        return len(self.index) - 3 * self.at.batch if self.at.masked else self.at.batch * self.at.timesteps

    @property
    def empty(self):
        """(B,) bool: the rows without any timestep; None if there is none."""
        if not self.has_empty:
            return None
        empty = np.zeros(self.at.batch, bool)
        order, counts = self.order(), self.index[self.at.batch:2 * self.at.batch]
        empty[order] = counts == 0
        return empty
