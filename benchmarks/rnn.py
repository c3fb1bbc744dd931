"""A recurrent cell searched on tiny Shakespeare against plain tanh networks.

Run it alone on the machine, e.g.::

    JNAS_DATA=data python benchmarks/rnn.py --out rnn.jsonl

For each seed: a search by character, then training from scratch of the found cell, of
a random cell of the same space, and of two plain tanh networks, one with as many
parameters (wider) and one as wide. All are trained by the same optimizer on the same
windows for the same number of steps. Each training takes the learning rate of one grid
that is best on the validation text (one that diverges never is); all rates of the grid
are trained at once (vmap). The test text is measured once a training, at that rate.

Training is by Adam, for all: the papers' SGD at learning rate 20 needs far longer. So
are the weights of the search.

It writes one row of JSON per training and prints a table in Markdown: bits per
character, mean and standard deviation over the seeds. It never passes or fails.
"""

import dataclasses
import json
import math
import statistics
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import tyro

import jnas
from jnas import networks, optimizers
from jnas.run import comparing
from jnas.run.environment import environment

SPACE = jnas.spaces.darts_rnn()


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      data: name or path of the text.
      seeds: how many searches, random cells and trainings.
      width: of the supernet and the cells.
      batch_size: columns of text.
      bptt: window of text.
      search_steps: length of each search.
      search_learning_rate: of the supernet's weights (Adam).
      train_steps: length of each training.
      learning_rates: the grid (Adam).
      random: whether to train a random cell, too.
      out: file of rows; they are appended.
    """

    data: str = "tinyshakespeare"
    seeds: int = 3
    width: int = 64
    batch_size: int = 64
    bptt: int = 35
    search_steps: int = 300
    search_learning_rate: float = 0.01
    train_steps: int = 1840
    learning_rates: tuple[float, ...] = (0.005, 0.01, 0.02)
    random: bool = True
    out: Path | None = None


def main(config: Config) -> None:
    """Runs everything."""
    data = jnas.data.load(config.data)
    record = Record(config, data)
    vocab, width = data.vocab_size, config.width
    rows: dict[str, list[dict]] = {}
    for seed in range(config.seeds):
        genotype, seconds = search(config, data, seed)
        record.write(
            {"what": "search", "seed": seed, "genotype": str(genotype)}
            | {"seconds": seconds}
        )
        cells = {"found cell": genotype}
        if config.random:
            cells["random cell"] = comparing.random_genotype(SPACE, seed)
        nets = {
            name: networks.recurrent(cell, vocab_size=vocab, width=width)
            for name, cell in cells.items()
        }
        wide = equal_width(parameters(nets["found cell"]), vocab)
        for name, n in (
            ("tanh RNN, equal parameters", wide),
            ("tanh RNN, equal width", width),
        ):
            nets[name] = networks.vanilla_rnn(vocab_size=vocab, width=n)
        for name, net in nets.items():
            row = {"what": name, "seed": seed, "genotype": net.config["genotype"]}
            row |= train(config, data, net, seed)
            record.write(row)
            rows.setdefault(name, []).append(row)
    print(table(rows))


def search(config: Config, data, seed: int):
    """The derived genotype and the seconds of its search, compilation included."""
    feed = jnas.data.text_feed(
        data.train, data.validation, batch_size=config.batch_size, bptt=config.bptt
    )
    preset = jnas.presets.darts_rnn(
        SPACE,
        vocab_size=data.vocab_size,
        width=config.width,
        bptt=config.bptt,
        epochs=1,
        steps_per_epoch=config.search_steps,
    )
    arch_rate = preset.config["arch_learning_rate"]
    method = jnas.search.differentiable(
        preset.supernet,
        task=preset.task,
        weight_tx=optimizer(config, config.search_learning_rate, config.search_steps),
        arch_tx=optimizers.coupled_adam(arch_rate, b1=0.9, b2=0.999),
    )
    start = time.perf_counter()
    result = jnas.run.loop(
        method.step,
        lambda key: method.init(key, feed(key, 0)[0]),
        feed,
        epochs=1,
        steps_per_epoch=config.search_steps,
        seed=seed,
        label=f"search, seed {seed}",
    )
    return method.derive(result.state), time.perf_counter() - start


def parameters(net) -> int:
    """Number of weights."""
    shape = {"tokens": jax.ShapeDtypeStruct((1, 1), jnp.int32)}
    weights = jax.eval_shape(net.init, jax.random.key(0), shape).weights
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(weights))


def equal_width(count: int, vocab: int) -> int:
    """The width of a tanh network with at least that many parameters."""
    n = 1
    while vocab * n + vocab + 2 * n * n < count:
        n += 1
    return n


def optimizer(config: Config, learning_rate: float, steps: int):
    """Adam with clipped gradients and a cosine to 0."""
    adam = optax.inject_hyperparams(optax.adam)
    return optax.chain(
        optimizers.clip_by_global_norm(0.25),
        adam(learning_rate=learning_rate),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, steps)),
        optimizers.scale_by_window(config.bptt),
    )


def train(config: Config, data, net, seed: int) -> dict:
    """Trains a network at all rates of the grid; the best one's figures."""
    rates = config.learning_rates
    feed = jnas.data.text_feed(
        data.train, None, batch_size=config.batch_size, bptt=config.bptt
    )
    steps = config.train_steps
    trainer = networks.trainer(
        net,
        tx=optimizer(config, 0.0, steps),
        task=jnas.supernet.language_modelling(),
    )
    key_init, key_data = jax.random.split(jax.random.key(seed))

    @jax.jit
    def begin(rate):
        state = trainer.init(key_init, feed(key_data, 0)[0])
        clip, adam_state, *rest = state.opt_state
        adam_state = adam_state._replace(hyperparams={"learning_rate": rate})
        return state._replace(opt_state=(clip, adam_state, *rest), step=jnp.int32(0))

    @jax.jit
    def run(states, feed, first):
        def step(states, i):
            batch = feed(key_data, i)[0]
            states, info = jax.vmap(trainer.step, in_axes=(0, None))(states, batch)
            return states, info.train_metrics["bits"]

        return jax.lax.scan(step, states, first + jnp.arange(20))

    start = time.perf_counter()
    states = jax.vmap(begin)(jnp.array(rates, jnp.float32))
    for i in range(0, steps, 20):
        states, bits = run(states, feed, i)
    jax.block_until_ready(states)
    seconds = time.perf_counter() - start
    pick = [jax.tree.map(lambda x, r=r: x[r], states) for r in range(len(rates))]

    def measure(state, tokens):
        windows = jnas.data.text_batches(tokens, 10, config.bptt)
        return networks.evaluate_text(trainer, state, windows)["bits"]

    validation = [measure(state, data.validation) for state in pick]
    best = min(
        range(len(rates)), key=lambda r: (math.isnan(validation[r]), validation[r])
    )
    return {
        "parameters": parameters(net),
        "width": net.config["width"],
        "learning_rate": rates[best],
        "validation_bits_of_each_rate": dict(
            zip(map(str, rates), validation, strict=True)
        ),
        "train_bits": float(bits[:, best].mean()),
        "validation_bits": validation[best],
        "test_bits": measure(pick[best], data.test),
        "seconds_of_all_rates": seconds,
        "rates": len(rates),
    }


class Record:
    """Rows of JSON, on the screen and in the file."""

    def __init__(self, config: Config, data):
        self.path = config.out
        options = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
        self.common = {
            "config": options,
            "data": data.fingerprint(),
            "commit": commit(),
        }
        self.common |= environment()

    def write(self, row: dict) -> None:
        """Adds a row."""
        line = json.dumps(row | self.common)
        print(json.dumps(row), flush=True)
        if self.path is not None:
            with open(self.path, "a") as file:
                file.write(line + "\n")


def commit() -> str | None:
    """The commit of the sources, if they are in a repository."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def table(rows: dict[str, list[dict]]) -> str:
    """A table in Markdown."""
    names = ("network", "width", "parameters", "learning rate")
    names = (*names, "validation bits", "test bits")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, runs in rows.items():
        rate = f"{runs[0]['learning_rate']:g}"
        cells = [name, runs[0]["width"], f"{runs[0]['parameters']:,}", rate]
        for column in ("validation_bits", "test_bits"):
            values = [row[column] for row in runs]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            cells.append(f"{statistics.fmean(values):.4f} ± {spread:.4f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Config))
