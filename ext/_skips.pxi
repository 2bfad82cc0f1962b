# Timesteps that need no computing, included in _kernels.pyx. A row's bits depend on its input alone, whatever runs beside it,
# so that what is skipped here is known to the bit:
# - Beginnings. From zero states on, the states after k equal inputs depend on k alone: padding in front of a text. They
#   are computed once and kept, and a row begins where its first run of equal inputs ends.
# - Rests. While inputs are equal, states that are what they were CYCLE timesteps ago will be so again: padding behind a
#   text, a sensor that stands still.

cdef enum:
    # A beginning and a run of equal inputs are at least so long. States are compared over a cycle of 1, 2 or 4 timesteps,
    # once in LOOK_EVERY.
    SHORTEST_BEGINNING = 8
    SHORTEST_RUN = 32
    CYCLE = 4
    LOOK_EVERY = 32

cdef extern from "Python.h":
    Py_ssize_t FOREVER "PY_SSIZE_T_MAX"

cdef bint _beginnings = True, _rests = True
cdef intptr_t _skipped = 0


def skip_steps(bint beginnings=True, bint rests=True):
    """Which timesteps are skipped from now on, for tests and benchmarks: the outputs are the same.

    Returns how many timesteps of rows have been skipped so far.
    """
    global _beginnings, _rests
    _beginnings, _rests = beginnings, rests
    return fbl_load(&_skipped)


cdef inline Py_ssize_t _input_of(const Job* job, const Cursor* at, Py_ssize_t number) noexcept nogil:
    """The row of the batch's inputs, (B T, ...), that a row reads as its `number`th one."""
    return at.row if job.constant else at.row * job.rows.timesteps + _time_of(job, at, number)


cdef inline bint _are_equal(const Job* job, const Cursor* at, Py_ssize_t first, Py_ssize_t second) noexcept nogil:
    """Whether two inputs of a row have the same bits."""
    cdef Py_ssize_t a = _input_of(job, at, first), b = _input_of(job, at, second), n = job.features
    if job.ids != NULL:
        return job.ids[a] == job.ids[b]
    return memcmp(job.x + a * n, job.x + b * n, n * sizeof(float)) == 0


cdef Py_ssize_t _run_end(const Job* job, const Cursor* at, Py_ssize_t number) noexcept nogil:
    """Where the inputs end that are equal to the `number`th one."""
    cdef Py_ssize_t end = number + 1
    while end < at.count and _are_equal(job, at, number, end):
        end += 1
    return end


cdef void _find_run(const Job* job, Cursor* at, Py_ssize_t number) noexcept nogil:
    """Look for the next run from the `number`th input on. It holds two of every 16th input."""
    cdef Py_ssize_t step = SHORTEST_RUN // 2, k = number
    while k + step < at.count:
        if _are_equal(job, at, k, k + step):
            at.run_from, at.run_to = k, _run_end(job, at, k)
            while at.run_from > number and _are_equal(job, at, at.run_from - 1, k):
                at.run_from -= 1
            if at.run_to - at.run_from >= SHORTEST_RUN:
                return
        k += step
    at.run_from = at.run_to = at.count


# ---- beginnings -----------------------------------------------------------------------------------------------------


cdef bint _begins_so(const Job* job, const Cursor* at) noexcept nogil:
    """Whether the first input of a row is the one whose states are kept; the first row that asks chooses it."""
    cdef Beginning* kept = job.beginning
    cdef Py_ssize_t first = _input_of(job, at, 0), n = job.features
    if not fbl_load(&kept.chosen):
        if fbl_swap(&kept.busy, 1):
            return False
        if not fbl_load(&kept.chosen):
            if job.ids != NULL:
                kept.id = job.ids[first]
            else:
                memcpy(kept.frame, job.x + first * n, n * sizeof(float))
            fbl_swap(&kept.chosen, 1)
        fbl_swap(&kept.busy, 0)
    if job.ids != NULL:
        return job.ids[first] == kept.id
    return memcmp(job.x + first * n, kept.frame, n * sizeof(float)) == 0


