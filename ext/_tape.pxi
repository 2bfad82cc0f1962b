# Tape: the kernels that one prediction called, run again for another input of the same shape without Python, included in
# _kernels.pyx.
#
# While a Tape records, each operation gives it a copy of its struct: sizes, packed weights, addresses of buffers. A layer
# without kernels is a Python step between them, see `step`. What an operation reads must be the input of the tape or what
# an earlier one wrote and no later one's block took the place of; anything else (a mask, say) breaks the tape, and the
# prediction goes on to run in Python. `verify` runs the tape once over buffers filled with NaN.

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport malloc

cdef enum:
    MOST_SHARES = 64

ctypedef int (*Again)(void* record) except -1 nogil


cdef struct Entry:
    Again run                 # NULL: a step in Python
    void* record


# An input or output of a tape.
cdef struct Place:
    char* at
    Py_ssize_t nbytes
    Py_ssize_t limit          # what token ids are below; -1 for floats


# What of a Tape runs without Python: inputs first, then outputs, lie at `places`.
cdef struct Reel:
    Entry* entries
    Py_ssize_t count, capacity, n_inputs, n_outputs
    Place* places
    void* tape


@cython.final
@cython.auto_pickle(False)
cdef class Tape:
    cdef Reel reel
    cdef Scratch scratch
    cdef list known           # (start, stop) of the memory that later operations may read
    cdef list kept            # what operations read and write outside of the scratch, and what else must live
    cdef list written         # arrays outside of the scratch that operations write
    cdef list outputs, steps
    cdef readonly bint broken
    cdef readonly list inputs
    cdef tuple limits
    cdef Py_ssize_t most_threads
    cdef bint is_short

    def __cinit__(
        self, list xs not None, limits, Py_ssize_t most_threads=1, Scratch scratch=None, bint is_short=False,
    ):
        """xs: inputs as `is_plain` takes them; limits: for each, what its token ids are below, None for floats.

        What is recorded asks for most_threads threads at most, and works in the scratch, which is the tape's from then on.
        is_short: it takes no longer than some times what it costs to wake a thread.
        """
        self.most_threads, self.is_short, self.reel.tape = most_threads, is_short, <void*> self
        self.scratch = Scratch() if scratch is None else scratch
        self.inputs, self.limits = [self.scratch.take(x.shape, x.dtype) for x in xs], tuple(limits)
        for copy, x in zip(self.inputs, xs, strict=True):
            copy[...] = x
        self.known, self.kept, self.written, self.outputs, self.steps = [], [], [], [], []
        for copy in self.inputs:
            self.note(copy)

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.reel.count):
            free(self.reel.entries[k].record)
        free(self.reel.entries)
        free(self.reel.places)

    def begin(self, Py_ssize_t n_threads=1):
        """Record what this thread calls from now on, on up to n_threads threads; False if it records already.

        What is recorded may use as many threads as it asks for, and `run` says how many of them it gets.
        """
        global fbl_recording, fbl_most_threads
        if fbl_recording != NULL:
            return False
        Py_INCREF(self)
        fbl_recording, fbl_most_threads = <void*> self, n_threads
        return True

    def end(self):
        global fbl_recording, fbl_most_threads
        if fbl_recording == <void*> self:
            fbl_recording, fbl_most_threads = NULL, 0
            Py_DECREF(self)

    def verify(self, list outputs not None):
        """Whether the tape gives these outputs, to the bit, out of buffers that hold nothing.

        From then on it holds no array of its scratch, in which other tapes may be recorded.
        """
        if self.broken or not self.reel.count or not all([self.knows(y) and y.flags.c_contiguous for y in outputs]):
            return False
        self.find_places(outputs)
        before, given = [y.tobytes() for y in outputs], [x.copy() for x in self.inputs]
        self.scratch.spoil()
        for copy, x in zip(self.inputs, given):
            copy[...] = x
        for array in self.written:
            array.reshape(-1).view(np.uint8)[...] = 255
        with nogil:
            _play(&self.reel, 1, False)
        self.inputs = self.known = self.written = None
        return before == [y.tobytes() for y in outputs]

    cdef find_places(self, list outputs):
        cdef Py_ssize_t k
        self.outputs = [(y.shape, y.dtype) for y in outputs]
        self.reel.n_inputs, self.reel.n_outputs = len(self.inputs), len(outputs)
        free(self.reel.places)
        self.reel.places = <Place*> malloc((self.reel.n_inputs + self.reel.n_outputs) * sizeof(Place))
        if self.reel.places == NULL:
            raise MemoryError
        for k, array in enumerate(self.inputs + outputs):
            self.reel.places[k] = Place(<char*> floats(array), array.nbytes, -1)
        for k, limit in enumerate(self.limits):
            if limit is not None:
                self.reel.places[k].limit = min(limit, INT32_MAX)

    cdef bint knows(self, array):
        """Whether an array lies in an input, in a constant or in what an operation of the tape has written."""
        if not array.flags.c_contiguous or not array.size:
            return False
        start = <size_t> floats(array)
        return any([first <= start and start + array.nbytes <= stop for first, stop in self.known])

    cdef note(self, array):
        """Later operations may read an array."""
        self.known.append((<size_t> floats(array), <size_t> floats(array) + array.nbytes))

    cdef forget(self, start, size):
        """What was written into a block that is given to another array is gone."""
        stop = start + size
        pieces = [piece for a, b in self.known for piece in ((a, min(b, start)), (max(a, stop), b))]
        self.known = [(first, last) for first, last in pieces if first < last]

    cdef keep(self, array):
        """Let an array live as long as the tape, if the scratch does not do so; returns whether it does."""
        if self.scratch.holds(<size_t> floats(array)):
            return True
        self.kept.append(array)
        return False

    cdef void* add(self, Again run, size_t size, tuple reads, tuple writes, keep) except NULL:
        """Room for the record of an operation; the tape is broken if it reads what is not known.

        keep: what else must live as long as the tape; no array that the scratch holds, which would never be free again.
        """
        cdef Entry* entries
        cdef void* record
        for array in reads:
            self.broken |= not self.knows(array)
        if self.reel.count == self.reel.capacity:
            entries = <Entry*> malloc(2 * (self.reel.capacity + 8) * sizeof(Entry))
            if entries == NULL:
                raise MemoryError
            if self.reel.count:
                memcpy(entries, self.reel.entries, self.reel.count * sizeof(Entry))
            free(self.reel.entries)
            self.reel.entries, self.reel.capacity = entries, 2 * (self.reel.capacity + 8)
        record = malloc(size)
        if record == NULL:
            raise MemoryError
        self.reel.entries[self.reel.count] = Entry(run, record)
        self.reel.count += 1
        for array in reads:
            self.keep(array)
        for array in writes:
            self.note(array)
            if not self.keep(array):
                self.written.append(array)
        self.kept.append(keep)
        return record

    def step(self, function, reads, results):
        """A step in Python: `function()` gives the arrays `results` again, of new numbers in the arrays `reads`.

        Without `reads` the results are constants.

        Returns the arrays that later operations read: those results that are views of what the tape knows, copies of the
        others.
        """
        results = [y if self.knows(y) else np.array(y, order="C") for y in results]
        copies = [None if self.knows(y) else y for y in results]
        if not reads:
            for y in results:
                self.note(y)
            self.kept.append(results)
            return results
        if any([y is not None for y in copies]):
            self.add(NULL, 1, tuple(reads), tuple([y for y in copies if y is not None]), None)
            self.steps.append((function, copies))
        return results

    cdef int take_step(self, Py_ssize_t number) except -1:
        function, copies = self.steps[number]
        for copy, y in zip(copies, function()):
            if copy is not None and copy.shape != y.shape:
                raise RuntimeError(f"a step gave an array of shape {y.shape} where it gave {copy.shape} before")
            if copy is not None:
                copy[...] = y
        return 0


