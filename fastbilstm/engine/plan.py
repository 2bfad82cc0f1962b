"""Plan: a compiled model, and how it answers: batch after batch, on several threads, from tapes.

compiling.py makes it. Imports NumPy.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import FastBiLSTMError, FileFormatError, InputError
from ..layers import Tensor
from ..record import Record
from . import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ..analysis import padding
    from ..layers import Functional, Spec
    from ..layers.recurrent import Recurrent

# Scratch buffers beyond this size are given back after a prediction.
KEPT_SCRATCH = 64 * 2**20
# Rows computed together: more leave the caches and gain nothing. A multiple of the rows of every register tile.
CHUNK_ROWS = 36
# Multiplications of each thread, below which another one costs more than it gains.
WORTH_A_THREAD = 4_000_000
# Multiplications above which a second thread gains something if it is awake and called without Python: replay.py.
WORTH_ONE_AWAKE = 1_000_000


class Plan(Record):
    """A compiled model.

    Attributes
    ----------
    network, runner : Functional
        The specification of the model, and what runs (the same for backend "numpy").
    output_specs : tuple of Spec
    id_limits : tuple
        For each input, the number of rows of the Embedding that reads it directly; None if no Embedding does.
    copied : tuple of bool
        For each input, whether it is copied before a run: token ids and masks, which are checked first and read again.
    stateful : tuple of Recurrent
    work : int
        Multiplications a row and timestep, roughly.
    chunk_rows : int
        Rows computed together, at most.
    independent : bool
        Whether each row of a batch may be computed without the others: the model is not stateful and no layer looks
        across rows.
    padding : padding.Padding
        Whether the answer depends on the amount of masked padding, if every input may be padded.
    table_bytes, memory_budget : int
    replay : Replay or None
        Runs small predictions of backend "vector" again without Python.
    weights : str
        The form of the weights, one of weight_forms.FORMS.
    """

    network: Functional
    runner: Any
    dtype: np.dtype[Any]
    backend: Literal["vector", "blas", "numpy"]
    output_specs: tuple[Spec, ...]
    id_limits: tuple[int | None, ...]
    copied: tuple[bool, ...]
    stateful: tuple[Recurrent, ...]
    work: int
    chunk_rows: int
    independent: bool
    padding: padding.Padding
    table_bytes: int
    memory_budget: int
    scratches: list[Any]
    replay: Any
    weights: Literal["float32", "bfloat16", "float16", "int8"] = "float32"

    def run(self, arrays: Sequence[Any], states: dict[Any, Any], n_threads: int = 1) -> list[NDArray[Any]]:
        """Arrays in, arrays out, for one batch.

        Another thread or process may write into the arrays meanwhile. So what is checked is a copy, or is read once.
        """
        arrays = [array.copy() if copied else array for array, copied in zip(arrays, self.copied)]
        scratch, new_states = None, dict(states) if self.stateful else states
        context = new_states
        if self.backend == "vector":
            try:
                scratch = self.scratches.pop()
                scratch.join_slabs()
            except IndexError:
                scratch = self.runner.new_scratch()
            # A layer would wake a thread, and Python's time around it is longer than what that saves in a short one.
            context = self.runner.new_context(new_states, scratch, 1 if self.is_short(arrays) else n_threads)
        outputs = self.call(arrays, context)
        # The caller owns the results: none may share memory with a buffer, an input, a state or another result.
        arrays_in_use = [*arrays, *(state for pair in new_states.values() for state in pair)]
        for k, y in enumerate(outputs):
            if (scratch is not None and scratch.owns(y)) or any(np.may_share_memory(y, a) for a in arrays_in_use):
                outputs[k] = np.array(y)
            arrays_in_use.append(outputs[k])
        # An error skips these lines: the scratch with half-done work is dropped, and the states stay as they were. They
        # come last, after all that may find no memory.
        if scratch is not None and scratch.nbytes <= KEPT_SCRATCH:
            self.scratches.append(scratch)
        if self.stateful:
            states.update(new_states)
        return outputs

    def call(self, arrays, context, network=None):
        """The outputs of the runner, whose buffers the arrays may lie in, or of another network in its place."""
        try:
            with np.errstate(all="ignore"):
                runner = network or self.runner
                return [y for y, _ in runner.call([Tensor(array) for array in arrays], {}, context)]
        except FileFormatError as error:
            # A layer checked a size that the model leaves free: the input is wrong, not the file.
            raise InputError(str(error)) from error
        except FastBiLSTMError:
            raise
        except TypeError as error:
            if not any(array.dtype == object for array in arrays):
                raise
            raise InputError(f"a layer that computes with numbers is given strings ({error})") from error
        except ValueError as error:
            # Sizes that the model leaves free are compared only here.
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise InputError(f"inputs of shapes {shapes} do not fit each other or the weights ({error})") from error

    def predict(
        self,
        arrays: Sequence[Any],
        batch_size: int,
        states: dict[Any, Any],
        n_threads: int,
        update: Callable[[int], None] | None = None,
        cuts: Sequence[NDArray[Any] | None] | None = None,
    ) -> list[Any]:
        """`run` for one batch after another, in several threads if rows are independent; calls `update(rows done)`.

        Of many rows that are independent, equal ones are computed once.

        `cuts`, from `model_input.check`, is given if rows differ in length. Then a batch is a group of rows of similar
        length, and an output that has the timesteps of an input becomes a list of arrays.
        """
        n_threads = min(n_threads, threads.cores())
        may_split = self.independent and self.backend == "vector"
        if may_split and len(arrays[0]) > CHUNK_ROWS:
            from . import equal_rows  # for many rows alone: saves time at start

            alike = equal_rows.find(arrays) if equal_rows.worth_looking(arrays, self.work * _steps(arrays)) else None
            if alike is not None:
                firsts, places = alike
                some = [
                    equal_rows.Taken(array, firsts) if isinstance(array, np.ndarray) else array.taken(firsts)
                    for array in arrays
                ]
                shorter = None if cuts is None else [None if cut is None else cut[firsts] for cut in cuts]
                done = None if update is None else lambda count: update(count * len(places) // len(firsts))
                try:
                    found = self.predict_all(some, batch_size, states, n_threads, done, shorter)
                except InputError:
                    pass  # the error below has the numbers of the rows as they were given
                else:
                    return [y[places] if isinstance(y, np.ndarray) else [y[k].copy() for k in places] for y in found]
        return self.predict_all(arrays, batch_size, states, n_threads, update, cuts)

    def predict_all(self, arrays, batch_size, states, n_threads, update=None, cuts=None):
        """`predict` for rows that all differ, or are computed again."""
        rows, may_split = len(arrays[0]), self.independent and self.backend == "vector"
        size = max(1, min(batch_size, rows))
        if may_split:
            # The other rows of a batch do not change the bits of a row, so any size of batch is allowed.
            size = min(size, self.chunk_rows) if rows > self.chunk_rows else max(rows, 1)
            n_threads = min(n_threads, self.most_threads(arrays))
            if not self.is_short(arrays):  # else in Python two chunks take longer than one
                size = max(1, min(size, -(-rows // n_threads)))
        if cuts is None:
            chunks = [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]
            if len(chunks) == 1:
                return self.answer(arrays, chunks[0], states, n_threads)
        else:
            from ..inputs.ragged import groups  # for rows of different lengths alone: saves time at start

            chunks = groups(arrays, size, n_threads if may_split else 1)
        workers = min(n_threads, len(chunks)) if may_split else 1
        whole = _Outputs(rows, cuts, update)

        def run(number):
            whole.write(chunks[number], self.answer(arrays, chunks[number], states, n_threads // workers))

        threads.run_together(run, len(chunks), workers)
        if workers > 1 and self.replay is not None and all(type(array) is np.ndarray for array in arrays):
            self.replay.split(self, arrays, n_threads)
        return whole.outputs

    def most_threads(self, arrays):
        """How many threads are worth their while."""
        products = self.products(arrays)
        return max(1, min(threads.cores(), max(products // WORTH_A_THREAD, 1 + (products >= WORTH_ONE_AWAKE))))

    def is_short(self, arrays):
        """Whether no thread is worth its while that must be woken."""
        return self.products(arrays) < 2 * WORTH_A_THREAD

    def products(self, arrays):
        """Multiplications for these inputs, roughly."""
        return self.work * _steps(arrays) * len(arrays[0])

    def answer(self, arrays, chunk, states, n_threads):
        """The outputs for a chunk, from a tape if there is one."""
        if self.replay is None or not self.independent:
            return self.run_chunk(arrays, chunk, states, n_threads)
        rows = [array[chunk] for array in arrays]
        if not all(type(array) is np.ndarray for array in rows):
            return self.run_chunk(arrays, chunk, states, n_threads)
        try:
            return self.replay.learn(self, rows, n_threads)
        except InputError:
            return self.run_chunk(arrays, chunk, states, n_threads)  # whose error names the rows

    def run_chunk(self, arrays, chunk, states, n_threads):
        """`run` for the rows of a chunk; an InputError names them."""
        try:
            return self.run([array[chunk] for array in arrays], states, n_threads)
        except InputError as error:
            raise InputError(f"in the batch of rows {_shown(chunk)}: {error}") from error


def _steps(arrays):
    """Timesteps of a row."""
    return max(array.shape[1] if array.ndim > 1 else 1 for array in arrays)


def _shown(chunk):
    """The rows of a chunk for a message."""
    if isinstance(chunk, slice):
        return f"{chunk.start} to {chunk.stop - 1}"
    shown = sorted(chunk.tolist())
    return ", ".join(map(str, shown[:5])) + (f" and {len(shown) - 5} others" if len(shown) > 5 else "")


class _Outputs:
    """The outputs of one prediction, whose rows are written chunk by chunk, perhaps by several threads at once.

    A chunk is a slice of the rows or an array of their numbers.
    """

    def __init__(self, rows, cuts, update):
        self.rows, self.cuts, self.update = rows, cuts, update
        self.lock, self.outputs, self.done = threading.Lock(), None, 0

    def write(self, chunk, parts):
        cuts = self.cuts or [None] * len(parts)
        with self.lock:
            if self.outputs is None:
                self.outputs = [self.empty(part, cut) for part, cut in zip(parts, cuts)]
        for whole, part, cut in zip(self.outputs, parts, cuts):
            if cut is None:
                if whole.shape[1:] != part.shape[1:]:
                    raise InputError(f"rows {_shown(chunk)} give an output of shape {part.shape}, others another")
                whole[chunk] = part
                continue
            for row, y in zip(chunk.tolist(), part):
                whole[row] = y[: cut[row]].copy()
        with self.lock:
            self.done += chunk.stop - chunk.start if isinstance(chunk, slice) else len(chunk)
            if self.update:
                self.update(self.done)

    def empty(self, part, cut):
        return np.empty((self.rows, *part.shape[1:]), part.dtype) if cut is None else [None] * self.rows
