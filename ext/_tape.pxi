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
    Again run
    void* record


@cython.final
@cython.auto_pickle(False)
cdef class Tape:
    cdef Entry* entries
    cdef Py_ssize_t count, capacity
    cdef Scratch scratch
    cdef list known           # (start, stop) of the memory that later operations may read
    cdef list kept            # what operations read and write outside of the scratch, and what else must live
    cdef list written         # arrays outside of the scratch that operations write
    cdef list outputs, steps
    cdef readonly bint broken
    cdef readonly list inputs
    cdef tuple limits
    cdef Py_ssize_t most_threads

    def __cinit__(self, list xs not None, limits, Py_ssize_t most_threads=1, Scratch scratch=None):
        """xs: inputs as `is_plain` takes them; limits: for each, what its token ids are below, None for floats.

        What is recorded asks for most_threads threads at most, and works in the scratch, which is the tape's from then on.
        """
        self.most_threads = most_threads
        self.inputs, self.limits = [aligned(x.shape, x.dtype) for x in xs], tuple(limits)
        for copy, x in zip(self.inputs, xs, strict=True):
            copy[...] = x
        self.scratch = Scratch() if scratch is None else scratch
        self.known, self.kept, self.written, self.outputs, self.steps = [], [], [], [], []
        for copy in self.inputs:
            self.note(copy)

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.count):
            free(self.entries[k].record)
        free(self.entries)

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
        """Whether the tape gives these outputs, to the bit, out of buffers that hold nothing."""
        self.outputs = outputs
        if self.broken or not self.count or not all([self.knows(y) and y.flags.c_contiguous for y in outputs]):
            return False
        before = [y.tobytes() for y in outputs]
        self.scratch.spoil()
        for array in self.written:
            array.reshape(-1).view(np.uint8)[...] = 255
        self.play(1)
        return before == [y.tobytes() for y in outputs]

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
        if self.count == self.capacity:
            entries = <Entry*> malloc(2 * (self.capacity + 8) * sizeof(Entry))
            if entries == NULL:
                raise MemoryError
            if self.count:
                memcpy(entries, self.entries, self.count * sizeof(Entry))
            free(self.entries)
            self.entries, self.capacity = entries, 2 * (self.capacity + 8)
        record = malloc(size)
        if record == NULL:
            raise MemoryError
        self.entries[self.count].run, self.entries[self.count].record = run, record
        self.count += 1
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

    cdef play(self, Py_ssize_t n_threads):
        global fbl_most_threads
        cdef Py_ssize_t before = fbl_most_threads
        fbl_most_threads = n_threads
        try:
            self.play_all()
        finally:
            fbl_most_threads = before

    cdef play_all(self):
        cdef Py_ssize_t k = 0
        steps = iter(self.steps)
        while k < self.count:
            if self.entries[k].run == NULL:
                function, copies = next(steps)
                for copy, y in zip(copies, function()):
                    if copy is not None and copy.shape != y.shape:
                        raise RuntimeError(f"a step gave an array of shape {y.shape} where it gave {copy.shape} before")
                    if copy is not None:
                        copy[...] = y
                k += 1
            with nogil:
                while k < self.count and self.entries[k].run != NULL:
                    self.entries[k].run(self.entries[k].record)
                    k += 1

    cdef list run(self, xs, Py_ssize_t n_threads, list outs):
        """The outputs for inputs of the same shapes and dtypes; None if a token id is out of range.

        They are new arrays, or those of `outs`.
        """
        cdef Py_buffer view
        cdef Py_ssize_t size, k
        for k in range(len(self.inputs)):
            copy, limit = self.inputs[k], self.limits[k]
            PyObject_GetBuffer(xs[k], &view, PyBUF_SIMPLE)
            size = view.len
            memcpy(<void*> floats(copy), view.buf, size)
            PyBuffer_Release(&view)
            # The copy is looked at, not what another thread may write into meanwhile.
            if limit is not None and not are_below(<const int32_t*> floats(copy), size // 4, min(limit, INT32_MAX)):
                return None
        self.play(n_threads)
        found = []
        for k in range(len(self.outputs)):
            y = self.outputs[k]
            copy = np.empty(y.shape, y.dtype) if outs is None else outs[k]
            PyObject_GetBuffer(copy, &view, PyBUF_WRITABLE)
            memcpy(view.buf, <const void*> floats(y), view.len)
            PyBuffer_Release(&view)
            found.append(copy)
        return found

    cdef bint fills(self, list outs) except -1:
        """Whether arrays have the shapes and dtypes of the outputs, are contiguous and may be written."""
        if len(outs) != len(self.outputs):
            return False
        for y, out in zip(self.outputs, outs):
            if type(out) is not np.ndarray or out.shape != y.shape or out.dtype != y.dtype:
                return False
            if not (out.flags.c_contiguous and out.flags.writeable):
                return False
        return True


@cython.final
@cython.auto_pickle(False)
cdef class Tapes:
    """Tapes by the shapes of the inputs; while a thread plays one, it is out of the list.

    With one input the key is its shape, else the tuple of shapes.
    """

    cdef readonly dict by_shape
    cdef bytes formats
    cdef object available

    def __cinit__(self, limits, available):
        """limits: as for Tape. available(): how many threads there are for who names no number."""
        self.available = available
        self.by_shape, self.formats = {}, b"".join([b"f" if limit is None else b"i" for limit in limits])

    def run(self, x, n_threads=None, list outs=None):
        """The outputs for inputs whose shapes have a tape that is free; None, with nothing done, for all others.

        `outs`: arrays to write them into; None is the answer where they do not fit.
        """
        cdef Py_buffer view
        cdef bint good = True
        cdef Py_ssize_t k = 0, n = len(self.formats)
        cdef const char* formats = self.formats
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
        if not tapes:
            return None
        for k in range(n):
            try:
                PyObject_GetBuffer(xs[k], &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            except (ValueError, BufferError):
                return None
            good &= view.itemsize == 4 and view.format[0] == formats[k] and view.format[1] == 0
            PyBuffer_Release(&view)
        if not good:
            return None
        try:
            tape = tapes.pop()
        except IndexError:
            return None
        try:
            if outs is not None and not (<Tape> tape).fills(outs):
                return None
            if (<Tape> tape).most_threads == 1:
                n_threads = 1
            elif n_threads is None:
                n_threads = self.available()
            return (<Tape> tape).run(xs, n_threads, outs)
        except (ValueError, IndexError):
            return None  # an id or index that was computed is out of range: the usual way tells which
        finally:
            tapes.append(tape)


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
