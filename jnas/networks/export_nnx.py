"""The source of an exported network's cells and outer structure, in NNX."""

from typing import Any

from jnas.networks import export_cells as parts
from jnas.networks import export_fixed
from jnas.spaces import Cell, Edge, Genotype

__all__ = ["network"]


def network(
    genotype: Genotype, config: dict[str, Any], drop_path: bool, colours: int
) -> str:
    """Writes the cells and the network.

    Args:
      genotype: a convolutional genotype.
      config: of `jnas.networks.build`.
      drop_path: whether training can drop paths.
      colours: channels of the images.

    Returns:
      The source, without the blocks of the templates.
    """
    config = {**config, "colours": colours}
    if not genotype.is_darts_like:
        cell = _stage_cell(genotype.cells[0][1], drop_path)
        return cell + _stages(genotype, config, drop_path)
    cells = [
        _cell(genotype["normal"], False, drop_path),
        _cell(genotype["reduce"], True, drop_path)
        if "reduce" in genotype.names
        else export_fixed.nnx_cell(drop_path),
    ]
    return "".join(cells) + _darts(genotype, config, drop_path)


def _layer(edge: Edge, stride: int) -> str:
    step = ", 2" if stride == 2 else ""
    if edge.operation == "skip_connect":
        return "FactorizedReduce(c, c, rngs=rngs)"
    kind, window = parts.LAYERS[edge.operation]
    channels = "c, c" if kind == "ReluConvNorm" else "c"
    size = "" if window is None else f", {window}"
    return f"{kind}({channels}{size}{step}, rngs=rngs)"


def _body(cell: Cell, inputs: int, reduction: bool, drop_path: bool):
    """The lines that make the layers, and those that call them."""
    plan = parts.plan(cell, inputs)
    layers, terms = {}, {}
    for node in plan.nodes:
        for index, edge in node.edges:
            stride = parts.stride(edge, inputs, reduction)
            term, name = parts.plain_term(edge, stride), parts.edge_name(index)
            if parts.has_layer(edge, stride):
                layers[index] = f"        self.{name} = {_layer(edge, stride)}"
                term = f"self.{name}(s{edge.source})"
            dropped = drop_path and parts.is_dropped(edge, stride)
            terms[index] = parts.drop(term, index, dropped)
    made = [line for _, line in sorted(layers.items())]
    return made, [*parts.sums(plan, terms), *parts.output(plan)]


def _cell(cell: Cell, reduction: bool, drop_path: bool) -> str:
    made, called = _body(cell, 2, reduction, drop_path)
    inputs = parts.plan(cell, 2).inputs
    halves = "; halves the image" if reduction else ""
    lines = [
        f"class {'ReductionCell' if reduction else 'NormalCell'}(nnx.Module):",
        f'    """A cell; states 0 and 1 are the outputs of the two before it{halves}.',
        "",
        "    Args:",
        "      before: channels of the output of the cell before the last.",
        "      last: channels of the last cell's output.",
        "      channels: of each state.",
        "      halve: whether state 0 has twice the size of state 1.",
        "      rngs: for the initial values.",
        '    """',
        "",
        f"    outputs = {len(cell.concat)}  # states that are concatenated",
        "",
        "    def __init__(self, before, last, channels, halve, *, rngs):",
        "        c = channels",
    ]
    if 0 in inputs:
        lines += [
            "        kind = FactorizedReduce if halve else ReluConvNorm",
            "        self.preprocess0 = kind(before, c, rngs=rngs)",
        ]
    if 1 in inputs:
        lines.append("        self.preprocess1 = ReluConvNorm(last, c, rngs=rngs)")
    lines += [
        *made,
        "",
        f"    def __call__(self, s0, s1{', scales' * drop_path}):",
        '        """Evaluates the cell, edge by edge."""',
    ]
    if len(inputs) == 2:
        lines.append("        s0, s1 = self.preprocess0(s0), self.preprocess1(s1)")
    else:
        lines += [f"        s{i} = self.preprocess{i}(s{i})" for i in inputs]
    return "\n".join([*lines, *called]) + "\n\n\n"


def _stage_cell(cell: Cell, drop_path: bool) -> str:
    made, called = _body(cell, 1, False, drop_path)
    # A cell of pools and skip connections has no layers.
    made = ["        c = channels", *made] if made else ["        del channels, rngs"]
    lines = [
        "class Cell(nnx.Module):",
        '    """A cell; state 0 is its input.',
        "",
        "    Args:",
        "      channels: of each state.",
        "      rngs: for the initial values.",
        '    """',
        "",
        "    def __init__(self, channels, *, rngs):",
        *made,
        "",
        f"    def __call__(self, s0{', scales' * drop_path}):",
        '        """Evaluates the cell, edge by edge."""',
        *called,
    ]
    return "\n".join(lines) + "\n\n\n"


def _call(drop_path: bool, returns: str, training: bool) -> list[str]:
    """The head of the network's call, with its docstring."""
    extra = (", train=False" * training) + (", drop_path=0.0, key=None" * drop_path)
    lines = [
        "",
        f"    def __call__(self, images{extra}):",
        '        """Evaluates the network.',
        "",
        "        Args:",
        "          images: `[B, H, W, colours]`, normalised.",
    ]
    if training:
        lines.append("          train: whether to evaluate the auxiliary head, too.")
    if drop_path:
        lines += [
            "          drop_path: the rate at which edges are dropped.",
            "          key: for drop path; without it nothing is dropped.",
        ]
    return [*lines, "", "        Returns:", f"          {returns}", '        """']


