# The weights of one direction of an LSTM, GRU or SimpleRNN as the kernels read them, included in _kernels.pyx.


# Blocks of units in the kernels, by the name of the cell.
CELLS = {"lstm": 4, "gru": 3, "simple_rnn": 1}

# How a timestep is computed: in one kernel, or by a product and a cell.
cdef enum:
    RUN_LSTM, RUN_LSTM_CELL, RUN_GRU, RUN_GRU_CELL, RUN_RNN


# States after 1, 2, ... timesteps of one input from zero states on, of one direction. Who sets `busy` writes; `count` and
# `rests` are published last.
cdef struct Beginning:
    intptr_t busy, chosen         # whether `id` or `frame` is set
    intptr_t count, rests         # how many states there are; whether all further ones are as the last
    Py_ssize_t capacity
    int32_t id
    float* frame                  # features
    float* states                 # (capacity, 2, units_padded): h and c
    float* work                   # zeros (units_padded), then what a step needs: proj, z (width each), reset


@cython.final
@cython.auto_pickle(False)
cdef class Recurrent:
    """One direction of an LSTM, GRU or SimpleRNN, packed: kernels, biases, activations; perhaps with its Embedding."""

    cdef const fbl_kernels* table
    cdef readonly str cell
    cdef readonly Py_ssize_t features, units, units_padded, rows_of_table, gates
    cdef Py_ssize_t tail # units of a last block that is a quarter or half of the others; 0: it is as large as they
    cdef int how
    cdef tuple recurrent # what the next three point into
    cdef const float* recurrent_at
    cdef const float* recurrent_bias_at
    cdef const float* candidate_at # gate h of a GRU without reset_after
    cdef readonly str form # of the recurrent weights, as packed: "float32", "int8", "bfloat16" or "float16"
    cdef fbl_step sums # the kernel of a timestep, or what gives z; NULL: a product of matrices gives it
    cdef fbl_codes narrow # in place of recurrent_at
    cdef fbl_codes narrow_candidate # in place of candidate_at
    cdef Py_ssize_t columns # of z, that a product of h_tm1 gives where the kernel of a timestep does not
    # What the input rows are looked up in (None: they are given) and the kernel (None: the look-up gives projections);
    # one object, so that whoever prepares a run while another thread projects sees both of one time: `read_source`.
    cdef tuple source
    cdef Matrix joined # the kernel of the features that follow the embeddings, or None
    cdef Activation activation, recurrent_activation
    cdef Beginning beginning
    cdef tuple kept # what it points into

    def __cinit__(
        self, kernel, recurrent_kernel, bias, Activation activation not None, Activation recurrent_activation=None,
        embeddings=None, project=False, str cell not None="lstm", recurrent_bias=None, bint reset_after=True, narrow=None,
        narrow_kernel=None, joined_kernel=None,
    ):
        """kernel (F, GU), recurrent_kernel (U, GU), bias (GU,) or None, for the G gates of `cell`: "lstm" (4, i f c o),
        "gru" (3, z r h; with reset_after perhaps recurrent_bias (3U,)) or "simple_rnn" (1, no recurrent_activation);
        embeddings (V, F) to be run on token ids, projected once with `project`: then a token is a row to add.
        narrow: (codes, scale) of the recurrent kernel, int8 with scale (1, GU), or uint16 (bfloat16) or float16 with None;
        they are used where there are kernels for them, see `form`, and a state is in [-1, 1] if they are int8.
        narrow_kernel: (codes, scale) of the kernel, int8.
        joined_kernel (F', GU): each timestep has F' floats beside its token id, whose products are added to it.
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
        self.columns = 2 * self.units_padded if cell == "gru" and not reset_after else self.gates * self.units_padded
        if narrow is None or not self.takes_narrow(narrow, recurrent_bias):
            rest = self.units % lanes
            if self.how == RUN_LSTM and 0 < rest <= lanes // 2:
                self.tail = lanes // 4 if rest <= lanes // 4 else lanes // 2
            self.pack_recurrent(recurrent_kernel, recurrent_bias)
        if self.how == RUN_GRU:
            last = np.zeros(self.units) if recurrent_bias is None else recurrent_bias[2 * self.units:]
            last = padded_to(np.asarray(last, np.float32), self.units_padded)
            self.recurrent, self.recurrent_bias_at = (*self.recurrent, last), floats(last)
        if self.how == RUN_GRU and recurrent_bias is not None:
            # z and r have one bias each, the sum.
            shared = np.concatenate([recurrent_bias[:2 * self.units], np.zeros(self.units, recurrent_bias.dtype)])
            bias = shared if bias is None else bias + shared
        if bias is not None:
            bias = self.arranged(bias[np.newaxis])[0]
        if narrow_kernel is not None:
            codes, scale = narrow_kernel
            codes = self.arranged(matrix_of("codes", codes, (self.features, width))).astype(np.int8)
            narrow_kernel = codes, self.arranged(matrix_of("scale", scale, (1, width)))
        cdef Matrix packed = Matrix(self.arranged(kernel), bias, narrow_kernel)
        if packed.table != self.table:
            raise RuntimeError("another thread chose another instruction set meanwhile")
        self.source = None, packed
        if embeddings is not None:
            embeddings = matrix_of("embeddings", embeddings, (None, self.features))
            self.rows_of_table = len(embeddings)
            self.source = np.ascontiguousarray(embeddings, np.float32), packed
        if joined_kernel is not None:
            if embeddings is None:
                raise TypeError("joined_kernel without embeddings")
            self.joined = Matrix(self.arranged(matrix_of("joined_kernel", joined_kernel, (None, width))))
        if project:
            self.project()

    cdef bint takes_narrow(self, tuple narrow, recurrent_bias) except -1:
        """Pack narrow weights, if there are kernels for them."""
        cdef const fbl_narrow* table = narrow_in_use(self.table)
        codes, scale = narrow
        codes = matrix_of("codes", codes, (self.units, self.gates * self.units))
        if codes.dtype not in _FORMS:
            raise ValueError(f"codes are {codes.dtype}; expected int8, uint16 (bfloat16) or float16")
        self.form, form, beside = _FORMS[codes.dtype]
        cdef int number = form
        self.sums = NULL
        if table != NULL and self.units <= MOST_UNITS and (number != FBL_INT8 or self.is_bounded()):
            if self.how == RUN_LSTM:
                self.sums = table.lstm_step[number]
            elif self.how == RUN_LSTM_CELL:
                self.sums = table.lstm_gates[number]
            elif self.how == RUN_GRU:
                self.sums = table.gru_step[number]
            else:
                self.sums = table.multiply[number]
        if self.sums == NULL:
            return False
        arranged, split = self.arranged(codes).astype(codes.dtype), self.columns
        if number == FBL_INT8:
            scale = self.arranged(matrix_of("scale", scale, (1, self.gates * self.units)))
        wide = (self.gates if self.how in (RUN_LSTM, RUN_LSTM_CELL, RUN_GRU) else 4) * self.table.lanes
        parts = []
        for part in [slice(0, split)] if split == arranged.shape[1] else [slice(0, split), slice(split, None)]:
            if number == FBL_INT8:
                parts.append(pack_int8(arranged[:, part], scale[:, part], wide, table))
            else:
                parts.append((pack_narrow(arranged[:, part], wide, beside),))
        self.narrow, self.narrow_candidate = codes_at(parts[0]), codes_at(parts[len(parts) - 1])
        self.recurrent = sum(parts, ())
        if recurrent_bias is not None and self.how == RUN_GRU_CELL:
            last = self.arranged(recurrent_bias[np.newaxis])[0]
            last = padded_to(last, rounded_up(len(last), wide))
            self.recurrent, self.recurrent_bias_at = (*self.recurrent, last), floats(last)
        return True

    cdef bint is_bounded(self):
        """Whether the activations keep states in [-1, 1]."""
        cdef int code = self.activation.code
        if not (code == FBL_TANH or code == FBL_HARD_TANH or code == FBL_SOFTSIGN or self.is_gate(code)):
            return False
        return self.recurrent_activation is None or self.is_gate(self.recurrent_activation.code)

    cdef bint is_gate(self, int code):
        """Whether an activation gives 0 to 1."""
        return code == FBL_SIGMOID or code == FBL_CLIP_HARD_SIGMOID or code == FBL_RELU6_HARD_SIGMOID

    cdef pack_recurrent(self, kernel, bias):
        cdef Matrix first, second
        cdef Py_ssize_t lanes = self.table.lanes, padded = self.units_padded
        matrix = self.arranged(kernel)
        self.form, self.sums = "float32", NULL
        if self.how == RUN_LSTM or self.how == RUN_LSTM_CELL:
            self.sums = self.table.lstm_step if self.how == RUN_LSTM else self.table.lstm_gates
            self.recurrent = (pack(matrix, lanes),)
        elif self.how == RUN_GRU:
            self.sums = self.table.gru_step
            blocks = aligned((padded // lanes, self.units, 3 * lanes))
            blocks[...] = matrix.reshape(self.units, padded // lanes, 3 * lanes).transpose(1, 0, 2)
            self.recurrent = (blocks,)
        else:
            split = self.columns
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
        tail = padded[:, :, self.units_padded - lanes:self.units_padded - lanes + self.tail]
        if self.how in (RUN_LSTM, RUN_LSTM_CELL, RUN_GRU):
            padded = padded.reshape(depth, self.gates, self.units_padded // lanes, lanes).transpose(0, 2, 1, 3)
        padded = padded.reshape(depth, self.gates * self.units_padded)
        if self.tail:
            padded = np.concatenate([padded[:, :-self.gates * lanes], tail.reshape(depth, self.gates * self.tail)], axis=1)
        return np.ascontiguousarray(padded)

    cdef tuple read_source(self):
        with cython.critical_section(self):  # without a GIL, `project` could free it in between
            return self.source

    def project(self):
        """Make the table of projections, if it is not there; runs under way go on with what they began with."""
        embeddings, kernel = self.read_source()
        if embeddings is None:
            raise ValueError("there are no embeddings to project")
        if kernel is None:
            return
        cdef tuple projected = (kernel.product(embeddings, aligned((self.rows_of_table, self.width))), None)
        with cython.critical_section(self):
            self.source = projected

    def keep_beginnings(self, Py_ssize_t nbytes):
        """Keep states of as many timesteps of one input as `nbytes` hold; once, before the first run."""
        cdef Py_ssize_t steps = nbytes // (2 * self.units_padded * sizeof(float)), width = self.width
        if self.kept is not None or steps < 1:
            return
        states = aligned((steps, 2, self.units_padded))
        work = aligned((2 * self.units_padded + 2 * width + self.features,))
        work[...] = 0
        self.beginning.states, self.beginning.work = floats(states), floats(work)
        self.beginning.frame = self.beginning.work + 2 * (self.units_padded + width)
        self.beginning.capacity, self.kept = steps, (states, work)

    @property
    def width(self):
        """Columns of a projection."""
        return self.gates * (self.units_padded if self.tail == 0 else self.units_padded - self.table.lanes + self.tail)

    @property
    def n_states(self):
        return 2 if self.cell == "lstm" else 1

    @property
    def projected(self):
        return self.read_source()[1] is None

    @property
    def nbytes(self):
        """Bytes of packed weights and tables."""
        table, kernel = self.read_source()
        packed = sum(part.nbytes for part in self.recurrent)
        packed += 0 if self.joined is None else self.joined.nbytes
        return packed + (table.nbytes if kernel is None else kernel.nbytes)

    @property
    def work(self):
        """Multiplications a row and timestep."""
        joined = 0 if self.joined is None else self.joined.depth
        return self.gates * self.units * (self.units + joined + (0 if self.projected else self.features))
