"""Executors of studies: processes of this machine, Dask; objectives that travel.

Threads: XLA's CPU client takes all cores, in every process. `processes` divides the
cores among its workers by the variable NPROC, which XLA reads when its client starts
(unless it is set); with Dask, set it where workers start, for instance by
``dask worker --nthreads 1`` under ``NPROC=1``. Workers that share a GPU also need
``XLA_PYTHON_CLIENT_PREALLOCATE=false``.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jnas.discrete.checks import count
from jnas.errors import JnasError
from jnas.objective import Objective

__all__ = ["built_by", "dask_executor", "end", "processes"]


def processes(workers: int) -> Callable[[], concurrent.futures.Executor]:
    """What makes pools of worker processes, one after another where they break.

    They are spawned, since a process that uses JAX must not be forked. So a script has
    to be importable: what it does stands under ``if __name__ == "__main__":``.

    Args:
      workers: number of processes.

    Returns:
      A function that makes a `concurrent.futures.ProcessPoolExecutor`.

    Raises:
      JnasError: ``workers`` is not positive; or, of the function, the first workers
        can't start.

    Example:
      >>> make = processes(2)  # and jnas.discrete.study(..., executor=make)
    """
    workers = count("parallel", workers)
    started = False

    def make():
        nonlocal started
        pool = concurrent.futures.ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(max(1, _cores() // workers),),
        )
        try:
            if not started:
                pool.submit(os.getpid).result()
                started = True
        except concurrent.futures.BrokenExecutor:
            pool.shutdown(wait=False)
            raise JnasError(
                "worker processes die at their start: a script that uses them must "
                "keep what it does under `if __name__ == '__main__':`, for they import "
                "it"
            ) from None
        return pool

    return make


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(threads: int) -> None:
    """Runs in each worker before anything else."""
    os.environ.setdefault("NPROC", str(threads))
    # Ctrl-C goes to all processes of a terminal; the study ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A worker whose study was killed would wait for work forever.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def end(executor: concurrent.futures.Executor, *, at_once: bool) -> None:
    """Shuts an executor down.

    Args:
      executor: the executor.
      at_once: whether to end processes that still work, too.

    Example:
      >>> end(concurrent.futures.ThreadPoolExecutor(1), at_once=True)
    """
    running = dict(getattr(executor, "_processes", None) or {}) if at_once else {}
    executor.shutdown(wait=False, cancel_futures=True)
    for process in running.values():
        process.terminate()


@contextlib.contextmanager
def dask_executor(
    address: str | None = None, *, workers: int | None = None, **options: Any
) -> Iterator[concurrent.futures.Executor]:
    """An executor on a Dask cluster, within a ``with`` block.

    A script that starts a local cluster keeps what it does under
    ``if __name__ == "__main__":``, since the workers import it.

    Args:
      address: of a scheduler that runs, such as "tcp://10.0.0.1:8786"; by default a
        cluster of processes on this machine is started, and ended afterwards.
      workers: of the local cluster, single-threaded processes; by default one a core.
      **options: for `distributed.LocalCluster`, or with an address for
        `distributed.Client`.

    Yields:
      The executor of `distributed.Client.get_executor`.

    Raises:
      JnasError: distributed is not installed, ``workers`` does not apply, or there is
        no scheduler at the address.

    Example:
      >>> with dask_executor("tcp://127.0.0.1:1", workers=2):
      ...     pass
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: workers is for a cluster on this machine, got an address, \
too: leave one out
    """
    if address is not None and workers is not None:
        raise JnasError(
            "workers is for a cluster on this machine, got an address, too: leave one "
            "out"
        )
    try:
        import distributed
    except ImportError:
        raise JnasError(
            "Dask needs the package distributed: pip install 'jnas[dask]'"
        ) from None
    with contextlib.ExitStack() as stack:
        if address is None:
            workers = count("workers", _cores() if workers is None else workers)
            options = {"threads_per_worker": 1, "dashboard_address": None, **options}
            cluster = distributed.LocalCluster(n_workers=workers, **options)
            client = distributed.Client(stack.enter_context(cluster))
        else:
            try:
                client = distributed.Client(address, **options)
            except (OSError, ValueError) as error:
                raise JnasError(
                    f"no Dask scheduler can be reached at {address} ({error}): start "
                    "one, or see to the address, such as tcp://10.0.0.1:8786"
                ) from error
        yield stack.enter_context(client).get_executor()


@dataclasses.dataclass(frozen=True)
class _Built:
    """Evaluates by an objective that is made where it is needed, once a process."""

    make: Callable[..., Objective]
    options: tuple[tuple[str, Any], ...]

    def evaluate(self, genes, key, fidelity):
        return _made(self.make, self.options).evaluate(genes, key, fidelity)


@functools.lru_cache(maxsize=4)
def _made(make, options):
    return make(**dict(options))


def built_by(make: Callable[..., Objective], /, **options: Any) -> Objective:
    """An objective that every worker builds by itself, once, from a few options.

    For objectives that can't be sent, or only slowly: a supernet with its weights, a
    table.

    Args:
      make: a function of a module that returns the objective.
      **options: its keyword arguments, hashable.

    Returns:
      An objective like the one that ``make`` builds here, not traceable.

    Raises:
      JnasError: an option is not hashable, or ``make`` returns something else.

    Example:
      >>> import jnas
      >>> def wish(power):
      ...     def evaluate(genes, key, fidelity):
      ...         return genes.sum(-1) ** power, fidelity
      ...     return Objective(jnas.spaces.nasbench201(), evaluate, "wish")
      >>> import numpy as np
      >>> built_by(wish, power=2)(np.array([[1, 1, 1, 0, 0, 0]])).tolist()
      [9]
    """
    listed = tuple(sorted(options.items()))
    try:
        hash(listed)
    except TypeError as error:
        raise JnasError(
            f"options of built_by must be hashable ({error}): use numbers, texts and "
            "tuples, such as the path of a file"
        ) from None
    here = _made(make, listed)
    if not isinstance(here, Objective):
        raise JnasError(
            f"{getattr(make, '__name__', make)!s} must return a jnas.Objective, got "
            f"{type(here).__name__}"
        )
    return here._replace(evaluate=_Built(make, listed).evaluate, traceable=False)
