"""`Batcher`: answers single requests of an asyncio service in batches.

Imports NumPy and `errors`; the model is given.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import FastBiLSTMError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from ..model import Model

__all__ = ["Batcher"]


class _Request(NamedTuple):
    """One row of each input, by name where they were given so, and where its answer goes."""

    names: tuple[str, ...] | None
    row: list[NDArray[Any]]
    answer: asyncio.Future[Any]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Requests of one kind may be stacked."""
        return self.names, *((x.shape, x.dtype) for x in self.row)


class Batcher:
    """Answers single rows, computing those together that wait at the same time.

    While a batch is computed in a thread of its own, the event loop runs on and new requests gather. The next batch
    takes those of one shape, oldest first. Answers are the same to the bit as those of `model.predict` for the row
    alone, if `summary()` says so of the model.

    Parameters
    ----------
    model : Model
        One whose rows do not depend on each other: not stateful.
    max_batch : int
        Rows of a batch, at most.
    wait : float
        Seconds that the first request waits for others while nothing is computed. With 0 a batch begins as soon as
        there is a request: others gather while it runs.
    n_threads : int, optional
        Of a batch, as in `Model.predict`. Default: 1, which is best where several processes serve.

    Raises
    ------
    ValueError
        The model is stateful, or a number is out of range.

    Examples
    --------
    >>> async def main():
    ...     async with fastbilstm.aio.Batcher(model) as batcher:
    ...         return await asyncio.gather(*map(batcher.predict, rows))
    """

    def __init__(self, model: Model, max_batch: int = 32, wait: float = 0.0, n_threads: int = 1) -> None:
        if not model._plan.independent:
            raise ValueError(f"model {model.name!r}: rows depend on each other, so requests cannot share a batch")
        if max_batch < 1 or not wait >= 0:
            raise ValueError(f"max_batch is {max_batch} and wait {wait}; expected at least 1, and at least 0 seconds")
        self._model, self._max_batch, self._wait, self._n_threads = model, max_batch, wait, n_threads
        self._waiting: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(1, "fastbilstm-batcher")
        self._timer: asyncio.Handle | None = None
        self._running, self._closed = False, False

    async def predict(self, x: Any) -> Any:
        """The answer for one row, without the batch axis.

        Parameters
        ----------
        x : array_like, or a list or dict of them
            The inputs as `Model.predict` takes them, without the batch axis.

        Raises
        ------
        InputError
            The row does not fit the model. Other rows of the batch are answered.
        RuntimeError
            The batcher is closed.
        """
        if self._closed:
            raise RuntimeError("the Batcher is closed")
        loop = asyncio.get_running_loop()
        names = tuple(x) if isinstance(x, Mapping) else None
        parts = x.values() if isinstance(x, Mapping) else [x] if len(self._model.inputs) == 1 else x
        request = _Request(names, [np.asarray(part) for part in parts], loop.create_future())
        self._waiting.append(request)
        if not self._running and self._timer is None:
            # In the next turn of the loop at the earliest: what came in this one goes together.
            self._timer = loop.call_later(self._wait, self._begin) if self._wait else loop.call_soon(self._begin)
        elif self._timer is not None and len(self._waiting) >= self._max_batch:
            self._timer.cancel()
            self._begin()
        return await request.answer

    def _begin(self) -> None:
        """Compute the oldest request, with others of its kind."""
        self._timer = None
        waiting = [request for request in self._waiting if not request.answer.done()]  # cancelled ones are dropped
        chosen = [request for request in waiting if request.kind == waiting[0].kind][: self._max_batch]
        taken = set(map(id, chosen))
        self._waiting = deque(request for request in waiting if id(request) not in taken)
        self._running = bool(chosen)
        if chosen:
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._thread, self._compute, chosen)
            work.add_done_callback(lambda done: self._end(chosen, done))

    def _compute(self, requests: list[_Request]) -> list[Any]:
        """The answer to each request, or its error."""
        try:
            x = [np.stack(parts) for parts in zip(*(request.row for request in requests))]
            names = requests[0].names
            whole = dict(zip(names, x)) if names is not None else x[0] if len(self._model.inputs) == 1 else x
            y = self._model.predict(whole, batch_size=self._max_batch, n_threads=self._n_threads)
        except FastBiLSTMError as error:
            if len(requests) == 1:
                return [error]
            return [answer for request in requests for answer in self._compute([request])]
        return [_row_of(y, number) for number in range(len(requests))]

    def _end(self, chosen: list[_Request], done: asyncio.Future[list[Any]]) -> None:
        failed = done.exception()
        for number, request in enumerate(chosen):
            if request.answer.done():
                continue
            answer = failed or done.result()[number]
            if isinstance(answer, BaseException):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)
        self._begin()

    async def close(self) -> None:
        """Answer what waits, then end the thread. Requests after it are refused."""
        self._closed = True
        while self._waiting or self._running or self._timer is not None:
            await asyncio.sleep(0.001)
        self._thread.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _row_of(y: Any, number: int) -> Any:
    if isinstance(y, dict):
        return {name: _row_of(part, number) for name, part in y.items()}
    if isinstance(y, (list, tuple)):
        return type(y)(_row_of(part, number) for part in y)
    return y[number].copy()
