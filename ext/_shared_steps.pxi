# Timesteps whose units several threads share, included in _kernels.pyx.
#
# A single row leaves threads nothing to share but the step itself: each computes some of the units, of which the next step
# needs all. As in _threads.pxi, a piece belongs to whoever takes it first: the thread of the direction takes those that no
# helper has begun, and waits only for the others. Steps follow each other within microseconds, so helpers look for the next
# one without sleeping. One that sees none for a while goes away. If one lost its core in the middle of a piece, what is left
# of the sequence is computed by one thread.
#
# A step has two messages to wait for. Their time is that of the machine: 100 ns there and back between cores that share a
# cache, 500 between others, and a virtual machine changes between these. So the first steps are timed. If they took longer
# than one thread would, the others are not shared, nor are those of this direction for the next 1 to 256 ms.

cdef enum:
    MOST_PIECES = 8
    # Multiplications of a piece: for fewer, telling each other costs more than a second thread gains.
    LEAST_PIECE = 16_000
    # Steps that are timed.
    TIMED = 8
    # A helper that is the caller looks for Ctrl-C after so many tasks.
    TASKS_PER_LOOK = 1024

cdef extern from "fbl_threads.h":
    void fbl_yield() noexcept nogil
    void fbl_prefetch_to_write(const void* at) noexcept nogil


cdef struct Job               # of _loop.pxi
cdef struct Direction


# Tasks are numbered from 1 on. Each piece of a task is computed before the next task begins. What different threads write
# lies in cache lines of its own: a line of another thread takes some 50 ns to come.
cdef struct Piece:
    intptr_t taken            # the last task whose piece somebody took
    char[56] apart
    intptr_t done             # that is done
    char[56] apart_too


# A cache line: the last task that was begun, FOREVER once there are no more, and what differs from one step to the next.
cdef struct Task:
    intptr_t number
    Py_ssize_t rows           # of a step, or of a slice to be projected
    const float* h_tm1        # NULL: a slice
    float* h
    const float* proj
    const Py_ssize_t* proj_index
    const Py_ssize_t* out_index
    Py_ssize_t backwards


cdef struct Team:
    Task task
    Piece[MOST_PIECES] pieces
    intptr_t helpers          # how many came
    const Job* job
    Py_ssize_t count          # of pieces
    bint is_caller            # who runs the direction is not a worker
    Py_ssize_t timed          # steps
    int64_t took, alone       # nanoseconds of the steps that were timed, and what one thread would have taken


cdef intptr_t _helped = 0


def pieces_of_helpers():
    """How many pieces of steps helpers have computed so far, for tests and benchmarks."""
    return fbl_load(&_helped)


cdef Py_ssize_t _pieces_of(const Job* job, Py_ssize_t n_threads) noexcept nogil:
    """Into how many pieces the steps of a direction are cut for so many threads."""
    cdef Py_ssize_t blocks = job.step.units_padded // job.table.lanes
    if not (job.how == RUN_LSTM or job.how == RUN_GRU):
        return 1
    return max(1, min(min(n_threads, <Py_ssize_t> MOST_PIECES), min(blocks, _worth_pieces(job, job.rows.batch))))


cdef Py_ssize_t _worth_pieces(const Job* job, Py_ssize_t rows) noexcept nogil:
    """For how many pieces a step of so many rows is worth it; products of bytes take a third of the time."""
    return rows * job.step.units * job.step.width // (LEAST_PIECE if job.step.scales == NULL else 3 * LEAST_PIECE)


cdef Py_ssize_t _team_size(const Job* job, Py_ssize_t pieces) noexcept nogil:
    """Bytes of a team, behind which each helper has room for the states as bytes."""
    return rounded_up(sizeof(Team), 64) + (0 if job.step.scales == NULL else (pieces - 1) * _codes_size(job))


cdef inline Py_ssize_t _codes_size(const Job* job) noexcept nogil:
    return rounded_up(job.rows.batch * (job.step.units_padded + <Py_ssize_t> sizeof(float)), 64)


cdef Py_ssize_t _form(Direction* at) noexcept nogil:
    """Before a direction begins; returns how many helpers it would like."""
    if at.team == NULL:
        return 0
    memset(at.team, 0, sizeof(Team))
    at.team.count = 1 if at.rests_until and at.rests_until > fbl_now() else at.pieces
    return at.team.count - 1


cdef void _judge(Direction* at) noexcept nogil:
    """When a direction has ended: not to share its steps for a while if that took longer."""
    if at.team == NULL or at.team.timed < TIMED:
        return
    at.rest = longer_rest(at.rest) if at.team.took >= at.team.alone else 0
    at.rests_until = fbl_now() + at.rest if at.rest else 0


cdef inline bint _has_help(const Job* job) noexcept nogil:
    return job.team != NULL and fbl_load(&job.team.helpers) > 0 and job.team.task.number != FOREVER


