"""The source of an exported network's cells and outer structure, in Linen."""

from typing import Any

from jnas.networks import export_cells as parts
from jnas.networks import export_fixed
from jnas.spaces import Cell, Edge, Genotype

__all__ = ["network"]

_DENSE = (
    '        dense = nn.Dense(self.num_classes, kernel_init=UNIFORM, name="classifier")'
)


def network(genotype: Genotype, config: dict[str, Any], drop_path: bool) -> str:
    """Writes the cells and the network.

    Args:
      genotype: a convolutional genotype.
      config: of `jnas.networks.build`.
      drop_path: whether training can drop paths.

    Returns:
      The source, without the blocks of the templates.
    """
    if not genotype.is_darts_like:
        cell = _stage_cell(genotype.cells[0][1], drop_path)
        return cell + _stages(genotype, config, drop_path)
    cells = [
        _cell(genotype["normal"], False, drop_path),
        _cell(genotype["reduce"], True, drop_path)
        if "reduce" in genotype.names
        else export_fixed.linen_cell(drop_path),
    ]
    return "".join(cells) + _darts(genotype, config, drop_path)


def _term(index: int, edge: Edge, stride: int, drop_path: bool) -> str:
    name = f'name="{parts.edge_name(index)}"'
    step = ", 2" if stride == 2 else ""
    if not parts.has_layer(edge, stride):
        term = parts.plain_term(edge, stride)
    else:
        if edge.operation == "skip_connect":
            layer = f"FactorizedReduce(c, {name})"
        else:
            kind, window = parts.LAYERS[edge.operation]
            size = "" if window is None else f", {window}"
            layer = f"{kind}(c{size}{step}, {name})"
        term = f"{layer}(s{edge.source}, train)"
    return parts.drop(term, index, drop_path and parts.is_dropped(edge, stride))


def _body(cell: Cell, inputs: int, reduction: bool, drop_path: bool) -> list[str]:
    plan = parts.plan(cell, inputs)
    terms = {
        index: _term(index, edge, parts.stride(edge, inputs, reduction), drop_path)
        for node in plan.nodes
        for index, edge in node.edges
    }
    return [*parts.sums(plan, terms), *parts.output(plan)]


def _cell(cell: Cell, reduction: bool, drop_path: bool) -> str:
    scales = ", scales" if drop_path else ""
    inputs = parts.plan(cell, 2).inputs
    halves = "; halves the image" if reduction else ""
    lines = [
        f"class {'ReductionCell' if reduction else 'NormalCell'}(nn.Module):",
        f'    """A cell; states 0 and 1 are the outputs of the two before it{halves}.',
        "",
        "    Attributes:",
        "      channels: of each state.",
        "      halve: whether state 0 has twice the size of state 1.",
        '    """',
        "",
        "    channels: int",
        "    halve: bool",
        "",
        "    @nn.compact",
        f"    def __call__(self, s0, s1, train{scales}):",
        '        """Evaluates the cell, edge by edge."""',
        "        c = self.channels",
    ]
    if 0 in inputs:
        lines += [
            "        if self.halve:",
            '            s0 = FactorizedReduce(c, name="preprocess0")(s0, train)',
            "        else:",
            '            s0 = ReluConvNorm(c, name="preprocess0")(s0, train)',
        ]
    if 1 in inputs:
        lines.append('        s1 = ReluConvNorm(c, name="preprocess1")(s1, train)')
    lines += _body(cell, 2, reduction, drop_path)
    return "\n".join(lines) + "\n\n\n"


def _stage_cell(cell: Cell, drop_path: bool) -> str:
    body = _body(cell, 1, False, drop_path)
    scales = ", scales" if drop_path else ""
    lines = [
        "class Cell(nn.Module):",
        '    """A cell; state 0 is its input.',
        "",
        "    Attributes:",
        "      channels: of each state.",
        '    """',
        "",
        "    channels: int",
        "",
        "    @nn.compact",
        f"    def __call__(self, s0, train{scales}):",
        '        """Evaluates the cell, edge by edge."""',
        *(["        c = self.channels"] if any("(c" in line for line in body) else []),
        *body,
    ]
    return "\n".join(lines) + "\n\n\n"


def _call(drop_path: bool, returns: str) -> list[str]:
    """The head of the network's call, with its docstring."""
    extra = ", drop_path=0.0, key=None" if drop_path else ""
    lines = [
        "    @nn.compact",
        f"    def __call__(self, images, train=False{extra}):",
        '        """Evaluates the network.',
        "",
        "        Args:",
        "          images: `[B, H, W, channels]`, normalised.",
        '          train: use and collect the statistics of the batch ("batch_stats").',
    ]
    if drop_path:
        lines += [
            "          drop_path: in training, the rate at which edges are dropped.",
            "          key: for drop path; without it nothing is dropped.",
        ]
    return [*lines, "", "        Returns:", f"          {returns}", '        """']


