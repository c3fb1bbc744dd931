"""DARTS-PT's removals against the authors' code: accuracies, losses, decisions."""

import dataclasses

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.select import decisions, removing

GOLDEN = golden_files.load("darts_pt")
NETWORK = golden_files.load("darts_hessian")
# Nothing is barred from being chosen in the reference's evaluations.
SPACE = dataclasses.replace(jnas.spaces.darts(), never=())
TOLERANCE = comparing.TOLERANCE[jnp.float64]
OPERATIONS = sorted({k.split("/")[2] for k in GOLDEN if k.startswith("out/op/")})
NODES = sorted(
    tuple(k.split("/")[1:3]) for k in GOLDEN if k.startswith("out/node_") and "eids" in
    k.split("/")[3] and k.endswith("/eids")
)  # fmt: skip
# An empty list would skip the tests without a word.
assert len(OPERATIONS) >= 2 and len(NODES) >= 2
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setup():
    """The mixture, and what evaluates one as the authors do: means over images."""
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            jnas.spaces.darts(),
            channels=int(NETWORK["cfg/C"]),
            cells=int(NETWORK["cfg/layers"]),
            num_classes=int(NETWORK["cfg/num_classes"]),
            dtype=jnp.float64,
        )
        variables = interop.from_darts(golden_files.collect(NETWORK, "w/"), net)
        arch = interop.arch_from_darts(golden_files.collect(NETWORK, "in/"))
        mixture = jnas.relax.softmax().probabilities(arch)
        task = jnas.supernet.classification()
        whole = comparing.batch(GOLDEN, "_val", jnp.float64)
        ends = np.cumsum(GOLDEN["cfg/batch_sizes"]).tolist()
        batches = [
            {name: part[end - size : end] for name, part in whole.items()}
            for end, size in zip(ends, GOLDEN["cfg/batch_sizes"].tolist(), strict=True)
        ]

        @comparing.jit
        def measure(weights, batch):
            mixed = jnas.Mixture(weights)
            logits, _ = net.apply(*variables, mixed, batch["image"], train=True)
            loss, metrics = task.loss(logits, batch)
            return loss, metrics["accuracy"]

        def evaluate(mixed):
            with jax.enable_x64(True):
                weights = {
                    k: jnp.asarray(v, jnp.float64) for k, v in mixed.weights.items()
                }
                found = [measure(weights, batch) for batch in batches]
            sizes = GOLDEN["cfg/batch_sizes"]
            loss, accuracy = np.average(found, axis=0, weights=sizes)
            return {"loss": float(loss), "accuracy": float(accuracy)}

        yield mixture, evaluate


def close(found, expected):
    """Pairs (accuracy in %, loss)."""
    comparing.assert_close(100 * found["accuracy"], expected[:, 0], TOLERANCE)
    comparing.assert_close(found["loss"], expected[:, 1], TOLERANCE)


@pytest.mark.parametrize("place", OPERATIONS)
def test_operations(setup, place):
    mixture, evaluate = setup
    group, edge = place.split("_edge")
    golden = golden_files.collect(GOLDEN, f"out/op/{place}/")
    with jax.enable_x64(True):
        found = removing.operation_losses(mixture, SPACE, group, int(edge), evaluate)
        close(found, golden["acc_loss_without_op"])
        for metric, name in (("accuracy", "acc"), ("loss", "loss")):
            decided, measured = removing.decide_operation(
                decisions.nothing(SPACE),
                mixture,
                SPACE,
                group,
                int(edge),
                lambda m: evaluate(m),
                metric,
            )
            chosen = int(decided.chosen[group][int(edge)])
            assert chosen == int(golden[f"best_op_by_{name}"])
            base = GOLDEN["out/base/acc_loss_trainmode"]
            rest = golden["acc_loss_without_op"]
            expected = (
                (base[0] - rest[:, 0]) / 100
                if metric == "accuracy"
                else rest[:, 1] - base[1]
            )
            np.testing.assert_allclose(measured.strength, expected, atol=1e-9)


@pytest.mark.parametrize("kind, place", NODES)
def test_edges_of_a_node(setup, kind, place):
    mixture, evaluate = setup
    group, node = place.split("_node")
    node = int(node) + 2
    golden = golden_files.collect(GOLDEN, f"out/{kind}/{place}/")
    edges = golden["eids"].tolist()
    assert SPACE.group(group).incoming(node) == tuple(edges)
    with jax.enable_x64(True):
        start = decisions.nothing(SPACE)
        if kind == "node_onehot":
            for name, operations in zip(
                ("normal", "reduce"), GOLDEN["in/onehot_ops"], strict=True
            ):
                for edge, operation in enumerate(operations.tolist()):
                    start = start.choose(name, edge, operation)
        now = decisions.apply(start, mixture)
        found = removing.edge_losses(now, SPACE, group, edges, evaluate)
        close({k: v[edges] for k, v in found.items()}, golden["acc_loss_without_edge"])
        for metric, name in (("accuracy", "acc"), ("loss", "loss")):
            decided = removing.decide_node(
                start, mixture, SPACE, group, node, evaluate, metric
            )
            kept = [e for e in edges if decided.kept[group][e]]
            assert kept == sorted(golden[f"kept_eids_by_{name}"].tolist())


def test_nothing_removed(setup):
    mixture, evaluate = setup
    for kind, decided in (("base", False), ("onehot_base", True)):
        with jax.enable_x64(True):
            start = decisions.nothing(SPACE)
            if decided:
                for name, operations in zip(
                    ("normal", "reduce"), GOLDEN["in/onehot_ops"], strict=True
                ):
                    for edge, operation in enumerate(operations.tolist()):
                        start = start.choose(name, edge, operation)
            found = evaluate(decisions.apply(start, mixture))
        expected = GOLDEN[f"out/{kind}/acc_loss_trainmode"]
        np.testing.assert_allclose(100 * found["accuracy"], expected[0], rtol=1e-9)
        np.testing.assert_allclose(found["loss"], expected[1], rtol=1e-9)
