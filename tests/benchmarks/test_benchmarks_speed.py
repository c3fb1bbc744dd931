"""The speed benchmarks' pure parts; and that they run, at the smallest sizes."""

import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "speed"
NAMES = ("common", "flops", "steps", "scaling", "roofline", "memory", "compile", "all")


@pytest.fixture(scope="module")
def scripts():
    """The scripts as modules by name, imported as they import each other."""
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(FOLDER))
    for name, module in before.items():
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module


@pytest.fixture
def count(scripts):
    def of(function, *shapes, **options):
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return scripts["flops"].count(jax.make_jaxpr(function)(*arguments), **options)

    return of


def conv(x, w, **options):
    return jax.lax.conv_general_dilated(
        x,
        w,
        **{"window_strides": (1, 1), "padding": "SAME"} | options,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def test_products_of_matrices_count_twice_their_multiply_adds(count):
    assert count(jnp.dot, (3, 4), (4, 5)).dot == 2 * 3 * 4 * 5
    batched = count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (7, 3, 4), (7, 4, 5))
    assert batched.products == 2 * 7 * 3 * 4 * 5


def test_convolutions_count_with_and_without_padding(count):
    shapes = (2, 8, 8, 3), (3, 3, 3, 5)
    assert count(conv, *shapes).conv == 2 * 2 * 64 * 27 * 5
    # along a side of 8, of 24 taps 2 lie in the padding
    assert count(conv, *shapes, padding=False).conv == 2 * 2 * 22 * 22 * 3 * 5


def test_strides_dilations_and_groups_of_convolutions(count):
    assert count(
        lambda x, w: conv(x, w, window_strides=(2, 2)), (1, 8, 8, 2), (3, 3, 2, 4)
    ) == (2 * 16 * 9 * 2 * 4, 0, 0, 0)

    def grouped(x, w):
        return conv(x, w, feature_group_count=4, rhs_dilation=(2, 2))

    assert count(grouped, (1, 8, 8, 4), (3, 3, 1, 4)).conv == 2 * 64 * 9 * 4

    def spread(x, w):  # zeros between the pixels, as in the gradient of a stride
        return conv(x, w, lhs_dilation=(2, 2), padding=[(1, 1)] * 2)

    # 7 outputs, of whose 21 taps 10 meet a pixel
    found = count(spread, (1, 4, 4, 1), (3, 3, 1, 1), padding=False)
    places = [(o + k - 1) for o in range(7) for k in range(3)]
    meeting = sum(p % 2 == 0 and 0 <= p <= 6 for p in places)
    assert found.conv == 2 * meeting**2


def test_gradients_of_a_convolution_cost_as_much_as_it_each(count):
    shapes = (2, 8, 8, 3), (3, 3, 3, 5)
    forward = count(conv, *shapes, padding=False).conv

    def loss(x, w):
        return jnp.square(conv(x, w)).sum()

    all_three = count(jax.value_and_grad(loss, (0, 1)), *shapes, padding=False).conv
    assert all_three == 3 * forward


def test_scans_calls_and_conditionals_are_followed(count):
    one = 2 * 4**3

    def scanned(x):
        return jax.lax.scan(lambda c, _: (jax.jit(jnp.dot)(c, x), None), x, length=6)[0]

    assert count(scanned, (4, 4)).products == 6 * one

    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)

    assert count(either, (4, 4)).products == 2 * one

    def looped(x):
        return jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c @ x, x)

    found = count(looped, (4, 4))
    assert (found.products, found.open_loops) == (one, 1)

    def kept(x):
        return jax.checkpoint(lambda x: jnp.sin(x @ x))(x).sum()

    assert count(jax.grad(kept), (4, 4)).products == 4 * one  # one of them again


def test_a_choice_by_platform_counts_that_platforms_branch(count):
    def by_platform(x):
        return jax.lax.platform_dependent(
            x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x
        )

    assert count(by_platform, (4, 4), platform="cpu").products == 4 * 4**3
    assert count(by_platform, (4, 4), platform="cuda").products == 2 * 4**3
    assert count(jax.jit(by_platform), (4, 4), platform="tpu").products == 2 * 4**3


