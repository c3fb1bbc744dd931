"""`search`: runs a differentiable search on a dataset, with checkpoints and resume."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas import data as datasets
from jnas import optimizers, select
from jnas import report as reports
from jnas import search as searches
from jnas.diagnostics import derived_skip_share, shares
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.regularizers import base as regularizers
from jnas.run import material, metrics
from jnas.run.diagnosing import Diagnosis
from jnas.run.loop import Change, EpochInfo, loop
from jnas.run.phases import Phases
from jnas.spaces import Genotype, Space

__all__ = ["SearchResult", "search", "write_space"]

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


def search(
    search: searches.Search,
    data: datasets.Dataset | datasets.StreamDataset | datasets.TextDataset,
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    workdir: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[EpochInfo], str | None] | None = None,
    chunk: int | None = None,
    save_every_epochs: int = 1,
    progress: bool = True,
    on_nan: str = "stop",
    stream: bool = False,
    report: bool = True,
    start: Callable[[jax.Array, Any], Any] | None = None,
    label: str = "search",
    diagnose_every: int | None = None,
) -> SearchResult:
    """Searches on the train and validation halves of a dataset.

    The weights learn from ``data.train``, the architecture from ``data.validation``;
    the test split is never touched. The same call again goes on from the last
    checkpoint in ``workdir``, and ends in the same bits (same backend and chunk).

    Args:
      search: the search, e.g. of `jnas.presets`.
      data: the dataset, images or text to fit the search.
      epochs: how many.
      batch_size: of both batches (of text: how many columns are read in step).
      seed: of the initial state and the order of the data.
      workdir: folder of checkpoints, metrics, configuration, the found genotype and
        the report; None writes nothing.
      on_epoch: called after each epoch; "stop" ends the search.
      chunk: steps per dispatch; None chooses by the backend.
      save_every_epochs: checkpoints; long epochs are saved in between, too.
      progress: whether to show how it goes.
      on_nan: "stop", "skip" or "rollback" when a loss is not finite, as in
        `jnas.run.loop`.
      stream: whether to read the images batch by batch, for sets larger than the
        device's memory (a `jnas.data.StreamDataset` always is).
      report: whether to write ``report.html`` in the workdir at the end.
      start: ``(key, initial state) -> state`` to begin with, e.g. of
        `jnas.progressive.widen`; best a `jax.tree_util.Partial`, whose arrays are no
        constants of a program and tell this start from others.
      label: the name in what is shown.
      diagnose_every: epochs from one diagnosis (lambda_max and discretisation gap, in
        the rows) to the next; None: so many that it takes a tenth of the time at most;
        0: none but those that a regularizer needs.

    Returns:
      The result.

    Raises:
      JnasError: the parts don't fit each other, the workdir belongs to another run, a
        loss is not finite, ...
      jnas.run.Interrupted: a signal stopped it; what was reached is saved.

    Example:
      >>> import jnas
      >>> data = jnas.data.load("digits")
      >>> method = jnas.presets.darts(
      ...     jnas.spaces.nasbench201(), channels=2, cells_per_stage=1,
      ...     epochs=1, steps_per_epoch=12)
      >>> search(method, data, epochs=2, progress=False)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: epochs is 2 here but the search was composed for 1: \
