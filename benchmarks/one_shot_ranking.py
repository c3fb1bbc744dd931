"""How well a supernet ranks the cells of the shipped table, and what top k repairs.

    python benchmarks/one_shot_ranking.py --out one_shot_ranking.jsonl

A supernet of the table's network and images is trained on uniformly drawn paths (SPOS).
All 125 cells are scored with its weights and recalibrated statistics, and compared with
their accuracies after training alone, which the table knows (`jnas.tabular.cells125`).
One row a seed: Kendall's tau over the cells with a path, and the test accuracy (mean
of the table's seeds) of the best cell by the supernet, and of the best of its top 10 by
the validation accuracy after training from scratch.
"""

import dataclasses
import json
import time
from pathlib import Path

import cells125
import numpy as np
import tyro

from jnas import discrete, presets, run, tabular
from jnas.run.environment import environment


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: JSONL file that rows are appended to.
      seeds: of the supernet's training.
      epochs: of that training; the table's cells had 8.
      data_dir: folder of Fashion-MNIST.
    """

    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 40
    data_dir: Path | None = None


def main(config: Config) -> None:
    own = cells125.Config(out=config.out.parent, data_dir=config.data_dir)
    data, table = cells125.images(own), tabular.cells125()
    genes = table.genes[np.asarray(table.facts["connected"], bool)]
    known = table.objective("fashion_mnist", "test")
    search = presets.get("spos")(
        table.space,
        channels=own.channels,
        cells_per_stage=own.cells_per_stage,
        num_classes=data.num_classes,
        epochs=config.epochs,
        steps_per_epoch=-(-len(data.train) // own.batch_size),
        learning_rate=0.5 * own.batch_size / 1024,
    )
    for seed in config.seeds:
        start = time.perf_counter()
        found = run.search(
            search,
            data,
            epochs=config.epochs,
            batch_size=own.batch_size,
            seed=seed,
            progress=False,
        )
        trained = time.perf_counter() - start
        state = found.state
        objective = discrete.supernet(
            search.supernet,
            state.weights,
            state.model_state,
            data,
            batch_size=own.batch_size,
        )
        agreement = discrete.kendall_tau(objective, known, genes)
        one_shot = np.asarray(agreement.scores[0])
        test = np.asarray(table.values(genes, "fashion_mnist", "test"))
        order = np.argsort(-one_shot)[:10]
        top = discrete.train_top(
            (genes, one_shot), table.objective("fashion_mnist", "val"), k=10
        )
        chosen = np.flatnonzero((genes == np.asarray(top.genes[0])).all(-1))[0]
        row = {
            "seed": seed,
            "epochs": config.epochs,
            "tau": agreement.tau,
            "tau_standard_error": agreement.standard_error,
            "cells": len(genes),
            "one_shot_mean": float(one_shot.mean()),
            "best_by_supernet": float(test[order[0]]),
            "best_of_top_10": float(test[chosen]),
            "mean_of_all": float(test.mean()),
            "best_of_all": float(test.max()),
            "search_seconds": trained,
            "evaluation_seconds": time.perf_counter() - start - trained,
            **environment(),
        }
        with config.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
