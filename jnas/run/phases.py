"""Steps of two kinds: whole ones, and those that leave the architecture alone.

Which kind a step is, is known from its number alone, so the host chooses between two
compiled programs and nothing more need be saved: no conditional gets into a program,
where the CPU would run convolutions many times slower.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jnas.errors import JnasError
from jnas.run import metrics, nonfinite, program

__all__ = ["BOTH", "WEIGHTS", "Phases", "Programs", "flat", "means", "unflat"]

BOTH, WEIGHTS = "both", "weights"
_PREFIX = "weights_only:"  # of the sums of weights-only steps, in checkpoints


class Phases(NamedTuple):
    """A step function for `jnas.run.loop` whose steps are of two kinds.

    Attributes:
      both: ``(state, train_batch, val_batch) -> (state, info)``, the whole step.
      weights: likewise, the step that leaves the architecture alone; its ``info`` may
        have other names.
      arch_from: the number of steps before the first whole one.
      arch_every: at every how many-th step from there on the step is a whole one.

    Example:
      >>> step_fn = lambda state, train, val: (state, {})
      >>> phases = Phases(step_fn, step_fn, arch_from=2, arch_every=2)
      >>> [phases.kind(step) for step in range(5)]
      ['weights', 'weights', 'both', 'weights', 'both']
    """

    both: Callable[..., Any]
    weights: Callable[..., Any]
    arch_from: int = 0
    arch_every: int = 1

    def kind(self, step: int) -> str:
        """Of the step with that number."""
        since = step - self.arch_from
        return BOTH if since >= 0 and since % self.arch_every == 0 else WEIGHTS

    def number(self, kind: str, first: int, last: int) -> int:
        """How many of the steps ``first <= step < last`` are of a kind."""
        begin = max(first, self.arch_from)
        whole = 0
        if last > begin:
            offset = -(begin - self.arch_from) % self.arch_every
            whole = max(0, -(-(last - begin - offset) // self.arch_every))
        return whole if kind == BOTH else last - first - whole

    def chunk(self, chunk: int) -> int:
        """The largest part of a chunk in which all steps are always of one kind."""
        return 1 if self.arch_every > 1 else math.gcd(chunk, self.arch_from)


class Programs:
    """The compiled programs of a run, one for each kind of step.

    Attributes:
      phases: the kinds.
      chunk: steps a dispatch, all of one kind.
      names: the metrics of each kind, sorted; known after `look`.

    Example:
      >>> programs = Programs(lambda s, t, v: (s, {}), 4)
      >>> programs.chunk, programs.phases.kind(0), programs.description()
      (4, 'both', {})
    """

    def __init__(
        self,
        step_fn: Callable[..., Any] | Phases,
        chunk: int,
        *,
        skip: tuple[str, ...] | None = None,
    ):
        """Takes a plain step function as well; `skip` as in `nonfinite.Skipping`."""
        if not isinstance(step_fn, Phases):
            step_fn = Phases(step_fn, step_fn)
        for name, value, least in (
            ("arch_from", step_fn.arch_from, 0),
            ("arch_every", step_fn.arch_every, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise JnasError(
                    f"{name} must be a whole number >= {least}, got {value!r}"
                )
        self.phases = step_fn
        self.chunk = step_fn.chunk(chunk)
        self.names: dict[str, tuple[str, ...]] = {}
        functions = {BOTH: step_fn.both, WEIGHTS: step_fn.weights}
        if skip is not None:
            functions = {
                kind: nonfinite.Skipping(function, skip)
                for kind, function in functions.items()
            }
        self._programs = {
            kind: program.build(function, self.chunk)
            for kind, function in functions.items()
        }

    def description(self) -> dict[str, Any]:
        """What a resumed run must match; empty where all steps are whole ones."""
        if (self.phases.arch_from, self.phases.arch_every) == (0, 1):
            return {}
        return {
            "arch_from": self.phases.arch_from,
            "arch_every": self.phases.arch_every,
        }

    def kinds(self, first: int, last: int) -> tuple[str, ...]:
        """The kinds that occur in the steps ``first <= step < last``."""
        return tuple(k for k in (BOTH, WEIGHTS) if self.phases.number(k, first, last))

    def look(self, kinds: Iterable[str], state: Any, fed: Any, key: Any) -> None:
        """Finds the names of the metrics of some kinds."""
        for kind in kinds:
            if kind not in self.names:
                self.names[kind] = self._programs[kind].names(state, fed, key)

    def zeros(self, kinds: Iterable[str]) -> dict[str, dict[str, Any]]:
        """New sums of the kinds."""
        return {kind: self._programs[kind].zeros(self.names[kind]) for kind in kinds}

    def dispatch(
        self,
        state: Any,
        sums: dict[str, Any],
        fed: Any,
        key: Any,
        step: int,
        step0: Any,
    ) -> tuple[Any, dict[str, Any], str, Any]:
        """Runs the chunk at `step`; gives its kind back, too."""
        kind = self.phases.kind(step)
        state, own, infos = self._programs[kind].dispatch(
            state, sums[kind], fed, key, step0
        )
        return state, {**sums, kind: own}, kind, infos


def flat(sums: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The sums of all kinds under distinct names, as checkpoints keep them."""
    one = dict(sums.get(BOTH, {}))
    return one | {_PREFIX + k: v for k, v in sums.get(WEIGHTS, {}).items()}


def unflat(saved: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sums by kind; kinds without any are left out.

    Example:
      >>> unflat({"loss": 1.0, "weights_only:loss": 2.0})
      {'both': {'loss': 1.0}, 'weights': {'loss': 2.0}}
    """
    sums: dict[str, dict[str, Any]] = {}
    for name, value in saved.items():
        kind = WEIGHTS if name.startswith(_PREFIX) else BOTH
        sums.setdefault(kind, {})[name.removeprefix(_PREFIX)] = value
    return sums


def means(sums: dict[str, dict[str, Any]], counts: dict[str, int]) -> dict[str, float]:
    """The metrics of an epoch: each the mean over the steps that have it.

    Args:
      sums: of each kind of step that the epoch has, on the host.
      counts: the number of its steps of each kind; those that were skipped (of one
        seed's metrics: by that seed) count for nothing but the share of skipped ones.

    Returns:
      The means; not finite where all steps were skipped.

    Example:
      >>> means({"both": {"a": 2.0, "b": 4.0}, "weights": {"a": 3.0}},
      ...       {"both": 2, "weights": 3})
      {'a': 1.0, 'b': 2.0}
    """
    row = {}
    for name in sorted({name for own in sums.values() for name in own}):
        total, steps = np.float32(0), np.float32(0)
        for kind, own in sums.items():
            if name in own:
                done = np.float32(counts[kind])
                metric, seed = metrics.split_seed(name)
                if metric != nonfinite.SKIPPED:
                    skipped = metrics.of_seed(nonfinite.SKIPPED, seed)
                    done = done - np.float32(own.get(skipped, 0))
                total, steps = total + np.float32(own[name]), steps + done
        row[name] = float(total / steps) if steps else math.nan
    return row
