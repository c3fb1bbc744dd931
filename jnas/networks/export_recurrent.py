"""The source of an exported language model around a recurrent cell, in both styles."""

from collections.abc import Sequence

from jnas.networks import export_text
from jnas.networks.recurrent import recurrent
from jnas.spaces import Cell, Genotype
from jnas.supernet.sequence import Dropouts

__all__ = ["module"]

_ACTIVATIONS = {
    "tanh": "jnp.tanh",
    "relu": "jax.nn.relu",
    "sigmoid": "jax.nn.sigmoid",
    "identity": "jax.nn.identity",
}


def module(
    genotype: Genotype,
    *,
    style: str,
    vocab_size: int,
    width: int,
    dropouts: Dropouts,
    notes: Sequence[str] = (),
) -> str:
    """Writes the language model of a recurrent genotype; see `export_module`.

    Args:
      genotype: a recurrent genotype.
      style: "linen" or "nnx".
      vocab_size: a default in the module.
      width: likewise.
      dropouts: rates; places without dropout are not written.
      notes: lines for the comment at the top.

    Returns:
      The source.

    Raises:
      JnasError: an option is out of range, or the genotype is no recurrent one.

    Example:
      >>> genotype = Genotype.parse("DARTS_RNN_V1")
      >>> options = {"vocab_size": 9, "width": 4, "dropouts": Dropouts()}
      >>> "dropout" in module(genotype, style="linen", **options)
      False
    """
    # For its checks.
    recurrent(genotype, vocab_size=vocab_size, width=width, dropouts=dropouts)
    cell = genotype.cells[0][1]
    sizes = {"vocab_size": vocab_size, "width": width}
    if style == "linen":
        source = _linen_cell(cell, dropouts) + _linen_network(sizes, dropouts)
        usage = _LINEN_USAGE
    else:
        source = _nnx_cell(cell, dropouts) + _nnx_network(sizes, dropouts)
        usage = _NNX_USAGE
    head = export_text.header(genotype, usage, notes)
    return head + export_text.blocks(style, source) + source


_LINEN_USAGE = [
    "network = Network()",
    'variables = network.init(jax.random.key(0), tokens)  # or: load("w.npz")',
    "logits, state = network.apply(variables, tokens)",
    "logits, state = network.apply(variables, next_tokens, state)",
]
_NNX_USAGE = [
    "model = Network(rngs=nnx.Rngs(0))",
    'load(model, "w.npz")  # trained weights',
    "logits, state = model(tokens)",
    "logits, state = model(next_tokens, state)",
]


def _steps(cell: Cell, hidden: float) -> list[str]:
    """The lines from state 0 to the mean of the cell's output states."""
    wanted = set(cell.concat)
    for edge in reversed(cell.edges):
        wanted |= {edge.source} if edge.target in wanted else set()
    mask = " * mask" if hidden else ""
    seen = f"(h{mask})" if hidden else "h"
    lines = []
    if 0 in wanted:
        lines = [
            f"        both = jnp.concatenate([x, {seen.strip('()')}], axis=-1) @ w0",
            "        s0 = highway(h, both, jnp.tanh)",
        ]
    for edge in cell.edges:
        if edge.target in wanted:
            source, activation = f"s{edge.source}", _ACTIVATIONS[edge.operation]
            reads = f"({source}{mask})" if hidden else source
            lines.append(
                f"        s{edge.target} = highway({source}, {reads} @ "
                f"w[{edge.target - 1}], {activation})"
            )
    states = [f"s{state}" for state in cell.concat]
    rows = [" + ".join(states[i : i + 12]) for i in range(0, len(states), 12)]
    lines.append(f"        total = {rows[0]}")
    lines += [f"        total += {row}" for row in rows[1:]]
    return lines


def _masked(dropouts: Dropouts) -> dict[str, str]:
    """The masks by place, as expressions of ``key`` and ``tokens``."""
    shapes = {name: "batch" for name in dropouts._fields}
    shapes["words"] = "(vocab_size,)"
    return {
        name: f"dropout_mask(key, {number}, {rate}, {shapes[name]})"
        for number, (name, rate) in enumerate(dropouts._asdict().items())
        if rate
    }


def _linen_cell(cell: Cell, dropouts: Dropouts) -> str:
    lines = [
        "class Cell(nn.Module):",
        '    """The recurrent cell; x is the input, h the state before.',
        "",
        "    Attributes:",
        "      width: `n`, of the input and the state.",
        '    """',
        "",
        "    width: int",
        "",
        "    @nn.compact",
        f"    def __call__(self, h, x{', mask' if dropouts.hidden else ''}):",
        '        """`h` and `x [B, n]` to the next state, as carry and as output."""',
        "        n = self.width",
        '        w0 = self.param("w0", uniform, (2 * n, 2 * n))',
        f'        w = self.param("w", uniform, ({len(cell.edges)}, n, 2 * n))',
        *_steps(cell, dropouts.hidden),
        f"        h = total / {len(cell.concat)}",
        "        return h, h",
    ]
    return "\n".join(lines) + "\n\n\n"


def _inputs(dropouts: Dropouts) -> list[str]:
    """The lines from tokens to the inputs of the cell."""
    masks = _masked(dropouts)
    lines = ["        x = embedding[tokens]"]
    if "words" in masks:
        lines += [
            f"        words = {masks['words']}",
            "        x = x * words[tokens][..., None]",
        ]
    for name in ("embedding", "inputs"):
        if name in masks:
            lines.append(f"        x = x * {masks[name]}[:, None]")
    return lines