def _scales(drop_path: bool, genotype: Genotype, cells: str) -> list[str]:
    """The lines that draw what drop path drops."""
    if not drop_path:
        return []
    edges = export_fixed.most_paths(
        max(len(cell.edges) for _, cell in genotype.cells),
        genotype.names == ("normal",),
    )
    return [
        f"        scales = [None] * {cells}",
        "        if train and key is not None:",
        f"            shape = ({cells}, {edges}, len(images))",
        "            scales = drop_path_scales(key, drop_path, shape)",
    ]


def _darts(genotype: Genotype, config: dict[str, Any], drop_path: bool) -> str:
    auxiliary, imagenet = config["auxiliary"], config["stem"] == "imagenet"
    returns = "Logits `[B, num_classes]`."
    if auxiliary:
        returns = "Logits `[B, num_classes]`; the auxiliary ones, None out of training."
    scales = ", scales[position]" if drop_path else ""
    lines = [
        "class Network(nn.Module):",
        '    """Stem, cells with reductions at 1/3 and 2/3, classifier.',
        "",
        "    Attributes:",
        "      channels: of the first cells; doubled at each reduction.",
        "      cells: how many.",
        "      num_classes: how many.",
        '    """',
        "",
        f"    channels: int = {config['channels']}",
        f"    cells: int = {config['cells']}",
        f"    num_classes: int = {config['num_classes']}",
        "",
        *_call(drop_path, returns),
        *_scales(drop_path, genotype, "self.cells"),
        "        c = self.channels",
    ]
    if imagenet:
        lines.append(
            '        before, last = ImagenetStem(c, name="stem")(images, train)'
        )
    else:
        lines += [
            '        x = conv(3 * c, 3, name="stem_conv")(images)',
            '        before = last = BatchNorm(name="stem_norm")(x, train)',
        ]
    lines += [
        f"        halve = {imagenet}",
        "        for position in range(self.cells):",
        "            reduce = position in (self.cells // 3, 2 * self.cells // 3)",
        "            c = 2 * c if reduce else c",
        "            kind = ReductionCell if reduce else NormalCell",
        '            cell = kind(c, halve, name=f"cell_{position}")',
        f"            before, last = last, cell(before, last, train{scales})",
        "            halve = reduce",
    ]
    if auxiliary:
        head = "ImagenetAuxiliaryHead" if imagenet else "AuxiliaryHead"
        lines += [
            "            if position == 2 * self.cells // 3:",
            "                middle = last",
            "        auxiliary = None",
            "        if train or self.is_initializing():",
            f'            head = {head}(self.num_classes, name="auxiliary")',
            "            auxiliary = head(middle, train)",
        ]
    lines += [
        _DENSE,
        f"        return dense(last.mean((1, 2))){', auxiliary' * auxiliary}",
    ]
    return "\n".join(lines) + "\n"


def _stages(genotype: Genotype, config: dict[str, Any], drop_path: bool) -> str:
    scales = ", scales[position]" if drop_path else ""
    lines = [
        "class Network(nn.Module):",
        '    """Stem, three stages of cells with reductions between them, classifier.',
        "",
        "    Attributes:",
        "      channels: of the first stage; doubled at each reduction.",
        "      cells_per_stage: how many.",
        "      num_classes: how many.",
        '    """',
        "",
        f"    channels: int = {config['channels']}",
        f"    cells_per_stage: int = {config['cells_per_stage']}",
        f"    num_classes: int = {config['num_classes']}",
        "",
        *_call(drop_path, "Logits `[B, num_classes]`."),
        "        cells = 3 * self.cells_per_stage",
        *_scales(drop_path, genotype, "cells"),
        "        c = self.channels",
        '        x = conv(c, 3, name="stem_conv")(images)',
        '        x = BatchNorm(name="stem_norm")(x, train)',
        "        for position in range(cells):",
        "            stage, place = divmod(position, self.cells_per_stage)",
        "            if stage and not place:",
        "                c = 2 * c",
        '                x = ResidualReduction(c, name=f"reduction_{stage}")(x, train)',
        '            cell = Cell(c, name=f"cell_{position}")',
        f"            x = cell(x, train{scales})",
        '        x = nn.relu(BatchNorm(name="last_norm")(x, train))',
        _DENSE,
        "        return dense(x.mean((1, 2)))",
    ]
    return "\n".join(lines) + "\n"
