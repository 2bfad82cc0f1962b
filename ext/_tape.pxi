# Tape: the kernels that one prediction called, run again for another input of the same shape without Python, included in
# _kernels.pyx.
#
# While a Tape records, each operation gives it a copy of its struct: sizes, packed weights, addresses of buffers. A layer
# without kernels is a Python step between them, see `step`. What an operation reads must be the input of the tape or what
# an earlier one wrote and no later one's block took the place of; anything else (a mask, say) breaks the tape, and the
# prediction goes on to run in Python. `verify` runs the tape once over buffers filled with NaN.

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport malloc

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
    # Multiplications that threads share where they play the tape together, and how many parts these have, at least.
    cdef readonly Py_ssize_t shared, parts

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
