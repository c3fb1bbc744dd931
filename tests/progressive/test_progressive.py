"""Stages: what is pruned, what goes on where it stopped, P-DARTS' numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import presets
from jnas.data import from_arrays
from jnas.mixture import Mixture
from jnas.presets import base, figures
from jnas.progressive import Progressive, Stage, candidates_of, strongest

DARTS = jnas.spaces.darts()
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3")
# NAS-Bench-201's cell with one edge, which compiles in seconds.
SMALL = jnas.Space(
    "small", (jnas.spaces.Group("cell", OPERATIONS, ((0, 1),), 1, (1,)),)
)
STEPS, EPOCHS = 2, 3


# --- pruning


@pytest.mark.parametrize("keep", [1, 3, 5, 8])
def test_the_most_probable_candidates_stay_on_each_edge(keep):
    rng = np.random.default_rng(keep)
    weights = {name: rng.random((14, 8)) for name in DARTS.names}
    found = strongest(DARTS, Mixture(weights), keep)
    for group in DARTS.groups:
        for edge, names in enumerate(found[group.name]):
            by_weight = sorted(
                group.operations,
                key=lambda name, e=edge, g=group: -weights[g.name][e, g.columns[name]],
            )
            best = by_weight[:keep]
            if best == ["none"]:  # can't be selected, so that the next stays
                best = by_weight[1:2]
            assert sorted(names) == sorted(best)
            assert names == [name for name in group.operations if name in names]


def test_stages_prune_what_earlier_ones_left():
    weights = {name: np.tile(np.arange(8.0), (14, 1)) for name in DARTS.names}
    once = DARTS.restrict(strongest(DARTS, Mixture(weights), 5))
    # "none" and the pools are gone; of the rest the weakest are now the last.
    assert once.groups[0].operations == DARTS.groups[0].operations[3:]
    less = {name: np.tile(-np.arange(5.0), (14, 1)) for name in DARTS.names}
    twice = once.restrict(strongest(once, Mixture(less), 3))
    assert twice.groups[0].operations == DARTS.groups[0].operations[3:6]
    assert candidates_of(twice)["normal"][13] == list(twice.groups[0].operations)
    assert twice.never == ()


def test_ties_keep_the_first_and_edges_with_few_candidates_keep_them():
    uniform = jnas.mixture.uniform(DARTS)
    found = strongest(DARTS, uniform, 2)
    assert found["normal"][0] == ["none", "max_pool_3x3"]
    two = ["none", "skip_connect"]
    few = DARTS.restrict({"normal": [["skip_connect"], *[two] * 13]})
    left = strongest(few, jnas.mixture.uniform(few), 2)["normal"]
    assert left[0] == ["skip_connect"] and left[1] == two
    # Alone, "none" would leave the edge nothing to select.
    assert strongest(DARTS, uniform, 1)["normal"][0] == ["max_pool_3x3"]


@pytest.mark.parametrize("keep", [0, -1, 1.5, True])
def test_keep_must_be_a_positive_number(keep):
    with pytest.raises(jnas.JnasError, match="keep must be a whole number"):
        strongest(DARTS, jnas.mixture.uniform(DARTS), keep)


# --- P-DARTS


def count(search):
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    state = jax.eval_shape(search.init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(state.weights))


@pytest.mark.slow
def test_p_darts_networks_have_the_published_sizes():
    plan = presets.p_darts(DARTS)
    sizes = [count(plan.compose(n, DARTS)) for n in range(3)]
    assert sizes == [1_275_834, 2_585_146, 3_894_202]
    assert [stage.keep for stage in plan.stages] == [5, 3, None]
    assert [stage.epochs for stage in plan.stages] == [25] * 3
    # Ablation: without pruning, the last stage would have all of it.
    mixture = Mixture({name: np.eye(8)[[4] * 14] for name in DARTS.names})
    left = DARTS.restrict(plan.prune(DARTS, mixture, 3))
    assert count(plan.compose(2, left)) < sizes[2] / 2


def test_p_darts_stage_is_the_published_search():
    plan = presets.p_darts(DARTS, epochs=25, steps_per_epoch=2)
    search = plan.compose(1, DARTS)
    assert search.arch_from == 10 * 2
    rates = [
        float(search.regularizer.rates((), step=2 * epoch)["skip_dropout"])
        for epoch in (0, 9, 10, 24)
    ]
    np.testing.assert_allclose(rates, [0.4 * f for f in (0.96, 0.6, 1.0, 0.0608)], 1e-3)
    assert plan.compose(0, DARTS).config["dropout"] == 0.0
    assert presets.p_darts(DARTS).config["arch_learning_rate"] == 6e-4
    # Its arch gradient is clipped: far above norm 5 its size makes no difference.
    tx = _arch_transformation(DARTS)
    arch = {"a": jnp.zeros(3)}
    moments = [
        tx.update({"a": jnp.full(3, size)}, tx.init(arch), arch)[1]
        for size in (100.0, 1000.0)
    ]
    first, second = (jax.tree.leaves(m) for m in moments)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def _arch_transformation(space):
    """The optimizer of the architecture that P-DARTS composes."""
    found = {}
    make = jnas.search.differentiable

    def spy(*arguments, **options):
        found.update(options)
        return make(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jnas.search, "differentiable", spy)
        presets.p_darts(space, channels=2, cells=3).compose(0, space)
    return found["arch_tx"]


def test_p_darts_limits_skips_of_the_normal_cell_at_the_end_only():
    plan = presets.p_darts(DARTS, channels=2, cells=3, epochs=2)
    weights = {}
    for name in DARTS.names:
        weights[name] = np.full((14, 8), 0.05)
        weights[name][:, 3] = np.linspace(0.5, 0.6, 14)  # skip_connect everywhere
        weights[name][:, 4] = 0.2
    skips = []
    for number in range(3):
        selector = plan.compose(number, DARTS).selector
        genotype = selector.select(None, Mixture(weights), space=DARTS)
        skips.append(
            [
                sum(edge.operation == "skip_connect" for edge in genotype[name].edges)
                for name in ("normal", "reduce")
            ]
        )
    assert skips == [[8, 8], [8, 8], [2, 8]]


def test_p_darts_scales_depths_and_candidates():
    plan = presets.p_darts(jnas.spaces.nasbench201(), cells_per_stage=1)
    assert [s.size["cells_per_stage"] for s in plan.stages] == [1, 1, 2]
    assert [s.keep for s in plan.stages] == [3, 2, None]
    small = presets.p_darts(DARTS, cells=3)
    assert [s.size["cells"] for s in small.stages] == [3, 4, 6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: presets.p_darts(DARTS, dropouts=(0.1,)), "has 3 stages"),
        (lambda: presets.p_darts(DARTS, kept=(3,)), "has 3 stages"),
        (lambda: presets.p_darts(DARTS, cells_per_stage=2), "takes cells"),
        (lambda: presets.p_darts(DARTS, chanels=2), "did you mean 'channels'"),
        (lambda: presets.p_darts(DARTS, epochs=0), "epochs must be a positive"),
        (
            lambda: presets.drnas_progressive(DARTS, partial_channels=(2, 4)),
            "must not grow",
        ),
        (lambda: Stage(0, {}), "epochs of a stage"),
        (lambda: Stage(1, {}, keep=0), "keep of a stage"),
    ],
)
def test_bad_arguments_are_one_line(make, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


# --- running and going on


def images():
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 12).astype(np.int32)
    return from_arrays(rng.integers(0, 255, (48, 8, 8, 1), np.uint8), label)


def plan_of(keep=2, epochs=EPOCHS):
    """Two stages of a network with one edge a cell."""
    stages = (
        Stage(epochs, {"cells_per_stage": 1}, keep),
        Stage(epochs, {"cells_per_stage": 1}),
    )

    def compose(number, space):
        plan = figures.plan(
            "stages",
            figures.Published(arch_learning_rate=0.1),
            {
                "channels": 2,
                "num_classes": 4,
                "epochs": epochs,
                "steps_per_epoch": STEPS,
                **stages[number].size,
            },
        )
        return base.compose(plan, space)

    return Progressive(SMALL, stages, compose, config={"method": "stages"})


class Killed(Exception):
    pass


def run(workdir=None, kill_after=None, plan=None, **options):
    """All stages; with ``kill_after``, an end in the middle after so many epochs."""
    data = images()
    seen = []

    def on_epoch(info):
        seen.append(info)
        if len(seen) == kill_after:
            raise Killed

    return jnas.run.progressive(
        plan or plan_of(),
        data,
        batch_size=-(-len(data.train) // STEPS),
        workdir=workdir,
        progress=False,
        report=False,
        on_epoch=on_epoch,
        **options,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, run(folder)


def same(a, b):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y, err_msg=str(path))


def test_stages_run_one_after_another(whole):
    folder, result = whole
    first, second = result.spaces
    assert first == SMALL and len(second.groups[0].operations) == 2
    mixture = result.stages[0].state.arch["cell"][0]
    best = sorted(np.argsort(-np.asarray(mixture), kind="stable")[:2])
    assert second.groups[0].operations == tuple(OPERATIONS[i] for i in best)
    assert result.genotype.space == "small" and result.genotype["cell"]
    assert SMALL.valid(SMALL.encode(result.genotype))
    assert [row["stage"] for row in result.history] == [1] * EPOCHS + [2] * EPOCHS
    assert [row["epoch"] for row in result.history] == list(range(1, 2 * EPOCHS + 1))
    rows = [json.loads(r) for r in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [
        STEPS * i for i in range(1, 2 * EPOCHS + 1)
    ]
    # Probabilities are of the unpruned candidates, 0 where one was pruned.
    last = np.array(rows[-1]["probabilities"]["cell"])
    assert last.shape == (1, 4)
    np.testing.assert_array_equal(last[0] > 0, [i in best for i in range(4)])
    for name in ("genotype.json", "space.json", "config.json", "stage1/pruned.json"):
        assert (folder / name).exists()


def test_stages_begin_anew(whole):
    """Nothing but the candidates is taken over, unless a plan says so."""
    _, result = whole
    first, second = result.stages
    assert first.state.step == second.state.step == EPOCHS * STEPS
    fresh = jnas.run.search(
        plan_of().compose(1, result.spaces[1]),
        images(),
        epochs=EPOCHS,
        batch_size=-(-len(images().train) // STEPS),
        seed=1,
        progress=False,
    )
    same(fresh.state, second.state)


@pytest.mark.parametrize("epochs", [1, EPOCHS, EPOCHS + 1])
def test_a_killed_run_goes_on_and_ends_in_the_same_bits(whole, tmp_path, epochs):
    """Killed within the first stage, at its end, and within the second."""
    with pytest.raises(Killed):
        run(tmp_path / "run", kill_after=epochs)
    again = run(tmp_path / "run")
    same(again.state, whole[1].state)
    assert again.genotype == whole[1].genotype
    for name in ("metrics.jsonl", "genotype.json", "stage1/pruned.json"):
        mine, theirs = ((f / name).read_text() for f in (tmp_path / "run", whole[0]))
        if name == "metrics.jsonl":
            times = ("seconds", "images_per_second")
            mine, theirs = (
                [
                    {k: v for k, v in json.loads(line).items() if k not in times}
                    for line in text.splitlines()
                ]
                for text in (mine, theirs)
            )
        assert mine == theirs


def test_a_finished_run_is_read_and_other_ones_are_refused(whole):
    folder, result = whole
    again = run(folder)
    same(again.state, result.state)
    with pytest.raises(jnas.JnasError, match="keep"):
        run(folder, plan=plan_of(keep=3))
    with pytest.raises(jnas.JnasError, match="seed"):
        run(folder, seed=5)
    path = folder / "stage1" / "pruned.json"
    text = path.read_text()
    path.write_text(text.replace("skip_connect", "none", 1).replace("none", "x", 1))
    try:
        with pytest.raises(jnas.JnasError, match="is not what stage 1 leaves"):
            run(folder)
    finally:
        path.write_text(text)


def test_a_stop_ends_the_stage_and_the_next_begins():
    data = images()
    result = jnas.run.progressive(
        plan_of(),
        data,
        batch_size=-(-len(data.train) // STEPS),
        progress=False,
        on_epoch=lambda info: "stop",
    )
    assert [row["stage"] for row in result.history] == [1, 2]
    assert result.stopped


def test_p_darts_drops_none_first_after_its_last_stage():
    space = jnas.spaces.nasbench201()
    plan = presets.p_darts(space, channels=2, cells_per_stage=1, epochs=2)
    weights = {"cell": np.tile([0.6, 0.0, 0.1, 0.3, 0.0], (6, 1))}
    found = [
        {
            edge.operation
            for edge in plan.compose(number, space)
            .selector.select(None, Mixture(weights), space=space)["cell"]
            .edges
        }
        for number in range(3)
    ]
    assert found == [{"none"}, {"none"}, {"nor_conv_3x3"}]
    # unless an edge has nothing else
    only = space.restrict({"cell": [["none"], *[["none", "nor_conv_3x3"]] * 5]})
    cell = plan.compose(2, only).selector.select(
        None, jnas.mixture.uniform(only), space=only
    )["cell"]
    assert cell.edges[0].operation == "none"