def _scales(drop_path: bool, genotype: Genotype) -> list[str]:
    """The lines that draw what drop path drops."""
    if not drop_path:
        return []
    edges = export_fixed.most_paths(
        max(len(cell.edges) for _, cell in genotype.cells),
        genotype.names == ("normal",),
    )
    return [
        "        scales = [None] * len(self.cells)",
        "        if key is not None:",
        f"            shape = (len(self.cells), {edges}, len(images))",
        "            scales = drop_path_scales(key, drop_path, shape)",
    ]


_SETTINGS = [
    "      num_classes: how many.",
    "      colours: channels of the images.",
    "      rngs: for the initial values.",
    '    """',
    "",
    "    def __init__(",
    "        self,",
    "        *,",
]


def _darts(genotype: Genotype, config: dict[str, Any], drop_path: bool) -> str:
    auxiliary, imagenet = config["auxiliary"], config["stem"] == "imagenet"
    returns = "Logits `[B, num_classes]`."
    if auxiliary:
        returns = "Logits `[B, num_classes]`; the auxiliary ones, or None."
    lines = [
        "class Network(nnx.Module):",
        '    """Stem, cells with reductions at 1/3 and 2/3, classifier.',
        "",
        "    Args:",
        "      channels: of the first cells; doubled at each reduction.",
        "      cells: how many.",
        *_SETTINGS,
        f"        channels={config['channels']},",
        f"        cells={config['cells']},",
        f"        num_classes={config['num_classes']},",
        f"        colours={config['colours']},",
        "        rngs,",
        "    ):",
        "        c = channels",
    ]
    if imagenet:
        lines += [
            "        self.stem = ImagenetStem(colours, c, rngs=rngs)",
            "        before = last = c  # channels of the last two outputs",
            "        halve = True",
        ]
    else:
        lines += [
            "        self.stem_conv = conv(colours, 3 * c, 3, rngs=rngs)",
            "        self.stem_norm = BatchNorm(3 * c)",
            "        before = last = 3 * c  # channels of the last two outputs",
            "        halve = False",
        ]
    lines += [
        "        self.cells = nnx.List()",
        "        for position in range(cells):",
        "            reduce = position in (cells // 3, 2 * cells // 3)",
        "            c = 2 * c if reduce else c",
        "            kind = ReductionCell if reduce else NormalCell",
        "            self.cells.append(kind(before, last, c, halve, rngs=rngs))",
        "            before, last, halve = last, kind.outputs * c, reduce",
    ]
    if auxiliary:
        head = "ImagenetAuxiliaryHead" if imagenet else "AuxiliaryHead"
        lines += [
            "            if position == 2 * cells // 3:",
            f"                self.auxiliary = {head}(last, num_classes, rngs=rngs)",
        ]
    lines += [
        "        dense = nnx.Linear(last, num_classes, kernel_init=UNIFORM, rngs=rngs)",
        "        self.classifier = dense",
        *_call(drop_path, returns, auxiliary),
        *_scales(drop_path, genotype),
    ]
    if imagenet:
        lines.append("        before, last = self.stem(images)")
    else:
        lines.append("        before = last = self.stem_norm(self.stem_conv(images))")
    if drop_path or auxiliary:
        lines.append("        for position, cell in enumerate(self.cells):")
    else:
        lines.append("        for cell in self.cells:")
    scales = ", scales[position]" if drop_path else ""
    lines.append(f"            before, last = last, cell(before, last{scales})")
    if auxiliary:
        lines += [
            "            if position == 2 * len(self.cells) // 3:",
            "                middle = last",
            "        auxiliary = self.auxiliary(middle) if train else None",
        ]
    more = ", auxiliary" if auxiliary else ""
    lines.append(f"        return self.classifier(last.mean((1, 2))){more}")
    return "\n".join(lines) + "\n"


def _stages(genotype: Genotype, config: dict[str, Any], drop_path: bool) -> str:
    lines = [
        "class Network(nnx.Module):",
        '    """Stem, three stages of cells with reductions between them, classifier.',
        "",
        "    Args:",
        "      channels: of the first stage; doubled at each reduction.",
        "      cells_per_stage: how many.",
        *_SETTINGS,
        f"        channels={config['channels']},",
        f"        cells_per_stage={config['cells_per_stage']},",
        f"        num_classes={config['num_classes']},",
        f"        colours={config['colours']},",
        "        rngs,",
        "    ):",
        "        c = channels",
        "        self.stem_conv = conv(colours, c, 3, rngs=rngs)",
        "        self.stem_norm = BatchNorm(c)",
        "        self.cells = nnx.List()",
        "        for stage in range(3):",
        "            for _ in range(cells_per_stage):",
        "                self.cells.append(Cell(c * 2**stage, rngs=rngs))",
        "        self.reduction_1 = ResidualReduction(c, 2 * c, rngs=rngs)",
        "        self.reduction_2 = ResidualReduction(2 * c, 4 * c, rngs=rngs)",
        "        c = 4 * c",
        "        self.last_norm = BatchNorm(c)",
        "        dense = nnx.Linear(c, num_classes, kernel_init=UNIFORM, rngs=rngs)",
        "        self.classifier = dense",
        *_call(drop_path, "Logits `[B, num_classes]`.", False),
        *_scales(drop_path, genotype),
        "        x = self.stem_norm(self.stem_conv(images))",
        "        for position, cell in enumerate(self.cells):",
        "            if position == len(self.cells) // 3:",
        "                x = self.reduction_1(x)",
        "            if position == 2 * len(self.cells) // 3:",
        "                x = self.reduction_2(x)",
        f"            x = cell(x{', scales[position]' * drop_path})",
        "        x = nnx.relu(self.last_norm(x))",
        "        return self.classifier(x.mean((1, 2)))",
    ]
    return "\n".join(lines) + "\n"