def test_elementwise_work_counts_floats_only(count):
    assert count(lambda x: (x + x).sum(), (3, 4)).elementwise == 24
    assert count(lambda x: x.astype(jnp.int32) * 2, (3, 4)).elementwise == 0


def test_a_networks_forward_pass_agrees_with_the_published_count(scripts):
    cell = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+"
    cell += "|nor_conv_3x3~0|none~1|nor_conv_3x3~2|"
    net = jnas.networks.build(
        jnas.spaces.Genotype.parse(cell), channels=4, cells_per_stage=1, num_classes=10
    )
    image = jnp.zeros((4, 8, 8, 3))
    given = jax.eval_shape(net.init, jax.random.key(0), image)

    def forward(weights, state):
        return net.apply(weights, state, image, train=False)

    traced = jax.make_jaxpr(forward)(given.weights, given.model_state)
    expected = jnas.cost.count(
        cell, channels=4, cells_per_stage=1, image_shape=(8, 8, 3)
    ).multiply_adds
    # published figures count the classifier's 10 biases, too
    assert scripts["flops"].count(traced, "cuda").products == 2 * 4 * (expected - 10)


def test_needed_operations_are_five_forward_passes(scripts):
    sizes = scripts["common"].Sizes(channels=4, cells=3, side=8, batch_size=2)
    table = jnas.cost.operation_costs(
        "darts", channels=4, cells=3, image_shape=(8, 8, 3), affine=False
    )
    ones = {name: np.ones(own.shape) for name, own in table.multiply_adds.items()}
    assert scripts["flops"].needed("darts", sizes) == 20 * table.expected(ones)[1]


def test_bounds_are_the_larger_of_products_and_memory(scripts):
    bounds = scripts["roofline"].bounds
    assert bounds(100.0, 10.0, 10.0, 10.0) == (10.0, "products")
    assert bounds(10.0, 100.0, 10.0, 10.0) == (10.0, "memory")


def test_xlas_figure_of_a_scan_is_that_of_one_step(scripts):
    of_one_step = scripts["roofline"].of_one_step
    assert of_one_step(110.0, 100.0, 23) == 1.0
    assert of_one_step(2500.0, 100.0, 23) == 23.0
    assert of_one_step(0.0, 100.0, 23) == 1.0


def test_alternating_reverses_the_order_and_leaves_warm_ups_out(scripts):
    called = []
    steps = {name: lambda name=name: called.append(name) for name in "ab"}
    spent = scripts["common"].alternate(steps, rounds=2, warmups=1)
    assert called == list("abbaab")
    assert {name: len(values) for name, values in spent.items()} == {"a": 2, "b": 2}


def test_alternating_stops_at_its_limit_with_one_round_at_least(scripts):
    alternate = scripts["common"].alternate
    assert alternate({"a": int}, rounds=9, warmups=2, limit=0.0)["a"][1:] == []
    assert len(alternate({"a": int}, rounds=9, limit=60.0)["a"]) == 9


def test_rows_survive_a_line_that_was_cut_short(scripts, tmp_path, capsys):
    common, path = scripts["common"], tmp_path / "deep" / "rows.jsonl"
    row = common.append(path, {"x": 1.23456789, "n": 123456})
    with path.open("a") as file:
        file.write('{"x": 1.')
    assert common.read(path) == [row] == [{"x": 1.2346, "n": 123456}]
    assert "damaged" in capsys.readouterr().err
    assert common.read(tmp_path / "none.jsonl") == []


def test_tables_are_markdown(scripts):
    common = scripts["common"]
    table = common.markdown(("a", "b"), [(1, None), ("x", 2.5)])
    assert table.splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 |  |",
        "| x | 2.5 |",
    ]
    assert common.seconds(0.01234) == "12.3 ms"
    assert common.seconds(12.34) == "12.3 s"


