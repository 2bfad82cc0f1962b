# The time loop of LSTM, GRU and SimpleRNN, included in _kernels.pyx: slices of projections, one direction after the other.


# Blocks of units in the kernels, by the name of the cell.
CELLS = {"lstm": 4, "gru": 3, "simple_rnn": 1}

# How a timestep is computed: in one kernel, or by a product and a cell.
cdef enum:
    RUN_LSTM, RUN_LSTM_CELL, RUN_GRU, RUN_GRU_CELL, RUN_RNN


cdef struct Job:
    const fbl_kernels* table
    Order rows
    fbl_recurrent step
    const float* x            # rows of floats, or of embeddings, or of projections if `projected`
    const int32_t* ids        # row of a sequence -> row of x; NULL: the same row
    Py_ssize_t features
    int how                   # RUN_LSTM ...
    bint projected, reverse, flip
    const float* packed
    const float* bias
    float* proj
    float* states             # h, h, c (LSTM alone)
    const float* candidate    # Recurrent.candidate_at
    Py_ssize_t* source
    Py_ssize_t* target
    Py_ssize_t slice_rows, filled, begin # rows of a slice at most, rows in it, the first one of this step


@cython.final
@cython.auto_pickle(False)
cdef class Recurrent:
    """One direction of an LSTM, GRU or SimpleRNN, packed: kernels, biases, activations; perhaps with its Embedding."""

    cdef const fbl_kernels* table
    cdef readonly str cell
    cdef readonly Py_ssize_t features, units, units_padded, rows_of_table, gates
    cdef int how
    cdef tuple recurrent # what the next three point into
    cdef const float* recurrent_at
    cdef const float* recurrent_bias_at
    cdef const float* candidate_at # gate h of a GRU without reset_after
    # What the input rows are looked up in (None: they are given) and the kernel (None: the look-up gives projections);
    # one object, so that whoever prepares a run while another thread projects sees both of one time.
    cdef tuple source
    cdef Activation activation, recurrent_activation

    def __cinit__(
        self, kernel, recurrent_kernel, bias, Activation activation not None, Activation recurrent_activation=None,
        embeddings=None, project=False, str cell not None="lstm", recurrent_bias=None, bint reset_after=True,
    ):
        """kernel (F, GU), recurrent_kernel (U, GU), bias (GU,) or None, for the G gates of `cell`: "lstm" (4, i f c o),
        "gru" (3, z r h; with reset_after perhaps recurrent_bias (3U,)) or "simple_rnn" (1, no recurrent_activation);
        embeddings (V, F) to be run on token ids, projected once with `project`: then a token is a row to add.
        """
        self.table = table_in_use()
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}; expected one of {', '.join(CELLS)}")
        if (recurrent_activation is None) != (cell == "simple_rnn"):
            raise TypeError(f"cell {cell!r} with recurrent_activation {recurrent_activation!r}")
        if recurrent_bias is not None and not (cell == "gru" and reset_after):
            raise ValueError(f"cell {cell!r} with recurrent_bias, reset_after={reset_after}")
        self.cell, self.gates = cell, CELLS[cell]
        self.units = matrix_of("recurrent_kernel", recurrent_kernel, (None, None)).shape[0]
        width, lanes = self.gates * self.units, self.table.lanes
        recurrent_kernel = matrix_of("recurrent_kernel", recurrent_kernel, (self.units, width))
        kernel = matrix_of("kernel", kernel, (None, width))
        self.features, self.units_padded = len(kernel), rounded_up(self.units, lanes)
        self.activation, self.recurrent_activation = activation, recurrent_activation
        usual = activation.code == FBL_TANH and cell != "simple_rnn" and recurrent_activation.code == FBL_SIGMOID
        if cell == "lstm":
            self.how = RUN_LSTM if usual else RUN_LSTM_CELL
        elif cell == "gru":
            self.how = RUN_GRU if usual and reset_after else RUN_GRU_CELL
        else:
            self.how = RUN_RNN
        if bias is not None:
            bias = matrix_of("bias", bias, (width,))
        if recurrent_bias is not None:
            recurrent_bias = matrix_of("recurrent_bias", recurrent_bias, (width,))
        self.pack_recurrent(recurrent_kernel, recurrent_bias, reset_after)
        if self.how == RUN_GRU and recurrent_bias is not None:
            # z and r have one bias each, the sum.
            shared = np.concatenate([recurrent_bias[:2 * self.units], np.zeros(self.units, recurrent_bias.dtype)])
            bias = shared if bias is None else bias + shared
        if bias is not None:
            bias = self.arranged(bias[np.newaxis])[0]
        cdef Matrix packed = Matrix(self.arranged(kernel), bias)
        if packed.table != self.table:
            raise RuntimeError("another thread chose another instruction set meanwhile")
        self.source = None, packed
        if embeddings is not None:
            embeddings = matrix_of("embeddings", embeddings, (None, self.features))
            self.rows_of_table = len(embeddings)
            self.source = np.ascontiguousarray(embeddings, np.float32), packed
        if project:
            self.project()

    cdef pack_recurrent(self, kernel, bias, bint reset_after):
        cdef Matrix first, second
        cdef Py_ssize_t lanes = self.table.lanes, padded = self.units_padded
        matrix = self.arranged(kernel)
        if self.how == RUN_LSTM or self.how == RUN_LSTM_CELL:
            self.recurrent = (pack(matrix, lanes),)
        elif self.how == RUN_GRU:
            blocks = aligned((padded // lanes, self.units, 3 * lanes))
            blocks[...] = matrix.reshape(self.units, padded // lanes, 3 * lanes).transpose(1, 0, 2)
            last = aligned((padded,))
            last[...] = 0
            if bias is not None:
                last[:self.units] = bias[2 * self.units:]
            self.recurrent, self.recurrent_bias_at = (blocks, last), floats(last)
        else:
            split = 2 * padded if self.how == RUN_GRU_CELL and not reset_after else self.gates * padded
            first = Matrix(matrix[:, :split], None if bias is None else self.arranged(bias[np.newaxis])[0])
            self.recurrent, self.recurrent_at, self.recurrent_bias_at = (first,), first.packed_at, first.bias_at
            if split < self.gates * padded:
                second = Matrix(matrix[:, split:])
                self.recurrent, self.candidate_at = (first, second), second.packed_at
            return
        self.recurrent_at = floats(self.recurrent[0])

    cdef arranged(self, matrix):
        """(K, GU) by gates -> (K, G * units_padded): by [block][gate][lane] for the kernels that compute a step at once,
        else by [gate][units_padded].
        """
        depth, lanes = len(matrix), self.table.lanes
        padded = np.zeros((depth, self.gates, self.units_padded), np.float32)
        padded[:, :, :self.units] = matrix.reshape(depth, self.gates, self.units)
        if self.how in (RUN_LSTM, RUN_LSTM_CELL, RUN_GRU):
            padded = padded.reshape(depth, self.gates, self.units_padded // lanes, lanes).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(padded.reshape(depth, self.gates * self.units_padded))

    def project(self):
        """Make the table of projections, if it is not there; runs under way go on with what they began with."""
        embeddings, kernel = self.source
        if embeddings is None:
            raise ValueError("there are no embeddings to project")
        if kernel is not None:
            self.source = kernel.product(embeddings, aligned((self.rows_of_table, self.width))), None

    @property
    def width(self):
        """Columns of a projection."""
        return self.gates * self.units_padded

    @property
    def n_states(self):
        return 2 if self.cell == "lstm" else 1

    @property
    def projected(self):
        return self.source[1] is None

    @property
    def nbytes(self):
        """Bytes of packed weights and tables."""
        table, kernel = self.source
        packed = sum(part.nbytes for part in self.recurrent)
        return packed + (table.nbytes if kernel is None else kernel.nbytes)

    @property
    def work(self):
        """Multiplications a row and timestep."""
        return self.gates * self.units * (self.units + (0 if self.projected else self.features))


def run_recurrent(list runs not None, Scratch scratch not None, bint together=False):
    """Run one or two directions, one after the other or, `together`, in two threads.

    Parameters
    ----------
    runs : list of dict
        For each direction: `layer` (Recurrent); `x`, (B, T, F) float32, or (B, T) int32 token ids for a layer with
        embeddings, contiguous; `rows` (Rows) of it; `reverse`, read from the last timestep to the first; `initial_state`,
        (h, c) or (h,), each (B, U), or None; `outputs` (B, T, any) or None, written from column `offset` on with `merge`
        (a value of MERGES); `flip`, write the output of timestep t at T-1-t; `name`, for the scratch buffers.

    Returns
    -------
    list of (h, c) or (h,)
        The final states, each (B, U). Outputs at masked timesteps are left as they are.
    """
    cdef Job[2] jobs
    cdef Py_ssize_t count = len(runs), k
    if not 1 <= count <= 2:
        raise ValueError(f"run_recurrent: {count} directions; expected 1 or 2")
    if count == 2 and runs[0]["name"] == runs[1]["name"]:
        raise ValueError(f"two directions have scratch buffers of the same name {runs[0]['name']!r}")
    kept = []
    for k in range(count):
        kept.append(_prepare(&jobs[k], runs[k], scratch))
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
        again = <Runs*> tape.add(_run_again, sizeof(Runs), tuple(reads), tuple(writes), (kept, runs, scratch))
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
    return run_parts(_run_job_again, again.runs, again.count, again.threads)


cdef int _run_job_again(void* runs, Py_ssize_t k, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    cdef const JobAgain* again = <const JobAgain*> runs + k
    cdef Job job = again.job
    job.rows = again.rows[0]
    if job.ids != NULL and not are_below(job.ids, job.rows.batch * job.rows.timesteps, again.rows_of_table):
        with gil:
            raise ValueError("a token id is out of range")
    memset(job.states, 0, 3 * job.rows.batch * job.step.units_padded * sizeof(float))
    if again.first_h != NULL:
        _begin_with(&job, again.first_h, again.first_c)
    _loop(&job, stop)
    _write_states(&job, again.h, again.c)
    return 0


cdef tuple _reads_of(dict run):
    """The arrays that a direction reads."""
    reads = (run["x"],) if run["merge"] == FBL_STORE else (run["x"], run["outputs"])
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


cdef _prepare(Job* job, dict run, Scratch scratch):
    """Check the arrays of a direction and fill its Job; returns what must stay alive."""
    cdef Recurrent layer = <Recurrent?> run["layer"]
    cdef Rows rows = <Rows?> run["rows"]
    cdef fbl_recurrent* step = &job.step
    cdef Py_ssize_t batch = rows.at.batch, timesteps = rows.at.timesteps, padded = layer.units_padded
    cdef Matrix kernel
    first_h = first_c = None
    memset(job, 0, sizeof(Job))
    job.table, job.rows, x = layer.table, rows.at, run["x"]
    table, kernel = layer.source
    name = run["name"]
    if table is None:
        job.x = floats(checked("x", x, (batch, timesteps, layer.features)))
    else:
        job.x = floats(table)
        job.ids = <const int32_t*> floats(checked("ids", x, (batch, timesteps), False, _INT32))
        if not are_below(job.ids, batch * timesteps, layer.rows_of_table):
            raise ValueError(f"a token id is not in 0 to {layer.rows_of_table - 1}")
    job.features, job.projected, job.reverse, job.flip = layer.features, kernel is None, run["reverse"], run["flip"]
    job.how, job.candidate = layer.how, layer.candidate_at
    states = scratch.buffer((name, "states"), elements((3, batch, padded)))
    job.states = floats(states)
    memset(job.states, 0, 3 * batch * padded * sizeof(float))
    row_bytes = 2 * sizeof(Py_ssize_t) if kernel is None else sizeof(float) * layer.width
    # In Python's integers: batch may be any number where an axis of the arrays is empty.
    steps = max(1, SLICE_BYTES // max(1, int(row_bytes) * int(batch)))
    job.slice_rows = batch * min(steps, timesteps)
    if kernel is not None:
        job.packed, job.bias = kernel.packed_at, kernel.bias_at
        job.proj = scratch.place((name, "proj"), (job.slice_rows, layer.width))
    job.source = <Py_ssize_t*> scratch.place((name, "index"), (2, job.slice_rows, sizeof(Py_ssize_t) // sizeof(float)))
    job.target = job.source + job.slice_rows
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
        step.z = scratch.place((name, "z"), (batch, layer.width))
    if job.candidate != NULL:
        step.reset = scratch.place((name, "reset"), (batch, padded))
    outputs = run["outputs"]
    if outputs is not None:
        checked("outputs", outputs, (batch, timesteps, None), True)
        apart("outputs", outputs, {"x": x})
        step.out_stride = outputs.shape[2]
        if not 0 <= run["offset"] <= step.out_stride - layer.units:
            raise ValueError(f"outputs have {step.out_stride} columns, the {layer.units} units start at {run['offset']}")
        step.out = floats(outputs) + <Py_ssize_t> run["offset"]
    return table, kernel, rows


cdef void _begin_with(const Job* job, const float* h, const float* c) noexcept nogil:
    """Begin with h (B, units) and, unless it is NULL, c."""
    cdef Py_ssize_t units = job.step.units, padded = job.step.units_padded, batch = job.rows.batch, r, row
    for r in range(batch):
        row = row_at(&job.rows, r)
        memcpy(job.states + r * padded, h + row * units, units * sizeof(float))
        memcpy(job.states + (batch + r) * padded, h + row * units, units * sizeof(float))
        if c != NULL:
            memcpy(job.states + (2 * batch + r) * padded, c + row * units, units * sizeof(float))


cdef int _loop(Job* job, const uint8_t* stop) except -1 nogil:
    """All steps of a direction; `active` rows have more than `s` timesteps."""
    cdef Py_ssize_t steps = count_at(&job.rows, 0) if job.rows.batch else 0, active = job.rows.batch
    cdef Py_ssize_t s, work = 0
    for s in range(steps):
        while count_at(&job.rows, active - 1) <= s:
            active -= 1
        if work >= SIGNAL_WORK:
            if is_stopped(stop):
                return 0
            work = 0
        work += _step(job, s, active)
    return 0


cdef Py_ssize_t _step(Job* job, Py_ssize_t s, Py_ssize_t active) noexcept nogil:
    """One timestep of one direction; returns the number of multiplications."""
    cdef fbl_recurrent* step = &job.step
    cdef Py_ssize_t work = active * (step.width + ROW_WORK) * step.units, size = job.rows.batch * step.units_padded
    cdef Py_ssize_t ahead, columns, r
    if s == 0 or job.begin + active > job.filled:
        work += _fill_slice(job, s, active)
    step.rows = active
    if job.projected:
        step.proj, step.proj_index = job.x, job.source + job.begin
        # Rows of the table come from far: ask for those of the next step, or of some steps ahead if they are few.
        ahead = job.begin + max(active, FETCHED_AHEAD)
        for r in range(ahead, min(ahead + active, job.filled)):
            fbl_prefetch(job.x + job.source[r] * step.width, step.width)
    else:
        step.proj, step.proj_index = job.proj + job.begin * step.width, NULL
    step.out_index = job.target + job.begin
    step.h_tm1 = job.states + (s & 1) * size
    step.h = job.states + (1 - (s & 1)) * size
    step.backwards = s & 1
    if job.how == RUN_LSTM:
        job.table.lstm_step(step)
    elif job.how == RUN_LSTM_CELL:
        job.table.lstm_gates(step)
        job.table.lstm_cell(step)
    elif job.how == RUN_GRU:
        job.table.gru_step(step)
    elif job.how == RUN_GRU_CELL:
        columns = step.width if step.reset == NULL else 2 * step.units_padded
        _multiply(job, step.h_tm1, step.recurrent, step.recurrent_bias, 0, columns)
        job.table.gru_gates(step)
        if step.reset != NULL:
            _multiply(job, step.reset, job.candidate, NULL, 2 * step.units_padded, step.units_padded)
        job.table.gru_cell(step)
    else:
        _multiply(job, step.h_tm1, step.recurrent, NULL, 0, step.width)
        job.table.rnn_cell(step)
    job.begin += active
    return work


cdef inline void _multiply(
    Job* job, const float* a, const float* packed, const float* bias, Py_ssize_t column, Py_ssize_t columns,
) noexcept nogil:
    """Columns of z = a.packed + bias, for the rows of a step; a (rows, units_padded)."""
    cdef fbl_recurrent* step = &job.step
    job.table.gemm(
        step.rows, step.units, columns, a, step.units_padded, NULL, packed, bias, step.z + column, step.width,
    )


cdef Py_ssize_t _fill_slice(Job* job, Py_ssize_t s, Py_ssize_t active) noexcept nogil:
    """Number the rows of the next steps, as many as a slice holds, and project them; returns the multiplications."""
    cdef const Order* rows = &job.rows
    cdef Py_ssize_t n = 0, steps = count_at(rows, 0), width = job.step.width, r, t, row
    while s < steps:
        while count_at(rows, active - 1) <= s:
            active -= 1
        if n + active > job.slice_rows:
            break
        for r in range(active):
            t = time_at(rows, r, s, job.reverse)
            row = row_at(rows, r) * rows.timesteps
            job.target[n + r] = row + (rows.timesteps - 1 - t if job.flip else t)
            job.source[n + r] = row + t if job.ids == NULL else job.ids[row + t]
        n += active
        s += 1
    job.begin, job.filled = 0, n
    if job.projected:
        return 0
    job.table.gemm(
        n, job.features, width, job.x, job.features, job.source, job.packed, job.bias, job.proj, width
    )
    return n * job.features * width


cdef _final_states(Job* job, Recurrent layer):
    """(h, c) or (h,) of each row after its last step: h lies in the buffer that an even or an odd number of steps ends in."""
    shape = job.rows.batch, layer.units
    h, c = np.empty(shape, np.float32), np.empty(shape, np.float32) if layer.n_states == 2 else None
    _write_states(job, floats(h), NULL if c is None else floats(c))
    return (h,) if c is None else (h, c)


cdef void _write_states(const Job* job, float* h, float* c) noexcept nogil:
    """The last h, and c unless it is NULL, of each row (B, U)."""
    cdef const Order* rows = &job.rows
    cdef Py_ssize_t units = job.step.units, padded = job.step.units_padded, r, row
    for r in range(rows.batch):
        row = row_at(rows, r)
        memcpy(h + row * units, job.states + ((count_at(rows, r) & 1) * rows.batch + r) * padded, units * sizeof(float))
        if c != NULL:
            memcpy(c + row * units, job.step.c + r * padded, units * sizeof(float))
