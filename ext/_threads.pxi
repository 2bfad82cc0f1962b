# Parts of a computation on several threads, included in _kernels.pyx: one pool for rows, directions and blocks.
#
# A part belongs to whoever takes it first: the caller, or a worker that he has called. A caller takes parts until none is
# left, takes back the calls that no worker has answered, and waits only for parts that a worker has begun. So a worker
# that never comes costs nothing but its help. One that loses its core in the middle of a part costs a slice of the
# system's time, some ms. So a worker that is late three times in a row, or more than once in some 100 turns, rests: it is
# not called for 1 ms up to 256 ms, twice as long each time. Callers beside each other call no more workers than there are
# cores left. A short prediction wakes no worker, unless it follows another one at once: _tapes.pxi.
#
# A worker is a Python thread that never leaves `serve` and needs no GIL there. After a part it looks for the next call
# for a moment, since the next layer or prediction often follows at once, and then sleeps. Workers are started when they
# are needed, and anew in the child of a fork. Who wakes one keeps it off his own core until
# it is idle again.

import threading

from libc.stdlib cimport calloc

cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock
    enum:
        WAIT_LOCK
        PY_LOCK_ACQUIRED

    PyThread_type_lock PyThread_allocate_lock() noexcept
    int PyThread_acquire_lock(PyThread_type_lock, int) noexcept nogil
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int intr_flag) noexcept nogil
    void PyThread_release_lock(PyThread_type_lock) noexcept nogil

cdef extern from "fbl_threads.h":
    void* fbl_working_on
    void* fbl_recording
    intptr_t fbl_most_threads
    int fbl_lets_sleep
    uint8_t fbl_get_flag(const uint8_t* flag) noexcept nogil
    void fbl_set_flag(uint8_t* flag, uint8_t value) noexcept nogil
    intptr_t fbl_add(intptr_t* number, intptr_t by) noexcept nogil
    intptr_t fbl_load(const intptr_t* number) noexcept nogil
    intptr_t fbl_swap(intptr_t* number, intptr_t value) noexcept nogil
    bint fbl_replace(intptr_t* number, intptr_t expected, intptr_t value) noexcept nogil
    int64_t fbl_now() noexcept nogil
    int fbl_thread_id() noexcept nogil
    void fbl_keep_off_this_core(int thread) noexcept nogil
    void fbl_run_anywhere() noexcept nogil
    void fbl_pause() noexcept nogil

cdef enum:
    MOST_WORKERS = 256

# States of a worker, IDLE at first. CALLED by whoever has it to himself; AWAITED while he sleeps until it ends.
cdef enum:
    IDLE, ASLEEP, CALLED, WORKING, AWAITED

# Looks at a state before a thread goes to sleep: some 50 microseconds for the end of a part, 200 for the next call.
cdef Py_ssize_t LOOKS = 2000
cdef Py_ssize_t IDLE_LOOKS = 8000
# Nanoseconds between two looks for Ctrl-C of a thread that takes parts, microseconds of one that sleeps.
cdef int64_t SIGNAL_TIME = 10_000_000
cdef long long SIGNAL_WAIT = 20_000
# Nanoseconds that a worker looks for the next call, at least.
cdef int64_t IDLE_TIME = 150_000
# Nanoseconds that a worker may take to wake up; of a rest, at first and at most.
cdef int64_t WAKE_TIME = 200_000
cdef int64_t FIRST_REST = 1_000_000
cdef int64_t LONGEST_REST = 256_000_000
# How many nanoseconds of good turns outweigh a late one; beyond how many of them a worker rests. Of a long turn WAKE_TIME
# counts. When none is left to outweigh, its rests begin anew.
cdef int64_t LATE_WEIGHS = 30_000_000
cdef int64_t MOST_WEIGHT = 60_000_000

# One part on one thread, the caller's 0. `stop` is NULL in the caller's, else it points to what `is_stopped` looks at.
ctypedef int (*Part)(void* argument, Py_ssize_t part, Py_ssize_t thread, const uint8_t* stop) except -1 nogil


# What threads take parts of.
cdef struct Parts:
    Part function
    void* argument
    Py_ssize_t count
    intptr_t taken            # how many
    uint8_t stop              # no part is to be begun, those begun may end early
    int64_t lost              # nanoseconds that its caller waited for a worker inside of his own parts
    Parts* above              # what its caller works on