cdef Py_ssize_t _keep_states(const Job* job, Py_ssize_t wanted) noexcept nogil:
    """Compute the states after up to `wanted` timesteps, unless another thread is at it; returns how many there are.

    If the last ones have come to rest, all further ones are there, too.
    """
    cdef Beginning* kept = job.beginning
    cdef Py_ssize_t rests = fbl_load(&kept.rests), count = fbl_load(&kept.count), padded = job.step.units_padded, k
    cdef size_t size = 2 * padded * sizeof(float)
    cdef Py_ssize_t last = min(wanted, kept.capacity), row = kept.id
    cdef Job one
    if rests or count >= last:
        return wanted if rests else count
    if fbl_swap(&kept.busy, 1):
        return count
    count = fbl_load(&kept.count)
    one = job[0]
    one.team = NULL
    one.step.rows, one.step.out = 1, NULL
    one.step.proj, one.step.proj_index = kept.work + padded, NULL
    one.step.z = kept.work + padded + job.step.width
    if job.step.reset != NULL:
        one.step.reset = kept.work + padded + 2 * job.step.width
    if job.projected:
        one.step.proj, one.step.proj_index = job.x, &row
    elif job.ids != NULL:
        _project(job, 1, job.x, &row, kept.work + padded)
    else:
        _project(job, 1, kept.frame, NULL, kept.work + padded)
    for k in range(count, last):
        one.step.h_tm1 = kept.states + 2 * padded * (k - 1) if k else kept.work
        one.step.h = kept.states + 2 * padded * k
        one.step.c = one.step.h + padded
        memcpy(one.step.c, one.step.h_tm1 + padded if k else kept.work, padded * sizeof(float))
        one.step.backwards = k & 1
        _compute(&one)
        fbl_swap(&kept.count, k + 1)
        if k and memcmp(one.step.h, one.step.h_tm1, size) == 0:
            fbl_swap(&kept.rests, 1)
            break
    fbl_swap(&kept.busy, 0)
    return wanted if fbl_load(&kept.rests) else fbl_load(&kept.count)


cdef void _skip_beginnings(Job* job) noexcept nogil:
    """Let each row begin where its first run ends, if the states there are known."""
    cdef Beginning* kept = job.beginning
    cdef Py_ssize_t batch = job.rows.batch, padded = job.step.units_padded, wanted = 0, known, r, k
    cdef Cursor* at
    cdef const float* states
    if kept == NULL or not _beginnings or not job.fresh or not job.skips:
        return
    for r in range(batch):
        at = job.cursors + r
        if at.count >= SHORTEST_BEGINNING and _are_equal(job, at, 0, SHORTEST_BEGINNING - 1):
            k = _run_end(job, at, 0)
            if k >= SHORTEST_BEGINNING and _begins_so(job, at):
                at.ahead = k
                wanted = max(wanted, k)
    if not wanted:
        return
    known = _keep_states(job, wanted)
    for r in range(batch):
        at = job.cursors + r
        at.ahead = min(at.ahead, known)
        at.end = at.count - at.ahead
    _sort(job, batch)
    known = fbl_load(&kept.count)
    for r in range(batch):
        at = job.cursors + r
        fbl_add(&_skipped, at.ahead)
        if at.ahead:
            states = kept.states + 2 * padded * (min(at.ahead, known) - 1)
            memcpy(job.states + r * padded, states, padded * sizeof(float))
            memcpy(job.states + (2 * batch + r) * padded, states + padded, padded * sizeof(float))
            if job.step.out != NULL:
                for k in range(at.ahead):
                    memcpy(
                        _output_of(job, at, k), kept.states + 2 * padded * (min(k + 1, known) - 1),
                        job.step.units * sizeof(float),
                    )


