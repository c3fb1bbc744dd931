"""`Mixed`: a choice inside any Linen module, and `from_linen`: its supernet.

The weights of the mixture enter through a variable collection, so the user's module
needs no extra argument and works under Linen's own transformations.
"""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jnas import mixture as mixtures
from jnas.errors import JnasError
from jnas.spaces import Genotype, Group, Space
from jnas.supernet import address, base, layers, operations

__all__ = ["Mixed", "choosing", "from_linen"]

_COLLECTION = "mixture"
# What a pass over a module found: choice -> (candidate names, paths); see `_discover`.
_FOUND: contextvars.ContextVar[dict | None] = contextvars.ContextVar(
    "jnas_found", default=None
)
# The candidate to build for each choice; see `choosing`.
_CHOSEN: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar(
    "jnas_chosen", default=None
)


def _is_factory(candidate: Callable[..., Any]) -> bool:
    """Whether it is called without arguments to make a module or function."""
    try:
        inspect.signature(candidate).bind()
    except (TypeError, ValueError):
        return False
    return True


def _given(module: nn.Module) -> nn.Module:
    return module


class _Candidate(nn.Module):
    """One candidate; whatever it builds is named below it."""

    build: Any

    @nn.compact
    def __call__(self, *args, **kwargs):
        candidate = self.build() if _is_factory(self.build) else self.build
        if isinstance(candidate, nn.Module):
            # Its parts may have been made in the caller's module and would belong to
            # it; copies without names or parents belong here.
            candidate = candidate.clone(
                parent=self, name="module", _deep_clone=True, _reset_names=True
            )
        known = operations.call_parameters(candidate)
        wants_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        kept = {k: v for k, v in kwargs.items() if wants_all or k in known}
        return candidate(*args, **kept)


class Mixed(nn.Module):
    """A choice between candidates, inside any Linen module.

    In a supernet the output is the mixture-weighted sum of all candidates' outputs,
    which must therefore have equal shapes. Use the same ``choice`` in several places to
    decide them together, different names to decide them apart.

    Attributes:
      choice: the name of the decision, a group of the space.
      candidates: ``{name: candidate}``. A candidate is a function of the inputs, or a
        function without arguments that builds a module (``lambda: nn.Dense(32)``), or
        an unbound module. Keyword arguments of the call reach those that name them.

    Example:
      >>> class Net(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         x = Mixed("layer", {"dense": lambda: nn.Dense(4), "skip": nn.relu})(x)
      ...         return nn.Dense(2)(x)
      >>> net = from_linen(Net(), jnp.ones((1, 4)))
      >>> net.space.genes
      (2,)
    """

    choice: str
    candidates: Any

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The weighted sum of the candidates' outputs."""
        if not isinstance(self.candidates, Mapping) or len(self.candidates) < 1:
            raise JnasError(
                f"Mixed({self.choice!r}) needs a dict of candidates, got "
                f"{self.candidates!r}: write {{'name': function or module}}"
            )
        names = tuple(self.candidates)
        chosen = _CHOSEN.get()
        if chosen is not None:
            if self.choice not in chosen:
                raise JnasError(
                    f"the genotype has no choice {self.choice!r}, it has "
                    f"{sorted(chosen)}: use the genotype of this module"
                )
            return self._build(chosen[self.choice])(*args, **kwargs)
        found = _FOUND.get()
        if found is not None:
            known, paths = found.setdefault(self.choice, (names, []))
            if known != names:
                raise JnasError(
                    f"choice {self.choice!r} is used with candidates {list(known)} and "
                    f"{list(names)}: give the second choice another name"
                )
            paths.append(self.path)
        weights = self.variable(
            _COLLECTION,
            self.choice,
            lambda: jnp.full(len(names), 1 / len(names), jnp.float32),
        ).value
        total, first = None, None
        for index, name in enumerate(names):
            y = self._build(name)(*args, **kwargs)
            shape = jax.tree.map(jnp.shape, y)
            if first is None:
                first = shape
            if shape != first:
                raise JnasError(
                    f"candidates of choice {self.choice!r} must have equal output "
                    f"shapes, got {names[0]!r}: {first} and {name!r}: {shape}"
                )
            y = jax.tree.map(lambda a, i=index: weights[i].astype(a.dtype) * a, y)
            total = y if total is None else jax.tree.map(jnp.add, total, y)
        if len(weights) > len(names):  # the last one is the mixture's offset
            total = jax.tree.map(lambda a: a + weights[-1].astype(a.dtype), total)
        return total

    def _build(self, name: str) -> nn.Module:
        if name not in self.candidates:
            raise JnasError(
                f"choice {self.choice!r} has no candidate {name!r}, it has "
                f"{list(self.candidates)}"
            )
        build = self.candidates[name]
        if isinstance(build, nn.Module):
            # Wrapped, for Linen would make a module among the attributes its own.
            return _Candidate(functools.partial(_given, build), name=name)
        if not callable(build):
            raise JnasError(
                f"candidate {name!r} of choice {self.choice!r} must be a function or a "
                f"Linen module, got {type(build).__name__}"
            )
        return _Candidate(build, name=name)


