"""A search on a dataset, checked and ready to run with any seed.

What does not depend on the seed (the step, the feed, the shapes to begin from) is made
once, so that several seeds share their compiled programs.
"""

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas import data as datasets
from jnas import report as reports
from jnas import search as searches
from jnas import select
from jnas.diagnostics import derived_skip_share, shares
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.regularizers import base as regularizers
from jnas.run import hooks, material, metrics
from jnas.run.diagnosing import Diagnosis
from jnas.run.loop import EpochInfo, LoopResult, loop
from jnas.run.phases import Phases
from jnas.spaces import Genotype, Space

__all__ = ["Plan", "SearchResult", "write_space"]

_log = logging.getLogger("jnas")


class SearchResult(NamedTuple):
    """What a search gives back.

    Attributes:
      genotype: derived from the final state.
      state: the final state.
      history: one dict of metrics an epoch, the rows of ``metrics.jsonl``.
      seconds: wall time of all epochs.
      resumed_from: the step of the checkpoint it went on from, or None.
      stopped: whether it ended early on purpose.
      verdict: whether it collapsed, in words.
    """

    genotype: Genotype
    state: searches.SearchState
    history: list[dict[str, Any]]
    seconds: float
    resumed_from: int | None
    stopped: bool
    verdict: reports.collapse.Verdict


class Plan:
    """A search on a dataset.

    Attributes:
      search: the search.
      epochs: how many.
      steps_per_epoch: of the feed.
      step: ``(state, train_batch, val_batch) -> (state, info)``, or `Phases`.
      init: ``(key) -> state``, the same object for every seed.
      feed: ``(key, step) -> (train_batch, val_batch)``, or a stream.
      images_per_step: that a whole step reads; 0 for text.
      config: what describes the run, of JSON's types.
      method: the name of the preset, or None.
    """

    def __init__(
        self,
        search: searches.Search,
        data: datasets.Dataset | datasets.StreamDataset | datasets.TextDataset,
        *,
        epochs: int,
        batch_size: int,
        stream: bool = False,
        start: Callable[[jax.Array, Any], Any] | None = None,
        diagnose_every: int | None = None,
    ):
        """Checks that the parts fit; the arguments are those of `jnas.run.search`.

        Raises:
          JnasError: if they don't.
        """
        material.check_outputs(search.supernet.config or {}, data)
        feed, example, per_step = material.for_search(
            data, batch_size, search.config, stream
        )
        _check_plan(search.config, epochs=epochs, steps_per_epoch=feed.steps_per_epoch)

        whole, weights_only = search.step, search.weights_only
        one_batch = material.uses_all(search.config)
        if one_batch:
            whole, weights_only = _on_one_batch(whole), _on_one_batch(weights_only)
        self.step: Any = whole
        if (search.arch_from, search.arch_every) != (0, 1):
            self.step = Phases(whole, weights_only, search.arch_from, search.arch_every)
        _check_ring(search, feed.steps_per_epoch)
        self.search, self.epochs, self.feed = search, epochs, feed
        self.steps_per_epoch: int = feed.steps_per_epoch
        self.images_per_step = per_step if one_batch else 2 * per_step
        self.method = (search.config or {}).get("method")
        self.config = {
            "search": search.config,
            "data": {"name": data.name, "fingerprint": data.fingerprint()},
            "batch_size": batch_size,
            **({} if start is None else {"start": _digest(start)}),
        }
        init: Any = functools.partial(search.init, inputs=example)
        if start is not None:
            init = jax.tree_util.Partial(functools.partial(_started, init), start)
        self.init = init
        self._learns = search.arch_from < epochs * feed.steps_per_epoch
        # What compares candidates on data would take too long after every epoch: there
        # the rows show the strongest ones.
        cheap = search.selector.needs_evaluation
        self._selector = select.argmax() if cheap else search.selector
        nothing = regularizers.Regularizer()
        self._decides = search.regularizer.project is not nothing.project
        self._diagnosis = Diagnosis(
            search,
            data,
            batch_size,
            epochs=epochs,
            steps_per_epoch=feed.steps_per_epoch,
            every=diagnose_every,
        )

    @property
    def acts_between_epochs(self) -> bool:
        """Whether the regularizer looks at the search, and may stop it, on the host."""
        nothing = regularizers.Regularizer()
        return self.search.regularizer.epoch_end is not nothing.epoch_end

    def _decided(self, mixed: Mixture) -> bool:
        space = self.search.supernet.space
        return self._decides and select.decisions.settled(space, mixed)

    def row(self, state: searches.SearchState) -> dict[str, Any]:
        """What the row of an epoch has beside the means of its steps.

        Args:
          state: after the epoch.

        Returns:
          Genotype, shares, probabilities and, at its epochs, the diagnosis.
        """
        search = self.search
        mixed = search.mixture(state)
        # The strongest of what was never learned would mislead, until it is decided.
        told = self._learns or self._decided(mixed)
        if not told and not search.regularizer.curvature_every:
            return {}
        key = jax.random.fold_in(state.key, state.step)
        genotype = self._selector.select(
            state.arch, mixed, space=search.supernet.space, key=key
        )
        measured = self._diagnosis.row(state, mixed, genotype)
        if not told:
            return {}
        return {
            **measured,
            "shares": shares(search.supernet.space, mixed),
            "genotype": str(genotype),
            "derived_skip_share": derived_skip_share(genotype),
            "probabilities": {
                group: np.round(np.asarray(weights, np.float64), 5).tolist()
                for group, weights in mixed.weights.items()
            },
        }

    def run(
        self,
        *,
        seed: int,
        workdir: Path | None,
        on_epoch: Callable[[EpochInfo], str | None] | None,
        chunk: int | None,
        save_every_epochs: int,
        progress: bool,
        on_nan: str,
        report: bool,
        label: str,
    ) -> SearchResult:
        """Searches with one seed; the arguments are those of `jnas.run.search`.

        Returns:
          The result.
        """
        keep = self.search.regularizer.keeps_states + 1
        if keep > 1:
            if workdir is None:
                raise JnasError(
                    "this regularizer goes back to checkpoints: pass a workdir to "
                    "write them to"
                )
            save_every_epochs = 1

        def epoch_metrics(state: searches.SearchState) -> dict[str, Any]:
            # Not before: the loop has to claim the folder first.
            if workdir is not None:
                write_space(workdir / "space.json", self.search.supernet.space)
            return self.row(state)

        result = loop(
            self.step,
            self.init,
            self.feed,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            seed=seed,
            workdir=workdir,
            config=self.config,
            chunk=chunk,
            label=label,
            epoch_metrics=epoch_metrics,
            on_epoch=hooks.watching(on_epoch, self.epochs, self.method),
            between_epochs=hooks.between_epochs(
                self.search, self._selector, self._diagnosis, keep
            ),
            save_every_epochs=save_every_epochs,
            keep=max(2, keep),
            progress=progress,
            images_per_step=self.images_per_step,
            on_nan=on_nan,
        )
        return self.finish(result, workdir, report)

    def finish(
        self, result: LoopResult, workdir: Path | None, report: bool
    ) -> SearchResult:
        """Derives what was found, and leaves it in the folder.

        Args:
          result: of the loop, or what is like it.
          workdir: the folder, or None.
          report: whether to write ``report.html`` there.

        Returns:
          The result of the search.
        """
        search, state = self.search, result.state
        genotype = search.derive(
            state,
            evaluate=self._diagnosis.evaluator(state),
            key=jax.random.fold_in(state.key, state.step),
        )
        if self._decides and not self._decided(search.mixture(state)):
            _log.warning(
                "the search ended before all was decided: the rest is chosen by the "
                "weights of the mixture"
            )
        if workdir is not None:
            told = search.regularizer.record(
                state.regularizer_state, supernet=search.supernet
            )
            _leave(workdir, genotype, told, report)
        return SearchResult(
            genotype,
            state,
            result.history,
            result.seconds,
            result.resumed_from,
            result.stopped,
            reports.collapse.verdict(result.history, genotype, self.method),
        )


