# The time loop of a direction of LSTM, GRU and SimpleRNN, included in _kernels.pyx: slices of projections, then their steps.


# Where a row is in its timesteps. At step s it computes timestep number s + ahead of those that its mask keeps.
cdef struct Cursor:
    Py_ssize_t row                # of the batch
    Py_ssize_t start, count       # where its timesteps begin in Order.kept, how many there are
    Py_ssize_t ahead, end         # timesteps skipped so far; the step at which it is done, count - ahead
    Py_ssize_t run_from, run_to   # the next timesteps of equal inputs
    Py_ssize_t place              # before the rows were ordered anew
    bint watched                  # its states are kept, to be compared with later ones


cdef struct Job:
    const fbl_kernels* table
    Order rows
    fbl_recurrent step
    const float* x            # rows of floats, or of embeddings, or of projections if `projected`
    bint constant             # x has one row for all timesteps of a row
    const int32_t* ids        # row of a sequence -> row of x; NULL: the same row
    const float* joined       # floats beside each id, whose products with `joined_packed` are added; NULL: there are none
    const float* joined_packed
    Py_ssize_t features, joined_features
    int how                   # RUN_LSTM ...
    fbl_step sums             # Recurrent.sums
    bint projected, reverse, flip # projected: rows of x are projections
    const float* packed
    const fbl_narrow* narrow
    fbl_codes codes           # in place of `packed`, unless `narrow` is NULL
    const float* bias
    float* proj
    float* states             # h, h, c (LSTM alone)
    const float* candidate    # Recurrent.candidate_at
    fbl_codes narrow_candidate
    Py_ssize_t* source            # rows of x
    Py_ssize_t* target
    Py_ssize_t* places            # rows of `joined`
    Py_ssize_t slice_rows, filled, begin # rows of a slice at most, rows in it, the first one of this step
    Cursor* cursors               # for each place, the longest row first
    # For _skips.pxi. `fresh`: states begin with zeros; `skips`: outputs, if any, are stored; `repeats`: some row may have
    # runs of equal inputs; `watching`: states of CYCLE steps ago lie in `before`, h and c at each place.
    Beginning* beginning
    bint fresh, skips, repeats, watching
    float* before
    Team* team                # of _shared_steps.pxi; NULL: one thread computes its steps
    fbl_recurrent piece       # the step as far as this thread computes it


cdef void _place_rows(Job* job) noexcept nogil:
    """A cursor for each row, before its first timestep."""
    cdef Py_ssize_t r
    cdef Cursor* at
    for r in range(job.rows.batch):
        at = job.cursors + r
        memset(at, 0, sizeof(Cursor))
        at.row, at.count, at.start = row_at(&job.rows, r), count_at(&job.rows, r), start_at(&job.rows, r)
        at.end = at.run_from = at.run_to = at.count
    job.begin = job.filled = 0
    job.repeats = job.watching = False


cdef inline Py_ssize_t _time_of(const Job* job, const Cursor* at, Py_ssize_t number) noexcept nogil:
    """The timestep of the batch that a row reads as its `number`th one."""
    if job.reverse:
        number = at.count - 1 - number
    return job.rows.kept[at.start + number] if job.rows.masked else number


cdef int _loop(Job* job, const uint8_t* stop) except -1 nogil:
    """All steps of a direction; `active` rows have steps to do."""
    cdef Py_ssize_t active = job.rows.batch, s = 0, work = 0, until
    _place_rows(job)
    _skip_beginnings(job)
    if job.constant:
        _project(job, active, job.x, NULL, job.proj)
    until = _look(job, s, active)
    while True:
        while active and job.cursors[active - 1].end <= s:
            active -= 1
        if not active:
            return 0
        if s == until:
            if job.watching:
                _skip_rests(job, s, active)
            until = _look(job, s, active)
            continue
        if work >= SIGNAL_WORK:
            if is_stopped(stop):
                return 0
            work = 0
        work += _step(job, s, active, until)
        s += 1


cdef Py_ssize_t _step(Job* job, Py_ssize_t s, Py_ssize_t active, Py_ssize_t until) noexcept nogil:
    """One timestep of one direction, of those before `until`; returns the number of multiplications."""
    cdef fbl_recurrent* step = &job.step
    cdef Py_ssize_t work = active * (step.width + ROW_WORK) * step.units, size = job.rows.batch * step.units_padded
    cdef Py_ssize_t ahead, r
    if job.begin + active > job.filled:
        work += _fill_slice(job, s, active, until)
    step.rows = active
    if job.projected and job.joined == NULL:
        step.proj, step.proj_index = job.x, job.source + job.begin
        # Rows of the table come from far: ask for those of the next step, or of some steps ahead if they are few.
        ahead = job.begin + max(active, FETCHED_AHEAD)
        for r in range(ahead, min(ahead + active, job.filled)):
            fbl_prefetch(job.x + job.source[r] * step.width, step.width)
    elif job.constant:
        step.proj, step.proj_index = job.proj, job.source + job.begin
    else:
        step.proj, step.proj_index = job.proj + job.begin * step.width, NULL
    step.out_index = job.target + job.begin
    step.h_tm1 = job.states + (s & 1) * size
    step.h = job.states + (1 - (s & 1)) * size
    step.backwards = s & 1
    _compute(job)
    job.begin += active
    return work


