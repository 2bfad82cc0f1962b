"""LSTM, GRU, SimpleRNN and Bidirectional on the float32 vector kernels; see vector_embedded.py for what is before them.

Each has the call and the result of the layer of the specification that it replaces. Imports NumPy and the compiled
module `_kernels`; knows nothing of files.
"""

import copy

import numpy as np

from .. import _kernels
from ..layers import Tensor
from ..layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from ..layers.recurrent import GRU, LSTM, RNN, Bidirectional, Recurrent, SimpleRNN
from .folding import cell_of
from .vector_layers import (
    LEAST_OF_INT8,
    adopt,
    contiguous,
    contiguous_mask,
    lanes,
    row_activation,
    worth_a_thread,
)
from .weight_forms import codes_of, int8_codes


def narrow_pays(cell_name, recurrent_kernel, form, reset_after):
    """Whether kernels for a form are faster than those for float32, as measured: widening costs more than it saves
    where the weights are in the L1 cache, that of float16 as long as they are in L2; of few units, the codes of a state
    take longer than the products save.
    """
    if form == "int8":
        fewest = {"lstm": 16, "gru": 16 if reset_after else 24, "simple_rnn": 64}
        return len(recurrent_kernel) >= fewest[cell_name]
    return 4 * recurrent_kernel.size >= {"bfloat16": 2**16, "float16": 2**21}[form]


class Joined:
    """Token ids (B, T) and floats (B, T, F') beside them: read in place of embeddings and floats joined."""

    def __init__(self, ids, floats):
        self.ids, self.floats, self.shape = ids, floats, (*ids.shape, None)

    def __len__(self):
        return len(self.ids)


def read_by_kernels(x, dtype):
    """x (B, T, F) or (B, T) contiguous; (B, F) if its timesteps are the same memory, as `VectorRepeated` gives them.

    Of a `Joined` both arrays.
    """
    if isinstance(x, Joined):
        return contiguous(x.ids, dtype), contiguous(x.floats)
    is_repeated = x.ndim == 3 and x.size > 0 and x.strides[1] == 0 and x.shape[1] > 1
    return contiguous(x[:, 0] if is_repeated else x, dtype)


class VectorRecurrent(Recurrent):
    """One direction of a layer, or of an RNN over one cell.

    `fold`: (kernel, bias) -> (kernel, bias), folds the layers before it into the weights. With `embeddings` (V, F) it
    reads token ids; if its kernel has more rows than F, it reads a `Joined`, whose embeddings begin at feature `first`.
    `weights` is the form of the weights, of weight_forms.py.
    """

    cell_name = ""

    def __init__(self, layer, fold=None, embeddings=None, weights="float32", first=0):
        adopt(self, layer)
        cell = cell_of(layer)
        if cell is not layer:
            adopt(self, cell)
            vars(self).update(vars(layer) | {"weights": cell.weights, "config": {**cell.config, **layer.config}})
            del self.step  # of the cell
        kernel, bias = self.weights["kernel"], self.weights.get("bias")
        options = {"cell": self.cell_name}
        if self.cell_name == "gru":
            options["reset_after"] = self.reset_after
            if self.reset_after and bias is not None:
                bias, options["recurrent_bias"] = bias
        if fold is not None:
            kernel, bias = fold(kernel, bias)
        if embeddings is not None and len(kernel) > embeddings.shape[1]:
            own = slice(first, first + embeddings.shape[1])
            options["joined_kernel"], kernel = np.delete(kernel, own, axis=0), kernel[own]
        gates = None if self.cell_name == "simple_rnn" else row_activation(self, "recurrent_activation")
        recurrent_kernel = self.weights["recurrent_kernel"]
        if weights != "float32" and narrow_pays(
            self.cell_name, recurrent_kernel, weights, options.get("reset_after", True)
        ):
            options["narrow"] = codes_of(recurrent_kernel, weights)
        if weights == "int8" and fold is None and embeddings is None and len(kernel) >= LEAST_OF_INT8:
            options["narrow_kernel"] = int8_codes(kernel, 0)
        self.packed = _kernels.Recurrent(
            kernel, recurrent_kernel, bias, row_activation(self), gates, embeddings, **options
        )
        # That of the products with states, or else with the input.
        self.form = "int8" if "narrow_kernel" in options and _kernels.dots() else self.packed.form
        self.input_dtype = np.float32 if embeddings is None else np.int32

    @property
    def work(self):
        return self.packed.work

    @property
    def directions(self):
        """Each VectorRecurrent that reads what the layer is given."""
        return (self,)

    def project(self):
        self.packed.project()

    def job(self, x, rows, initial_state, outputs=None, offset=0, merge=None, flip=False):
        """A job for `_kernels.run_recurrent`: one direction."""
        return {
            "layer": self.packed,
            "x": x,
            "rows": rows,
            "reverse": self.go_backwards,
            "initial_state": initial_state,
            "outputs": outputs,
            "offset": offset,
            "merge": _kernels.MERGES[merge],
            "flip": flip,
        }

    def fill(self, outputs, mask, rows, masked_output, initial_state, flip, offset=0):
        """Write what masked timesteps emit."""
        if rows.masked:
            first = None if initial_state is None else contiguous(initial_state[0])
            _kernels.fill_masked(
                outputs, mask, masked_output, first, self.go_backwards, flip, offset, self.packed.units
            )

    def last_output(self, h, mask, rows, masked_output):
        """The output of the last timestep processed, from the final h."""
        if not rows.masked or masked_output == "state":
            return h
        return _kernels.last_output(h, contiguous_mask(mask), masked_output == "zero", self.go_backwards)

    def run(self, x, mask, initial_state, masked_output, states):
        job, end = self.start(x, mask, initial_state, masked_output, states)
        return end(*_kernels.run_recurrent([job], states.scratch, states.n_threads))

    def start(self, x, mask, initial_state, masked_output, states):
        """(A job for `run_recurrent`, a function from its final states to the results of `run`)."""
        rows = states.rows(x, mask)
        outputs = states.array(*x.shape[:2], self.packed.units) if self.return_sequences else None

        def end(final):
            if self.return_sequences:
                self.fill(outputs, contiguous_mask(mask), rows, masked_output, initial_state, self.go_backwards)
            return outputs, self.last_output(final[0], mask, rows, masked_output), *final

        x = read_by_kernels(x, self.input_dtype)
        return self.job(x, rows, initial_state, outputs, flip=self.go_backwards), end

    def start_call(self, inputs, kwargs, states):
        """(A job for `run_recurrent`, a function from its final states to the Tensors of `call`)."""
        x, mask, first = self.begin(inputs, kwargs, states)
        job, end = self.start(x, mask, first, self.emitted(mask), states)

        def tensors(final):
            outputs, last, *final = end(final)
            return self.finish(outputs, last, final, mask, inputs[0].mask, states)

        return job, tensors