cdef inline float* _output_of(const Job* job, const Cursor* at, Py_ssize_t number) noexcept nogil:
    """Where a row writes the output of its `number`th timestep."""
    cdef Py_ssize_t t = _time_of(job, at, number)
    t = job.rows.timesteps - 1 - t if job.flip else t
    return job.step.out + (at.row * job.rows.timesteps + t) * job.step.out_stride


# ---- rests ----------------------------------------------------------------------------------------------------------


cdef Py_ssize_t _look(Job* job, Py_ssize_t s, Py_ssize_t active) noexcept nogil:
    """Before step s: the step at which `_loop` looks for rows at rest again. Keeps the states of rows that may come to it."""
    cdef Py_ssize_t padded = job.step.units_padded, size = job.rows.batch * padded, until = FOREVER, r, number
    cdef bint may_rest = False, rested = job.watching
    cdef Cursor* at
    job.watching = False
    if not _rests or not job.skips or (s > 0 and not job.repeats):
        return FOREVER
    for r in range(active):
        at = job.cursors + r
        number = s + at.ahead
        at.watched = False
        if s == 0 or number + 2 * CYCLE > at.run_to:
            _find_run(job, at, number)
        if at.run_from >= at.count:
            continue
        if at.run_from <= number and number + 2 * CYCLE <= at.run_to:
            at.watched = may_rest = True
            if not rested:
                memcpy(job.before + r * padded, job.states + (s & 1) * size + r * padded, padded * sizeof(float))
                memcpy(job.before + size + r * padded, job.step.c + r * padded, padded * sizeof(float))
        else:
            until = min(until, max(at.run_from, number + 1) - at.ahead)
    job.repeats = may_rest or until < FOREVER
    if not may_rest:
        return until
    # The states of a look are compared with those CYCLE steps later; then nothing is looked at for a while.
    job.watching = not rested
    return s + CYCLE if job.watching else s + LOOK_EVERY - CYCLE


cdef void _skip_rests(Job* job, Py_ssize_t s, Py_ssize_t active) noexcept nogil:
    """Let rows go on at the end of their runs that are in the states of CYCLE steps ago."""
    cdef Py_ssize_t padded = job.step.units_padded, size = job.rows.batch * padded, number, skipped, r, k
    cdef size_t row_bytes = padded * sizeof(float)
    cdef float* h = job.states + (s & 1) * size
    cdef Cursor* at
    cdef bint moved = False
    for r in range(active):
        at = job.cursors + r
        number = s + at.ahead
        if not at.watched or memcmp(h + r * padded, job.before + r * padded, row_bytes) != 0:
            continue
        if memcmp(job.step.c + r * padded, job.before + size + r * padded, row_bytes) != 0:
            continue
        skipped = (at.run_to - number) // CYCLE * CYCLE
        if skipped <= 0:
            continue
        if job.step.out != NULL:
            for k in range(number, number + skipped):
                memcpy(_output_of(job, at, k), _output_of(job, at, k - CYCLE), job.step.units * sizeof(float))
        fbl_add(&_skipped, skipped)
        at.ahead += skipped
        at.end -= skipped
        moved = True
    if moved:
        # The order of the rows changes, and their states move along; `before` is done with.
        memcpy(job.before, h, active * row_bytes)
        memcpy(job.before + size, job.step.c, active * row_bytes)
        _sort(job, active)
        for r in range(active):
            k = job.cursors[r].place
            memcpy(h + r * padded, job.before + k * padded, row_bytes)
            memcpy(job.step.c + r * padded, job.before + size + k * padded, row_bytes)


cdef void _sort(Job* job, Py_ssize_t active) noexcept nogil:
    """Order the first rows by their last step, the latest first; `place` is where each was before."""
    cdef Py_ssize_t r, k
    cdef Cursor at
    for r in range(active):
        job.cursors[r].place = r
        at = job.cursors[r]
        k = r
        while k > 0 and job.cursors[k - 1].end < at.end:
            job.cursors[k] = job.cursors[k - 1]
            k -= 1
        job.cursors[k] = at
