"""The search steps of DARTS and GDAS in eager PyTorch, to compare speeds with.

Written from the papers and from what their code computes, module by module and edge by
edge as that code does it, so that its speed is comparable to that of the published
implementations. Parameters have the published names; `check.py` compares values,
gradients and steps with numbers of the authors' code.

Deviations, each in PyTorch's favour or without weight: the virtual step of the second
order moves the weights in place and back, where the authors build a copy of the net;
gradients are clipped without those of alpha on NAS-Bench-201, too; its second order has
the arch step first, as jnas; a Gumbel sample that is not finite is not drawn again.
"""