cdef void _compute_piece(const Team* team, fbl_recurrent* step, Py_ssize_t piece) noexcept nogil:
    """step: of the thread that computes it."""
    cdef const Task* task = &team.task
    cdef const Job* job = team.job
    cdef Py_ssize_t count = team.count, blocks, first
    if task.h_tm1 == NULL:
        first = task.rows * piece // count
        _project(
            job, task.rows * (piece + 1) // count - first, job.x, job.source + first, job.proj + first * step.width
        )
        return
    step.rows, step.h_tm1, step.h, step.backwards = task.rows, task.h_tm1, task.h, <int> task.backwards
    step.proj, step.proj_index, step.out_index = task.proj, task.proj_index, task.out_index
    blocks = step.units_padded // job.table.lanes
    step.blocks_before, step.blocks_behind = blocks * piece // count, blocks - blocks * (piece + 1) // count
    job.sums(step)


cdef Py_ssize_t _take_pieces(Team* team, fbl_recurrent* step, intptr_t task, Py_ssize_t first) noexcept nogil:
    """Compute the pieces that nobody has taken; returns how many.

    Who begins with the same one each time finds its weights in the cache.
    """
    cdef Py_ssize_t k, number, taken = 0
    cdef Piece* piece
    for k in range(team.count):
        number = (first + team.count - k) % team.count
        piece = team.pieces + number
        if fbl_load(&piece.taken) == task - 1 and fbl_replace(&piece.taken, task - 1, task):
            if step.units == 0:
                _describe_step(team, step, first)
            _compute_piece(team, step, number)
            fbl_swap(&piece.done, task)
            taken += 1
    return taken


cdef void _describe_step(Team* team, fbl_recurrent* step, Py_ssize_t helper) noexcept nogil:
    """The step of a helper, one of the numbers from 1 on."""
    step[0] = team.job.step
    if step.scales != NULL:
        step.codes = <unsigned char*> team + rounded_up(sizeof(Team), 64) + (helper - 1) * _codes_size(team.job)
        step.largest = <float*> (step.codes + team.job.rows.batch * step.units_padded)


cdef void _share(Job* job, Py_ssize_t rows) noexcept nogil:
    """A task for all: the step that is described in the job, or the projections of `rows` rows of a slice."""
    cdef Team* team = job.team
    cdef Task* task = &team.task
    cdef intptr_t number = task.number + 1
    cdef bint is_timed = rows == 0 and team.timed < TIMED
    cdef int64_t began = fbl_now() if is_timed else 0, own = 0, late = 0
    cdef Py_ssize_t taken, k
    task.rows, task.h_tm1, task.h, task.backwards = job.step.rows, job.step.h_tm1, job.step.h, job.step.backwards
    task.proj, task.proj_index, task.out_index = job.step.proj, job.step.proj_index, job.step.out_index
    if rows:
        task.rows, task.h_tm1 = rows, NULL
    fbl_swap(&task.number, number)
    taken = _take_pieces(team, &job.piece, number, 0)
    if is_timed:
        own = fbl_now() - began
    for k in range(team.count):
        look_while(&team.pieces[k].done, number - 1, LOOKS)
        while fbl_load(&team.pieces[k].done) != number:
            late = late or fbl_now()
            fbl_yield()
    if late and fbl_now() - late >= WAKE_TIME:
        fbl_swap(&task.number, FOREVER)
        if team.is_caller:
            (<Parts*> fbl_working_on).lost += fbl_now() - late
    elif is_timed and 0 < taken < team.count:
        team.timed += 1
        team.took += fbl_now() - began
        team.alone += own * team.count // taken
        if team.timed == TIMED and team.took >= team.alone:
            fbl_swap(&task.number, FOREVER)


cdef int _lead(Job* job, Team* team, const uint8_t* stop) except -1 nogil:
    """Run a direction, with helpers if some come."""
    cdef int result
    if team == NULL or team.count < 2:
        return _loop(job, stop)
    job.team, job.piece, team.job, team.is_caller = team, job.step, job, stop == NULL
    result = (<int (*)(Job*, const uint8_t*) noexcept nogil> _loop)(job, stop)
    fbl_swap(&team.task.number, FOREVER)
    return result


cdef int _help(Team* team, const uint8_t* stop) except -1 nogil:
    """Take pieces of the tasks of a direction until it ends."""
    cdef Py_ssize_t first, looked = 0, taken = 0
    cdef intptr_t number, last = 0
    cdef fbl_recurrent step
    if team == NULL or team.count < 2 or fbl_load(&team.task.number) == FOREVER:
        return 0
    step.units = 0
    first = fbl_add(&team.helpers, 1) + 1
    while first < team.count:
        fbl_prefetch_to_write(&team.pieces[first].taken)
        look_while(&team.task.number, last, IDLE_LOOKS)
        number = fbl_load(&team.task.number)
        if number == last or number == FOREVER:
            break
        taken += _take_pieces(team, &step, number, first)
        last, looked = number, looked + 1
        if looked % TASKS_PER_LOOK == 0 and is_stopped(stop):
            break
    fbl_add(&_helped, taken)
    return 0
