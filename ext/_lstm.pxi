# The LSTM time loop, included in _kernels.pyx: slices of projections, one direction after the other.


cdef struct Job:
    const fbl_kernels* table
    fbl_lstm step
    const float* x            # rows of floats, or of embeddings, or of projections if `projected`
    const int32_t* ids        # row of a sequence -> row of x; NULL: the same row
    Py_ssize_t features
    bint projected, reverse, flip, split
    const float* packed
    const float* bias
    float* proj
    float* states             # h, h, c
    Py_ssize_t* source
    Py_ssize_t* target
    Py_ssize_t slice_rows, filled, begin # rows of a slice at most, rows in it, the first one of this step


@cython.final
@cython.auto_pickle(False)
cdef class Lstm:
    """One direction of an LSTM, packed: kernel, recurrent_kernel, bias, activations; perhaps with its Embedding."""

    cdef const fbl_kernels* table
    cdef readonly Py_ssize_t features, units, units_padded, rows_of_table
    cdef object recurrent
    # What the input rows are looked up in (None: they are given) and the kernel (None: the look-up gives projections);
    # one object, so that whoever prepares a run while another thread projects sees both of one time.
    cdef tuple source
    cdef Activation activation, recurrent_activation

    def __cinit__(
        self, kernel, recurrent_kernel, bias, Activation activation not None, Activation recurrent_activation not None,
        embeddings=None, project=False,
    ):
        """kernel (F, 4U), recurrent_kernel (U, 4U), bias (4U,) or None; embeddings (V, F) to be run on token ids,
        projected once with `project`: then a token is a row to add.
        """
        if _table == NULL:
            raise RuntimeError("this fastbilstm was built without vector kernels")
        self.table = _table
        self.units = matrix_of("recurrent_kernel", recurrent_kernel, (None, None)).shape[0]
        width, lanes = 4 * self.units, self.table.lanes
        recurrent_kernel = matrix_of("recurrent_kernel", recurrent_kernel, (self.units, width))
        kernel = matrix_of("kernel", kernel, (None, width))
        self.features, self.units_padded = len(kernel), rounded_up(self.units, lanes)
        if bias is not None:
            bias = self.interleaved(matrix_of("bias", bias, (width,))[np.newaxis])[0]
        self.recurrent = pack(self.interleaved(recurrent_kernel), lanes)
        cdef Matrix packed = Matrix(self.interleaved(kernel), bias)
        if packed.table != self.table:
            raise RuntimeError("another thread chose another instruction set meanwhile")
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.source = None, packed
        if embeddings is not None:
            embeddings = matrix_of("embeddings", embeddings, (None, self.features))
            self.rows_of_table = len(embeddings)
            self.source = np.ascontiguousarray(embeddings, np.float32), packed
        if project:
            self.project()

    cdef interleaved(self, matrix):
        """(K, 4U) by gates -> (K, 4 * units_padded) by [block][gate][lane]."""
        depth, lanes = len(matrix), self.table.lanes
        padded = np.zeros((depth, 4, self.units_padded), np.float32)
        padded[:, :, :self.units] = matrix.reshape(depth, 4, self.units)
        blocks = padded.reshape(depth, 4, self.units_padded // lanes, lanes).transpose(0, 2, 1, 3)
        return blocks.reshape(depth, 4 * self.units_padded)

    def project(self):
        """Make the table of projections, if it is not there; runs under way go on with what they began with."""
        embeddings, kernel = self.source
        if embeddings is None:
            raise ValueError("there are no embeddings to project")
        if kernel is not None:
            self.source = kernel.product(embeddings, aligned((self.rows_of_table, 4 * self.units_padded))), None

    @property
    def projected(self):
        return self.source[1] is None

    @property
    def nbytes(self):
        """Bytes of packed weights and tables."""
        table, kernel = self.source
        return self.recurrent.nbytes + (table.nbytes if kernel is None else kernel.nbytes)

    @property
    def work(self):
        """Multiplications a row and timestep."""
        return 4 * self.units * (self.units + (0 if self.projected else self.features))


def run_lstm(list runs not None, x, Rows rows not None, Scratch scratch not None):
    """Run one or two directions over the same input, one after the other.

    Parameters
    ----------
    runs : list of dict
        For each direction: `lstm` (Lstm); `reverse`, read from the last timestep to the first; `initial_state` (h, c),
        each (B, U), or None; `outputs` (B, T, any) or None, written from column `offset` on with `merge` (a value of
        MERGES); `flip`, write the output of timestep t at T-1-t; `name`, for the scratch buffers.
    x : ndarray
        (B, T, F) float32, or (B, T) int32 token ids for an Lstm with embeddings; contiguous.
    rows : Rows

    Returns
    -------
    list of (h, c)
        The final states, each (B, U). Outputs at masked timesteps are left as they are.
    """
    cdef Job[2] jobs
    cdef Py_ssize_t count = len(runs), k
    if not 1 <= count <= 2:
        raise ValueError(f"run_lstm: {count} directions; expected 1 or 2")
    if count == 2 and runs[0]["name"] == runs[1]["name"]:
        raise ValueError(f"two directions have scratch buffers of the same name {runs[0]['name']!r}")
    kept = []
    for k in range(count):
        kept.append(_prepare(&jobs[k], runs[k], x, rows, scratch))
    with nogil:
        # One after the other: in turn, step by step, they would drive each other's weights out of the L1 cache.
        for k in range(count):
            _loop(&jobs[k], rows)
    return [_final_states(&jobs[k], runs[k]["lstm"], rows) for k in range(count)]


cdef _prepare(Job* job, dict run, x, Rows rows, Scratch scratch):
    """Check the arrays of a direction and fill its Job; returns what must stay alive."""
    cdef Lstm lstm = <Lstm?> run["lstm"]
    cdef fbl_lstm* step = &job.step
    cdef Py_ssize_t batch = rows.batch, padded = lstm.units_padded
    cdef Matrix kernel
    memset(job, 0, sizeof(Job))
    job.table = lstm.table
    table, kernel = lstm.source
    name = run["name"]
    if table is None:
        job.x = floats(checked("x", x, (batch, rows.timesteps, lstm.features)))
    else:
        job.x = floats(table)
        job.ids = <const int32_t*> floats(checked("ids", x, (batch, rows.timesteps), False, _INT32))
        _check_ids(job.ids, batch * rows.timesteps, lstm.rows_of_table)
    job.features, job.projected, job.reverse, job.flip = lstm.features, kernel is None, run["reverse"], run["flip"]
    job.split = lstm.activation.code != FBL_TANH or lstm.recurrent_activation.code != FBL_SIGMOID
    states = scratch.take((name, "states"), (3, batch, padded))
    job.states = floats(states)
    row_bytes = 2 * sizeof(Py_ssize_t) if kernel is None else 16 * padded
    # In Python's integers: batch may be any number where an axis of the arrays is empty.
    steps = max(1, SLICE_BYTES // max(1, int(row_bytes) * int(batch)))
    job.slice_rows = batch * min(steps, rows.timesteps)
    if kernel is not None:
        job.packed, job.bias = kernel.packed_at, kernel.bias_at
        proj = scratch.take((name, "proj"), (job.slice_rows, 4 * padded))
        job.proj = floats(proj)
    index = scratch.take((name, "index"), (2, job.slice_rows, sizeof(Py_ssize_t) // sizeof(float)))
    job.source = <Py_ssize_t*> floats(index)
    job.target = job.source + job.slice_rows
    states[...] = 0
    if run["initial_state"] is not None:
        h, c = (np.asarray(state, np.float32) for state in run["initial_state"])
        if not h.shape == c.shape == (batch, lstm.units):
            raise ValueError(f"initial_state has shapes {h.shape} and {c.shape}; expected {(batch, lstm.units)}")
        order = rows.order if rows.masked else slice(None)
        states[0, :, :lstm.units] = states[1, :, :lstm.units] = h[order]
        states[2, :, :lstm.units] = c[order]
    step.units, step.units_padded, step.recurrent = lstm.units, padded, floats(lstm.recurrent)
    step.c = job.states + 2 * batch * padded
    if not FBL_STORE <= <Py_ssize_t> run["merge"] <= FBL_AVERAGE:
        raise ValueError(f"merge is {run['merge']}; expected a value of MERGES")
    step.merge = run["merge"]
    step.activation, step.activation_parameters = lstm.activation.code, lstm.activation.parameters
    step.recurrent_activation = lstm.recurrent_activation.code
    step.recurrent_activation_parameters = lstm.recurrent_activation.parameters
    if job.split:
        step.z = floats(scratch.take((name, "z"), (batch, 4, padded)))
    outputs = run["outputs"]
    if outputs is not None:
        checked("outputs", outputs, (batch, rows.timesteps, None), True)
        apart("outputs", outputs, {"x": x})
        step.out_stride = outputs.shape[2]
        if not 0 <= run["offset"] <= step.out_stride - lstm.units:
            raise ValueError(f"outputs have {step.out_stride} columns, the {lstm.units} units start at {run['offset']}")
        step.out = floats(outputs) + <Py_ssize_t> run["offset"]
    return index, states, table, kernel


cdef int _loop(Job* job, Rows rows) except -1 nogil:
    """All steps of a direction; `active` rows have more than `s` timesteps."""
    cdef Py_ssize_t steps = rows.count(0) if rows.batch else 0, active = rows.batch
    cdef Py_ssize_t s, work = 0
    for s in range(steps):
        while rows.count(active - 1) <= s:
            active -= 1
        if work >= SIGNAL_WORK:
            look_for_signals()
            work = 0
        work += _step(job, s, active, rows)
    return 0


cdef Py_ssize_t _step(Job* job, Py_ssize_t s, Py_ssize_t active, Rows rows) noexcept nogil:
    """One timestep of one direction; returns the number of multiplications."""
    cdef fbl_lstm* step = &job.step
    cdef Py_ssize_t work = 4 * active * (step.units + ROW_WORK) * step.units, size = rows.batch * step.units_padded
    cdef Py_ssize_t ahead, r
    if s == 0 or job.begin + active > job.filled:
        work += _fill_slice(job, s, active, rows)
    step.rows = active
    if job.projected:
        step.proj, step.proj_index = job.x, job.source + job.begin
        # Rows of the table come from far: ask for those of the next step, or of some steps ahead if they are few.
        ahead = job.begin + max(active, FETCHED_AHEAD)
        for r in range(ahead, min(ahead + active, job.filled)):
            fbl_prefetch(job.x + job.source[r] * 4 * step.units_padded, 4 * step.units_padded)
    else:
        step.proj, step.proj_index = job.proj + job.begin * 4 * step.units_padded, NULL
    step.out_index = job.target + job.begin
    step.h_tm1 = job.states + (s & 1) * size
    step.h = job.states + (1 - (s & 1)) * size
    step.backwards = s & 1
    if job.split:
        job.table.lstm_gates(step)
        job.table.lstm_cell(step)
    else:
        job.table.lstm_step(step)
    job.begin += active
    return work


cdef Py_ssize_t _fill_slice(Job* job, Py_ssize_t s, Py_ssize_t active, Rows rows) noexcept nogil:
    """Number the rows of the next steps, as many as a slice holds, and project them; returns the multiplications."""
    cdef Py_ssize_t n = 0, steps = rows.count(0), width = 4 * job.step.units_padded, r, t, row
    while s < steps:
        while rows.count(active - 1) <= s:
            active -= 1
        if n + active > job.slice_rows:
            break
        for r in range(active):
            t = rows.time(r, s, job.reverse)
            row = rows.row(r) * rows.timesteps
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


cdef int _check_ids(const int32_t* ids, Py_ssize_t n, Py_ssize_t limit) except -1:
    cdef Py_ssize_t k
    cdef bint bad = False
    for k in range(n):
        bad |= not 0 <= ids[k] < limit
    if bad:
        raise ValueError(f"a token id is not in 0 to {limit - 1}")
    return 0


cdef _final_states(Job* job, Lstm lstm, Rows rows):
    """h and c of each row after its last step: h lies in the buffer that an even or an odd number of steps ends in."""
    cdef Py_ssize_t units = lstm.units, padded = lstm.units_padded, r, row
    h, c = np.empty((rows.batch, units), np.float32), np.empty((rows.batch, units), np.float32)
    cdef float* h_at = floats(h)
    cdef float* c_at = floats(c)
    for r in range(rows.batch):
        row = rows.row(r)
        memcpy(h_at + row * units, job.states + ((rows.count(r) & 1) * rows.batch + r) * padded, units * sizeof(float))
        memcpy(c_at + row * units, job.step.c + r * padded, units * sizeof(float))
    return h, c


def fill_masked(outputs, mask, str how, initial, bint reverse, bint flip, Py_ssize_t offset, Py_ssize_t units):
    """Write what masked timesteps emit into `outputs` (B, T, any), columns offset to offset + units.

    `how`: "zero"; "previous", the output of the step before in the order of processing, zero at first; "state", the
    same, `initial` (B, U) or None for zeros at first.
    """
    cdef Py_ssize_t batch, timesteps, stride, b, k, t, place, row_bytes
    batch, timesteps, stride = checked("outputs", outputs, (None, None, None), True).shape
    if not (0 <= units <= stride and 0 <= offset <= stride - units):
        raise ValueError(f"outputs have {stride} columns, the {units} units start at {offset}")
    if how not in ("zero", "previous", "state"):
        raise ValueError(f"how is {how!r}; expected 'zero', 'previous' or 'state'")
    row_bytes = units * sizeof(float)
    cdef float* at = floats(outputs) + offset
    cdef const uint8_t* kept = <const uint8_t*> floats(checked("mask", mask, (batch, timesteps), False, _BOOL))
    cdef float* first = NULL
    cdef float* before
    if how == "state" and initial is not None:
        first = floats(checked("initial", initial, (batch, units)))
    apart("outputs", outputs, {"mask": mask, "initial": initial})
    cdef bint zero = how == "zero"
    with nogil:
        for b in range(batch):
            before = NULL if first == NULL else first + b * units
            for k in range(timesteps):
                t = timesteps - 1 - k if reverse else k
                place = timesteps - 1 - t if flip else t
                if kept[b * timesteps + t]:
                    before = at + (b * timesteps + place) * stride
                elif zero or before == NULL:
                    memset(at + (b * timesteps + place) * stride, 0, row_bytes)
                else:
                    memcpy(at + (b * timesteps + place) * stride, before, row_bytes)


def merge_outputs(outputs, other, merge):
    """outputs (op) other, in place: MERGES of two contiguous float32 arrays of one shape."""
    cdef float* a = floats(checked("outputs", outputs, (None,) * getattr(outputs, "ndim", 1), True))
    cdef const float* b = floats(checked("other", other, outputs.shape))
    cdef Py_ssize_t n = outputs.size, k
    cdef Py_ssize_t op = merge
    if op not in (FBL_ADD, FBL_MUL, FBL_AVERAGE):
        raise ValueError(f"merge is {op}; expected one of {FBL_ADD}, {FBL_MUL}, {FBL_AVERAGE}")
    apart("outputs", outputs, {"other": other})
    with nogil:
        if op == FBL_ADD:
            for k in range(n):
                a[k] += b[k]
        elif op == FBL_MUL:
            for k in range(n):
                a[k] *= b[k]
        else:
            for k in range(n):
                a[k] = (a[k] + b[k]) * <float> 0.5
    return outputs
