"""Several seeds of one search: one after another, or all in one program.

On the CPU a step of eight seeds takes as long as eight steps, so they run one after
another through one compiled step. An accelerator is not filled by one small search:
there all seeds are mapped in one program, spread over the devices if there are several.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import report as reports
from jnas import search as searches
from jnas.errors import JnasError
from jnas.run import nonfinite, seeds_result, together, workdir
from jnas.run.planning import Plan, SearchResult
from jnas.run.seeds_result import SeedsResult

__all__ = ["BATCHINGS", "SeedsResult", "check", "choose", "run", "samples_paths"]

BATCHINGS = ("auto", "sequential", "vmap", "sharded")
_log = logging.getLogger("jnas")


def check(seeds: Iterable[int]) -> tuple[int, ...]:
    """Checks the seeds that a user gave.

    Args:
      seeds: whole numbers, each once.

    Returns:
      The seeds.

    Raises:
      JnasError: if they are none, or no seeds.

    Example:
      >>> check(range(3))
      (0, 1, 2)
    """
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        raise JnasError(
            f"seeds must be several whole numbers, got {seeds!r}: pass range(8) for "
            "the seeds 0 to 7"
        )
    found = tuple(seeds)
    if not found:
        raise JnasError("seeds must be at least one, got none: pass range(8)")
    for seed in found:
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if not whole or seed < 0:
            raise JnasError(f"seeds must be whole numbers >= 0, got {seed!r}")
    for seed in found:
        if found.count(seed) > 1:
            raise JnasError(f"seeds must differ, got {seed} more than once")
    return tuple(map(int, found))


def samples_paths(search: searches.Search) -> bool:
    """Whether a search evaluates only the candidates of a sample (`Mixture.active`).

    Which these are is decided by `jax.lax.switch`, of which all branches run where its
    index is mapped: then sampling costs as much as evaluating everything.

    Args:
      search: the search.

    Returns:
      Whether it does, in one of its half-steps.

    Example:
      >>> import jnas
      >>> space, sizes = jnas.spaces.nasbench201(), {"channels": 2}
      >>> sizes |= {"cells_per_stage": 1, "epochs": 1, "steps_per_epoch": 1}
      >>> [samples_paths(p(space, **sizes)) for p in (jnas.presets.darts,
      ...                                             jnas.presets.gdas)]
      [False, True]
    """
    relaxation, space = search.relaxation, search.supernet.space
    if relaxation is None:  # composed by hand: nothing is known of it
        return False

    def sample(key: jax.Array) -> list[Any]:
        arch = relaxation.init(key, space)
        context = {"key": key, "step": jnp.int32(0), "space": space}
        phases = ("weights", "arch")
        mixtures = [relaxation.sample(arch, phase=p, **context) for p in phases]
        return [mixed.active for mixed in mixtures]

    found = jax.eval_shape(sample, jax.random.key(0))
    return any(active is not None for active in found)


def _obstacle(plan: Plan, on_nan: str) -> str | None:
    """Why the seeds of a search can't be in one program, if so."""
    if plan.acts_between_epochs:
        return "the regularizer acts on single seeds between epochs (epoch_end)"
    if hasattr(plan.feed, "fed"):
        return "the data are streamed, in an order of each seed's own"
    if on_nan == "rollback":
        return "on_nan='rollback' takes single seeds back"
    return None


def choose(
    plan: Plan,
    number: int,
    batching: str = "auto",
    *,
    on_nan: str = "stop",
    on_epoch: Any = None,
) -> tuple[str, str]:
    """How to run some seeds, and why.

    Args:
      plan: of the search.
      number: of seeds.
      batching: what the user asked for.
      on_nan: as for `jnas.run.search`.
      on_epoch: likewise.

    Returns:
      "sequential", "vmap" or "sharded"; and the reason.

    Raises:
      JnasError: if one program is asked for, but the search does not allow it.
    """
    obstacle = _obstacle(plan, on_nan)
    if batching != "auto":
        if batching != "sequential" and obstacle is not None:
            raise JnasError(
                f"batching must be 'sequential' (or 'auto') here, got {batching!r}: "
                f"{obstacle}"
            )
        return batching, "as asked for"
    if obstacle is not None:
        return "sequential", obstacle
    if on_epoch is not None:
        return "sequential", "on_epoch may stop single seeds"
    if jax.default_backend() == "cpu":
        return "sequential", "the CPU is no faster with several at once"
    if number == 1:
        return "sequential", "there is one seed"
    devices = len(jax.local_devices())
    if number > devices and samples_paths(plan.search):
        return "sequential", "mapped sampling evaluates every candidate"
    return ("sharded" if devices > 1 else "vmap"), "the accelerator takes several"


def run(
    plan: Plan, seeds: tuple[int, ...], batching: str, **options: Any
) -> SeedsResult:
    """Searches with several seeds.

    Args:
      plan: of the search.
      seeds: checked ones.
      batching: one of `BATCHINGS`.
      **options: as for `Plan.run`, but for the seed.

    Returns:
      The result.

    Raises:
      JnasError: as `jnas.run.search`.
      jnas.run.Interrupted: likewise.
    """
    own, reason = choose(
        plan,
        len(seeds),
        batching,
        on_nan=options["on_nan"],
        on_epoch=options["on_epoch"],
    )
    _log.info("%d seeds: %s (%s)", len(seeds), own, reason)
    how = _sequential if own == "sequential" else together.run
    root: Path | None = options.pop("workdir")
    if root is None:
        return _summed(how(plan, seeds, own, None, **options), seeds, own)
    with workdir.claim(root):
        if not (root / seeds_result.FILE).exists():
            seeds_result.announce(root, seeds, own)
        result = _summed(how(plan, seeds, own, root, **options), seeds, own)
        seeds_result.write(root, result)
    if options["report"]:
        try:
            reports.write_html([root], root / "report.html")
        except JnasError as error:  # no reason to lose the result
            _log.warning("no report: %s", error)
    return result


def _summed(
    found: tuple[tuple[SearchResult, ...], float], seeds: tuple[int, ...], batching: str
) -> SeedsResult:
    results, seconds = found
    summary = seeds_result.summarize(results)
    return SeedsResult(results, seeds, batching, seconds, summary)


def _sequential(
    plan: Plan,
    seeds: tuple[int, ...],
    batching: str,
    root: Path | None,
    *,
    label: str,
    **options: Any,
) -> tuple[tuple[SearchResult, ...], float]:
    """Whole runs, one after another."""
    del batching
    results = []
    for seed in seeds:
        try:
            found = plan.run(
                seed=seed,
                workdir=together.folder_of(root, seed),
                label=f"{label} seed {seed}",
                **options,
            )
        except nonfinite.NonFiniteError as error:
            raise nonfinite.NonFiniteError(f"seed {seed}: {error}") from error
        results.append(found)
    return tuple(results), sum(found.seconds for found in results)
