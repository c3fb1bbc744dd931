"""Makes the folders of runs, as the commands and functions of jnas.run write them."""

import json
import pathlib

from jnas import spaces

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
OTHER = CELL.replace("avg_pool_3x3~2", "nor_conv_1x1~2")


def write_json(path: pathlib.Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def rows(epochs=4, *, shift=0.0, genotype=CELL, space="nasbench201", **more):
    """Rows of a search, which comes to its genotype in the last epoch but one."""
    found = []
    for epoch in range(1, epochs + 1):
        table = {}
        for group in spaces.get(space).groups:
            row = [1.0] * group.num_operations
            row[epoch % len(row)] += epoch + shift
            total = sum(row)
            table[group.name] = [[p / total for p in row]] * group.num_edges
        found.append(
            {
                "epoch": epoch,
                "step": 10 * epoch,
                "seconds": 2.0,
                "train_loss": 3.0 / epoch + shift,
                "val_loss": 4.0 / epoch + shift,
                "train_accuracy": 0.2 * epoch / epochs,
                "val_accuracy": 0.4 + shift,
                "arch_entropy": 0.9 - 0.1 * epoch,
                "skip_share": 0.2,
                "derived_skip_share": 1 / 6,
                "genotype": OTHER if epoch < epochs - 1 else genotype,
                "probabilities": table,
                **more,
            }
        )
    return found


def write_rows(path: pathlib.Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))


def write_search(
    folder, content, *, epochs=None, seed=0, space="nasbench201", **search
):
    """What `jnas.run.search` writes."""
    write_rows(folder / "metrics.jsonl", content)
    settings = {"method": "darts", "supernet": {"space": space}, **search}
    inner = {"search": settings, "data": {"name": "digits"}, "batch_size": 8}
    write_json(
        folder / "config.json",
        {
            "format": 1,
            "config": inner,
            "seed": seed,
            "epochs": len(content) if epochs is None else epochs,
            "steps_per_epoch": 10,
        },
    )


def write_seed(folder, seed, *, accuracy=None, bits=None, label="found", epochs=3):
    """What `jnas.run.retrain` writes for a seed; without accuracy it still trains."""
    place = folder / f"seed{seed}"
    content = [
        {"epoch": e, "step": e, "seconds": 1.5, "train_loss": 1.0 / e + seed}
        for e in range(1, epochs + 1)
    ]
    write_rows(place / "metrics.jsonl", content)
    inner = {"genotype": CELL, "trainer": {"recipe": "nasbench201"}, "batch_size": 8}
    config = {"format": 1, "config": inner, "seed": seed, "epochs": epochs}
    write_json(place / "config.json", config)
    if accuracy is not None:
        result = {"format": 1, "genotype": CELL, "seed": seed, "parameters": 1234}
        result |= {"multiply_adds": 5678, "seconds": 4.5, "test_accuracy": accuracy}
        result |= {"environment": {"jax": "9.9"}}
        if bits is not None:
            result["test_bits"] = bits
        write_json(place / "result.json", result)


def network(label, accuracies, *, genotype=CELL, bits=None):
    """A row of the table of a summary."""
    row = {
        "label": label,
        "genotype": genotype,
        "parameters": 43010,
        "multiply_adds": 340810,
        "seeds": list(range(len(accuracies))),
        "test_accuracies": list(accuracies),
        "seconds": [10.0] * len(accuracies),
    }
    return row | ({} if bits is None else {"test_bits": list(bits)})


def write_run(folder, *, seed=0, shift=0.0, table=(), notes=(), genotype=CELL, **more):
    """What ``jnas search`` writes."""
    arguments = {"method": "darts", "space": "nasbench201", "data": "digits"}
    arguments |= {"epochs": 4, "order": 1, "seed": seed, "learning_rate": None, **more}
    content = rows(shift=shift, genotype=genotype)
    write_search(folder / "search", content, seed=seed)
    parsed = spaces.Genotype.parse(genotype)
    (folder / "genotype.json").write_text(parsed.to_json())
    start = {"format": 1, "jnas": "0.1.0", "command": "search"}
    write_json(folder / "config.json", {**start, "arguments": arguments})
    write_json(
        folder / "summary.json",
        {
            "format": 1,
            "config": arguments,
            "environment": {"jnas": "0.1.0", "jax": "0.10.2", "device": "cpu: cpu"},
            "genotype": genotype,
            "genotype_json": json.loads(parsed.to_json()),
            "search_seconds": 12.0 + seed,
            "notes": list(notes),
            "table": list(table),
        },
    )
    return folder