class VectorLSTM(VectorRecurrent, LSTM):
    cell_name = "lstm"


class VectorGRU(VectorRecurrent, GRU):
    cell_name = "gru"


class VectorSimpleRNN(VectorRecurrent, SimpleRNN):
    cell_name = "simple_rnn"


VECTOR_RECURRENT = ((LSTMCell, VectorLSTM), (GRUCell, VectorGRU), (SimpleRNNCell, VectorSimpleRNN))


def recurrent(layer, fold=None, embeddings=None, weights="float32", first=0):
    """The kernels of an LSTM, GRU, SimpleRNN, RNN over one such cell, or of a Bidirectional layer of them."""
    if isinstance(layer, Bidirectional):
        return VectorBidirectional(layer, fold, embeddings, weights, first)
    make = next(make for cell, make in VECTOR_RECURRENT if isinstance(cell_of(layer), cell))
    return make(layer, fold, embeddings, weights, first)


def padded_width(layer):
    """Columns of a projection for a recurrent layer, or for both halves."""
    parts = map(cell_of, layer.inner if isinstance(layer, Bidirectional) else (layer,))
    return sum(part.n_gates * -(-part.units // lanes()) * lanes() for part in parts)


class VectorBidirectional(Bidirectional):
    """Runs both directions in turn, step by step, or in two threads. Each writes its part of the output in place."""

    def __init__(self, layer, fold=None, embeddings=None, weights="float32", first=0):
        adopt(self, layer)
        self.inner = tuple(recurrent(part, fold, embeddings, weights, first) for part in layer.inner)
        self.forward, self.backward = self.inner

    @property
    def work(self):
        return self.forward.work + self.backward.work

    @property
    def directions(self):
        return self.inner

    def project(self):
        for part in self.inner:
            part.project()

    def call(self, inputs, kwargs, states):
        forward, backward = self.inner
        if forward.time_major or forward.zeroes_late or backward.zeroes_late:
            return super().call(inputs, kwargs, states)
        half = (len(inputs) - 1) // 2
        x, mask, first = forward.begin(inputs[: 1 + half], kwargs, states)
        second = backward.start_states(tuple(state.value for state in inputs[1 + half :]), len(x), states)
        rows, mask = states.rows(x, mask), contiguous_mask(mask)
        x = read_by_kernels(x, forward.input_dtype)
        output_mask = inputs[0].mask if forward.return_sequences else None
        run = self.run_sequences if forward.return_sequences else self.run_last
        outputs, states_forward, states_backward = run(x, mask, rows, first, second, states)
        results = []
        for part, final in zip(self.inner, (states_forward, states_backward)):
            if part.stateful:
                states[part] = final
            results += [Tensor(state) for state in final] if part.return_state else []
        return [Tensor(y, output_mask) for y in outputs] + results

    def run_jobs(self, jobs, rows, states):
        """Run both directions, in two threads if that is faster; returns their final states."""
        n_threads = states.n_threads if self.in_parallel(rows, states) else 1
        return _kernels.run_recurrent(jobs, states.scratch, n_threads)

    def in_parallel(self, rows, states):
        return states.n_threads > 1 and worth_a_thread(self.work, rows.steps)

    def run_last(self, x, mask, rows, first, second, states):
        """return_sequences=False: each direction's last output, merged."""
        jobs = [part.job(x, rows, start) for part, start in zip(self.inner, (first, second))]
        finals = self.run_jobs(jobs, rows, states)
        last = [part.last_output(f[0], mask, rows, part.masked_output) for part, f in zip(self.inner, finals)]
        if self.merge_mode is None:
            return last, *finals
        joins = self.merge_mode != "concat"
        y = states.array(rows.batch, last[0].shape[1] if joins else sum(h.shape[1] for h in last))
        _kernels.concatenate(last[:1] if joins else last, y)
        return [_kernels.merge_outputs(y, last[1], _kernels.MERGES[self.merge_mode]) if joins else y], *finals

    def run_sequences(self, x, mask, rows, first, second, states):
        """return_sequences=True. The backward direction writes its outputs in the order of time, not reversed."""
        forward, backward = self.inner
        flips = (forward.go_backwards, not backward.go_backwards)
        units, mode = (forward.packed.units, backward.packed.units), self.merge_mode
        joins = False
        if mode == "concat":
            places = [states.array(rows.batch, rows.timesteps, sum(units))] * 2
            offsets = (0, units[0])
        else:
            offsets = (0, 0)
            places = [states.array(rows.batch, rows.timesteps, units[0])]
            # sum, mul, ave: the backward direction joins its output to the forward output in place, if it runs second
            # and emits zeros at masked timesteps. Else it has an array of its own.
            joins = mode is not None and not self.in_parallel(rows, states)
            joins = joins and (not rows.masked or {p.masked_output for p in self.inner} == {"zero"})
            places += places if joins else [states.array(rows.batch, rows.timesteps, units[1])]
        jobs = [
            part.job(x, rows, start, place, offset, flip=flip)
            for part, start, place, offset, flip in zip(self.inner, (first, second), places, offsets, flips)
        ]
        if joins:
            jobs[1]["merge"] = _kernels.MERGES[mode]
            finals = [_kernels.run_recurrent([job], states.scratch)[0] for job in jobs]
        else:
            finals = self.run_jobs(jobs, rows, states)
        filled = list(zip(self.inner, places, offsets, (first, second), flips))
        for part, place, offset, start, flip in filled[:1] if joins else filled:
            part.fill(place, mask, rows, part.masked_output, start, flip, offset)
        if mode == "concat" or joins:
            return places[:1], *finals
        if mode is None:
            return places, *finals
        return [_kernels.merge_outputs(*places, _kernels.MERGES[mode])], *finals


class VectorStacked(RNN):
    """RNN over StackedRNNCells: each cell in turn runs over the whole output sequence of the cell before.

    A masked timestep keeps the states of all cells, so no cell uses the output of the cell before at that timestep.
    """

    def __init__(self, layer, weights="float32"):
        adopt(self, layer)
        self.cells = []
        for number, cell in enumerate(layer.cell.inner):
            part = copy.copy(layer)
            last = number == len(layer.cell.inner) - 1
            part.cell, part.inner = cell, (cell,)
            part.config = {
                **layer.config,
                "return_sequences": layer.return_sequences or not last,
                "go_backwards": layer.go_backwards and number == 0,
            }
            self.cells.append(recurrent(part, weights=weights))

    @property
    def directions(self):
        return self.cells[0].directions

    def run(self, x, mask, initial_state, masked_output, states):
        given = list(initial_state or ())
        final = []
        for number, part in enumerate(self.cells):
            first = tuple(given[len(final) : len(final) + part.n_states]) or None
            x, last, *own = part.run(x, mask, first, masked_output, states)
            final += own
            if number == 0 and self.go_backwards and mask is not None:
                mask = contiguous_mask(mask)
                mask = _kernels.copy(mask, states.array(*mask.shape, dtype=bool), mask[:, ::-1])
        return x, last, *final