def _call(dropouts: Dropouts) -> list[str]:
    """The head of the network's call, with its docstring."""
    key = any(dropouts)
    lines = [
        f"    def __call__(self, tokens, h=None{', key=None' if key else ''}):",
        '        """Evaluates the network on a window of text.',
        "",
        "        Args:",
        "          tokens: ints `[B, T]`.",
        "          h: the state before, `[B, n]`; zeros by default.",
    ]
    if key:
        lines.append("          key: for dropout, in training; without it none.")
    return [
        *lines,
        "",
        "        Returns:",
        "          Logits of the next tokens `[B, T, V]`, and the state after.",
        '        """',
    ]


def _decode(dropouts: Dropouts, bias: str) -> list[str]:
    masks = _masked(dropouts)
    lines = []
    if "output" in masks:
        lines.append(f"        hiddens = hiddens * {masks['output']}[:, None]")
    return [*lines, f"        return hiddens @ embedding.T + {bias}, h"]


def _linen_network(sizes: dict[str, int], dropouts: Dropouts) -> str:
    hidden = _masked(dropouts).get("hidden")
    batch = any(getattr(dropouts, name) for name in dropouts._fields if name != "words")
    axes = "(1, nn.broadcast)" if hidden else "1"
    lines = [
        "class Network(nn.Module):",
        '    """A language model whose decoder has the matrix of the embedding.',
        "",
        "    Attributes:",
        "      vocab_size: `V`.",
        "      width: `n`, of the embedding and the state.",
        '    """',
        "",
        f"    vocab_size: int = {sizes['vocab_size']}",
        f"    width: int = {sizes['width']}",
        "",
        "    @nn.compact",
        *_call(dropouts),
        "        vocab_size, width = self.vocab_size, self.width",
        '        embedding = self.param("embedding", uniform, (vocab_size, width))',
        '        bias = self.param("bias", nn.initializers.zeros, (vocab_size,))',
        *(["        batch = len(tokens), width"] if batch else []),
        *_inputs(dropouts),
        "        if h is None:",
        "            h = jnp.zeros((len(tokens), width), x.dtype)",
        "        unrolled = nn.scan(",
        "            Cell,",
        '            variable_broadcast="params",',
        '            split_rngs={"params": False},',
        f"            in_axes={axes},",
        "            out_axes=1,",
        "        )",
        '        cell = unrolled(width, name="cell")',
        f"        h, hiddens = cell(h, x{f', {hidden}' if hidden else ''})",
        *_decode(dropouts, "bias"),
    ]
    return "\n".join(lines) + "\n"


def _nnx_cell(cell: Cell, dropouts: Dropouts) -> str:
    lines = [
        "class Cell(nnx.Module):",
        '    """The recurrent cell; x is the input, h the state before.',
        "",
        "    Args:",
        "      width: `n`, of the input and the state.",
        "      rngs: for the initial values.",
        '    """',
        "",
        "    def __init__(self, width, *, rngs):",
        "        n = width",
        "        self.w0 = nnx.Param(uniform(rngs.params(), (2 * n, 2 * n)))",
        f"        shape = {len(cell.edges)}, n, 2 * n",
        "        self.w = nnx.Param(uniform(rngs.params(), shape))",
        "",
        f"    def __call__(self, h, x{', mask' if dropouts.hidden else ''}):",
        '        """`h` and `x [B, n]` to the next state `[B, n]`."""',
        "        w0, w = self.w0[...], self.w[...]",
        *_steps(cell, dropouts.hidden),
        f"        return total / {len(cell.concat)}",
    ]
    return "\n".join(lines) + "\n\n\n"


def _nnx_network(sizes: dict[str, int], dropouts: Dropouts) -> str:
    hidden = _masked(dropouts).get("hidden")
    batch = any(getattr(dropouts, name) for name in dropouts._fields if name != "words")
    sizes_read = "vocab_size, width" if dropouts.words else "_, width"
    settings = f"vocab_size={sizes['vocab_size']}, width={sizes['width']}"
    lines = [
        "class Network(nnx.Module):",
        '    """A language model whose decoder has the matrix of the embedding.',
        "",
        "    Args:",
        "      vocab_size: `V`.",
        "      width: `n`, of the embedding and the state.",
        "      rngs: for the initial values.",
        '    """',
        "",
        f"    def __init__(self, *, {settings}, rngs):",
        "        shape = vocab_size, width",
        "        self.embedding = nnx.Param(uniform(rngs.params(), shape))",
        "        self.bias = nnx.Param(jnp.zeros(vocab_size))",
        "        self.cell = Cell(width, rngs=rngs)",
        "",
        *_call(dropouts),
        "        embedding = self.embedding[...]",
        f"        {sizes_read} = embedding.shape",
        *(["        batch = len(tokens), width"] if batch else []),
        *_inputs(dropouts),
        "        if h is None:",
        "            h = jnp.zeros((len(tokens), width), x.dtype)",
        *([f"        mask = {hidden}"] if hidden else []),
        "",
        "        def step(h, x):",
        f"            h = self.cell(h, x{', mask' if hidden else ''})",
        "            return h, h",
        "",
        "        h, hiddens = jax.lax.scan(step, h, jnp.swapaxes(x, 0, 1))",
        "        hiddens = jnp.swapaxes(hiddens, 0, 1)",
        *_decode(dropouts, "self.bias[...]"),
    ]
    return "\n".join(lines) + "\n"