pass epochs=2 to the preset
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
    step = whole
    if (search.arch_from, search.arch_every) != (0, 1):
        step = Phases(whole, weights_only, search.arch_from, search.arch_every)
    learns = search.arch_from < epochs * feed.steps_per_epoch
    _check_ring(search, feed.steps_per_epoch)
    # What compares candidates on data would take too long after every epoch: there the
    # rows show the strongest ones.
    cheap = select.argmax() if search.selector.needs_evaluation else search.selector
    decides = search.regularizer.project is not regularizers.Regularizer().project

    def decided(mixed: Mixture) -> bool:
        return decides and select.decisions.settled(search.supernet.space, mixed)

    def epoch_metrics(state: searches.SearchState) -> dict[str, Any]:
        # Not before: the loop has to claim the folder first.
        if workdir is not None:
            write_space(Path(workdir) / "space.json", search.supernet.space)
        mixed = search.mixture(state)
        # The strongest of what was never learned would mislead, until it is decided.
        told = learns or decided(mixed)
        if not told and not search.regularizer.curvature_every:
            return {}
        key = jax.random.fold_in(state.key, state.step)
        genotype = cheap.select(state.arch, mixed, space=search.supernet.space, key=key)
        measured = diagnosis.row(state, mixed, genotype)
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

    diagnosis = Diagnosis(
        search,
        data,
        batch_size,
        epochs=epochs,
        steps_per_epoch=feed.steps_per_epoch,
        every=diagnose_every,
    )
    method = (search.config or {}).get("method")
    keep = search.regularizer.keeps_states + 1
    if keep > 1:
        if workdir is None:
            raise JnasError(
                "this regularizer goes back to checkpoints: pass a workdir to write "
                "them to"
            )
        save_every_epochs = 1
    init = functools.partial(search.init, inputs=example)
    if start is not None:
        init = jax.tree_util.Partial(functools.partial(_started, init), start)
    result = loop(
        step,
        init,
        feed,
        epochs=epochs,
        steps_per_epoch=feed.steps_per_epoch,
        seed=seed,
        workdir=None if workdir is None else Path(workdir),
        config={
            "search": search.config,
            "data": {"name": data.name, "fingerprint": data.fingerprint()},
            "batch_size": batch_size,
            **({} if start is None else {"start": _digest(start)}),
        },
        chunk=chunk,
        label=label,
        epoch_metrics=epoch_metrics,
        on_epoch=_watching(on_epoch, epochs, method),
        between_epochs=_regularizer_hook(search, cheap, diagnosis, keep),
        save_every_epochs=save_every_epochs,
        keep=max(2, keep),
        progress=progress,
        images_per_step=per_step if one_batch else 2 * per_step,
        on_nan=on_nan,
    )
    genotype = search.derive(
        result.state,
        evaluate=diagnosis.evaluator(result.state),
        key=jax.random.fold_in(result.state.key, result.state.step),
    )
    if decides and not decided(search.mixture(result.state)):
        _log.warning(
            "the search ended before all was decided: the rest is chosen by the "
            "weights of the mixture"
        )
    if workdir is not None:
        told = search.regularizer.record(
            result.state.regularizer_state, supernet=search.supernet
        )
        _leave(Path(workdir), genotype, told, report)
    return SearchResult(
        genotype,
        result.state,
        result.history,
        result.seconds,
        result.resumed_from,
        result.stopped,
        reports.collapse.verdict(result.history, genotype, method),
    )


def _watching(on_epoch, epochs, method):
    """``on_epoch`` that warns, too, when a search begins to collapse.

    After the last epoch it is too late for that: the result has the verdict.
    """
    told: set[str] = set()

    def hook(info: EpochInfo) -> str | None:
        if "lambda_max" in info.metrics and info.epoch < epochs:
            judged = reports.collapse.verdict(info.history, method=method)
            if judged.level.startswith("collaps") and judged.level not in told:
                told.add(judged.level)
                _log.warning("epoch %d: %s", info.epoch, judged.text)
        return None if on_epoch is None else on_epoch(info)

    return hook


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


def _regularizer_hook(search, selector, diagnosis, keep):
    """The regularizer's ``epoch_end`` as a hook of the loop, or None if it has none."""
    hook = search.regularizer.epoch_end
    if hook is regularizers.Regularizer().epoch_end:
        return None

    def between_epochs(state, epoch):
        mixed = search.mixture(state)
        key = jax.random.fold_in(state.key, state.step)
        own, action = hook(
            state.regularizer_state,
            arch=state.arch,
            mixture=mixed,
            genotype=selector.select(
                state.arch, mixed, space=search.supernet.space, key=key
            ),
            supernet=search.supernet,
            key=key,
            diagnostics=diagnosis.last,
            evaluate=diagnosis.evaluator(state),
            epoch=epoch,
        )
        back = action.rollback_epochs

        def changed(old):
            weights_state = old.weight_opt_state
            if action.hyperparams:
                weights_state = optimizers.with_hyperparams(
                    weights_state, action.hyperparams
                )
            return old._replace(regularizer_state=own, weight_opt_state=weights_state)

        if action.stop and back:
            if state.recent_archs is None or back >= _length(state.recent_archs):
                raise JnasError(
                    f"the regularizer asks for the architecture of {back} epochs ago, "
                    f"which the state does not keep: pass recent={back + 1} and "
                    "recent_every=steps_per_epoch to differentiable"
                )
            earlier = jax.tree.map(lambda ring: ring[back], state.recent_archs)
            state = state._replace(arch=earlier)
            _log.warning(
                "stopped after epoch %d; the result is the architecture of epoch %d",
                epoch,
                epoch - back,
            )
        elif action.stop:
            _log.warning("stopped after epoch %d by the regularizer", epoch)
        elif back:
            if back >= keep or back >= epoch:
                raise JnasError(
                    f"the regularizer asks to go back {back} epochs from epoch {epoch},"
                    f" of which {keep - 1} are kept: set its keeps_states to {back}"
                )
            _log.warning(
                "back to epoch %d of %d%s",
                epoch - back,
                epoch,
                "".join(
                    f", {name} {value:g}"
                    for name, value in (action.hyperparams or {}).items()
                ),
            )
            return Change(state, back=back, amend=changed)
        return Change(changed(state), stop=action.stop)

    return between_epochs


def _length(recent: Any) -> int:
    """How many archs are kept."""
    return jax.tree.leaves(recent)[0].shape[0]
