"""Runs the steps on the processes and nodes of a Ray cluster."""

import importlib
import logging
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backend import Work
from ..errors import ItemError, UserError
from ..fields import Positive, Transient, Weight
from .batch import load, run_batch

log = logging.getLogger(__name__)

BATCHES_PER_WORKER = 2  # one in work, and one that waits, so that no worker waits for its next batch
TRIES = 4  # workers that may be lost over a batch, or one after the other while they load
SECONDS_BETWEEN_REMINDERS = 60  # while no worker of a pool can start


@dataclass(frozen=True)
class Pool:
    """The workers of a step. Each is a process with a copy of the step's back-end.

    Attributes:
        workers: How many there are.
        cpus: How many CPUs each takes of the cluster.
        gpus: How many GPUs, or which part of one, each takes.
    """

    workers: Positive = 1
    cpus: Weight = 1.0
    gpus: Weight = 0.0


@dataclass
class Ray:
    """Runs each step on a pool of workers; steps with the same back-end share a pool.

    Several blocks of sources are in work at the same time, so that all pools work at the same time. Workers
    write images; records go to this process, which alone writes them. All nodes must see the data, the
    weights, the working folder and the store under the same paths. A worker that is lost is replaced, and its
    batch is done again.

    Attributes:
        address: The address of a cluster; None for RAY_ADDRESS, or else for processes of this machine.
        pools: The pool of each step by the first word of its name; `source` is that of all steps without a
            back-end.
        blocks: How many blocks are in work at the same time.
        block_size: How many sources a block has.
        devices: 1, because a model under test is spread over workers.
    """

    pools: Transient[Mapping[str, Pool]]
    address: Transient[str | None] = None
    blocks: Transient[Positive] = 4
    block_size: Transient[Positive] = 64
    devices: Transient[Positive] = field(default=1, init=False)

    _workers: dict[int, "_Workers"] = field(default_factory=dict, init=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)

    def load(self, backend: Any) -> None:
        """Does nothing: each worker loads its back-end before its first batch."""

    def map(self, step: Work, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yields the results of each batch, in order."""
        workers = self._start(step)
        yield from workers.map(step, batches)

    def stop(self) -> None:
        """Ends all workers, and with them the work that other threads wait for."""
        with self._lock:
            for workers in self._workers.values():
                workers.stop()
            self._workers.clear()

    def _start(self, step: Work) -> "_Workers":
        """Returns the workers for a step, which are started if there are none yet."""
        with self._lock:
            _connect(self.address, self.pools)
            key = id(step.backend)  # the configured back-ends live as long as their pipeline
            if key not in self._workers:
                name = "source" if step.backend is None else step.name.split()[0]
                pool = self.pools.get(name, Pool())
                self._workers[key] = _Workers(name, pool, step.backend, self._make_room)
            return self._workers[key]

    def _make_room(self, waiting: "_Workers") -> None:
        """Ends a worker of the largest pool, so that a pool without any can start one.

        Otherwise a cluster that lost a node could be full of workers that wait for those of a later step.
        """
        with self._lock:
            others = [workers for workers in self._workers.values() if workers is not waiting]
        largest = max(others, key=lambda workers: workers.count_loaded(), default=None)
        if largest is not None and largest.count_loaded() > 1:
            largest.retire_one()


@dataclass(eq=False)
class _Handle:
    """A worker process: whether it has loaded its back-end, and whether it has ended."""

    actor: Any
    is_loaded: bool = False
    is_lost: bool = False
    is_retired: bool = False


class _Workers:
    """The running workers of a pool. A worker is given batches once it has loaded its back-end."""

    def __init__(self, name: str, pool: Pool, backend: Any, make_room: Callable[["_Workers"], None]) -> None:
        self.name, self.pool, self.backend, self._make_room = name, pool, backend, make_room
        self._free: queue.SimpleQueue[_Handle | None] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(BATCHES_PER_WORKER * pool.workers)
        self._lock = threading.Lock()
        self._handles: list[_Handle] = []
        self._error: Exception | None = None
        self._lost_in_a_row = 0
        for _ in range(pool.workers):
            self._launch()

    def map(self, step: Work, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yields the results of each batch, in order."""
        import ray

        shared = ray.put(step)
        yield from self._threads.map(lambda batch: self._run(step.name, shared, batch), batches)

    def stop(self, error: Exception | None = None) -> None:
        """Ends the workers; whoever waits for them gets the error."""
        import ray

        with self._lock:
            self._error = error or UserError("the run was stopped")
            handles, self._handles = self._handles, []
        self._free.put(None)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for handle in handles:
            handle.is_lost = True
            ray.kill(handle.actor)

    def count_loaded(self) -> int:
        """Returns how many workers have loaded their back-end."""
        with self._lock:
            return sum(handle.is_loaded for handle in self._handles)

    def retire_one(self) -> None:
        """Ends a worker for good, and those that could not start yet; its batches are repeated."""
        import ray

        with self._lock:
            waiting = [handle for handle in self._handles if not handle.is_loaded]
            retired = [*waiting, *[handle for handle in self._handles if handle.is_loaded][-1:]]
            self._handles = [handle for handle in self._handles if handle not in retired]
            for handle in retired:
                handle.is_lost = handle.is_retired = True
        log.warning("%s: one worker less, to make room for another pool", self.name)
        for handle in retired:
            ray.kill(handle.actor)

    def _launch(self) -> None:
        """Starts a worker, which becomes free when it is loaded; on a full cluster that may take long."""
        import ray

        options = {"num_cpus": self.pool.cpus, "num_gpus": self.pool.gpus, "max_restarts": 0}
        handle = _Handle(ray.remote(_Worker).options(**options).remote(self.backend, str(Path.cwd())))
        with self._lock:
            if self._error is not None:
                return
            self._handles.append(handle)
        threading.Thread(target=self._wait_until_loaded, args=(handle,), daemon=True).start()

    def _wait_until_loaded(self, handle: _Handle) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            ray.get(handle.actor.load.remote())
        except RayTaskError as error:
            self.stop(error.cause if isinstance(error.cause, UserError) else error)
        except RayError as error:
            self._replace(handle, error)
        else:
            handle.is_loaded, self._lost_in_a_row = True, 0
            for _ in range(BATCHES_PER_WORKER):
                self._free.put(handle)

    def _replace(self, handle: _Handle, error: Exception) -> None:
        """Starts another worker for one that was lost, once."""
        with self._lock:
            if handle.is_lost or self._error is not None:
                return
            handle.is_lost = True
            self._handles.remove(handle)
            self._lost_in_a_row += 1
        reason = str(error).splitlines()[0]
        if self._lost_in_a_row >= TRIES:
            self.stop(
                UserError(f"{self.name}: {TRIES} workers in a row were lost ({reason}). {self._remedy()}")
            )
            return
        log.warning("%s: a worker was lost (%s); another one starts, and its batches are repeated",
                    self.name, reason)  # fmt: skip
        self._launch()

    def _run(self, step: str, shared: Any, batch: Sequence[Any]) -> list[Any]:
        """Returns the results of a batch, from the next free worker."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        lost = 0
        while lost < TRIES:
            handle = self._take()
            try:
                results: list[Any] = ray.get(handle.actor.work.remote(shared, batch))
            except RayTaskError as error:
                self._free.put(handle)
                raise error.cause if isinstance(error.cause, UserError) else error from None
            except RayError as error:  # the worker, its node or the memory of its node
                lost += not handle.is_retired
                self._replace(handle, error)
            else:
                self._free.put(handle)
                return results
        raise UserError(
            f"{step}: {TRIES} workers were lost over the same batch of {len(batch)} items. {self._remedy()}"
        )

    def _take(self) -> _Handle:
        """Returns the next free worker; raises the error that ended the workers."""
        start = time.monotonic()
        while True:
            try:
                handle = self._free.get(timeout=SECONDS_BETWEEN_REMINDERS)
            except queue.Empty:
                if not self.count_loaded():
                    self._remind(time.monotonic() - start)
                    self._make_room(self)
                continue
            if handle is None:
                self._free.put(None)  # for the others who wait
                assert self._error is not None
                raise self._error
            if not handle.is_lost:
                return handle

    def _remind(self, seconds: float) -> None:
        import ray

        log.warning(
            "no worker of execution.pools.%s has started for %.0f s: one asks for %g CPUs and %g GPUs, and "
            "the cluster has %s free. Unless it is loading, or the cluster grows, all pools together ask for "
            "too much", self.name, seconds, self.pool.cpus, self.pool.gpus,
            _describe(ray.available_resources()),
        )  # fmt: skip

    def _remedy(self) -> str:
        return (
            "Finished work is kept. What helps: a smaller batch_size, more memory for each worker, or fewer "
            f"workers in execution.pools.{self.name}"
        )


class _Worker:
    """A process with one back-end."""

    def __init__(self, backend: Any, folder: str) -> None:
        self._backend, self._folder = backend, folder

    def load(self) -> None:
        """Loads the back-end; raises a UserError where this node lacks what the work needs."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise UserError(
                f"the node {os.uname().nodename} has no folder {self._folder}: with execution=ray, all nodes "
                "must see the working folder, the data and the store under the same paths"
            ) from error
        if self._backend is not None:
            load(self._backend)

    def work(self, step: Work, batch: Sequence[Any]) -> list[Any]:
        """Returns the results of a batch."""
        results = run_batch(lambda items: step.work(self._backend, items), batch)
        return [_make_portable(result) for result in results]


