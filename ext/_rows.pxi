# Which rows run at which step, included in _kernels.pyx.


cdef struct Order:
    Py_ssize_t batch, timesteps
    bint masked
    const uint8_t* mask          # (batch, timesteps), NULL: none
    Py_ssize_t total             # timesteps of all rows that the mask keeps
    Py_ssize_t* order            # for each place the batch row; these where `masked`
    Py_ssize_t* counts           # its number of timesteps
    Py_ssize_t* starts           # where they begin in `kept`
    Py_ssize_t* kept             # the timesteps, row by row; behind them 2 batch + timesteps + 1 more to work with


cdef inline Py_ssize_t row_at(const Order* rows, Py_ssize_t r) noexcept nogil:
    """The batch row that runs at place r."""
    return rows.order[r] if rows.masked else r


cdef inline Py_ssize_t count_at(const Order* rows, Py_ssize_t r) noexcept nogil:
    """Timesteps of the row at place r."""
    return rows.counts[r] if rows.masked else rows.timesteps


cdef inline Py_ssize_t start_at(const Order* rows, Py_ssize_t r) noexcept nogil:
    """Where the timesteps of the row at place r begin in `kept`."""
    return rows.starts[r] if rows.masked else 0


cdef void _order(Order* at) noexcept nogil:
    """Number the timesteps that the mask keeps; `masked` is False if it keeps all."""
    cdef Py_ssize_t batch = at.batch, timesteps = at.timesteps, total = 0, b, t, place
    for t in range(batch * timesteps):
        total += at.mask[t] != 0
    at.total, at.masked = total, total < batch * timesteps
    if not at.masked:
        return
    cdef Py_ssize_t* counts = at.kept + batch * timesteps
    cdef Py_ssize_t* starts = counts + batch
    cdef Py_ssize_t* places = starts + batch     # where the rows of a length begin, the longest first
    memset(places, 0, (timesteps + 1) * sizeof(Py_ssize_t))
    total = 0
    for b in range(batch):
        starts[b] = total
        for t in range(timesteps):
            if at.mask[b * timesteps + t]:
                at.kept[total] = t
                total += 1
        counts[b] = total - starts[b]
        places[timesteps - counts[b]] += 1
    place = 0
    for t in range(timesteps + 1):
        total = places[t]
        places[t] = place
        place += total
    for b in range(batch):
        place = places[timesteps - counts[b]]
        places[timesteps - counts[b]] += 1
        at.order[place], at.counts[place], at.starts[place] = b, counts[b], starts[b]


cdef int _order_again(void* record) except -1 nogil:
    _order((<Order**> record)[0])
    return 0


@cython.final
@cython.auto_pickle(False)
cdef class Rows:
    """The timesteps that a mask keeps, row by row, longest row first: step s runs the rows that have more than s.

    Without a mask every row has all timesteps.
    """

    cdef Order at
    cdef bint is_recorded
    cdef object index, mask # what the Order points into

    def __cinit__(self, batch, timesteps, mask=None):
        """mask (B, T) bool or None."""
        elements((batch, timesteps))
        self.at.batch, self.at.timesteps = batch, timesteps
        if mask is None:
            return
        if matrix_of("mask", mask, (batch, timesteps)) is not mask or mask.dtype != np.bool_:
            raise ValueError(f"mask must be a bool array, got {type(mask).__name__}")
        cdef Tape tape = recording()
        self.mask = mask if tape is not None and mask.flags.c_contiguous else np.array(mask, order="C")
        # order, counts, starts; kept; room for `_order`.
        self.index = np.empty(elements((batch, timesteps)) + 5 * batch + timesteps + 1, np.intp)
        self.at.order = sizes(self.index)
        self.at.counts = self.at.order + self.at.batch
        self.at.starts = self.at.counts + self.at.batch
        self.at.kept = self.at.starts + self.at.batch
        self.at.mask = <const uint8_t*> floats(self.mask)
        if tape is None:
            _order(&self.at)
        else:
            # For every mask of this shape: what depends on the mask is an operation, too.
            self.is_recorded = True
            (<Order**> tape.add(_order_again, sizeof(Order*), (self.mask,), (), self))[0] = &self.at
            _order(&self.at)

    @property
    def batch(self):
        return self.at.batch

    @property
    def timesteps(self):
        return self.at.timesteps

    @property
    def masked(self):
        """Whether a mask leaves any timestep out, or in another run of a tape may do so."""
        return self.at.masked or self.is_recorded

    cdef order(self):
        """(B,) intp: with a mask, the batch rows in the order they are run in."""
        return self.index[:self.at.batch]

    @property
    def steps(self):
        """Timesteps of all rows together."""
        return self.at.total if self.at.masked else self.at.batch * self.at.timesteps
