"""What happens between the epochs of a search: warnings, and the regularizer's say."""

import logging
from collections.abc import Callable
from typing import Any

import jax

from jnas import optimizers, select
from jnas import report as reports
from jnas import search as searches
from jnas.errors import JnasError
from jnas.regularizers import base as regularizers
from jnas.run.diagnosing import Diagnosis
from jnas.run.loop import Change, EpochInfo

__all__ = ["between_epochs", "watching"]

_log = logging.getLogger("jnas")


def watching(
    on_epoch: Callable[[EpochInfo], str | None] | None,
    epochs: int,
    method: str | None,
    name: str = "",
) -> Callable[[EpochInfo], str | None]:
    """``on_epoch`` that warns, too, when a search begins to collapse.

    After the last epoch it is too late for that: the result has the verdict.

    Args:
      on_epoch: what else to call.
      epochs: of the search.
      method: the name of its preset.
      name: of the search, at the beginning of a warning.

    Returns:
      The function.

    Example:
      >>> watching(None, 1, None)(EpochInfo(1, 10, {"lambda_max": 1.0}, None))
    """
    told: set[str] = set()

    def hook(info: EpochInfo) -> str | None:
        if "lambda_max" in info.metrics and info.epoch < epochs:
            judged = reports.collapse.verdict(info.history, method=method)
            if judged.level.startswith("collaps") and judged.level not in told:
                told.add(judged.level)
                _log.warning("%sepoch %d: %s", name, info.epoch, judged.text)
        return None if on_epoch is None else on_epoch(info)

    return hook


def between_epochs(
    search: searches.Search, selector: select.Selector, diagnosis: Diagnosis, keep: int
) -> Callable[[searches.SearchState, int], Change] | None:
    """The regularizer's ``epoch_end`` as a hook of the loop.

    Args:
      search: the search.
      selector: derives the genotype that it sees.
      diagnosis: of the search.
      keep: how many checkpoints are kept.

    Returns:
      ``(state, epoch) -> Change``, or None if the regularizer has no such hook.

    Example:
      >>> import jnas
      >>> search = jnas.presets.darts(
      ...     jnas.spaces.nasbench201(), channels=2, cells_per_stage=1,
      ...     epochs=1, steps_per_epoch=12)
      >>> between_epochs(search, search.selector, None, 2) is None
      True
    """
    hook = search.regularizer.epoch_end
    if hook is regularizers.Regularizer().epoch_end:
        return None

    def act(state, epoch):
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

    return act


def _length(recent: Any) -> int:
    """How many archs are kept."""
    return jax.tree.leaves(recent)[0].shape[0]