def _make_portable(result: Any) -> Any:
    """Returns a result that another process can read; an exception keeps its traceback as a note."""
    if not isinstance(result, Exception):
        return result
    if not isinstance(result, ItemError):
        result.add_note("".join(traceback.format_tb(result.__traceback__)))
    try:
        pickle.loads(pickle.dumps(result))
    except Exception:  # what a library's own exception raises may be anything
        return ItemError(f"{type(result).__name__}: {result}")
    return result


def _connect(address: str | None, pools: Mapping[str, Pool]) -> None:
    """Connects to a cluster, or starts one on this machine, unless this process has one."""
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise UserError("execution=ray needs the package ray: pip install 'dillema[ray]'") from error
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS")
    needed = sum(pool.workers * pool.cpus for pool in pools.values())
    own = {} if address else {"num_cpus": max(int(needed) + 1, os.cpu_count() or 1)}
    try:
        ray.init(
            address or "local", configure_logging=False, include_dashboard=None if address else False, **own
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"execution.address={address}: no Ray cluster answers there ({error})") from error
    finally:
        for number, handler in handlers.items() if is_main else ():
            signal.signal(number, handler)  # Ray replaces them, and the run would not say how to go on
    log.info("Ray: %d nodes, %s", len(ray.nodes()), _describe(ray.cluster_resources()))


def _describe(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