def _check_plan(config: dict[str, Any], **given: int) -> None:
    """Schedules were made for a length; another one would silently bend them."""
    for name, value in given.items():
        planned = config.get(name)
        if planned is not None and planned != value:
            raise JnasError(
                f"{name} is {value} here but the search was composed for {planned}: "
                f"pass {name}={value} to the preset"
            )


def _check_ring(search: searches.Search, steps_per_epoch: int) -> None:
    """A regularizer that returns to earlier archs counts them in epochs."""
    every = (search.config or {}).get("recent_every")
    if search.regularizer.keeps_archs and every not in (None, steps_per_epoch):
        raise JnasError(
            f"the regularizer needs the architectures of earlier epochs, but one is "
            f"kept every {every} steps: pass recent_every={steps_per_epoch} (steps of "
            "an epoch) to differentiable"
        )


def _started(init, start, key):
    """The initial state that a caller begins with."""
    own, given = jax.random.split(key)
    return start(given, init(own))


def _digest(start: Any) -> str:
    """Tells one state to begin with from another, by the bits of its arrays."""
    hasher = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(start):
        if getattr(leaf, "dtype", None) is None:
            continue  # a function without arrays
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        name = f"{jax.tree_util.keystr(path)}:{leaf.dtype}:{leaf.shape}\n"
        hasher.update(name.encode() + np.asarray(leaf).tobytes())
    return f"sha256:{hasher.hexdigest()[:16]}"


def _on_one_batch(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step whose both halves learn from the training batch."""
    return lambda state, train_batch, _: step(state, train_batch, train_batch)


def _leave(
    folder: Path, genotype: Genotype, told: dict[str, Any], report: bool
) -> None:
    """What other commands begin from, and what people look at."""
    if told:
        text = json.dumps({"format": 1, **told}, allow_nan=False)
        metrics.write_atomically(folder / "regularizer.json", text + "\n")
    metrics.write_atomically(folder / "genotype.json", genotype.to_json() + "\n")
    if not report:
        return
    try:
        reports.write_html([folder], folder / "report.html")
    except JnasError as error:  # no reason to lose the result
        _log.warning("no report: %s", error)


def write_space(path: Path, space: Space) -> None:
    """Writes what the probabilities in rows are of, for readers elsewhere.

    Args:
      path: the file, which is left alone if it is there.
      space: the space.

    Example:
      >>> import jnas, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_space(Path(folder, "space.json"), jnas.spaces.nasbench201())
    """
    if path.exists():
        return
    groups = [dataclasses.asdict(group) for group in space.groups]
    text = json.dumps({"format": 1, "name": space.name, "groups": groups})
    metrics.write_atomically(path, text + "\n")
