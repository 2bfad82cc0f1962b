# Directions of LSTM, GRU and SimpleRNN that run beside each other, included in _kernels.pyx: what Python gives is checked, and
# threads share the directions (_loop.pxi) and perhaps their steps (_shared_steps.pxi).


# A direction that is run: its loop begins and ends with these states, each (B, U).
cdef struct Direction:
    Job job
    const Order* rows
    const float* first_h          # NULL: zeros
    const float* first_c
    float* h
    float* c
    Py_ssize_t rows_of_table
    Py_ssize_t pieces             # of a step, which threads share
    Team* team                    # NULL: there is one piece
    int64_t rest, rests_until     # nanoseconds for which its steps are not shared


cdef struct Directions:
    Py_ssize_t count, threads
    Direction[2] at


def run_recurrent(list runs not None, Scratch scratch not None, Py_ssize_t n_threads=1):
    """Run one or two directions.

    Parameters
    ----------
    runs : list of dict
        For each direction: `layer` (Recurrent); `x`, (B, T, F) float32, or (B, F) where all timesteps of a row have one
        input, or (B, T) int32 token ids for a layer with embeddings, or (ids, (B, T, F') float32) if it has a joined_kernel,
        contiguous; `rows` (Rows) of it; `reverse`, read from the last timestep to the first; `initial_state`, (h, c) or (h,),
        each (B, U), or None; `outputs` (B, T, any) or None, written from column `offset` on with `merge` (a value of MERGES);
        `flip`, write the output of timestep t at T-1-t.
    scratch : Scratch
        Memory for its buffers.
    n_threads : int
        Threads share the directions and, if there are more, the units of each step where these are many. In one thread
        one direction follows the other: in turn, step by step, they would drive each other's weights out of the L1 cache.

    Returns
    -------
    list of (h, c) or (h,)
        The final states, each (B, U). Outputs at masked timesteps are left as they are.
    """
    cdef Directions directions
    cdef Py_ssize_t count = len(runs), k, size
    if not 1 <= count <= 2:
        raise ValueError(f"run_recurrent: {count} directions; expected 1 or 2")
    cdef Tape tape = recording()
    memset(&directions, 0, sizeof(Directions))
    directions.count, directions.threads = count, max(1, n_threads)
    kept, held, finals = [], [], []
    for k in range(count):
        kept.append(_prepare(&directions.at[k].job, runs[k], scratch, held))
        finals.append(_new_states(&directions.at[k].job, runs[k]["layer"]))
        _describe(&directions.at[k], runs[k], kept[k][0], finals[k])
        directions.at[k].pieces = _pieces_of(&directions.at[k].job, directions.threads // count)
        if directions.at[k].pieces > 1:
            size = _team_size(&directions.at[k].job, directions.at[k].pieces)
            directions.at[k].team = <Team*> scratch.place(held, (size // <Py_ssize_t> sizeof(float),))
    with nogil:
        _run_directions(&directions)
    if tape is not None:
        reads, writes = [], []
        for k in range(count):
            reads += _reads_of(runs[k])
            writes += finals[k] if runs[k]["outputs"] is None else (*finals[k], runs[k]["outputs"])
            tape.broken |= (<Rows> runs[k]["rows"]).at.mask != NULL and not (<Rows> runs[k]["rows"]).is_recorded
            # A tape reads the states where they were given, not copies that were converted.
            tape.broken |= any([state is not copy for state, copy in zip(runs[k]["initial_state"] or (), kept[k][0])])
        (<Directions*> tape.add(
            _run_again, sizeof(Directions), tuple(reads), tuple(writes), (kept, scratch)
        ))[0] = directions
        _note_parts(tape, &directions)
    return finals


cdef void _note_parts(Tape tape, const Directions* directions) noexcept:
    """How many threads share what is computed here, and how much that is."""
    cdef Py_ssize_t parts = 0, work = 0, k
    cdef const Job* job
    for k in range(directions.count):
        job = &directions.at[k].job
        parts += max(1, min(directions.at[k].pieces, _worth_pieces(job, 1)))
        work += job.rows.batch * job.rows.timesteps * (job.step.units + job.features) * job.step.width
    if directions.threads > 1 and parts > 1:
        tape.parts, tape.shared = min(tape.parts or parts, parts), tape.shared + work


cdef int _run_again(void* record) except -1 nogil:
    cdef Directions* directions = <Directions*> record
    cdef const Direction* at
    cdef Py_ssize_t k
    for k in range(directions.count):
        at = directions.at + k
        if at.job.ids != NULL and not are_below(at.job.ids, at.rows.batch * at.rows.timesteps, at.rows_of_table):
            with gil:
                raise ValueError("a token id is out of range")
    return _run_directions(directions)


cdef int _run_directions(Directions* directions) except -1 nogil:
    cdef Py_ssize_t parts = directions.count, k
    for k in range(directions.count):
        parts += _form(&directions.at[k])
    run_parts(_run_part, directions, parts, directions.threads)
    for k in range(directions.count):
        _judge(&directions.at[k])
    return 0


cdef int _run_part(void* argument, Py_ssize_t part, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """A direction, or help for one."""
    cdef Directions* directions = <Directions*> argument
    cdef const Direction* at
    cdef Job job
    if part >= directions.count:
        return _help(directions.at[part % directions.count].team, stop)
    at = directions.at + part
    job = at.job
    job.rows = at.rows[0]
    _begin_with(&job, at.first_h, at.first_c)
    _lead(&job, at.team, stop)
    _write_states(&job, at.h, at.c)
    return 0


cdef tuple _reads_of(dict run):
    """The arrays that a direction reads."""
    reads = run["x"] if type(run["x"]) is tuple else (run["x"],)
    reads = reads if run["merge"] == FBL_STORE else (*reads, run["outputs"])
    return reads if run["initial_state"] is None else (*reads, *run["initial_state"])


cdef _prepare(Job* job, dict run, Scratch scratch, list held):
    """Check the arrays of a direction and fill its Job, with buffers that live as long as `held`; returns what else must."""
    cdef Recurrent layer = <Recurrent?> run["layer"]
    cdef Rows rows = <Rows?> run["rows"]
    cdef fbl_recurrent* step = &job.step
    cdef Py_ssize_t batch = rows.at.batch, timesteps = rows.at.timesteps, padded = layer.units_padded
    cdef Matrix kernel
    joined, given = None, []
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
    step.units, step.units_padded, step.width = layer.units, padded, layer.width
    step.recurrent, step.recurrent_bias = layer.recurrent_at, layer.recurrent_bias_at
    job.sums, step.columns = layer.sums, layer.columns
    step.narrow, step.scales, step.zeros = layer.narrow.codes, layer.narrow.scales, layer.narrow.zeros
    if step.scales != NULL:
        step.codes = <unsigned char*> scratch.place(held, (batch, padded // 4))
        step.largest = scratch.place(held, (batch,))
    step.c = job.states + 2 * batch * padded
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
    return given, layer, table, kernel, rows, joined


cdef _describe(Direction* at, dict run, list given, tuple final):
    """Where a direction begins and ends, the former with the states that `_prepare` has checked."""
    at.rows, at.rows_of_table = &(<Rows> run["rows"]).at, (<Recurrent> run["layer"]).rows_of_table
    at.first_h = floats(given[0]) if given else NULL
    at.first_c = floats(given[1]) if len(given) > 1 else NULL
    at.h, at.c = floats(final[0]), floats(final[1]) if len(final) > 1 else NULL


cdef void _begin_with(const Job* job, const float* h, const float* c) noexcept nogil:
    """Begin with h (B, units) and c, or with zeros where they are NULL."""
    cdef Py_ssize_t units = job.step.units, padded = job.step.units_padded, batch = job.rows.batch, r, row
    memset(job.states, 0, 3 * batch * padded * sizeof(float))
    for r in range(0 if h == NULL else batch):
        row = row_at(&job.rows, r)
        memcpy(job.states + r * padded, h + row * units, units * sizeof(float))
        memcpy(job.states + (batch + r) * padded, h + row * units, units * sizeof(float))
        if c != NULL:
            memcpy(job.states + (2 * batch + r) * padded, c + row * units, units * sizeof(float))


cdef tuple _new_states(const Job* job, Recurrent layer):
    """(h, c) or (h,), for the states of each row after its last step."""
    shape = job.rows.batch, layer.units
    return tuple([np.empty(shape, np.float32) for _ in range(layer.n_states)])


cdef void _write_states(const Job* job, float* h, float* c) noexcept nogil:
    """The last h, and c unless it is NULL, of each row (B, U): h lies in the buffer that an even or odd number of steps ends
    in.
    """
    cdef Py_ssize_t units = job.step.units, padded = job.step.units_padded, r
    cdef const Cursor* at
    for r in range(job.rows.batch):
        at = job.cursors + r
        memcpy(h + at.row * units, job.states + ((at.end & 1) * job.rows.batch + r) * padded, units * sizeof(float))
        if c != NULL:
            memcpy(c + at.row * units, job.step.c + r * padded, units * sizeof(float))
