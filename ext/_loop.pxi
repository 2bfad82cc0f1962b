# The time loop of LSTM, GRU and SimpleRNN, included in _kernels.pyx: slices of projections, one direction after the other.


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


def run_recurrent(list runs not None, Scratch scratch not None, bint together=False):
    """Run one or two directions, one after the other or, `together`, in two threads.

    Parameters
    ----------
    runs : list of dict
        For each direction: `layer` (Recurrent); `x`, (B, T, F) float32, or (B, F) where all timesteps of a row have one
        input, or (B, T) int32 token ids for a layer with embeddings, or (ids, (B, T, F') float32) if it has a joined_kernel,
        contiguous; `rows` (Rows) of it; `reverse`, read from the last timestep to the first; `initial_state`, (h, c) or (h,),
        each (B, U), or None; `outputs` (B, T, any) or None, written from column `offset` on with `merge` (a value of MERGES);
        `flip`, write the output of timestep t at T-1-t.

    Returns
    -------
    list of (h, c) or (h,)
        The final states, each (B, U). Outputs at masked timesteps are left as they are.
    """
    cdef Job[2] jobs
    cdef Py_ssize_t count = len(runs), k
    if not 1 <= count <= 2:
        raise ValueError(f"run_recurrent: {count} directions; expected 1 or 2")
    kept, held = [], []
    for k in range(count):
        kept.append(_prepare(&jobs[k], runs[k], scratch, held))
    cdef Job[2] before
    for k in range(count):
        before[k] = jobs[k]
    # In one thread one after the other: in turn, step by step, they would drive each other's weights out of the L1 cache.
    with nogil:
        run_parts(_run_job, jobs, count, 2 if together else 1)
    finals = [_final_states(&jobs[k], runs[k]["layer"]) for k in range(count)]
    cdef Tape tape = recording()
    cdef Runs* again
    if tape is not None:
        reads, writes = [], []
        for k in range(count):
            reads += _reads_of(runs[k])
            writes += finals[k] if runs[k]["outputs"] is None else (*finals[k], runs[k]["outputs"])
            tape.broken |= (<Rows> runs[k]["rows"]).at.mask != NULL and not (<Rows> runs[k]["rows"]).is_recorded
        again = <Runs*> tape.add(_run_again, sizeof(Runs), tuple(reads), tuple(writes), (kept, scratch))
        memset(again, 0, sizeof(Runs))
        again.count, again.threads = count, 2 if together else 1
        for k in range(count):
            _note_run(&again.runs[k], &before[k], runs[k], finals[k])
    return finals


cdef struct JobAgain:
    Job job
    const Order* rows
    const float* first_h
    const float* first_c
    float* h
    float* c
    Py_ssize_t rows_of_table


cdef struct Runs:
    Py_ssize_t count, threads
    JobAgain[2] runs


cdef int _run_again(void* record) except -1 nogil:
    cdef Runs* again = <Runs*> record
    cdef const JobAgain* run
    cdef Py_ssize_t k
    for k in range(again.count):
        run = again.runs + k
        if run.job.ids != NULL and not are_below(run.job.ids, run.rows.batch * run.rows.timesteps, run.rows_of_table):
            with gil:
                raise ValueError("a token id is out of range")
    return run_parts(_run_job_again, again.runs, again.count, again.threads)