def test_children_that_fail_or_hang_give_the_reason(scripts):
    run_child = scripts["common"].run_child
    assert run_child(["-c", "print('x'); print('{\"a\": 1}')"], {}, 60) == {"a": 1}
    assert run_child(["-c", "raise SystemExit('why')"], {}, 60) == {"failed": "why"}
    slow = run_child(["-c", "import time; time.sleep(60)"], {}, 0.5)
    assert slow["failed"].startswith("not done in")


def test_a_part_begins_only_where_its_least_time_is_left(scripts):
    every = scripts["all"]
    part = every.Part("x", ("steps",), least=40.0, most=100.0)
    assert every.allowed(part, 39.0) is None
    assert every.allowed(part, 40.0) == 40.0
    assert every.allowed(part, 1000.0) == 100.0


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("full", [False, True])
def test_parts_are_named_once_and_their_scripts_exist(scripts, device, full):
    parts = scripts["all"].parts_of(device, full)
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        assert (FOLDER / f"{part.arguments[0]}.py").exists()
        assert 0 < part.least < part.most


def test_the_projected_search_counts_compilation_and_every_step(scripts):
    row = {"case": "darts", "channels": 16, "cells": 8, "side": 32, "batch_size": 64}
    row |= {"init_s": 1.0, "lower_s": 2.0, "compile_s": 3.0, "jnas_s": 0.02}
    assert scripts["all"].projected(row) == pytest.approx(6.0 + 50 * 391 * 0.02)
    assert scripts["all"].projected(row | {"channels": 8}) is None
    assert scripts["all"].projected(row | {"case": "gdas"}) is None


def test_what_does_not_fit_is_left_out_and_said(scripts, tmp_path, monkeypatch, capsys):
    every = scripts["all"]
    parts = [
        every.Part("slow", ("steps",), least=1e6, most=2e6),
        every.Part("quick", ("steps",), least=0.001, most=1.0),
    ]
    monkeypatch.setattr(every, "parts_of", lambda device, full: parts)
    monkeypatch.setattr(every, "run", lambda part, config, seconds: "done")
    every.main(every.Config(out=tmp_path, minutes=0.1, device="cpu"))
    lines = (tmp_path / "parts.jsonl").read_text().splitlines()
    became = [json.loads(line)["became"] for line in lines]
    assert became[0].startswith("left out: 6 s left")
    assert became[1] == "done"
    assert "left out" in (tmp_path / "tables.md").read_text()
    assert "slow: left out" in capsys.readouterr().out


def test_scaling_varies_one_factor_at_a_time(scripts, tmp_path):
    scaling = scripts["scaling"]
    config = scaling.Config(
        out=tmp_path, batch_sizes=(64, 128), widths=(8, 16), depths=(8, 4), seeds=(2,)
    )
    plan = scaling.plan("darts", config)
    assert [(factor, value) for factor, value, _ in plan] == [
        *(("base", 1), ("batch_size", 128), ("channels", 8), ("cells", 4)),
        ("seeds", 2),
    ]
    assert plan[3][2].cells == 4
    assert plan[3][2].channels == 16


def test_memory_is_told_relative_to_the_plain_form(scripts):
    memory = scripts["memory"]
    sizes = {name: 1 for name in scripts["common"].Sizes.__dataclass_fields__}
    plain = {"space": "darts", "form": "plain", "total_mib": 10.0, **sizes}
    other = plain | {"form": "remat", "total_mib": 4.0}
    assert memory.relative([plain, other], other) == 0.4
    assert memory.relative([plain], other | {"batch_size": 2}) is None
    parts = dict(zip(memory.PARTS, (5.0, 4.0, 3.0, 2.0), strict=True))
    assert memory.total(parts) == 8.0


def test_the_smallest_step_of_two_seeds_compiles_and_is_taken(scripts):
    common = scripts["common"]
    sizes = common.Sizes(channels=4, cells_per_stage=1, side=8, batch_size=2, chunk=2)
    step = common.compile_step(common.compose("nasbench201", sizes), sizes, seeds=2)
    step.take()
    step.another(1)()
    assert step.steps == 2
    assert step.told["temporaries_mib"] > 0