cdef struct Worker:
    intptr_t state
    intptr_t caller           # 1: somebody has this worker to himself
    PyThread_type_lock called, ended
    Parts* parts
    Py_ssize_t thread, done   # its number among the threads of `parts`, and how many of them it did
    bint awaited              # `ended` is to be acquired
    int native_id             # 0 until it runs
    int64_t rest, rests_until
    int64_t lateness          # nanoseconds of good turns that would outweigh its late ones


cdef struct Pool:
    intptr_t callers          # threads that compute parts of their own, not those of others
    intptr_t ended            # when a prediction ended last that was worth several threads
    intptr_t count
    Worker* workers[MOST_WORKERS]


cdef Pool* _pool = NULL
_starting = threading.Lock()
cdef Py_ssize_t _cores = os.cpu_count() or 1


class Stopped(BaseException):
    """Ends a part whose result is not needed, since another one failed."""


def forget_workers():
    """Start anew: the child of a fork has no workers, and no thread that would release a lock."""
    global _pool, _starting
    cdef Pool* fresh = <Pool*> calloc(1, sizeof(Pool))
    if fresh == NULL:
        raise MemoryError
    _pool, _starting = fresh, threading.Lock()


forget_workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_workers)


def workers():
    """For each worker, how many milliseconds it rests if it is of no help once more."""
    return [_pool.workers[k].rest / 1e6 for k in range(fbl_load(&_pool.count))]


cdef int is_stopped(const uint8_t* stop) except -1 nogil:
    """Whether a part may end early; the thread that wants the answer learns it by an exception."""
    if stop != NULL:
        return fbl_get_flag(stop)
    look_for_signals()
    return 0


cdef int look_for_signals() except -1 with gil:
    """Leave a long loop by an exception: in the main thread after Ctrl-C, in others when their work is in vain."""
    PyErr_CheckSignals()
    return look_for_stop(<Parts*> fbl_working_on)


cdef int look_for_stop(const Parts* parts) except -1 with gil:
    """Raise Stopped if these parts, or what their caller works on, are not needed."""
    while parts != NULL:
        if fbl_get_flag(&parts.stop):
            raise Stopped
        parts = parts.above
    return 0


cdef void look_while(const intptr_t* state, intptr_t value, Py_ssize_t looks) noexcept nogil:
    """Look at a state until it is another one, or that often."""
    cdef Py_ssize_t k = 0
    while k < looks and fbl_load(state) == value:
        fbl_pause()
        k += 1


