"""The search steps of DARTS and GDAS in eager PyTorch, to compare speeds with.

Written from the papers and from what their code computes, module by module and edge by
edge as that code does it, so that its speed is that of the published implementations.
Parameters have the published names; `check.py` compares values and gradients with
numbers of the authors' code.
"""
