"""Official files in small, in the layouts of the benchmarks' own code.

Written with the standard library. NATS-Bench: `state_dict` of `ArchResults` and
`ResultsCount`, pickled with protocol 4 and packed by bzip2. NAS-Bench-101: TFRecord
framing around JSON around a protocol buffer.
"""

import base64
import bz2
import collections
import json
import pickle
import struct

import compact
import numpy as np
import pytest

from jnas import JnasError, spaces, tabular
from jnas.tabular import converting

SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("ori-test", "x-valid", "x-test"),
    "ImageNet16-120": ("ori-test", "x-valid", "x-test"),
}


def run_of(name, seed, epochs, arch, rng, old=False):
    """One run: `ResultsCount.state_dict()`."""
    times = collections.OrderedDict((i, 1.5 + 0.25 * seed) for i in range(epochs))
    run = {
        "name": name,
        "net_state_dict": None,
        "train_acc1es": {i: float(rng.uniform(10, 99)) for i in range(epochs)},
        "train_acc5es": None,
        "train_losses": {i: float(rng.uniform(0, 3)) for i in range(epochs)},
        "train_times": times,
        "arch_config": {
            "channel": 16,
            "num_cells": 5,
            "arch_str": arch,
            "class_num": 10,
        },
        "params": 0.129306,
        "flop": 15.64737,
        "seed": str(seed),
        "epochs": epochs,
        "latency": [0.014],
        "eval_names": list(SETS[name]),
        "eval_acc1es": {},
        "eval_times": {},
        "eval_losses": {},
    }
    for split in SETS[name]:
        # The old runs were evaluated on further splits at their end only.
        for i in [epochs - 1] if old and split != SETS[name][0] else range(epochs):
            run["eval_acc1es"][f"{split}@{i}"] = float(rng.uniform(10, 99))
            run["eval_losses"][f"{split}@{i}"] = float(rng.uniform(0, 3))
            run["eval_times"][f"{split}@{i}"] = 0.5
    return run


def cell_of(index, arch, seeds, rng):
    """The file of one cell: {epochs: `ArchResults.state_dict()`}."""
    content = collections.OrderedDict()
    for epochs, chosen in (("12", seeds[:1]), ("200", seeds)):
        content[epochs] = {
            "arch_index": index,
            "arch_str": arch,
            "all_results": {
                (name, seed): run_of(
                    name, seed, int(epochs), arch, rng, old=seed == 888
                )
                for name in SETS
                for seed in chosen
            },
            "dataset_seed": {name: list(chosen) for name in SETS},
            "clear_net_done": True,
        }
    return content


def packed(content, protocol=4):
    return bz2.compress(pickle.dumps(content, protocol))


def nats_folder(folder, archs, contents):
    folder.mkdir(parents=True, exist_ok=True)
    meta = {
        "meta_archs": archs,
        "total_archs": len(archs),
        "arch2infos": None,
        "evaluated_indexes": set(),
    }
    (folder / "meta.pickle.pbz2").write_bytes(packed(meta))
    for index, content in enumerate(contents):
        (folder / f"{index:06d}.pickle.pbz2").write_bytes(packed(content))
    return folder


def crc32c(content):
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(content):
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(contents):
    parts = []
    for content in contents:
        length = struct.pack("<Q", len(content))
        parts += [length, struct.pack("<I", masked(length))]
        parts += [content, struct.pack("<I", masked(content))]
    return b"".join(parts)


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def evaluation(epoch, seconds, train, val, test):
    doubles = enumerate((epoch, seconds, train, val, test), 1)
    message = b"".join(bytes([i << 3 | 1]) + struct.pack("<d", x) for i, x in doubles)
    path = b"/model.ckpt-1"
    return message + bytes([6 << 3 | 2]) + varint(len(path)) + path


def metrics(evaluations, parameters, seconds=1234.5):
    message = b""
    for values in evaluations:
        inner = evaluation(*values)
        message += bytes([1 << 3 | 2]) + varint(len(inner)) + inner
    message += bytes([2 << 3 | 0]) + varint(parameters)
    return message + bytes([3 << 3 | 1]) + struct.pack("<d", seconds)


def record(digest, epochs, matrix, operations, message):
    """One row as the benchmark's JSON."""
    bits = "".join(str(int(bit)) for row in matrix for bit in row)
    text = base64.b64encode(message).decode()
    return json.dumps([digest, epochs, bits, ",".join(operations), text]).encode()


CELLS = compact.cells201(4, seed=3)
ARCHS = [str(spaces.nasbench201().decode(cell.astype(np.int32))) for cell in CELLS]
SEEDS = [[777, 888, 999], [777, 999], [777, 888], [777, 888, 999]]


def cell_files():
    rng = np.random.default_rng(0)
    rows = enumerate(zip(ARCHS, SEEDS, strict=True))
    return [cell_of(i, arch, seeds, rng) for i, (arch, seeds) in rows]


CONTENTS = cell_files()


def records101(epochs=(4, 108), repeats=3, seed=0):
    """Records of the small cells in random order, and their figures."""
    rng = np.random.default_rng(seed)
    rows, figures = [], collections.defaultdict(list)
    for vertices, edges, inner in compact.CELLS101:
        matrix = compact.matrix101(vertices, edges)
        names = ["input", *(compact.NAMES101[o] for o in inner), "output"]
        digest = tabular.NasBench101Space().hash(tabular.Spec(matrix, tuple(names)))
        parameters = int(rng.integers(100, 10**7))
        for number in epochs:
            for _ in range(repeats):
                stages = rng.uniform(0.1, 0.9, (3, 5)) * [108, 2000, 1, 1, 1]
                message = metrics(stages.tolist(), parameters)
                rows.append((digest, number, matrix, names, message))
                figures[digest, number].append((stages[-1].tolist(), parameters))
    order = rng.permutation(len(rows))
    # Figures in the order in which the file tells them.
    told = collections.defaultdict(list)
    counted = collections.Counter()
    per_key = {key: list(values) for key, values in figures.items()}
    positions = collections.defaultdict(list)
    for place, row in enumerate(rows):
        positions[row[0], row[1]].append(place)
    for place in order:
        key = rows[place][0], rows[place][1]
        told[key].append(per_key[key][positions[key].index(place)])
        counted[key] += 1
    return [record(*rows[i]) for i in order], told


def write101(path, contents):
    path.write_bytes(tfrecord(contents))
    return path


def refused(path, message, name="nasbench201", **options):
    target = path.parent / "out"
    with pytest.raises(JnasError, match=message) as caught:
        converting.convert(name, path, target, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists() or not list(target.iterdir())
