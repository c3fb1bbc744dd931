"""The half-steps of a search, eager, as the published code takes them."""

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["Search"]


class Search:
    """A supernet with its optimizers.

    Args:
      net: the supernet, ``net(images, arch)`` gives logits.
      arch: its architecture parameters.
      nesterov: of the weights' momentum.
      weight_decay: L2 of the weights.
      order: 1, or 2 with the published finite difference.
      forward: ``(net, images, arch) -> logits`` in place of a call of the net.
    """

    def __init__(
        self,
        net: nn.Module,
        arch: list[torch.Tensor],
        *,
        nesterov: bool = False,
        weight_decay: float = 3e-4,
        order: int = 1,
        forward: Callable | None = None,
    ):
        self.net, self.arch, self.order = net, arch, order
        self.forward = forward or (lambda net, images, arch: net(images, arch))
        self.weights = list(net.parameters())
        self.weight_tx = torch.optim.SGD(
            self.weights,
            0.025,
            momentum=0.9,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )
        self.arch_tx = torch.optim.Adam(
            arch, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3
        )

    def loss(self, batch) -> torch.Tensor:
        """Mean cross-entropy of a batch (images, labels)."""
        images, labels = batch
        logits = self.forward(self.net, images, self.arch)
        return nn.functional.cross_entropy(logits, labels)

    def arch_step(self, train, val) -> torch.Tensor:
        """Updates the architecture; the loss on the validation batch."""
        self.arch_tx.zero_grad()
        if self.order == 1:
            loss = self.loss(val)
            loss.backward()
        else:
            loss = self.unrolled(train, val)
        self.arch_tx.step()
        return loss.detach()

    def weight_step(self, train) -> torch.Tensor:
        """Updates the weights; the loss on the training batch."""
        self.weight_tx.zero_grad()
        loss = self.loss(train)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.weight_tx.step()
        return loss.detach()

    def unrolled(self, train, val) -> torch.Tensor:
        """Leaves the second-order gradient in arch; the loss after the virtual step."""
        options = self.weight_tx.param_groups[0]
        rate, decay = options["lr"], options["weight_decay"]
        start = [w.detach().clone() for w in self.weights]
        grads = torch.autograd.grad(self.loss(train), self.weights)
        with torch.no_grad():
            for w, grad in zip(self.weights, grads, strict=True):
                buffer = self.weight_tx.state[w].get("momentum_buffer")
                moment = 0.0 if buffer is None else options["momentum"] * buffer
                w.sub_(rate * (moment + grad + decay * w))
        loss = self.loss(val)
        found = torch.autograd.grad(loss, [*self.arch, *self.weights])
        direct, direction = found[: len(self.arch)], found[len(self.arch) :]
        epsilon = 0.01 / torch.cat([v.reshape(-1) for v in direction]).norm()
        around = []
        for sign in (1.0, -1.0):
            self.move(start, direction, sign * epsilon)
            around.append(torch.autograd.grad(self.loss(train), self.arch))
        self.move(start, direction, 0.0)
        for alpha, own, plus, minus in zip(self.arch, direct, *around, strict=True):
            alpha.grad = own - rate * (plus - minus) / (2 * epsilon)
        return loss

    @torch.no_grad()
    def move(self, start, direction, length) -> None:
        """Sets the weights to a start and some way along a direction."""
        for w, own, way in zip(self.weights, start, direction, strict=True):
            w.copy_(own + length * way)
