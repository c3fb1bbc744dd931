"""`differentiable`: a search composed from its parts, as pure functions of one state.

How a step flows: arch --relaxation--> mixture --regularizer--> mixture --supernet-->
outputs --task--> loss. The arch half-step takes the hypergradient of the validation
loss, the weight half-step the gradient of the training loss.

Each half-step has one forward pass that updates the supernet's running statistics (and
carries): that of the validation loss, at whatever weights the hypergradient evaluates
it, and that of the training loss. Evaluations of the training loss inside a
hypergradient update nothing. An arch half-step whose hypergradient is not finite
changes nothing at all; ``arch_skipped`` in its info says so.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas import (
    bilevel,
    diagnostics,
    numerics,
    optimizers,
    regularizers,
    relax,
    select,
)
from jnas.diagnostics import Diagnostics, summary
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.spaces import Genotype
from jnas.supernet import base

__all__ = [
    "ArchInfo",
    "Diagnostics",
    "Search",
    "SearchInfo",
    "SearchState",
    "WeightInfo",
    "differentiable",
    "seed_axes",
]

ORDERS = ("arch_first", "weights_first", "joint")
INACTIVE = ("freeze", "decay")


class SearchState(NamedTuple):
    """Everything that a search carries; saving it is saving the search.

    Attributes:
      weights: of the supernet.
      model_state: its running statistics.
      streams: ``per_stream`` collections of the validation stream.
      arch: architecture parameters.
      weight_opt_state: of ``weight_tx``.
      arch_opt_state: of ``arch_tx``.
      hypergradient_state: of the hypergradient.
      regularizer_state: of the regularizer.
      recent_archs: arch at the last marked steps, newest first, ``[R, ...]`` leaves.
      key: typed PRNG key; each step derives its own from it and ``step``.
      step: int32, number of weight steps done.
    """

    weights: Any
    model_state: Any
    streams: Any
    arch: Any
    weight_opt_state: Any
    arch_opt_state: Any
    hypergradient_state: Any
    regularizer_state: Any
    recent_archs: Any
    key: jax.Array
    step: jax.Array

    def skipping(self, after: "SearchState") -> "SearchState":
        """This state where a step is skipped: its number and earlier archs move on.

        Args:
          after: the state that the step gave.

        Returns:
          The state to go on with.
        """
        kept = self._replace(step=after.step)
        if self.recent_archs is None:
            return kept
        # A step that pushes no arch leaves the ring as it was.
        pushed = numerics.any_differs(self.recent_archs, after.recent_archs)
        return kept._replace(recent_archs=_push(self.recent_archs, self.arch, pushed))


class ArchInfo(NamedTuple):
    """Diagnostics of an arch half-step; scalars.

    Attributes:
      val_loss: of the task, before the update.
      val_metrics: the task's metrics on the validation batch.
      arch_grad_norm: Euclidean norm of the hypergradient.
      arch_entropy: mean over edges after the update, relative to uniform (1:
        undecided, 0: decided).
      skip_share: mean probability of the skip connection after the update.
      arch_skipped: 1 where the hypergradient was not finite, so that nothing was
        changed; else 0.
    """

    val_loss: jax.Array
    val_metrics: dict[str, jax.Array]
    arch_grad_norm: jax.Array
    arch_entropy: jax.Array
    skip_share: jax.Array
    arch_skipped: jax.Array


class WeightInfo(NamedTuple):
    """Diagnostics of a weight half-step; scalars.

    Attributes:
      train_loss: of the task, before the update.
      train_metrics: the task's metrics on the training batch.
      weight_grad_norm: Euclidean norm of the gradient, before a regularizer changes or
        holds it and before clipping.
    """

    train_loss: jax.Array
    train_metrics: dict[str, jax.Array]
    weight_grad_norm: jax.Array


class SearchInfo(NamedTuple):
    """Diagnostics of a whole step: the fields of `WeightInfo` and `ArchInfo`."""

    train_loss: jax.Array
    val_loss: jax.Array
    train_metrics: dict[str, jax.Array]
    val_metrics: dict[str, jax.Array]
    weight_grad_norm: jax.Array
    arch_grad_norm: jax.Array
    arch_entropy: jax.Array
    skip_share: jax.Array
    arch_skipped: jax.Array


class Search(NamedTuple):
    """A search as pure, un-jitted functions.

    Attributes:
      supernet: the network.
      init: ``(key, inputs) -> SearchState``.
      arch_step: ``(state, train_batch, val_batch) -> (state, ArchInfo)``.
      weight_step: ``(state, train_batch) -> (state, WeightInfo)``; it ends a step: the
        number moves on and a marked arch is kept. So ``weight_step`` after
        ``arch_step`` is ``step`` with the arch first, but not the other way round.
      step: ``(state, train_batch, val_batch) -> (state, SearchInfo)``; both halves see
        the number of steps done before it.
      weights_only: ``(state, train_batch, val_batch) -> (state, WeightInfo)``, the step
        of a warm-up: as ``step``, without the arch half.
      inspect: ``(state, batch, *, curvature=True) -> Diagnostics``; on the host,
        outside ``step``; without ``curvature`` no lambda_max.
      derive: ``(state, *, evaluate=None, key=None) -> Genotype``; on the host.
        ``evaluate(mixture) -> metrics`` on validation data is for selectors that
        compare candidates.
      probabilities: ``(arch) -> Mixture``, the deterministic view of arch.
      mixture: ``(state) -> Mixture``, that of a state: what a regularizer has decided
        for good (`regularizers.projection`) is decided in it.
      evaluate: ``(state, mixture, batch, *, statistics="batch") -> (loss, metrics)``,
        without drop path and skip dropout.
      lambda_max: ``(state, batch, *, products=20) -> scalar``, the largest eigenvalue
        of the loss' Hessian by arch, at the deterministic mixture, computed in at least
        float32; pure.
      regularizer: the plug-in, for its ``epoch_end`` hook.
      task: what is learned.
      config: names and hyper-parameters, for the record; a preset fills it.
      selector: what ``derive`` selects with.
      arch_from: the number of steps before the first that updates arch.
      arch_every: at every how many-th step from there on arch is updated; whoever
        drives the search takes ``weights_only`` at the other steps.
      relaxation: from arch to mixtures, for those who ask what its samples are like.
    """

    supernet: base.Supernet
    init: Callable[..., SearchState]
    arch_step: Callable[..., tuple[SearchState, ArchInfo]]
    weight_step: Callable[..., tuple[SearchState, WeightInfo]]
    step: Callable[..., tuple[SearchState, SearchInfo]]
    weights_only: Callable[..., tuple[SearchState, WeightInfo]]
    inspect: Callable[..., Diagnostics]
    derive: Callable[..., Genotype]
    probabilities: Callable[[Any], Mixture]
    mixture: Callable[[SearchState], Mixture]
    evaluate: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
    lambda_max: Callable[..., jax.Array]
    regularizer: regularizers.Regularizer
    task: base.Task
    config: dict[str, Any]
    selector: select.Selector
    arch_from: int = 0
    arch_every: int = 1
    relaxation: relax.Relaxation | None = None


def seed_axes(state: SearchState) -> SearchState:
    """The ``in_axes`` and ``out_axes`` that map a state over seeds but not its step.

    Args:
      state: any state of the search (its structure is used).

    Returns:
      A state of 0 and, for ``step``, None.

    Example:
      >>> seed_axes(SearchState(*[0] * 11)).step is None
      True
    """
    return jax.tree.map(lambda _: 0, state)._replace(step=None)


def differentiable(
    supernet: base.Supernet,
    *,
    weight_tx: optax.GradientTransformation,
    arch_tx: optax.GradientTransformation,
    relaxation: relax.Relaxation | None = None,
    hypergradient: bilevel.Hypergradient | None = None,
    regularizer: regularizers.Regularizer | None = None,
    selector: select.Selector | None = None,
    task: base.Task | None = None,
    order: str = "arch_first",
    inactive: str = "freeze",
    arch_from: int = 0,
    arch_every: int = 1,
    recent: int = 0,
    recent_every: int = 1,
    config: dict[str, Any] | None = None,
) -> Search:
    """Composes a gradient-based architecture search.

    Args:
      supernet: the weight-sharing network.
      weight_tx: optimizer of the weights; its ``update`` gets the training batch as the
        extra keyword ``batch``.
      arch_tx: optimizer of the architecture parameters.
      relaxation: default ``relax.softmax()``.
      hypergradient: default ``bilevel.first_order()``.
      regularizer: default none.
      selector: default ``select.argmax()``.
      task: default classification.
      order: of the two halves of ``step``: "arch_first" (DARTS), "weights_first"
        (NAS-Bench-201's code), "joint" (both gradients at the same point).
      inactive: what happens to candidates that a sample leaves out
        (``Mixture.active``) in a weight step: "freeze" leaves their weights and
        optimizer state as they are, bit by bit; "decay" lets a gradient of zero act on
        them, which under momentum and weight decay still moves them.
      arch_from: the number of steps before the first that updates arch (a warm-up of
        the weights).
      arch_every: at every how many-th step from there on arch is updated.
      recent: how many earlier archs the state keeps, at the least; a regularizer may
        need more.
      recent_every: at which interval of steps one is kept.
      config: names and hyper-parameters, saved with runs. `jnas.run.search` heeds
        "epochs", "steps_per_epoch" and "data": if that is "full", both halves of a step
        get the same batch of all training data.

    Returns:
      The search.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> import jnas, optax
      >>> net = jnas.supernet.build(
      ...     jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search = differentiable(
      ...     net, weight_tx=optax.sgd(0.1), arch_tx=optax.adam(3e-4))
      >>> image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
      >>> state = jax.eval_shape(search.init, jax.random.key(0), image)
      >>> state.arch["cell"].shape
      (6, 5)
    """
    if order not in ORDERS:
        raise JnasError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if inactive not in INACTIVE:
        raise JnasError(f"inactive must be 'freeze' or 'decay', got {inactive!r}")
    if arch_from < 0 or arch_every < 1:
        raise JnasError(
            f"arch_from must be >= 0 and arch_every >= 1, got {arch_from}, {arch_every}"
        )
    if recent < 0 or recent_every < 1:
        raise JnasError(
            f"recent must be >= 0 and recent_every >= 1, got {recent}, {recent_every}"
        )
    relaxation = relaxation or relax.softmax()
    hypergradient = hypergradient or bilevel.first_order()
    regularizer = regularizer or regularizers.identity()
    selector = selector or select.argmax()
    task = task or base.classification()
    recent = max(recent, regularizer.keeps_archs + 1 if regularizer.keeps_archs else 0)
    space = supernet.space
    weight_tx = optimizers.accepting(weight_tx, "weight_tx")
    arch_tx = optimizers.accepting(arch_tx, "arch_tx")

    def probabilities(arch):
        return relaxation.probabilities(arch, space=space)

    def decided(state, arch):
        return regularizer.project(state.regularizer_state, probabilities(arch))

    def mixture(state):
        return decided(state, state.arch)

    def init(key, inputs):
        weights_key, arch_key, key = jax.random.split(key, 3)
        weights, model_state = supernet.init(weights_key, inputs)
        arch = relaxation.init(arch_key, space)
        return SearchState(
            weights=weights,
            model_state=model_state,
            streams={name: model_state[name] for name in supernet.per_stream},
            arch=arch,
            weight_opt_state=weight_tx.init(weights),
            arch_opt_state=arch_tx.init(arch),
            hypergradient_state=hypergradient.init(weights, arch),
            regularizer_state=regularizers.base.begin(
                regularizer, supernet, arch, weights
            ),
            recent_archs=jax.tree.map(lambda x: jnp.stack([x] * recent), arch)
            if recent
            else None,
            key=key,
            step=jnp.zeros([], jnp.int32),
        )

    def forward(
        state,
        weights,
        mixed,
        batch,
        key,
        model_state,
        statistics=None,
        drops=True,
        precise=False,
    ):
        outputs, model_state = supernet.apply(
            weights,
            model_state,
            mixed,
            task.inputs(batch),
            train=True,
            statistics=statistics,
            rates=regularizer.rates(state.regularizer_state, step=state.step)
            if drops
            else None,
            key=key,
            precise=precise,
        )
        loss, metrics = task.loss(outputs, batch)
        return loss, metrics, model_state, outputs

    def objective(state, phase, model_state, virtual=False):
        """The loss ``(weights, arch, batch, key) -> (scalar, aux)`` of a phase.

        ``virtual``: the training loss inside a hypergradient, which is differentiated
        by arch, too, and leaves out the task's penalty, as the authors' code does; what
        is differentiated twice is computed precisely.
        """
        precise = virtual and hypergradient.second_order

        def loss(weights, arch, batch, key):
            sample_key, change_key, forward_key, penalty_key = jax.random.split(key, 4)

            def loss_fn(weights, mixed, *, statistics="batch", key, precise=precise):
                mixed = regularizer.project(state.regularizer_state, mixed)
                return forward(
                    state,
                    weights,
                    mixed,
                    batch,
                    key,
                    model_state,
                    statistics,
                    precise=precise,
                )[0]

            context = {
                "loss_fn": loss_fn,
                "precise_loss_fn": functools.partial(loss_fn, precise=True),
                "step": state.step,
                "phase": phase,
                "probabilities": functools.partial(decided, state),
            }
            mixed = relaxation.sample(
                arch, key=sample_key, step=state.step, phase=phase, space=space
            )
            mixed = regularizer.project(state.regularizer_state, mixed)
            mixed = regularizer.transform(
                state.regularizer_state,
                mixed,
                weights=weights,
                key=change_key,
                **context,
            )
            # What is decided stays so, whatever the transformation did.
            mixed = regularizer.project(state.regularizer_state, mixed)
            if phase == "weights" and not virtual:
                mixed = jax.lax.stop_gradient(mixed)
            value, metrics, new_state, outputs = forward(
                state, weights, mixed, batch, forward_key, model_state, precise=precise
            )
            penalty = regularizer.penalty(
                state.regularizer_state,
                weights=weights,
                arch=arch,
                mixture=mixed,
                key=penalty_key,
                **context,
            )
            if phase == "weights" and not virtual and task.penalty is not None:
                penalty = penalty + task.penalty(outputs, batch)
            return value + penalty, (value, metrics, new_state, mixed)

        return loss

    def phase_key(state, phase):
        return jax.random.fold_in(jax.random.fold_in(state.key, state.step), phase)

    def arch_step(state, train_batch, val_batch):
        val_loss = objective(state, "arch", {**state.model_state, **state.streams})
        grad, own_state, info = hypergradient.estimate(
            state.hypergradient_state,
            objective(state, "weights", state.model_state, virtual=True),
            val_loss,
            state.weights,
            state.arch,
            train_batch,
            val_batch,
            weight_tx=weight_tx,
            weight_opt_state=state.weight_opt_state,
            key=phase_key(state, 0),
        )
        value, metrics, new_state, mixed = info["val_aux"]
        updates, opt_state = arch_tx.update(grad, state.arch_opt_state, state.arch)
        arch = optax.apply_updates(state.arch, updates)
        after = state._replace(
            arch=relaxation.after_update(state.arch, arch, mixed),
            arch_opt_state=opt_state,
            hypergradient_state=own_state,
            model_state={
                **new_state,
                **{name: state.model_state[name] for name in supernet.per_stream},
            },
            streams={name: new_state[name] for name in supernet.per_stream},
        )
        if regularizer.observe is not None:
            # The key of the hypergradient's evaluation: what both compute, first-order
            # gradients share.
            val_grads, _ = jax.grad(val_loss, has_aux=True)(
                state.weights, state.arch, val_batch, phase_key(state, 0)
            )
            after = after._replace(
                regularizer_state=regularizer.observe(
                    state.regularizer_state,
                    val_grads=val_grads,
                    supernet=supernet,
                    step=state.step,
                )
            )
        finite = numerics.all_finite(grad)
        changed = {
            name: jax.tree.map(
                lambda new, old: jnp.where(finite, new, old),
                getattr(after, name),
                getattr(state, name),
            )
            for name in (
                "arch",
                "arch_opt_state",
                "hypergradient_state",
                "regularizer_state",
                "model_state",
                "streams",
            )
        }
        state = state._replace(**changed)
        entropy, skips = summary(space, mixture(state))
        return state, ArchInfo(
            value,
            metrics,
            numerics.global_norm(grad),
            entropy,
            skips,
            1 - finite.astype(jnp.float32),
        )

    def weight_half(state, train_batch):
        loss = objective(state, "weights", state.model_state)
        (_, (value, metrics, model_state, mixed)), grads = jax.value_and_grad(
            loss, has_aux=True
        )(state.weights, state.arch, train_batch, phase_key(state, 1))
        norm = numerics.global_norm(grads)
        own_state, grads, trainable = regularizer.gradients(
            state.regularizer_state, grads, supernet=supernet, step=state.step
        )
        if mixed.active is not None and inactive == "freeze":
            trainable = regularizers.base.both(
                trainable, supernet.op_mask(_active(supernet, mixed.active))
            )
        if trainable is not None:
            # What is held does not count in the norm that clipping looks at.
            grads = jax.tree.map(
                lambda g, m: jnp.where(m > 0, g, jnp.zeros_like(g)), grads, trainable
            )
        updates, opt_state = weight_tx.update(
            grads, state.weight_opt_state, state.weights, batch=train_batch
        )
        if trainable is not None:
            # A zero gradient still moves a weight under momentum and decay, so the
            # updates and the optimizer's state are held too.
            updates = jax.tree.map(
                lambda u, m: jnp.where(m > 0, u * m, jnp.zeros_like(u)),
                updates,
                trainable,
            )
            masks = optax.tree_map_params(
                weight_tx.init,
                lambda _, mask: mask,
                opt_state,
                trainable,
                transform_non_params=lambda _: 1.0,
            )
            opt_state = jax.tree.map(
                lambda m, new, old: jnp.where(m > 0, new, old),
                masks,
                opt_state,
                state.weight_opt_state,
            )
        state = state._replace(
            weights=optax.apply_updates(state.weights, updates),
            model_state=model_state,
            weight_opt_state=opt_state,
            regularizer_state=own_state,
        )
        return state, WeightInfo(value, metrics, norm)

    def finish(state):
        """Ends a step, both halves of which see the same number of steps done."""
        step = state.step + 1
        recent_archs = _remember(state, step, recent_every)
        return state._replace(recent_archs=recent_archs, step=step)

    def weight_step(state, train_batch):
        state, info = weight_half(state, train_batch)
        return finish(state), info

    def step(state, train_batch, val_batch):
        if order == "arch_first":
            state, arch_info = arch_step(state, train_batch, val_batch)
            state, weight_info = weight_half(state, train_batch)
        elif order == "weights_first":
            state, weight_info = weight_half(state, train_batch)
            state, arch_info = arch_step(state, train_batch, val_batch)
        else:
            after, arch_info = arch_step(state, train_batch, val_batch)
            # The weights' gradient is taken at the arch from before this step.
            state, weight_info = weight_half(
                after._replace(arch=state.arch), train_batch
            )
            state = state._replace(arch=after.arch)
        return finish(state), SearchInfo(**weight_info._asdict(), **arch_info._asdict())

    def weights_only(state, train_batch, val_batch):
        del val_batch
        return weight_step(state, train_batch)

    def derive(state, *, evaluate=None, key=None):
        return selector.select(
            state.arch,
            mixture(state),
            space=space,
            evaluate=evaluate,
            key=key,
        )

    def evaluate(state, mixed, batch, *, statistics="batch"):
        # What is dropped while training would hide what the mixture is worth.
        loss, metrics, _, _ = forward(
            state,
            state.weights,
            mixed,
            batch,
            state.key,
            state.model_state,
            statistics,
            drops=False,
        )
        return loss, metrics

    def lambda_max(state, batch, *, products=20):
        def loss(arch):
            mixed = decided(state, arch)
            return forward(
                state,
                state.weights,
                mixed,
                batch,
                state.key,
                {**state.model_state, **state.streams},
                precise=True,
            )[0]

        return regularizers.curvature.largest_eigenvalue(
            loss,
            state.arch,
            phase_key(state, 3),
            mask=regularizers.curvature.choosable_arch(space, state.arch),
            steps=products,
        )

    inspect = diagnostics.inspector(
        space,
        supernet.config,
        mixture=mixture,
        evaluate=evaluate,
        lambda_max=lambda_max,
        derive=derive,
        key_of=lambda state: phase_key(state, 2),
    )

    return Search(
        supernet=supernet,
        init=init,
        arch_step=arch_step,
        weight_step=weight_step,
        step=step,
        weights_only=weights_only,
        inspect=inspect,
        derive=derive,
        probabilities=probabilities,
        mixture=mixture,
        evaluate=evaluate,
        lambda_max=lambda_max,
        regularizer=regularizer,
        task=task,
        config={
            **(config or {}),
            "order": order,
            "inactive": inactive,
            "arch_from": arch_from,
            "arch_every": arch_every,
            **({"recent_every": recent_every} if recent else {}),
            "supernet": supernet.config,
        },
        selector=selector,
        arch_from=arch_from,
        arch_every=arch_every,
        relaxation=relaxation,
    )


def _active(
    supernet: base.Supernet, active: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """1 for the active candidates of every cell, else 0: ``{group: [cells, E, O]}``."""
    masks = {}
    for group in supernet.space.groups:
        chosen = jax.nn.one_hot(active[group.name], group.num_operations)
        mask = jnp.max(chosen, axis=-2)
        masks[group.name] = jnp.broadcast_to(
            mask, (supernet.cells[group.name], *mask.shape)
        )
    return masks


def _remember(state: SearchState, step: jax.Array, every: int) -> Any:
    """Pushes arch to the front of the ring at every marked step."""
    if state.recent_archs is None:
        return None
    return _push(state.recent_archs, state.arch, step % every == 0)


def _push(rings: Any, arch: Any, due: jax.Array) -> Any:
    """The rings with arch in front where it is due."""
    return jax.tree.map(
        lambda ring, x: jnp.where(due, jnp.concatenate([x[None], ring[:-1]]), ring),
        rings,
        arch,
    )
