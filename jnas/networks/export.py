"""`export_module`: a final network as a small Python module that needs only Flax.

The module is made of blocks of ordinary layers, copied from ``templates/``, and of the
cells and the outer structure, written out edge by edge. Its float64 outputs agree with
`jnas.networks.build`'s to 1e-12, in training, too, and so do the running statistics; in
float32 depthwise convolutions and pools round differently (a sum of products has
another order). Genotypes stand in comments, never in code: nothing of theirs but known
names of operations and numbers reaches the source.
"""

from collections.abc import Sequence

from jnas.errors import JnasError, unknown_name
from jnas.networks import (
    export_cells,
    export_linen,
    export_nnx,
    export_recurrent,
    export_text,
)
from jnas.networks.build import build
from jnas.spaces import Genotype
from jnas.supernet.build import check_positive
from jnas.supernet.sequence import Dropouts

__all__ = ["STYLES", "export_module"]

STYLES = ("linen", "nnx")


def export_module(
    genotype: Genotype | str,
    *,
    style: str = "linen",
    channels: int = 36,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    num_classes: int = 10,
    auxiliary: bool = False,
    stem: str = "cifar",
    drop_path: bool = False,
    colours: int = 3,
    vocab_size: int | None = None,
    width: int = 850,
    dropouts: Dropouts | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Writes the final network of a genotype as a Python module that needs only Flax.

    Args:
      genotype: the genotype, or a text that `Genotype.parse` understands.
      style: "linen" or "nnx".
      channels: as of `jnas.networks.build`; a default in the module.
      cells: likewise (DARTS-like).
      cells_per_stage: likewise (NAS-Bench-201-like).
      num_classes: likewise.
      auxiliary: whether the module has the auxiliary head (DARTS-like).
      stem: "cifar" or "imagenet" (DARTS-like).
      drop_path: whether the module can drop paths in training.
      colours: channels of the images, which NNX must know (a default in the module).
      vocab_size: as of `jnas.networks.recurrent`, and needed there.
      width: likewise.
      dropouts: likewise.
      notes: lines for the comment at the top.

    Returns:
      The source. It defines ``Network`` and ``load``, which reads what
      `export_variables` and `write_arrays` wrote.

    Raises:
      JnasError: an option is out of range, or the genotype has an operation that the
        user registered.

    Example:
      >>> source = export_module("DARTS_V2", channels=16, cells=8)
      >>> "class NormalCell(nn.Module):" in source, "jnas." in source
      (True, False)
    """
    if style not in STYLES:
        raise unknown_name("style", style, STYLES)
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    if not isinstance(genotype, Genotype):
        raise JnasError(
            f"genotype must be a jnas.Genotype or its text, got "
            f"{type(genotype).__name__}"
        )
    if genotype.names == ("recurrent",):
        if vocab_size is None:
            raise JnasError("a recurrent genotype needs vocab_size=...")
        return export_recurrent.module(
            genotype,
            style=style,
            vocab_size=vocab_size,
            width=width,
            dropouts=dropouts or Dropouts(),
            notes=notes,
        )
    export_cells.check_operations(genotype)
    config = build(
        genotype,
        channels=channels,
        cells=cells,
        cells_per_stage=cells_per_stage,
        num_classes=num_classes,
        auxiliary=auxiliary,
        stem=stem,
    ).config
    if style == "linen":
        source = export_linen.network(genotype, config, bool(drop_path))
        usage = _linen_usage(auxiliary)
    else:
        check_positive(colours=colours)
        source = export_nnx.network(genotype, config, bool(drop_path), colours)
        usage = _nnx_usage(auxiliary)
    head = export_text.header(genotype, usage, notes)
    return head + export_text.blocks(style, source) + source


def _linen_usage(auxiliary: bool) -> list[str]:
    logits = "(logits, auxiliary)" if auxiliary else "logits"
    return [
        "network = Network()",
        'variables = network.init(jax.random.key(0), images)  # or: load("w.npz")',
        f"{logits.strip('()')} = network.apply(variables, images)",
        f"{logits}, moved = network.apply(",
        '    variables, images, train=True, mutable=["batch_stats"]',
        ")",
        "variables = {**variables, **moved}",
    ]


def _nnx_usage(auxiliary: bool) -> list[str]:
    return [
        "model = Network(rngs=nnx.Rngs(0))",
        'load(model, "w.npz")  # trained weights',
        "model.eval()  # normalise by the running statistics",
        f"logits{', auxiliary' * auxiliary} = model(images)",
        "model.train()  # normalise by the batch, and update the running statistics",
    ]
