"""Small compact files, made with the standard library and NumPy alone."""

import numpy as np

OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
# Constant, one 1x1 and one 3x3 convolution; published values of whole networks.
PARAMS = {
    "cifar10": (73306, 28000, 243040),
    "cifar100": (79156, 28000, 243040),
    "imagenet16": (80456, 28000, 243040),
}
FLOPS = {
    "cifar10": (7783050, 3932160, 35389440),
    "cifar100": (7788900, 3932160, 35389440),
    "imagenet16": (1953400, 983040, 8847360),
}


def linear(coefficients, ops):
    constant, one, three = coefficients
    return constant + one * (ops == 2).sum(1) + three * (ops == 3).sum(1)


def cells201(count, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.choice(5**6, count, replace=False)
    return np.stack(np.unravel_index(codes, (5,) * 6), 1).astype(np.int8)


def arrays201(count=20, seed=0):
    rng = np.random.default_rng(seed)
    ops = cells201(count, seed)
    arrays = {
        "ops": ops,
        "op_names": np.array(OPERATIONS),
        "edges": np.array(EDGES, np.int8),
        "n_seeds_200": np.full(count, 3, np.int8),
    }

    def percent(*shape):
        return rng.uniform(1, 99, shape).astype(np.float32)

    for name in PARAMS:
        for metric in ("val", "test"):
            for epochs in (12, 200):
                arrays[f"{name}_{metric}_{epochs}"] = percent(count)
        arrays[f"{name}_train_seconds_200"] = 10 * percent(count)
        arrays[f"{name}_params"] = linear(PARAMS[name], ops).astype(np.int32)
        arrays[f"{name}_flops"] = linear(FLOPS[name], ops).astype(np.int64)
    seeds = percent(count, 3)
    seeds[::3, 2] = np.nan
    arrays["cifar10_val_200_seeds"] = seeds
    arrays["cifar10_val_200"] = np.nanmean(seeds, 1)
    arrays["cifar100_valtest_200_seeds"] = percent(count, 3)
    return arrays


def latencies201(count=20, seed=0):
    rng = np.random.default_rng(seed)
    ops = cells201(count, seed)
    order = rng.permutation(count)
    return {
        "ops": ops[order],
        "op_names": np.array(OPERATIONS),
        "devices": np.array(["pixel3", "fpga"]),
        "latency_ms": rng.uniform(1, 9, (count, 2)).astype(np.float32),
    }


# Valid cells of NAS-Bench-101 of 2 to 7 vertices: matrix by its edges, operations.
CELLS101 = [
    (2, [(0, 1)], []),
    (3, [(0, 1), (1, 2)], [2]),
    (3, [(0, 1), (1, 2), (0, 2)], [0]),
    (4, [(0, 1), (1, 2), (2, 3)], [0, 1]),
    (5, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)], [0, 1, 2]),
    (6, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)], [1, 1, 2, 0]),
    (
        7,
        [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (4, 5), (5, 6), (0, 6), (1, 6)],
        [0, 0, 1, 2, 1],
    ),
]
NAMES101 = ["conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"]


def matrix101(vertices, edges):
    matrix = np.zeros((vertices, vertices), np.uint8)
    for source, target in edges:
        matrix[source, target] = 1
    return matrix


def arrays101(hash_of, seed=0):
    rng = np.random.default_rng(seed)
    count = len(CELLS101)
    adjacency = np.zeros((count, 7, 7), np.uint8)
    ops = np.full((count, 7), -1, np.int8)
    digests = b""
    for row, (vertices, edges, inner) in enumerate(CELLS101):
        adjacency[row, :vertices, :vertices] = matrix101(vertices, edges)
        ops[row, 1 : vertices - 1] = inner
        digests += bytes.fromhex(hash_of(matrix101(vertices, edges), inner))

    def share():
        return rng.uniform(0.1, 0.95, count).astype(np.float32)

    return {
        "adjacency": adjacency,
        "ops": ops,
        "num_vertices": np.array([cell[0] for cell in CELLS101], np.int8),
        "op_names": np.array(NAMES101),
        **{f"val_acc_{epochs}": share() for epochs in (4, 12, 36, 108)},
        "train_seconds_108": 1000 * share(),
        "params": rng.integers(1000, 10**6, count).astype(np.int32),
        "module_hash": np.frombuffer(digests, "V16"),
    }