cdef void _compute(Job* job) noexcept nogil:
    """The kernels of a step."""
    cdef fbl_recurrent* step = &job.step
    cdef fbl_recurrent last
    if _has_help(job):
        _share(job, 0)
    elif job.how == RUN_LSTM or job.how == RUN_GRU:
        job.sums(step)
    elif job.how == RUN_LSTM_CELL:
        job.sums(step)
        job.table.lstm_cell(step)
    elif job.how == RUN_GRU_CELL:
        _multiply(job, step)
        job.table.gru_gates(step)
        if step.reset != NULL:
            last = step[0]
            last.h_tm1, last.z, last.columns = step.reset, step.z + step.columns, step.units_padded
            last.recurrent, last.recurrent_bias, last.narrow = job.candidate, NULL, job.narrow_candidate.codes
            last.scales, last.zeros = job.narrow_candidate.scales, job.narrow_candidate.zeros
            _multiply(job, &last)
        job.table.gru_cell(step)
    else:
        _multiply(job, step)
        job.table.rnn_cell(step)


cdef inline void _multiply(const Job* job, const fbl_recurrent* step) noexcept nogil:
    """The first `columns` of each row of z = h_tm1.R + recurrent_bias."""
    if job.sums != NULL:
        job.sums(step)
    else:
        job.table.gemm(
            step.rows, step.units, step.columns, step.h_tm1, step.units_padded, NULL, step.recurrent, step.recurrent_bias,
            step.z, step.width,
        )


cdef Py_ssize_t _fill_slice(Job* job, Py_ssize_t s, Py_ssize_t active, Py_ssize_t until) noexcept nogil:
    """Number the rows of the next steps, as many as a slice holds, and project them; returns the multiplications."""
    cdef Py_ssize_t n = 0, last = min(until, job.cursors[0].end), r, t
    cdef const Cursor* at
    while s < last:
        while job.cursors[active - 1].end <= s:
            active -= 1
        if n + active > job.slice_rows:
            break
        for r in range(active):
            at = job.cursors + r
            t = _time_of(job, at, s + at.ahead)
            job.target[n + r] = at.row * job.rows.timesteps + (job.rows.timesteps - 1 - t if job.flip else t)
            job.source[n + r] = at.row if job.constant else at.row * job.rows.timesteps + t
            if job.ids != NULL:
                job.places[n + r] = job.source[n + r]
                job.source[n + r] = job.ids[job.source[n + r]]
        n += active
        s += 1
    job.begin, job.filled = 0, n
    if job.joined != NULL:
        return _project_joined(job, n)
    if job.projected or job.constant:
        return 0
    if _has_help(job) and n > 1 and job.narrow == NULL:
        _share(job, n)
    else:
        _project(job, n, job.x, job.source, job.proj)
    return n * job.features * job.step.width


cdef Py_ssize_t _project_joined(const Job* job, Py_ssize_t rows) noexcept nogil:
    """Projections of the ids of a slice, and onto them those of the floats beside; returns the multiplications."""
    cdef Py_ssize_t width = job.step.width, r
    if job.projected:
        for r in range(rows):
            if r + FETCHED_AHEAD < rows:
                fbl_prefetch(job.x + job.source[r + FETCHED_AHEAD] * width, width)
            memcpy(job.proj + r * width, job.x + job.source[r] * width, width * sizeof(float))
    else:
        _project(job, rows, job.x, job.source, job.proj)
    job.table.gemm_onto(
        rows, job.joined_features, width, job.joined, job.joined_features, job.places, job.joined_packed, job.proj, width
    )
    return rows * (job.joined_features + (0 if job.projected else job.features)) * width


cdef inline void _project(
    const Job* job, Py_ssize_t rows, const float* x, const Py_ssize_t* index, float* out,
) noexcept nogil:
    """Projections of rows of inputs."""
    multiply_rows(
        job.table, job.narrow, &job.codes, rows, job.features, job.step.width, x, index, job.packed, job.bias, out
    )
