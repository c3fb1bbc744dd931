"""Compares the PyTorch steps with numbers of the authors' code.

Prints the largest deviation of each quantity, relative to its largest entry, and ends
with status 1 where one is above 1e-8 (float64; 1e-6 of what was stored in float32)::

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
FLOAT32 = 1e-6  # of what was rounded when it was stored


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
    yield from of_weights(search, golden, "grad/train/w/")
    search = begin()
    search.arch_step(batches["train"], batches["val"])
    for name, alpha in zip(names, search.arch, strict=True):
        yield f"{name} after a step", alpha, golden[f"step1/{name}"]
    before = flat(search.weights)
    loss = search.weight_step(batches["train"])
    yield "loss of the weight step", loss, golden["step1/loss_train_before"]
    moved = flat(search.weights) - before
    yield "weight step, float32", moved, golden["step1/w_minus_w0_flat_f32"]
    search.weight_step(batches["train"])
    yield "weights after two steps, float32", flat(search.weights), golden["S2/w_flat"]
    momentum = [search.weight_tx.state[w]["momentum_buffer"] for w in search.weights]
    yield "momentum, float32", flat(momentum), golden["S2/momentum_flat"]
    for start in ("so0", "so2"):
        search = begin(order=2)
        if start == "so2":
            continue_from(search, golden, names)
        search.arch_tx.zero_grad()
        loss = search.unrolled(batches["train"], batches["val"])
        yield f"{start}: loss", loss, golden[f"{start}/loss_val_unrolled"]
        for name, alpha in zip(names, search.arch, strict=True):
            expected = golden[f"{start}/grad_fd/{name}"]
            yield f"{start}: gradient of {name}", alpha.grad, expected


def flat(tensors):
    """All entries, one after another."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def continue_from(search, golden, names):
    """Sets weights, momentum and alpha to those after two weight steps."""
    sizes = [w.numel() for w in search.weights]
    weights, momentum = (
        tensor(golden[f"S2/{name}"].astype(np.float64)).split(sizes)
        for name in ("w_flat", "momentum_flat")
    )
    with torch.no_grad():
        for w, own, buffer in zip(search.weights, weights, momentum, strict=True):
            w.copy_(own.reshape(w.shape))
            search.weight_tx.state[w]["momentum_buffer"] = buffer.reshape(w.shape)
        for alpha, name in zip(search.arch, names, strict=True):
            alpha.copy_(tensor(golden[f"S2/{name}"]))


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
    yield from of_weights(search, golden, "grad/darts/w/")
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
        yield from of_weights(search, golden, f"grad/gdas{draw}/w/")


def of_weights(search, golden, prefix):
    """Gradients of the weights; those before a norm's mean are 0 and rounding."""
    expected = golden_files.collect(golden, prefix)
    if len(expected) < 10:
        raise SystemExit(f"no gradients under {prefix}")
    for name, weight in search.net.named_parameters():
        if name in expected and np.abs(expected[name]).max() > 1e-12:
            yield f"gradient of {name}", weight.grad, expected[name]


def main() -> int:
    torch.set_default_dtype(torch.float64)
    failed = False
    for found in (deviations_of_darts, deviations_of_nasbench201):
        worst, count = 0.0, 0
        for name, value, expected in found():
            value = value.detach().numpy()
            off = float(np.abs(value - expected).max() / np.abs(expected).max())
            limit = FLOAT32 if "float32" in name else TOLERANCE
            worst, count = max(worst, off / limit), count + 1
            if not off <= limit:  # NaN is none either
                failed = True
                print(f"{name}: {off:.1e}")
        print(f"{found.__name__}: {count} compared, at most {worst:.3f} of the limit")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
