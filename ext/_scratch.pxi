# Scratch: the memory of one running prediction, included in _kernels.pyx.
#
# A block is cut from a slab and becomes a gap again when nothing refers to it: an array between two layers when its last
# reader is done, what a kernel works in when the kernel returns. So a prediction takes as much memory as lives at one
# time, however many layers it has. A Tape notes addresses, not references: a block is written anew before it is read, in
# every run as in the first one. So the tapes of many shapes lie in one Scratch, an arena, whose slabs stay where they
# are; one thread at a time claims it and plays.

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

_ndarray, _UINT8, _FLOAT32 = np.ndarray, np.dtype(np.uint8), np.dtype(np.float32)
# Whether blocks are filled with NaN when they are given back: for tests.
cdef bint _spoils = FBL_FENCED


def spoil_freed(bint on):
    """Fill each block with NaN when it is given back; returns whether it was so. For tests."""
    global _spoils
    before, _spoils = _spoils, on
    return before


# Bytes of the first slab of an arena.
cdef enum:
    SMALLEST_SLAB = 16384


cdef struct Gap:
    char* start
    Py_ssize_t size


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class _Block:
    """Bytes of a Scratch, which get back when the last array in them is gone."""

    cdef Scratch scratch
    cdef char* start
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, False, flags)

    def __dealloc__(self):
        if self.start != NULL:
            self.scratch.give_back(self.start, self.size)


