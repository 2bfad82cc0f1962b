"""Scores the chunks of a file on a Dask cluster: several at a time, results in order, even if a worker is lost.

Imports NumPy and this package; Dask is imported where it is used.
"""

from __future__ import annotations

import collections
import hashlib
import importlib
import json
import logging
import pickle
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FastBiLSTMError, FileFormatError, MissingExtraError, unless_missing
from ..graph import graph_to_json
from ..model import Model
from .batch_predictor import BatchPredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NoReturn

# How often a chunk is tried again after an error that is not ours (a disk that is unavailable for a moment, say). The
# scheduler itself gives the chunks of a lost worker to others, `distributed.scheduler.allowed-failures` times.
RETRIES = 2
# Seconds to wait for the scheduler, between looks at the workers while a chunk is waited for, and for a worker while
# there is none.
_CONNECT_TIMEOUT, _LOOK, _WORKER_TIMEOUT = 10, 5, 60


def import_dask(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("dask", "dask", f"predicting on Dask ({name})") from unless_missing(error)


class WorkerPredictor(BatchPredictor):
    """A predictor for other processes: batches come in any order, and several tasks run at a time.

    The file of the model must have the same content on the workers as here. An old copy on one machine, or a file
    replaced during a job, would mix the answers of two models.
    """

    def __init__(self, predictor: BatchPredictor, n_threads: int) -> None:
        self.__dict__.update(predictor.__getstate__())
        self.in_order, self.digest = False, None
        self.n_threads = n_threads if self.n_threads is None else self.n_threads
        digest = _digest(self.model)
        self.digest = None if isinstance(self.source, Model) else digest

    def _check_model(self, model: Model) -> None:
        super()._check_model(model)
        if self.digest not in (None, _digest(model)):
            raise FileFormatError(f"{self.source}: holds another model than the file of this name where the job began")


def _digest(model: Model) -> str:
    """SHA-256 of everything that a model computes with."""
    text = getattr(model, "text", None)
    head = [graph_to_json(model.graph), getattr(model, "labels", None), text and text.to_json()]
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, array in sorted(model._tensors.items()):
        array = np.ascontiguousarray(array)
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def predict_chunks(predictor: Callable[[Any], Any], chunks: Iterable[Any], address: str) -> Iterator[Any]:
    """Run a predictor over chunks on the workers of a Dask scheduler; the results come in the order of the chunks.

    `fastbilstm predict --dask ADDRESS` runs this. At most two chunks for each thread of the workers are under way, so
    a chunk is read when a worker will soon be free for it. If a worker is lost, its chunks run on another one. Leaving
    the iterator, also by Ctrl-C, cancels the chunks under way.

    Parameters
    ----------
    predictor : BatchPredictor or callable
        Called on the workers with one chunk. It is sent to each worker once.
    chunks : iterable
        What the predictor takes; read in the calling thread.
    address : str
        Address of the scheduler, "tcp://host:port".

    Yields
    ------
    object
        What the predictor gives for each chunk.

    Raises
    ------
    FastBiLSTMError
        If the scheduler cannot be reached or is lost, has no workers for a minute, or a chunk fails on several of them.
        What the predictor raises (InputError for a bad row) comes as it is and is not tried again.
    MissingExtraError, unless_missing
        If Dask is not installed.
    """
    if isinstance(predictor, BatchPredictor):
        predictor = WorkerPredictor(predictor, 1)
    cluster = _Cluster(address)
    waiting: collections.deque[tuple[int, Any]] = collections.deque()
    try:
        # The predictor is the result of a task: workers pass it on, and the scheduler runs the task again if they are
        # lost.
        shared = cluster.submit(pickle.loads, _dumps(predictor))
        for number, chunk in enumerate(chunks):
            # The chunk goes as bytes: in lists, Dask would look at every number for collections.
            waiting.append((number, cluster.submit(_run_chunk, shared, _dumps(chunk))))
            while len(waiting) >= 2 * cluster.threads():
                yield cluster.result(*waiting.popleft())
        while waiting:
            yield cluster.result(*waiting.popleft())
    finally:
        cluster.close([future for _, future in waiting])


def _dumps(value: Any) -> Any:
    return import_dask("cloudpickle").dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _run_chunk(predictor: Callable[[Any], Any], chunk: bytes) -> tuple[Any, Exception | None]:
    """On a worker: (result, None), or (None, error) for an error that a second try would repeat."""
    try:
        return predictor(pickle.loads(chunk)), None
    except (FastBiLSTMError, MissingExtraError) as error:
        return None, naming_worker(error)


def naming_worker(error: Exception) -> Exception:
    """Make errors about files and packages name the machine, since the same call may work on another one."""
    worker = importlib.import_module("distributed.worker")
    try:
        address = worker.get_worker().address
    except ValueError:  # no worker: another of Dask's schedulers runs the task
        return error
    if isinstance(error, FileFormatError):
        text = f"on the Dask worker {address}: {error} (every worker reads the model from its file)"
        return type(error)(text, *error.args[1:])
    if isinstance(error, MissingExtraError):
        return MissingExtraError(error.package, error.extra, f"on the Dask worker {address}: {error.purpose}")
    return error


class _Cluster:
    """A client of a scheduler whose errors say what to do."""

    def __init__(self, address: str) -> None:
        distributed = import_dask("distributed")
        self.address, self.timeouts = address, (distributed.TimeoutError, TimeoutError)
        try:
            self.client = distributed.Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TypeError, *self.timeouts) as error:
            raise FastBiLSTMError(
                f"Dask scheduler {address!r} cannot be reached ({error}); expected tcp://host:port of a running one"
            ) from error

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return self.client.submit(function, *args, pure=False, retries=RETRIES)
        except Exception as error:
            self.fail("a task cannot be sent", error)

    def threads(self) -> int:
        """The number of threads of all workers; waits if there is no worker yet."""
        end = time.monotonic() + _WORKER_TIMEOUT
        while True:
            try:
                threads: int = sum(self.client.nthreads().values())
            except Exception as error:
                self.fail("does not answer", error)
            if threads:
                return threads
            if time.monotonic() > end:
                raise FastBiLSTMError(f"Dask scheduler {self.address!r} had no worker for {_WORKER_TIMEOUT} seconds")
            time.sleep(0.1)

    def result(self, number: int, future: Any) -> Any:
        """The result of a chunk; raises what the predictor raised."""
        while True:
            try:
                result, error = future.result(timeout=_LOOK)
                break
            except self.timeouts as error:
                if future.status == "error":  # the task's own
                    self.fail(f"chunk {number}", error)
                self.threads()
            except Exception as error:
                self.fail(f"chunk {number}", error)
        if error is not None:
            raise error
        return result

    def fail(self, what: str, error: Exception) -> NoReturn:
        """Raise an error of Dask or a machine as ours. Its cause, an OSError, tells that the rows done are valid."""
        told = str(error).strip().rstrip(".")
        raise FastBiLSTMError(
            f"Dask scheduler {self.address!r}: {what}: {type(error).__name__}: {told}. The scheduler and each worker "
            "need this fastbilstm, and memory for two chunks a thread"
        ) from ConnectionError(repr(error))

    def close(self, futures: list[Any]) -> None:
        """Cancel the chunks under way and close the client."""
        log = logging.getLogger("distributed.client")
        level = log.level
        # An error has already told of a lost connection; the client would also print each attempt to reconnect.
        log.setLevel(logging.CRITICAL)
        try:
            if futures and self.client.status == "running":
                self.client.cancel(futures, force=True)
            self.client.close()
        except Exception as error:
            log.debug("leaving the scheduler: %r", error)
        finally:
            log.setLevel(level)