cdef int _run_job_again(void* runs, Py_ssize_t k, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    cdef const JobAgain* again = <const JobAgain*> runs + k
    cdef Job job = again.job
    job.rows = again.rows[0]
    memset(job.states, 0, 3 * job.rows.batch * job.step.units_padded * sizeof(float))
    if again.first_h != NULL:
        _begin_with(&job, again.first_h, again.first_c)
    _loop(&job, stop)
    _write_states(&job, again.h, again.c)
    return 0


cdef tuple _reads_of(dict run):
    """The arrays that a direction reads."""
    reads = run["x"] if type(run["x"]) is tuple else (run["x"],)
    reads = reads if run["merge"] == FBL_STORE else (*reads, run["outputs"])
    return reads if run["initial_state"] is None else (*reads, *run["initial_state"])


cdef _note_run(JobAgain* again, const Job* job, dict run, tuple final):
    """A direction for the tape that is recording."""
    first = run["initial_state"]
    again.job, again.rows, again.h = job[0], &(<Rows> run["rows"]).at, floats(final[0])
    again.rows_of_table = (<Recurrent> run["layer"]).rows_of_table
    if len(final) > 1:
        again.c = floats(final[1])
    if first is not None and not recording().broken:
        again.first_h = floats(checked("h", first[0], final[0].shape))
        again.first_c = floats(checked("c", first[1], final[0].shape)) if len(first) > 1 else NULL


cdef int _run_job(void* jobs, Py_ssize_t k, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    return _loop(<Job*> jobs + k, stop)


cdef _prepare(Job* job, dict run, Scratch scratch, list held):
    """Check the arrays of a direction and fill its Job, with buffers that live as long as `held`; returns what else must."""
    cdef Recurrent layer = <Recurrent?> run["layer"]
    cdef Rows rows = <Rows?> run["rows"]
    cdef fbl_recurrent* step = &job.step
    cdef Py_ssize_t batch = rows.at.batch, timesteps = rows.at.timesteps, padded = layer.units_padded
    cdef Matrix kernel
    first_h = first_c = joined = None
    memset(job, 0, sizeof(Job))
    job.table, job.rows, x = layer.table, rows.at, run["x"]
    table, kernel = layer.read_source()
    if layer.joined is not None:
        if type(x) is not tuple or len(x) != 2:
            raise ValueError("x must be token ids and the floats beside them")
        x, joined = x
        job.joined_features, job.joined_packed = layer.joined.depth, layer.joined.packed_at
        job.joined = floats(checked("joined", joined, (batch, timesteps, layer.joined.depth)))
    if table is None:
        job.constant = getattr(x, "ndim", 3) == 2
        job.x = floats(checked("x", x, (batch, *(() if job.constant else (timesteps,)), layer.features)))
    else:
        job.x = floats(table)
        job.ids = <const int32_t*> floats(checked("ids", x, (batch, timesteps), False, _INT32))
        if not are_below(job.ids, batch * timesteps, layer.rows_of_table):
            raise ValueError(f"a token id is not in 0 to {layer.rows_of_table - 1}")
    job.features, job.projected, job.reverse, job.flip = layer.features, kernel is None, run["reverse"], run["flip"]
    job.how, job.candidate, job.narrow_candidate = layer.how, layer.candidate_at, layer.narrow_candidate
    job.states = scratch.place(held, (3, batch, padded))
    memset(job.states, 0, 3 * batch * padded * sizeof(float))
    in_place = job.constant or (kernel is None and joined is None)
    row_bytes = 2 * sizeof(Py_ssize_t) if in_place else sizeof(float) * layer.width
    # In Python's integers: batch may be any number where an axis of the arrays is empty.
    steps = max(1, SLICE_BYTES // max(1, int(row_bytes) * int(batch)))
    job.slice_rows = batch * min(steps, timesteps)
    if kernel is not None:
        job.packed, job.bias, job.narrow, job.codes = kernel.packed_at, kernel.bias_at, kernel.narrow, kernel.codes
    if kernel is not None or joined is not None:
        job.proj = scratch.place(held, (batch if job.constant else job.slice_rows, layer.width))
    job.cursors = <Cursor*> scratch.place(held, (batch, sizeof(Cursor) // sizeof(float)))
    job.before = scratch.place(held, (2, batch, padded))
    job.beginning = &layer.beginning if layer.kept is not None else NULL
    job.fresh, job.skips = run["initial_state"] is None, run["outputs"] is None or run["merge"] == FBL_STORE
    job.skips = job.skips and joined is None
    _place_rows(job)
    job.source = <Py_ssize_t*> scratch.place(held, (3, job.slice_rows, sizeof(Py_ssize_t) // sizeof(float)))
    job.target, job.places = job.source + job.slice_rows, job.source + 2 * job.slice_rows
    if run["initial_state"] is not None:
        given = [np.asarray(state, np.float32) for state in run["initial_state"]]
        if [state.shape for state in given] != [(batch, layer.units)] * layer.n_states:
            raise ValueError(
                f"initial_state has shapes {[state.shape for state in given]}; expected {layer.n_states} of "
                f"{(batch, layer.units)}"
            )
        given = [np.ascontiguousarray(state) for state in given]
        first_h, first_c = given[0], given[1] if layer.n_states == 2 else None
    step.units, step.units_padded, step.width = layer.units, padded, layer.width
    step.recurrent, step.recurrent_bias = layer.recurrent_at, layer.recurrent_bias_at
    job.sums, step.columns = layer.sums, layer.columns
    step.narrow, step.scales, step.zeros = layer.narrow.codes, layer.narrow.scales, layer.narrow.zeros
    if step.scales != NULL:
        step.codes = <unsigned char*> scratch.place(held, (batch, padded // 4))
        step.largest = scratch.place(held, (batch,))
    step.c = job.states + 2 * batch * padded
    if first_h is not None:
        _begin_with(job, floats(first_h), NULL if first_c is None else floats(first_c))
    if not FBL_STORE <= <Py_ssize_t> run["merge"] <= FBL_AVERAGE:
        raise ValueError(f"merge is {run['merge']}; expected a value of MERGES")
    step.merge = run["merge"]
    step.activation, step.activation_parameters = layer.activation.code, layer.activation.parameters
    if layer.recurrent_activation is not None:
        step.recurrent_activation = layer.recurrent_activation.code
        step.recurrent_activation_parameters = layer.recurrent_activation.parameters
    if job.how in (RUN_LSTM_CELL, RUN_GRU_CELL, RUN_RNN):
        step.z = scratch.place(held, (batch, layer.width))
    if layer.columns < layer.width:
        step.reset = scratch.place(held, (batch, padded))
    outputs = run["outputs"]
    if outputs is not None:
        checked("outputs", outputs, (batch, timesteps, None), True)
        apart("outputs", outputs, {"x": x, "joined": joined})
        step.out_stride = outputs.shape[2]
        if not 0 <= run["offset"] <= step.out_stride - layer.units:
            raise ValueError(f"outputs have {step.out_stride} columns, the {layer.units} units start at {run['offset']}")
        step.out = floats(outputs) + <Py_ssize_t> run["offset"]
    return layer, table, kernel, rows, joined


cdef void _begin_with(const Job* job, const float* h, const float* c) noexcept nogil:
    """Begin with h (B, units) and, unless it is NULL, c."""
    cdef Py_ssize_t units = job.step.units, padded = job.step.units_padded, batch = job.rows.batch, r, row
    for r in range(batch):
        row = row_at(&job.rows, r)
        memcpy(job.states + r * padded, h + row * units, units * sizeof(float))
        memcpy(job.states + (batch + r) * padded, h + row * units, units * sizeof(float))
        if c != NULL:
            memcpy(job.states + (2 * batch + r) * padded, c + row * units, units * sizeof(float))


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
    if job.how == RUN_LSTM or job.how == RUN_GRU:
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


cdef _final_states(Job* job, Recurrent layer):
    """(h, c) or (h,) of each row after its last step: h lies in the buffer that an even or an odd number of steps ends in."""
    shape = job.rows.batch, layer.units
    h, c = np.empty(shape, np.float32), np.empty(shape, np.float32) if layer.n_states == 2 else None
    _write_states(job, floats(h), NULL if c is None else floats(c))
    return (h,) if c is None else (h, c)


cdef void _write_states(const Job* job, float* h, float* c) noexcept nogil:
    """The last h, and c unless it is NULL, of each row (B, U)."""
    cdef Py_ssize_t units = job.step.units, padded = job.step.units_padded, r
    cdef const Cursor* at
    for r in range(job.rows.batch):
        at = job.cursors + r
        memcpy(h + at.row * units, job.states + ((at.end & 1) * job.rows.batch + r) * padded, units * sizeof(float))
        if c != NULL:
            memcpy(c + at.row * units, job.step.c + r * padded, units * sizeof(float))
