"""Streaming: sequences arrive in pieces, and the outputs are those of the whole sequences.

The stand-ins of stand_ins.py run in place of layers that read earlier timesteps. The Stream holds what is remembered,
so one model serves many streams. Imports NumPy; the layers compute.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.causality import STREAM
from ..checks import check_whole
from ..errors import InputError, StreamInUseError
from ..inputs.model_input import by_input
from ..layers.core import check_ids
from .stand_ins import StreamRecurrent, stand_ins_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ..inputs.model_input import ModelInput, Predictions
    from .plan import Plan


class Stream:
    """Sequences that arrive in pieces, `batch` of them side by side. Made by `Model.stream`.

    Every piece is answered with the rows that the whole sequences would give there. A recurrent layer with
    return_sequences=False, and what comes after it, answers for the sequence so far. Several streams on one model do
    not disturb each other. One stream is for one thread at a time: StreamInUseError, with nothing done, where another
    thread is pushing, or is reading or setting the state. A stream can be pickled or deep-copied.

    Attributes
    ----------
    model : Model
        What answers.
    batch : int
        How many sequences there are.
    """

    model: Any
    batch: int

    def __init__(self, model: Any, batch: int = 1) -> None:
        self.model, self.batch = model, check_whole("batch", batch, optional=False)
        self._plan, self._kinds = model._streaming()
        self._lock = threading.Lock()
        self._states: dict[Any, tuple[NDArray[Any], ...]] = {}
        self._fast = _fast_chain(self._plan, self.batch) if self._plan.backend == "vector" else None

    def push(self, x: ModelInput) -> Predictions:
        """Answer the next timesteps.

        Parameters
        ----------
        x : array_like, list or dict
            As for `Model.predict`, with any number n of timesteps: (batch, n, ...), or token ids (batch, n). Without
            the time axis, (batch, ...) or ids (batch,), it is one timestep. Several inputs have the same n.

        Returns
        -------
        ndarray, list or dict of ndarray
            As the model: the n rows of each sequence, without their time axis where x has none. Outputs that have no
            time axis in the model are the answers for the sequences so far.

        Raises
        ------
        InputError
            If an array does not fit.
        StreamInUseError
            If another thread uses the stream.

        After an error the stream stands where it stood before.
        """
        check_file = self.model._check_file
        with self._alone():
            check_file()
            fast = self._fast
            if fast is not None:
                y = fast.push(x)
                if y is not None:
                    check_file()
                    return y
            arrays, timed = self._check(x)
            states = self._all_states()
            outputs = self._plan.run(arrays, states)
            if not timed:
                outputs = [y[:, 0] if kind == STREAM else y for y, kind in zip(outputs, self._kinds)]
            answer = self.model._pack(outputs)
            self._begin(states)
            return answer

    def reset(self) -> None:
        """Begin new sequences, from zeros."""
        with self._alone():
            self._begin({})

    @property
    def state(self) -> list[tuple[NDArray[Any], ...] | None]:
        """What is remembered, as a list of tuples of arrays; assign it to this or another stream of the model to go on
        from there (`other.state = stream.state`).
        """
        with self._alone():
            states = self._all_states()
        return [tuple(a.copy() for a in states[part]) if part in states else None for part in self._parts()]

    @state.setter
    def state(self, value: Sequence[tuple[NDArray[Any], ...] | None]) -> None:
        parts = self._parts()
        try:
            kept = [None if v is None else tuple(np.array(a, self._plan.dtype) for a in v) for v in value]
            states = {part: arrays for part, arrays in zip(parts, kept, strict=True) if arrays is not None}
        except (TypeError, ValueError):
            states = None
        if states is None or not all(part.remembers(arrays, self.batch) for part, arrays in states.items()):
            raise InputError(f"this is no state of a stream of this model with batch {self.batch}")
        with self._alone():
            self._begin(states)

    def __repr__(self) -> str:
        return f"<fastbilstm.Stream of {self.model.name!r}, batch {self.batch}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.model, self.batch, self.state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        return _restore(self.model, self.batch, self.state)

    def _alone(self) -> threading.Lock:
        """The lock of the stream, for `with`; StreamInUseError if another thread holds it."""
        if self._lock.locked():
            raise StreamInUseError("this stream is used by another thread at the same time; give each thread its own")
        return self._lock

    def _begin(self, states: dict[Any, tuple[NDArray[Any], ...]]) -> None:
        """Set these states: all of them, or none if there is an error."""
        if self._fast is not None:
            self._fast.set_states(states)
        self._states = states

    def _all_states(self) -> dict[Any, tuple[NDArray[Any], ...]]:
        states = dict(self._states)
        if self._fast is not None:
            states.update(self._fast.states())
        return states

    def _parts(self) -> list[Any]:
        return list(stand_ins_of(self._plan.runner))

    def _check(self, x: Any) -> tuple[list[NDArray[Any]], bool]:
        """The pieces as arrays with a time axis, and whether they had one."""
        given, arrays, timed = self.model.graph.inputs, [], set()
        for number, (values, part) in enumerate(zip(self._by_input(x), given)):
            what, rank = f"input {part.name!r}", len(part.shape)
            try:
                array = np.asarray(values)
            except ValueError as error:
                raise InputError(f"{what}: rows of different lengths are no array ({error})") from error
            if array.dtype.kind not in "biuf":
                raise InputError(f"{what}: has dtype {array.dtype}; expected numbers")
            shape = array.shape
            if array.ndim == rank + 1 and shape[-1] == 1:  # Model.predict removes that axis, too
                array = array[..., 0]
            timed.add(array.ndim == rank)
            if array.ndim == rank - 1:
                array = np.expand_dims(array, 1)
            sizes = zip(array.shape[2:], part.shape[2:])
            fits = array.ndim == rank and len(array) == self.batch and array.shape[1] > 0
            if not fits or any(size != expected for size, expected in sizes if expected is not None):
                rest = ["any" if size is None else str(size) for size in part.shape[2:]]
                several, one = ", ".join([str(self.batch), "timesteps", *rest]), ", ".join([str(self.batch), *rest])
                raise InputError(
                    f"{what}: has shape {shape}; expected ({several}) or, for one timestep, "
                    f"({one}{'' if rest else ','})"
                )
            limit = self._plan.id_limits[number]
            if limit is not None:
                check_ids(array, limit, f"{what}: the token id")
            arrays.append(array)
        if len(timed) > 1 or len({array.shape[1] for array in arrays}) > 1:
            raise InputError("the inputs differ in their number of timesteps")
        return arrays, timed.pop()

    def _by_input(self, x: Any) -> list[Any]:
        inputs = self.model.graph.inputs
        if len(inputs) == 1 and not isinstance(x, dict):
            # A list may be one sequence of numbers, or the list of inputs that Keras takes as well.
            single = isinstance(x, (list, tuple)) and len(x) == 1 and np.ndim(x[0]) >= len(inputs[0].shape)
            return [x[0] if single else x]
        return by_input(self.model.graph, x)


def _restore(model: Any, batch: int, state: list[tuple[NDArray[Any], ...] | None]) -> Stream:
    stream = Stream(model, batch)
    stream.state = state
    return stream


# ---- one timestep without detours -----------------------------------------------------------------------------------


def _fast_chain(plan: Plan, batch: int) -> FastChain | None:
    """A FastChain if the model is a chain of recurrent and Dense layers on kernels without masks, else None."""
    from .vector_embedded import VectorEmbedded  # imports the kernels
    from .vector_layers import VectorDense
    from .vector_recurrent import VectorRecurrent  # as above

    runner, graph = plan.runner, plan.network.graph
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or graph.output_keys is not None:
        return None
    number = 0
    parts: list[Any] = []
    for step in runner.steps:
        if step.refs is None or len(step.refs) != 1 or step.refs[0].node != number or step.refs[0].tensor:
            return None
        if step.mask is not None:
            return None
        number, layer = step.number, step.layer
        first = layer.layer if isinstance(layer, VectorEmbedded) else layer
        if isinstance(first, StreamRecurrent):
            good = not first.masked and isinstance(first.runner, VectorRecurrent) and not first.runner.return_state
            if isinstance(layer, VectorEmbedded):
                good = good and not layer.mask_zero and not parts
            if not good:
                return None
            parts.append(first)
        elif isinstance(layer, VectorDense) and parts and layer.row_activation is not None:
            parts.append(layer)
        else:
            return None
    ends = [ref for ref in runner.results if (ref.node, ref.tensor) == (number, 0)]
    floats = graph.inputs[0].dtype.startswith(("float", "bfloat"))
    reads_ids = parts and parts[0].runner.input_dtype == np.int32
    return FastChain(parts, batch) if parts and len(ends) == 1 and (floats or reads_ids) else None


class FastChain:
    """One timestep through a chain of layers, each with its states and buffers prepared."""

    def __init__(self, parts: list[Any], batch: int) -> None:
        from .. import _kernels  # not every build has it

        self.put_states = _kernels.set_states
        self.steps: dict[Any, _kernels.StreamStep] = {}
        self.calls: list[Callable[[Any], Any]] = []
        self.pushed = 0
        for part in parts:
            if isinstance(part, StreamRecurrent):
                layer = part.runner
                ids = layer.input_dtype == np.int32
                x = np.zeros((batch, 1) if ids else (batch, 1, layer.packed.features), layer.input_dtype)
                step = _kernels.StreamStep(layer.job(x, _kernels.Rows(batch, 1), None), layer.return_sequences)
                self.steps[part] = step
                self.calls.append(step.push)
            else:
                self.calls.append(_dense(part))
        if len(self.calls) == 1:
            self.__dict__["push"] = self.calls[0]  # one call needs no loop around it

    def push(self, x: Any) -> Any:
        try:
            for call in self.calls:
                x = call(x)
                if x is None:
                    return None
            self.pushed += 1
            return x
        except BaseException:
            for step in self.steps.values():
                if step.pushed > self.pushed:
                    step.go_back()
            raise

    def states(self) -> dict[Any, tuple[NDArray[Any], ...]]:
        """What the stand-ins remember: the last output is h."""
        pairs = ((part, step.states()) for part, step in self.steps.items())
        return {part: (*final, final[0]) for part, final in pairs}

    def set_states(self, states: dict[Any, tuple[NDArray[Any], ...]]) -> None:
        kept = [states.get(part) for part in self.steps]
        self.put_states(list(self.steps.values()), [None if arrays is None else arrays[:-1] for arrays in kept])


def _dense(layer: Any) -> Callable[[Any], Any]:
    product, columns, activation = layer.packed.product, layer.packed.columns, layer.row_activation

    def call(x: Any) -> Any:
        y = np.empty((*x.shape[:-1], columns), np.float32)
        if x.ndim == 2:
            product(x, y, activation)
        else:
            product(x.reshape(-1, x.shape[-1]), y.reshape(-1, columns), activation)
        return y

    return call
