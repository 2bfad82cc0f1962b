# Parts of a computation beside each other without the GIL, included in _kernels.pyx.
#
# A helper is a Python thread that never leaves `serve` and needs no GIL there. After a part it looks for the next one for
# a moment, as the next layer or prediction often follows at once, and then goes to sleep: waking it up costs more than
# most layers of one row. `engine.threads` starts helpers; whoever takes one from the list of free ones has it to himself.


cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock
    enum:
        WAIT_LOCK
        PY_LOCK_ACQUIRED

    PyThread_type_lock PyThread_allocate_lock() noexcept
    void PyThread_free_lock(PyThread_type_lock) noexcept
    int PyThread_acquire_lock(PyThread_type_lock, int) noexcept nogil
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int intr_flag) noexcept nogil
    void PyThread_release_lock(PyThread_type_lock) noexcept nogil

# Looks at a flag before a thread goes to sleep: some 50 microseconds for the end of a part, 200 for the next one.
cdef Py_ssize_t LOOKS = 2000
LOOKS_BEFORE_SLEEP = LOOKS
cdef Py_ssize_t IDLE_LOOKS = 8000
# Microseconds between two looks for Ctrl-C of a thread that waits.
cdef long long SIGNAL_WAIT = 20000

# One part; `stop` is NULL in the thread that wants the answer, else it points to what `is_stopped` looks at.
ctypedef int (*Part)(void* argument, Py_ssize_t part, const uint8_t* stop) except -1 nogil


cdef bint look_for(const uint8_t* flag, Py_ssize_t looks) noexcept nogil:
    """Look at a flag until it is not 0 or that often."""
    cdef Py_ssize_t k = 0
    while k < looks and fbl_get_flag(flag) == 0:
        FBL_PAUSE()
        k += 1
    return fbl_get_flag(flag) != 0


cdef int is_stopped(const uint8_t* stop) except -1 nogil:
    """Whether a part may end early; the thread that wants the answer learns it by an exception."""
    if stop != NULL:
        return fbl_get_flag(stop)
    look_for_signals()
    return 0


@cython.final
@cython.auto_pickle(False)
cdef class Helper:
    """A thread for parts of others' work; `native_id` and the `core` that it is kept off are for `threads`."""

    cdef PyThread_type_lock posted, done
    # Set before the lock is released, for who looks before it waits for the lock.
    cdef uint8_t is_posted, is_done
    cdef uint8_t stop # what the parts under way look at
    cdef Part function
    cdef void* argument
    cdef Py_ssize_t first, parts, stride
    cdef public int native_id, core

    def __cinit__(self):
        self.core = -1
        self.posted, self.done = PyThread_allocate_lock(), PyThread_allocate_lock()
        if self.posted == NULL or self.done == NULL:
            raise MemoryError
        PyThread_acquire_lock(self.posted, WAIT_LOCK)
        PyThread_acquire_lock(self.done, WAIT_LOCK)

    def __dealloc__(self):
        for lock in (<size_t> self.posted, <size_t> self.done):
            if lock:
                PyThread_free_lock(<PyThread_type_lock> <size_t> lock)

    def serve(self):
        """What the thread does, for ever."""
        cdef Py_ssize_t part
        with nogil:
            while True:
                look_for(&self.is_posted, IDLE_LOOKS)
                PyThread_acquire_lock(self.posted, WAIT_LOCK)
                fbl_set_flag(&self.is_posted, 0)
                part = self.first
                while part < self.parts and not fbl_get_flag(&self.stop):
                    self.function(self.argument, part, &self.stop)
                    part += self.stride
                fbl_set_flag(&self.is_done, 1)
                PyThread_release_lock(self.done)

    cdef void post(self, Part function, void* argument, Py_ssize_t first, Py_ssize_t parts, Py_ssize_t stride) noexcept:
        self.function, self.argument, self.first, self.parts, self.stride = function, argument, first, parts, stride
        fbl_set_flag(&self.stop, 0)
        fbl_set_flag(&self.is_done, 0)
        fbl_set_flag(&self.is_posted, 1)
        PyThread_release_lock(self.posted)

    cdef int finish(self) except -1 nogil:
        """Wait for the end of what was posted; Ctrl-C raises before it."""
        look_for(&self.is_done, LOOKS)
        while PyThread_acquire_lock_timed(self.done, SIGNAL_WAIT, 0) != PY_LOCK_ACQUIRED:
            look_for_signals()
        return 0


cdef run_parts(Part function, void* argument, Py_ssize_t parts, Py_ssize_t n_threads):
    """Call `function` for each part, in this thread and up to n_threads - 1 helpers that are free; wait for all.

    An error (Ctrl-C, for one) is raised when all have ended, which it makes them do early.
    """
    cdef list helpers = [], free = None
    cdef Helper helper
    cdef Py_ssize_t part = 0, stride = 1, finished = 0
    n_threads = min(parts, n_threads)
    if n_threads > 1 and _free_helpers is not None:
        free = _free_helpers(n_threads - 1)
        while free and stride < n_threads:
            helpers.append(free.pop())
            stride += 1
    try:
        for helper in helpers:
            part += 1
            helper.post(function, argument, part, parts, stride)
        part = 0
        with nogil:
            while part < parts:
                function(argument, part, NULL)
                part += stride
        for helper in helpers:
            with nogil:
                helper.finish()
            finished += 1
    except BaseException:
        for helper in helpers[finished:]:
            fbl_set_flag(&helper.stop, 1)
        for helper in helpers[finished:]:
            with nogil:
                PyThread_acquire_lock(helper.done, WAIT_LOCK)
        raise
    finally:
        if helpers:
            free.extend(helpers)