@contextlib.contextmanager
def choosing(genotype: Genotype) -> Iterator[None]:
    """Within it every `Mixed` builds only the genotype's candidate.

    Args:
      genotype: of a space made by `from_linen`.

    Yields:
      Nothing.

    Example:
      >>> space = Space("net", (Group("act", ("relu", "tanh"), ((0, 1),), 1, (1,)),))
      >>> act = Mixed("act", {"relu": nn.relu, "tanh": jnp.tanh})
      >>> with choosing(space.decode([0])):
      ...     y = act.apply({}, jnp.array([-1.0, 2.0]))
      >>> y.tolist()
      [0.0, 2.0]
    """
    chosen = {name: cell.edges[0].operation for name, cell in genotype.cells}
    token = _CHOSEN.set(chosen)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def _discover(init: Callable[[jax.Array], Any], key: jax.Array):
    found: dict[str, tuple[tuple[str, ...], list]] = {}
    token = _FOUND.set(found)
    try:
        shapes = jax.eval_shape(init, key)
    finally:
        _FOUND.reset(token)
    # A lifted or shared module is called more than once at one path.
    unique = {k: (names, list(dict.fromkeys(p))) for k, (names, p) in found.items()}
    return unique, shapes


def _nest(tree: dict, path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point leaves in a dtype; None leaves all alone."""

    def cast(x):
        floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.asarray(x, dtype) if floating else x

    return tree if dtype is None else jax.tree.map(cast, tree)


def from_linen(
    module: nn.Module, inputs: Any, *, name: str | None = None, dtype: Any = None
) -> base.Supernet:
    """The supernet of a Linen module that contains `Mixed` choices.

    Each choice is a group of one edge. If the module's call has the parameters
    ``train`` or ``statistics``, it gets them; a module with batch statistics that only
    has ``train`` must be evaluated with the statistics that go with it. ``key`` is
    available to the module as the PRNG stream "dropout".

    Args:
      module: the module, called as ``module(inputs, ...)``.
      inputs: an example of the inputs, arrays or shapes.
      name: of the space; by default ``linen.<class of the module>``.
      dtype: compute dtype, into which weights and inputs are cast, for modules whose
        layers follow their arguments (Linen's, where their own dtype is None); model
        state and outputs are at least float32. None: what the module computes in,
        curvature too.

    Returns:
      The supernet; ``supernet.space`` is the derived space.

    Raises:
      JnasError: the module has no choices, one name stands for different ones, or the
        dtype is no floating type.

    Example:
      >>> act = Mixed("act", {"relu": nn.relu, "tanh": jnp.tanh})
      >>> net = from_linen(act, jnp.zeros((1, 3)))
      >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 3)))
      >>> relu = jnp.array([[1.0, 0.0]])
      >>> y, _ = net.apply(*variables, mixtures.Mixture({"act": relu}),
      ...                  jnp.array([[-1.0, 0.0, 2.0]]), train=True)
      >>> y.tolist()
      [[0.0, 0.0, 2.0]]
    """
    parameters = operations.call_parameters(module)
    dtype = None if dtype is None else layers.check_dtype(dtype)
    wide = None if dtype is None else layers.storage_dtype(dtype)

    def call_options(train, statistics):
        options = {"train": train, "statistics": statistics}
        return {k: v for k, v in options.items() if k in parameters}

    def module_init(key, inputs):
        keys = dict(zip(("params", "dropout"), jax.random.split(key), strict=True))
        example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
        return module.init(keys, example, **call_options(True, "batch"))

    found, shapes = _discover(lambda key: module_init(key, inputs), jax.random.key(0))
    if not found:
        raise JnasError(
            f"{type(module).__name__} contains no choice: use jnas.supernet.Mixed("
            "'name', candidates) in it"
        )
    space = Space(
        name or f"linen.{type(module).__name__}",
        tuple(
            Group(choice, names, ((0, 1),), 1, (1,))
            for choice, (names, _) in found.items()
        ),
    )
    counts = {choice: len(paths) for choice, (_, paths) in found.items()}
    places = [
        address.Place((*path, candidate), choice, cell, 0, index)
        for choice, (names, paths) in found.items()
        for cell, path in enumerate(paths)
        for index, candidate in enumerate(names)
    ]
    has_statistics = "batch_stats" in shapes

    def init(key, inputs):
        variables = jax.jit(module_init)(key, inputs)
        state = {k: v for k, v in variables.items() if k not in ("params", _COLLECTION)}
        return base.Variables(variables.get("params", {}), state)

    def apply(
        weights,
        model_state,
        mixture,
        inputs,
        *,
        train,
        statistics=None,
        rates=None,
        key=None,
        precise=False,
        **context,
    ):
        del context
        if rates:
            raise JnasError(f"a Linen supernet has no rates, got {sorted(rates)}")
        given = statistics
        statistics = address.check_statistics(statistics, train)
        follows = statistics == address.check_statistics(None, train)
        if has_statistics and not follows and "statistics" not in parameters:
            raise JnasError(
                f"statistics={given!r} with train={train} needs a module whose "
                "call takes `statistics` ('batch' or 'running'): add that parameter "
                "and pass it on to its normalisations"
            )
        mixed = mixtures.resolve(mixture, space, counts)
        collection: dict[str, Any] = {}
        for choice, (_, paths) in found.items():
            for cell, path in enumerate(paths):
                values = mixed.weights[choice][cell, 0]
                if mixed.offsets is not None:
                    last = mixed.offsets[choice][cell, :1].astype(values.dtype)
                    values = jnp.concatenate([values, last])
                _nest(collection, (*path, choice), values)
        computed = wide if precise else dtype
        outputs, changed = module.apply(
            {
                "params": _cast(weights, computed),
                **model_state,
                _COLLECTION: collection,
            },
            _cast(inputs, computed),
            **call_options(train, statistics),
            mutable=list(model_state),
            rngs=None if key is None else {"dropout": key},
        )
        if statistics == "batch":
            model_state = {**model_state, **_cast(changed, wide)}
        return _cast(outputs, wide), model_state

    op_sum, op_mask = address.per_operation(
        space, counts, places, lambda: shapes.get("params", {})
    )
    return base.Supernet(
        space=space,
        init=init,
        apply=apply,
        op_sum=op_sum,
        op_mask=op_mask,
        cells=counts,
        config={
            "space": space.name,
            "module": type(module).__name__,
            **({} if dtype is None else {"dtype": dtype.name}),
        },
    )