cdef Py_ssize_t take_parts(Parts* parts, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """Take and compute parts until none is left; returns how many."""
    cdef Py_ssize_t part, done = 0
    cdef int64_t looked = fbl_now(), now
    while not fbl_get_flag(&parts.stop):
        part = fbl_add(&parts.taken, 1)
        if part >= parts.count:
            break
        parts.function(parts.argument, part, thread, stop)
        done += 1
        if stop == NULL and done < parts.count:
            now = fbl_now()
            if now - looked >= SIGNAL_TIME:
                look_for_signals()
                looked = now
    return done


cdef int serve(Worker* worker) except -1 nogil:
    """What a worker does, for ever."""
    global fbl_working_on
    worker.native_id = fbl_thread_id()
    while True:
        if fbl_replace(&worker.state, CALLED, WORKING):
            fbl_working_on = worker.parts
            worker.done = take_parts(worker.parts, worker.thread, &worker.parts.stop)
            fbl_working_on = NULL
            if fbl_swap(&worker.state, IDLE) == AWAITED:
                PyThread_release_lock(worker.ended)
            look_while(&worker.state, IDLE, IDLE_LOOKS)
            if fbl_load(&worker.state) == IDLE:
                fbl_run_anywhere()
        elif fbl_replace(&worker.state, IDLE, ASLEEP):
            PyThread_acquire_lock(worker.called, WAIT_LOCK)
            # He who called has perhaps done all meanwhile, and calls again.
            look_while(&worker.state, IDLE, IDLE_LOOKS)
    return 0


def _serve(size_t worker):
    """The function of a worker's thread. A signal that it received would not wake up the main thread, which may wait."""
    import signal  # at first use, since many processes have one thread

    if hasattr(signal, "pthread_sigmask"):
        faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    with nogil:
        serve(<Worker*> worker)


cdef int start_workers(Pool* pool, Py_ssize_t count, Py_ssize_t most) except -1 with gil:
    """Start `count` workers, so that the pool has `most` at most; fewer if no thread can be started."""
    cdef Worker* worker
    with _starting:
        while count > 0 and pool.count < most:
            worker = <Worker*> calloc(1, sizeof(Worker))
            if worker == NULL:
                return 0
            worker.called, worker.ended = PyThread_allocate_lock(), PyThread_allocate_lock()
            if worker.called == NULL or worker.ended == NULL:
                return 0
            PyThread_acquire_lock(worker.called, WAIT_LOCK)
            PyThread_acquire_lock(worker.ended, WAIT_LOCK)
            try:
                threading.Thread(target=_serve, args=(<size_t> worker,), name="fastbilstm", daemon=True).start()
            except RuntimeError:
                return 0
            pool.workers[pool.count] = worker
            fbl_add(&pool.count, 1)
            count -= 1
    return 0


cdef bint follows_soon() noexcept nogil:
    """Whether the last prediction ended so short a time ago that a worker that it called still looks for the next one."""
    return <intptr_t> fbl_now() - fbl_load(&_pool.ended) < IDLE_TIME


cdef void note_end() noexcept nogil:
    fbl_swap(&_pool.ended, <intptr_t> fbl_now())


cdef Py_ssize_t free_workers(Py_ssize_t wanted, bint lets_sleep) noexcept nogil:
    """How many workers would come, of those wanted; without those that sleep where they are to be let sleep."""
    cdef Py_ssize_t k, count = fbl_load(&_pool.count), found = 0
    cdef int64_t now = fbl_now()
    cdef Worker* worker
    wanted = min(wanted, _cores - 1 - fbl_load(&_pool.callers))
    for k in range(count):
        worker = _pool.workers[k]
        if not fbl_load(&worker.caller) and worker.rests_until <= now:
            found += not lets_sleep or fbl_load(&worker.state) != ASLEEP
    return min(wanted, found if lets_sleep else found + max(0, _cores - 1 - count))


cdef int choose_workers(Worker** chosen, Py_ssize_t wanted, Py_ssize_t* found) except -1 nogil:
    """Have up to `wanted` workers to oneself: `found` of them. Starts some if too few are there, whatever these do."""
    cdef Pool* pool = _pool
    cdef Py_ssize_t resting = 0, k = 0, most = min(max(_cores - 1, wanted), <Py_ssize_t> MOST_WORKERS)
    cdef int64_t now = fbl_now()
    cdef Worker* worker
    while found[0] < wanted:
        if k == fbl_load(&pool.count):
            if found[0] + resting >= wanted or k >= most or fbl_lets_sleep:
                break
            start_workers(pool, wanted - found[0] - resting, most)
            if k == fbl_load(&pool.count):
                break
        worker = pool.workers[k]
        k += 1
        if not fbl_replace(&worker.caller, 0, 1):
            continue
        if worker.rests_until > now or (fbl_lets_sleep and fbl_load(&worker.state) == ASLEEP):
            resting += 1
            fbl_swap(&worker.caller, 0)
            continue
        chosen[found[0]] = worker
        found[0] += 1
    return 0


cdef void call_worker(Worker* worker, Parts* parts, Py_ssize_t thread) noexcept nogil:
    worker.parts, worker.thread, worker.done = parts, thread, 0
    if fbl_swap(&worker.state, CALLED) == ASLEEP:
        fbl_keep_off_this_core(worker.native_id)
        PyThread_release_lock(worker.called)


cdef int finish_worker(Worker* worker, bint signals) except -1 nogil:
    """Take the call back, or wait for the end of what the worker has begun; perhaps Ctrl-C raises before it."""
    if fbl_replace(&worker.state, CALLED, IDLE):
        return 0
    look_while(&worker.state, WORKING, LOOKS)
    if worker.awaited or fbl_replace(&worker.state, WORKING, AWAITED):
        worker.awaited = True
        while PyThread_acquire_lock_timed(worker.ended, SIGNAL_WAIT, 0) != PY_LOCK_ACQUIRED:
            if signals:
                look_for_signals()
        worker.awaited = False
    return 0


cdef inline int64_t longer_rest(int64_t rest) noexcept nogil:
    """How long what was of no help once more is not tried again."""
    return min(max(2 * rest, FIRST_REST), LONGEST_REST)


cdef void judge_worker(Worker* worker, Py_ssize_t own, int64_t took, int64_t waited) noexcept nogil:
    """Let a worker rest that was of no help again and again, or often.

    It did not come, or all took a quarter longer than the caller alone would.
    The caller did `own` parts in `took` nanoseconds and then waited.
    """
    cdef bint late
    if worker.done == 0:
        late = took >= WAKE_TIME
    else:
        late = waited >= WAKE_TIME and 4 * (took + waited) * own > 5 * took * (own + worker.done)
    if late:
        worker.lateness += LATE_WEIGHS
        if worker.rest or worker.lateness > MOST_WEIGHT:
            worker.lateness = MOST_WEIGHT
            worker.rest = longer_rest(worker.rest)
            worker.rests_until = fbl_now() + worker.rest
    elif worker.done and worker.lateness:
        worker.lateness = max(0, worker.lateness - min(took + waited, WAKE_TIME))
        if not worker.lateness:
            worker.rest = 0


cdef int run_parts(Part function, void* argument, Py_ssize_t count, Py_ssize_t n_threads) except -1 nogil:
    """Compute each of `count` parts, in this thread and up to n_threads - 1 workers that are free.

    An error (Ctrl-C, for one) is raised when all threads have ended, which it makes them do early.
    """
    global fbl_working_on
    cdef Parts parts
    cdef Worker* chosen[MOST_WORKERS]
    cdef Py_ssize_t wanted = max(0, min(min(count, n_threads) - 1, <Py_ssize_t> MOST_WORKERS)), found = 0, own, k
    cdef int64_t began, took
    cdef bint done = False
    cdef Pool* pool = _pool
    if fbl_most_threads:
        wanted = min(wanted, fbl_most_threads - 1)
    parts.function, parts.argument, parts.count, parts.taken, parts.stop = function, argument, count, 0, 0
    parts.lost = 0
    parts.above = <Parts*> fbl_working_on
    fbl_working_on = &parts
    if parts.above == NULL:
        k = fbl_add(&pool.callers, 1)
        if k > 0:
            wanted = min(wanted, _cores - 1 - k)
    try:
        if wanted > 0:
            choose_workers(chosen, wanted, &found)
            for k in range(found):
                call_worker(chosen[k], &parts, k + 1)
        began = fbl_now()
        own = take_parts(&parts, 0, NULL)
        took = fbl_now() - began - parts.lost
        for k in range(found):
            finish_worker(chosen[k], True)
            judge_worker(chosen[k], own, took, fbl_now() - began - took)
        done = True
    finally:
        if not done:
            fbl_set_flag(&parts.stop, 1)
        fbl_working_on = parts.above
        if parts.above == NULL:
            fbl_add(&pool.callers, -1)
        for k in range(found):
            if not done:
                finish_worker(chosen[k], False)
            fbl_swap(&chosen[k].caller, 0)
    if fbl_get_flag(&parts.stop):
        look_for_stop(&parts)
    return 0


cdef int _call(void* argument, Py_ssize_t part, Py_ssize_t thread, const uint8_t* stop) except -1 with gil:
    function, errors = <tuple> argument
    try:
        function(part)
    except BaseException as error:
        if stop == NULL:
            raise
        if not isinstance(error, Stopped):
            errors.append(error)
        fbl_set_flag(<uint8_t*> stop, 1)
    return 0


def run_together(function, Py_ssize_t count, Py_ssize_t n_threads):
    """Call function(k) for each k in range(count), in this thread and up to n_threads - 1 workers; wait for all.

    If one raises (or on Ctrl-C), no other call begins, those that run end early in long kernels, and the error is raised
    when all have ended: nothing runs on afterwards.
    """
    cdef list errors = []
    cdef tuple argument = (function, errors)
    try:
        with nogil:
            run_parts(_call, <void*> argument, count, n_threads)
    except Stopped:
        if not errors:
            raise
    if errors:
        raise errors[0]
