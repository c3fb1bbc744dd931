"""Compares the PyTorch steps with numbers of the authors' code.

Prints the largest deviation of each quantity, relative to its largest entry, and ends
with status 1 where one is above 1e-8 (float64)::

    python benchmarks/speed/torch_baseline/check.py
"""

import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2] / "tests")]
import golden_files  # noqa: E402

from torch_baseline import darts, nasbench201, steps  # noqa: E402

TOLERANCE = 1e-8


def tensor(array):
    return torch.from_numpy(np.array(array))


def fill(net, golden):
    """Sets the weights by their names."""
    given = golden_files.collect(golden, "w/")
    own = dict(net.named_parameters())
    if set(own) != set(given):
        raise SystemExit(f"names differ: {sorted(set(own) ^ set(given))[:4]}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensor(given[name]))


def deviations_of_darts():
    """(quantity, found, expected) of the DARTS space, both orders."""
    golden = golden_files.load("darts_supernet")
    batches = {
        part: (tensor(golden[f"in/x_{part}"]), tensor(golden[f"in/y_{part}"]))
        for part in ("train", "val")
    }
    names = ("alphas_normal", "alphas_reduce")

    def begin(order=1):
        net = darts.Supernet(int(golden["cfg/C"]), int(golden["cfg/layers"]))
        fill(net, golden)
        arch = [tensor(golden[f"in/{name}"]).requires_grad_() for name in names]
        return steps.Search(net, arch, order=order)

    search = begin()
    search.loss(batches["train"]).backward()
    for name, alpha in zip(names, search.arch, strict=True):
        yield f"train gradient of {name}", alpha.grad, golden[f"grad/train/{name}"]
    expected = golden_files.collect(golden, "grad/train/w/")
    for name, weight in search.net.named_parameters():
        if name in expected and np.abs(expected[name]).max() > 1e-12:
            yield f"train gradient of {name}", weight.grad, expected[name]
    search = begin()
    search.arch_step(batches["train"], batches["val"])
    for name, alpha in zip(names, search.arch, strict=True):
        yield f"{name} after a step", alpha, golden[f"step1/{name}"]
    search = begin(order=2)
    search.arch_tx.zero_grad()
    loss = search.unrolled(batches["train"], batches["val"])
    yield "loss after the virtual step", loss, golden["so0/loss_val_unrolled"]
    for name, alpha in zip(names, search.arch, strict=True):
        expected = golden[f"so0/grad_fd/{name}"]
        yield f"second-order gradient of {name}", alpha.grad, expected


def deviations_of_nasbench201():
    """Likewise of the NAS-Bench-201 space, dense and with a sampled path."""
    golden = golden_files.load("nb201_supernet")
    batch = tensor(golden["in/x"]), tensor(golden["in/y"])

    def begin(forward=None):
        net = nasbench201.Supernet(int(golden["cfg/C"]), int(golden["cfg/N"]))
        fill(net, golden)
        arch = [tensor(golden["in/alphas"]).requires_grad_()]
        return steps.Search(net, arch, forward=forward)

    search = begin()
    loss = search.loss(batch)
    loss.backward()
    yield "dense loss", loss, golden["out/darts/loss"]
    yield "dense gradient of alpha", search.arch[0].grad, golden["grad/darts/alphas"]
    for draw in (0, 1):
        exponential = tensor(golden["in/gdas/exponential"][draw])

        def sampled(net, images, arch, exponential=exponential):
            path, weights = nasbench201.gumbel_path(arch[0], exponential, 10.0)
            return net(images, arch, path, weights)

        search = begin(sampled)
        loss = search.loss(batch)
        loss.backward()
        yield f"GDAS loss, draw {draw}", loss, golden[f"out/gdas{draw}/loss"]
        key = next(
            k
            for k in golden
            if k.startswith(f"grad/gdas{draw}/tau10") and k.endswith("alphas")
        )
        yield f"GDAS gradient, draw {draw}", search.arch[0].grad, golden[key]


def main() -> int:
    torch.set_default_dtype(torch.float64)
    worst = 0.0
    for found in (deviations_of_darts, deviations_of_nasbench201):
        own = 0.0
        for name, value, expected in found():
            value = value.detach().numpy()
            off = np.abs(value - expected).max() / np.abs(expected).max()
            own = max(own, float(off))
            if off > TOLERANCE:
                print(f"{name}: {off:.1e}")
        print(f"{found.__name__}: at most {own:.1e}")
        worst = max(worst, own)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
