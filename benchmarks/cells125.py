"""Trains all 125 cells of a small space from scratch: the table that jnas ships.

One row of JSON a cell and seed, appended at once, so that the same command goes on
where it was stopped; when all are there, the table ``jnas/tabular/cells125.npz``, its
figures and a picture::

    python benchmarks/cells125.py --out cells125              # all of it, one core
    python benchmarks/cells125.py --out cells125 --minutes 30 # a slice of it
    python benchmarks/cells125.py --out quick --quick         # half a minute
    python benchmarks/cells125.py --out cells125 --table --npz jnas/tabular/cells125.npz

The space: NAS-Bench-201's five operations on a cell of three nodes. The network:
NAS-Bench-201's (stem, three stages of cells, residual reductions), small. The training:
NAS-Bench-201's (SGD with Nesterov momentum, cosine per step to 0, coupled L2), short,
without augmentation, on the first images of Fashion-MNIST, averaged to ``side``; see
`Config` for the figures. The validation images are the first of the second half of the
official training images, the test images the first of the official test images.

A seed sets the initial weights, also of what is the same in all cells, and the order
of the images; so cells of one seed start from the same stem. One compiled program
trains every cell (`cells125_network`). Process time of one core is what counts as
``seconds``, since other programs may share the machine; compiling is left out.
"""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: folder of the rows, the figures and the picture.
      seeds: of the trainings.
      quick: a tenth of the images, 2 epochs, the seeds 0 and 1, every sixth cell.
      train: number of training images, a multiple of the batch size.
      validation: number of validation images.
      test: number of test images.
      side: of the images: 8, 12, 16, 20, 24 or 28.
      epochs: of a training.
      batch_size: of a training.
      channels: of the first stage.
      cells_per_stage: in each of three stages.
      learning_rate: at the start.
      weight_decay: coupled L2 on every parameter.
      data_dir: folder of the data files.
      minutes: stop after so many, to be gone on with by the same command.
      core: the core to run on, where the system lets one choose.
      table: run nothing, only make figures and picture of the rows there are.
      npz: where to write the table, if all rows are there.
    """

    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    train: int = 6144
    validation: int = 4000
    test: int = 4000
    side: int = 8
    epochs: int = 8
    batch_size: int = 128
    channels: int = 4
    cells_per_stage: int = 2
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    data_dir: Path | None = None
    minutes: float | None = None
    core: int | None = None
    table: bool = False
    npz: Path | None = None


NO_SETTING = (
    "out", "seeds", "quick", "data_dir", "minutes", "core", "table", "npz",
)  # fmt: skip


def setting(config: Config) -> dict[str, Any]:
    """What makes rows comparable."""
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in NO_SETTING
    }


def images(config: Config) -> Any:
    """The three parts, small, as a `jnas.data.Dataset`.

    Mean and standard deviation are those of the training images.
    """
    from jnas import data
    from jnas.data import base

    whole: Any = data.load("fashion_mnist", data_dir=config.data_dir)
    parts = {}
    for name in ("train", "validation", "test"):
        split = getattr(whole, name).take(slice(getattr(config, name)))
        parts[name] = data.Split(shrunk(split.image, config.side), split.label)
    mean, std = base.channel_statistics(parts["train"])
    return dataclasses.replace(
        whole, **parts, mean=mean, std=std, augment=data.Augment()
    )


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Averages areas: uint8 ``[N, H, H, C] -> [N, side, side, C]``.

    Exact: every pixel is repeated so often that blocks of equal size fit.
    """
    n, size, _, channels = image.shape
    times = np.lcm(size, side) // size
    block = size * times // side
    wide = image.astype(np.uint32).repeat(times, 1).repeat(times, 2)
    sums = wide.reshape(n, side, block, side, block, channels).sum((2, 4))
    return np.round(sums / block**2).astype(np.uint8)


