"""``jnas list``: what there is."""

import dataclasses

from jnas.cli import shared

__all__ = ["List", "run"]


@dataclasses.dataclass(frozen=True)
class List:
    """Show methods, spaces, strategies, genotypes, recipes and data, a line each."""


def run(args: List) -> None:
    """Runs the command."""
    del args
    from rich.table import Table

    from jnas import data as datasets
    from jnas import discrete, presets, spaces
    from jnas.networks import recipes

    console = shared.console()
    lines = {
        "methods": presets.names(),
        "spaces": {
            name: f"{spaces.get(name).size:.3g} candidates; groups "
            + ", ".join(
                f"{g.name} ({g.num_edges} edges x {g.num_operations} operations)"
                for g in spaces.get(name).groups
            )
            for name in spaces.names()
        },
        "strategies": discrete.names(),
        "genotypes": {n: "published" for n in spaces.genotype_names()},
        "recipes": recipes.names(),
        "data": datasets.names(),
    }
    for title, entries in lines.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, line in entries.items():
            table.add_row(name, line.replace("[", "\\["))  # no markup
        console.print(table)
