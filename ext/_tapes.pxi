# Tapes: one prediction is played from the tapes of its shape, by one thread or by several that share its rows, included in
# _kernels.pyx.
#
# Tapes of one shape lie in different arenas (_scratch.pxi), and whoever plays one has claimed its arena. Inputs are copied
# to where a tape reads them, and outputs from where it leaves them.

from libc.stdlib cimport free, malloc

cdef enum:
    MOST_SHARES = 64


# The rows of a prediction, which `count` tapes share: each computes as many, the last one perhaps fewer.
cdef struct Shares:
    Py_ssize_t count, threads # of each tape
    Reel* reels[MOST_SHARES]
    Py_buffer* views          # inputs and outputs of all rows
    bint lets_sleep
    uint8_t refused           # a token id is out of range, or a worker met an error


cdef int _play_share(void* argument, Py_ssize_t part, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    cdef Shares* shares = <Shares*> argument
    if stop == NULL:
        return _play_rows(shares, part)
    if (<int (*)(Shares*, Py_ssize_t) noexcept nogil> _play_rows)(shares, part) == -1:
        _forget_error()
        fbl_set_flag(&shares.refused, 1)
    return 0


cdef void _forget_error() noexcept with gil:
    PyErr_Clear()


cdef void _copy_input(const Place* place, const Py_buffer* view, Py_ssize_t first) noexcept nogil:
    """The numbers from the `first` one on, of 4 bytes or of 8: token ids, or floats. An id beyond int32 becomes -1."""
    cdef Py_ssize_t k, size = place.nbytes // 4
    cdef int64_t number
    cdef const int64_t* ids = <const int64_t*> view.buf + first
    cdef const double* doubles = <const double*> view.buf + first
    if view.itemsize == 4:
        memcpy(place.at, <const float*> view.buf + first, place.nbytes)
    elif place.limit < 0:
        for k in range(size):
            (<float*> place.at)[k] = <float> doubles[k]
    else:
        for k in range(size):
            number = ids[k]
            (<int32_t*> place.at)[k] = <int32_t> number if 0 <= number <= INT32_MAX else -1


cdef int _play_rows(Shares* shares, Py_ssize_t part) except -1 nogil:
    cdef const Reel* reel = shares.reels[part]
    cdef const Place* place
    cdef Py_ssize_t k, first
    for k in range(reel.n_inputs):
        place = reel.places + k
        first = part * shares.reels[0].places[k].nbytes // 4
        _copy_input(place, &shares.views[k], first)
        # The copy is looked at, not what another thread may write into meanwhile.
        if place.limit >= 0 and not are_below(<const int32_t*> place.at, place.nbytes // 4, place.limit):
            fbl_set_flag(&shares.refused, 1)
            return 0
    _play(reel, shares.threads, shares.lets_sleep)
    for k in range(reel.n_inputs, reel.n_inputs + reel.n_outputs):
        place = reel.places + k
        first = part * shares.reels[0].places[k].nbytes
        memcpy(<char*> shares.views[k].buf + first, place.at, place.nbytes)
    return 0


cdef list _play_together(list tapes, Py_ssize_t rows, tuple xs, Py_ssize_t n_threads, bint lets_sleep, list outs):
    """The outputs of tapes that share the rows, or of one; None if a token id is out of range or `outs` do not fit.

    They are new arrays, or those of `outs`.
    """
    cdef list outputs = (<Tape> tapes[0]).outputs, found = []
    cdef Py_ssize_t k, held = 0, n = len(xs), count = n + len(outputs)
    cdef Shares shares
    if outs is not None and len(outs) != len(outputs):
        return None
    for k in range(len(outputs)):
        shape, dtype = outputs[k]
        if len(tapes) > 1:
            shape = (rows, *shape[1:])
        if outs is not None and not _is_to_fill(outs[k], shape, dtype):
            return None
        found.append(np.empty(shape, dtype) if outs is None else outs[k])
    shares.count, shares.threads, shares.lets_sleep = len(tapes), max(1, n_threads // len(tapes)), lets_sleep
    shares.refused, shares.views = False, <Py_buffer*> malloc(count * sizeof(Py_buffer))
    if shares.views == NULL:
        raise MemoryError
    try:
        for k in range(shares.count):
            shares.reels[k] = &(<Tape> tapes[k]).reel
        for k in range(count):
            PyObject_GetBuffer(xs[k] if k < n else found[k - n], shares.views + k, PyBUF_SIMPLE if k < n else PyBUF_WRITABLE)
            held += 1
        if shares.count > 1 and _overlap(shares.views, n, count):
            return None
        with nogil:
            if shares.count == 1:
                _play_rows(&shares, 0)
            else:
                run_parts(_play_share, &shares, shares.count, n_threads)
            if n_threads > 1:
                note_end()
    finally:
        for k in range(held):
            PyBuffer_Release(shares.views + k)
        free(shares.views)
    return None if shares.refused else found


cdef bint _overlap(const Py_buffer* views, Py_ssize_t n, Py_ssize_t count) noexcept:
    """Whether an output, of those from `n` on, lies where an input does."""
    cdef Py_ssize_t i, k
    cdef bint found = False
    for i in range(n):
        for k in range(n, count):
            found |= (
                <char*> views[i].buf < <char*> views[k].buf + views[k].len
                and <char*> views[k].buf < <char*> views[i].buf + views[i].len
            )
    return found


cdef bint _is_to_fill(out, tuple shape, dtype) except -1:
    """Whether an array has this shape and dtype, is contiguous and may be written."""
    cdef Py_buffer view
    cdef Py_ssize_t k
    if type(out) is not np.ndarray or out.dtype != dtype:
        return False
    try:
        PyObject_GetBuffer(out, &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    except (ValueError, BufferError):
        return False
    cdef bint good = view.ndim == len(shape)
    for k in range(view.ndim if good else 0):
        good &= view.shape[k] == <Py_ssize_t> shape[k]
    PyBuffer_Release(&view)
    return good


@cython.final
@cython.auto_pickle(False)
cdef class Tapes:
    """Tapes by the shapes of the inputs; a thread that plays one has claimed its scratch.

    With one input the key is its shape, else the tuple of shapes. `splits`: for such a key (number, is_short), of how many
    threads have tapes that share its rows, and of how short a prediction; a number of 1 for none.
    """

    cdef readonly dict by_shape, splits
    cdef bytes formats
    cdef object available

    def __cinit__(self, limits, available):
        """limits: as for Tape. available(): how many threads there are for who names no number."""
        self.available = available
        self.by_shape, self.splits = {}, {}
        self.formats = b"".join([b"f" if limit is None else b"i" for limit in limits])

    def run(self, x, n_threads=None, list outs=None):
        """The outputs for inputs whose shapes have tapes that are free; None, with nothing done, for all others.

        `outs`: arrays to write them into; None is the answer where they do not fit.
        """
        cdef Py_ssize_t n = len(self.formats)
        if type(x) is np.ndarray and n == 1:
            key, xs = x.shape, (x,)
        elif type(x) in (list, tuple) and len(x) == n:
            xs = tuple(x)  # what another thread does to a list does not matter then
            if len(xs) != n:
                return None
            for part in xs:
                if type(part) is not np.ndarray:
                    return None
            key = xs[0].shape if n == 1 else tuple([part.shape for part in xs])
        else:
            return None
        cdef list tapes = self.by_shape.get(key)
        split = self.splits.get(key)
        if not (tapes or split) or not self.are_plain(xs):
            return None
        try:
            return self.play(key, xs, tapes, split, n_threads, outs)
        except (ValueError, IndexError):
            return None  # an id or index that was computed is out of range: the usual way tells which

    cdef bint are_plain(self, tuple xs) except -1:
        """Whether inputs are contiguous, and floats or token ids of 4 or 8 bytes, as tapes read them."""
        cdef Py_buffer view
        cdef bint good = True
        cdef Py_ssize_t k
        cdef char kind
        cdef const char* formats = self.formats
        for k in range(len(xs)):
            try:
                PyObject_GetBuffer(xs[k], &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            except (ValueError, BufferError):
                return False
            kind = view.format[0] if view.format[1] == 0 else 0
            good &= <size_t> view.buf % <size_t> view.itemsize == 0
            if formats[k] == b"f":
                good &= kind == b"f" or kind == b"d"
            else:
                good &= kind == b"i" or kind == b"l" or kind == b"q"
            PyBuffer_Release(&view)
        return good

    cdef list play(self, key, tuple xs, list tapes, tuple split, n_threads, list outs):
        """As `run`: with a tape for all rows, or with tapes that share them where workers come for these."""
        cdef Tape tape = tapes[0] if tapes else None
        cdef Py_ssize_t most = 1 if tape is None else tape.most_threads, share = 1, threads = 1, rows
        cdef bint is_short = tape is not None and tape.is_short, lets_sleep = False
        cdef list taken
        if split is not None:
            share, is_short = split
        if max(most, share) > 1:
            threads = min(max(most, share), <Py_ssize_t> (self.available() if n_threads is None else n_threads))
        if threads > 1:
            rows = xs[0].shape[0]
            if split is None and rows > 1:
                return None  # to find out whether tapes may share the rows
            lets_sleep, share = is_short and not follows_soon(), min(share, threads)
            if share > 1 and (tape is None or free_workers(share - 1, lets_sleep) == share - 1):
                taken = self.take_shares(key, len(xs), rows, (rows + share - 1) // share)
                if taken is not None:
                    try:
                        return _play_together(taken, rows, xs, threads, lets_sleep, outs)
                    finally:
                        _give_back(taken)
        tape = _claimed(tapes)
        if tape is None:
            return None
        try:
            return _play_together([tape], 0, xs, threads, lets_sleep, outs)
        finally:
            tape.scratch.release()

    cdef list take_shares(self, key, Py_ssize_t n, Py_ssize_t rows, Py_ssize_t size):
        """A tape for each `size` rows, claimed; None if one is missing."""
        cdef Py_ssize_t first
        cdef list found = []
        cdef Tape tape
        if (rows + size - 1) // size > MOST_SHARES:
            return None
        for first in range(0, rows, size):
            count = min(size, rows - first)
            part = (count, *key[1:]) if n == 1 else tuple([(count, *shape[1:]) for shape in key])
            tape = _claimed(self.by_shape.get(part))
            if tape is None:
                _give_back(found)
                return None
            found.append(tape)
        return found


cdef Tape _claimed(list tapes):
    """One whose scratch nobody has, claimed; None if there is none."""
    if tapes is not None:
        for tape in tapes:
            if (<Tape> tape).scratch.claim():
                return tape
    return None


cdef _give_back(list tapes):
    for tape in tapes:
        (<Tape> tape).scratch.release()