class Training:
    """The one program that trains every cell, and its images on the device."""

    def __init__(self, config: Config, data: Any):
        import cells125_network as network
        import jax
        import jax.numpy as jnp

        from jnas import compiling, tabular
        from jnas.networks import recipes_images

        if config.train % config.batch_size:
            raise SystemExit("--train must be a multiple of --batch-size")
        self.config, self.network = config, network
        self.space = tabular.cells125_space()
        self.steps = config.train // config.batch_size
        net = network.build(
            self.space,
            channels=config.channels,
            cells_per_stage=config.cells_per_stage,
            num_classes=data.num_classes,
        )
        self.trainer = recipes_images.nasbench201_recipe(
            net,
            steps_per_epoch=self.steps,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )

        def on_device(split):
            pixels = split.image.astype(np.float32) / 255
            mean, std = (np.asarray(v, np.float32) for v in (data.mean, data.std))
            return jnp.asarray((pixels - mean) / std), jnp.asarray(split.label)

        self.train, self.validation, self.test = (
            on_device(split) for split in (data.train, data.validation, data.test)
        )
        options = compiling.options()

        def step(state, image, label, index):
            batch = {"image": image[index], "label": label[index]}
            state, info = self.trainer.step(state, batch)
            return state, info.train_metrics["accuracy"]

        def correct(state, image, label):
            found = jnp.argmax(self.trainer.predict(state, image), axis=-1)
            return jnp.sum(found == label)

        self._step = jax.jit(step, donate_argnums=0, compiler_options=options)
        self._correct = jax.jit(correct, compiler_options=options)
        self._init = jax.jit(
            lambda key: self.trainer.init(key, self.train[0][: config.batch_size])
        )

    def initial(self, genes: Any, seed: int) -> Any:
        """The state before the first step."""
        import jax

        return self.network.with_genes(self._init(jax.random.key(seed)), genes)

    def epochs(self, genes: Any, seed: int) -> Iterator[dict[str, Any]]:
        """Trains a cell; after each epoch what is counted and how long it took.

        Yields:
          Numbers of correct images of validation, test, and of the training images as
          they were learned from; process seconds of the epoch's steps, and of counting
          the correct validation images.
        """
        import jax

        state = self.initial(genes, seed)
        jax.block_until_ready(state)
        for epoch in range(self.config.epochs):
            order = np.random.default_rng([seed, epoch]).permutation(self.config.train)
            order = order.reshape(self.steps, -1).astype(np.int32)
            start, hits = time.process_time(), []
            for index in order:
                state, accuracy = self._step(state, *self.train, index)
                hits.append(accuracy)
            jax.block_until_ready(state)
            trained = time.process_time()
            val = self.correct(state, self.validation)
            counted = time.process_time()
            right = sum(float(accuracy) for accuracy in hits) * self.config.batch_size
            yield {
                "val": val,
                "test": self.correct(state, self.test),
                "train": round(right),
                "seconds": trained - start,
                "eval_seconds": counted - trained,
            }

    def correct(self, state: Any, part: tuple[Any, Any]) -> int:
        """How many images of a part are classified right, with running statistics."""
        image, label = part
        size, total = 500, 0
        for at in range(0, len(label), size):
            batch = image[at : at + size], label[at : at + size]
            total += int(self._correct(state, *batch))
        return total

    def warm_up(self) -> None:
        """Compiles, so that no row's seconds have it."""
        import jax

        state = self.initial(np.zeros(len(self.space.genes), np.int32), 0)
        index = np.zeros(self.config.batch_size, np.int32)
        state, _ = self._step(state, *self.train, index)
        for part in (self.validation, self.test):
            self.correct(state, part)
        jax.block_until_ready(state)


def work(config: Config) -> None:
    """Trains what is missing, seed by seed."""
    if config.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {config.core})
    begin = time.monotonic()
    import cells125_table as rows_of

    from jnas.run.environment import environment

    done = {(tuple(row["genes"]), row["seed"]) for row in rows_of.read(config.out)}
    missing = [item for item in plan(config) if item not in done]
    if not missing:
        return
    data = images(config)
    training = Training(config, data)
    training.warm_up()
    about = {
        "setting": setting(config),
        "environment": environment(),
        "commit": rows_of.commit(),
        "data": data.fingerprint(),
    }
    for genes, seed in missing:
        if config.minutes and time.monotonic() - begin > 60 * config.minutes:
            print("the time is up: the same command goes on")
            return
        start = time.perf_counter()
        curve = list(training.epochs(genes, seed))
        wall = time.perf_counter() - start
        row: dict[str, Any] = {"genes": list(genes), "seed": seed}
        for name in curve[0]:
            row[name] = [
                value if isinstance(value, int) else round(value, 4)
                for value in (epoch[name] for epoch in curve)
            ]
        row |= {"wall_seconds": round(wall, 2), **about}
        with (config.out / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{training.space.decode(genes)} {seed}: validation "
            f"{row['val'][-1] / config.validation:.2%}, test "
            f"{row['test'][-1] / config.test:.2%}, {sum(row['seconds']):.1f} s, "
            f"{wall:.1f} s in all",
            flush=True,
        )


def plan(config: Config) -> list[tuple[tuple[int, ...], int]]:
    """All cells and seeds, one seed after the other."""
    sizes = (5, 5, 5)
    cells = [tuple(map(int, genes)) for genes in np.ndindex(*sizes)]
    if config.quick:
        cells = cells[::6]
    return [(genes, seed) for seed in config.seeds for genes in cells]


def main(config: Config) -> None:
    """Runs what is missing, then writes what can be said of the rows."""
    if config.quick:
        config = dataclasses.replace(
            config, train=640, validation=500, test=500, epochs=2, seeds=(0, 1)
        )
    config.out.mkdir(parents=True, exist_ok=True)
    import cells125_table

    cells125_table.check(config.out, setting(config))
    if not config.table:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            work(config)
        except KeyboardInterrupt:
            raise SystemExit("stopped: the same command goes on") from None
    cells125_table.write(config, plan(config))


if __name__ == "__main__":
    main(tyro.cli(Config))