cdef int _take_step(void* tape, Py_ssize_t number) except -1 with gil:
    return (<Tape> tape).take_step(number)


cdef int _play_all(const Reel* reel) except -1 nogil:
    cdef Py_ssize_t k, steps = 0
    for k in range(reel.count):
        if reel.entries[k].run == NULL:
            _take_step(reel.tape, steps)
            steps += 1
        else:
            reel.entries[k].run(reel.entries[k].record)
    return 0


# To go on after an error; -1 is the sign of one.
ctypedef int (*Unchecked)(const Reel* reel) noexcept nogil


cdef int _play(const Reel* reel, Py_ssize_t n_threads, bint lets_sleep) except -1 nogil:
    """Play on so many threads at most, of which those that sleep are not woken where `lets_sleep`."""
    global fbl_most_threads, fbl_lets_sleep
    cdef Py_ssize_t most = fbl_most_threads
    cdef bint lets = fbl_lets_sleep
    cdef int result
    fbl_most_threads, fbl_lets_sleep = n_threads, lets_sleep
    result = (<Unchecked> _play_all)(reel)
    fbl_most_threads, fbl_lets_sleep = most, lets
    return result


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


cdef bint _is_to_fill(out, shape, dtype) except -1:
    """Whether an array has this shape and dtype, is contiguous and may be written."""
    if type(out) is not np.ndarray or out.shape != shape or out.dtype != dtype:
        return False
    return out.flags.c_contiguous and out.flags.writeable


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
        cdef Tape tape = None
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
            if share > 1 and (tape is None or not is_short or free_workers(share - 1, lets_sleep) == share - 1):
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


def recorder():
    """The tape that records what this thread calls, or None."""
    return recording()


cdef inline Tape recording():
    return <Tape> fbl_recording if fbl_recording != NULL else None


# ---- moves ----------------------------------------------------------------------------------------------------------


cdef struct Columns:
    const float* x
    float* out
    Py_ssize_t rows, columns, stride


cdef int _copy_columns(void* record) except -1 nogil:
    cdef const Columns* c = <const Columns*> record
    cdef Py_ssize_t r
    for r in range(c.rows):
        memcpy(c.out + r * c.stride, c.x + r * c.columns, c.columns * sizeof(float))
    return 0


def concatenate(list parts not None, out):
    """Join arrays (..., N) along the last axis into out (..., sum of N)."""
    cdef Columns c
    cdef Py_ssize_t offset = 0
    cdef float* at = floats(checked("out", out, (None,) * max(1, getattr(out, "ndim", 1)), True))
    cdef Tape tape = recording()
    c.stride = out.shape[out.ndim - 1]
    if sum([part.shape[part.ndim - 1] for part in parts]) != c.stride:
        raise ValueError(f"out has {c.stride} columns, the parts {[part.shape for part in parts]}")
    for number, part in enumerate(parts):
        c.x = floats(checked(f"part {number}", part, out.shape[:out.ndim - 1] + (None,)))
        apart("out", out, {f"part {number}": part})
        c.columns = part.shape[part.ndim - 1]
        c.rows, c.out = part.size // c.columns if part.size else 0, at + offset
        offset += c.columns
        _copy_columns(&c)
        if tape is not None:
            (<Columns*> tape.add(_copy_columns, sizeof(Columns), (part,), (out,), None))[0] = c
    return out