@cython.final
@cython.auto_pickle(False)
cdef class Scratch:
    """Memory for the arrays and the working buffers of one prediction after another."""

    cdef list slabs
    cdef intptr_t claimed
    cdef Gap* gaps           # in the order of their addresses; `room` for as many as there can be
    cdef Py_ssize_t n_gaps, room, n_blocks
    cdef Py_ssize_t used, peak # bytes of the blocks; the most since the slabs were joined
    cdef readonly Py_ssize_t nbytes # of the slabs

    def __cinit__(self):
        self.slabs = []

    def __dealloc__(self):
        free(self.gaps)

    def take(self, shape, dtype=np.float32):
        """An uninitialized array of a shape; its memory is used again when no view of it is left."""
        dtype = np.dtype(dtype)
        return _ndarray(shape, dtype, self.block(elements(shape) * dtype.itemsize))

    cdef float* place(self, list held, tuple shape) except NULL:
        """Address of an uninitialized float32 array of a shape, valid as long as the list `held` is."""
        cdef _Block block = self.block(elements(shape) * sizeof(float))
        held.append(block)
        return <float*> block.start

    cdef _Block block(self, size):
        """A block of at least that many bytes, from the smallest gap that holds it; from a new slab if none does."""
        cdef Py_ssize_t wanted = max(<Py_ssize_t> size, 1), best
        cdef _Block block = _Block.__new__(_Block)
        cdef Tape tape = recording()
        if not FBL_FENCED:
            wanted = rounded_up(wanted, 64)
        block.scratch = self
        with cython.critical_section(self):  # without a GIL, another thread may give a block back meanwhile
            best = self.find(wanted)
            if best < 0:
                # An arena is made for one shape after the other: few slabs, which hold the blocks of others, too.
                self.add_slab(wanted if FBL_FENCED or not self.claimed else max(wanted, self.nbytes, SMALLEST_SLAB))
                best = self.find(wanted)
            self.make_room()
            block.start, block.size = self.gaps[best].start, wanted
            self.gaps[best].start += wanted
            self.gaps[best].size -= wanted
            if self.gaps[best].size == 0:
                self.remove(best)
            self.n_blocks += 1
            self.used += wanted
            self.peak = max(self.peak, self.used)
        if tape is not None:
            tape.forget(<size_t> block.start, wanted)
        return block

    cdef Py_ssize_t find(self, Py_ssize_t wanted) noexcept:
        """The smallest gap that holds so many bytes, -1 if none does. A fenced block is a whole slab."""
        cdef Py_ssize_t best = -1, k, size
        for k in range(self.n_gaps):
            size = self.gaps[k].size
            if (size == wanted if FBL_FENCED else size >= wanted) and (best < 0 or size < self.gaps[best].size):
                best = k
        return best

    cdef int add_slab(self, Py_ssize_t size) except -1:
        """One more slab, which is a gap. An error leaves all as it was."""
        slab = aligned((size,), _UINT8)
        self.make_room()
        self.slabs.append(slab)
        self.insert(<char*> floats(slab), size)
        self.nbytes += size
        return 0

    cdef int make_room(self) except -1:
        """Room for the gaps of one slab and one block more: before each block and behind each slab's last there is one."""
        cdef Py_ssize_t most = len(self.slabs) + self.n_blocks + 2
        cdef Gap* gaps
        if most > self.room:
            gaps = <Gap*> realloc(self.gaps, 2 * most * sizeof(Gap))
            if gaps == NULL:
                raise MemoryError
            self.gaps, self.room = gaps, 2 * most
        return 0

    cdef void give_back(self, char* start, Py_ssize_t size) noexcept:
        with cython.critical_section(self):
            self.n_blocks -= 1
            self.used -= size
            if _spoils:
                memset(start, 255, size)
            self.insert(start, size)

    cdef void insert(self, char* start, Py_ssize_t size) noexcept:
        """A gap, joined with those that it touches. Slabs never touch: behind each one some bytes are left."""
        cdef Py_ssize_t k = self.n_gaps
        cdef Gap* gap
        while k > 0 and self.gaps[k - 1].start > start:
            k -= 1
        gap = self.gaps + k
        if k < self.n_gaps and start + size == gap.start:
            gap.start, gap.size = start, size + gap.size
        else:
            memmove(gap + 1, gap, (self.n_gaps - k) * sizeof(Gap))
            self.n_gaps += 1
            gap.start, gap.size = start, size
        if k > 0 and self.gaps[k - 1].start + self.gaps[k - 1].size == start:
            self.gaps[k - 1].size += gap.size
            self.remove(k)

    cdef void remove(self, Py_ssize_t k) noexcept:
        self.n_gaps -= 1
        memmove(self.gaps + k, self.gaps + k + 1, (self.n_gaps - k) * sizeof(Gap))

    def claim(self):
        """Have it to oneself until `release`; False if another thread has."""
        return fbl_replace(&self.claimed, 0, 1)

    def release(self):
        fbl_swap(&self.claimed, 0)

    def is_empty(self):
        """Whether no array lies in it."""
        return not self.n_blocks

    def trim(self, nbytes):
        """Give slabs back, the last ones first, until it has as many bytes at most; if it is empty."""
        if self.n_blocks:
            return
        while self.slabs and self.nbytes > nbytes:
            self.nbytes -= self.slabs.pop().nbytes
        self.n_gaps = 0
        for slab in self.slabs:
            self.insert(<char*> floats(slab), slab.nbytes)

    def join_slabs(self):
        """Before another prediction: several slabs become one that holds as much as lived at one time."""
        cdef Py_ssize_t largest
        if len(self.slabs) < 2 or self.n_blocks:
            return
        largest = max([slab.nbytes for slab in self.slabs])
        # If the largest one was too small for its gaps alone, what all have together is enough.
        size = self.peak if self.peak > largest else self.nbytes
        self.slabs, self.n_gaps, self.nbytes, self.peak = [], 0, 0, 0
        if not FBL_FENCED:
            self.add_slab(size)

    def owns(self, array):
        """Whether an array lies in a slab."""
        return array.base is not None and any([np.may_share_memory(array, slab) for slab in self.slabs])

    cdef bint holds(self, size_t address) except -1:
        cdef size_t start
        for slab in self.slabs:
            start = <size_t> floats(slab)
            if start <= address < start + <size_t> slab.nbytes:
                return True
        return False

    cdef spoil(self):
        """Fill everything with NaN."""
        for slab in self.slabs:
            slab[...] = 255
