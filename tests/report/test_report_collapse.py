"""The verdict's rules, from both sides of each limit."""

import pytest

from jnas.report import collapse
from jnas.spaces import nasbench201, robust_darts

SPACE = nasbench201()
NONE, SKIP, CONV, POOL = 0, 1, 3, 4


def row(epoch, genes, **more):
    return {"epoch": epoch, "genotype": str(SPACE.decode(genes)), **more}


def with_skips(count):
    return [SKIP] * count + [CONV] * (6 - count)


@pytest.mark.parametrize(("skips", "level"), [(2, "healthy"), (4, "collapsed")])
def test_most_edges_empty_is_collapsed(skips, level):
    rows = [row(e, with_skips(skips)) for e in (1, 2, 3)]
    assert collapse.verdict(rows).level == level


def test_says_where_since_when_and_what_to_try():
    rows = [row(1, with_skips(1)), row(2, with_skips(5)), row(3, with_skips(1))]
    rows += [row(e, with_skips(5)) for e in (4, 5, 6)]
    values = (0.1, 0.1, 0.1, 0.3, 0.5, 0.46)
    for one, value in zip(rows, values, strict=True):
        one["lambda_max"] = value
    text = collapse.verdict(rows).text
    assert text.startswith(
        "collapsed: skip_connect on 5 of 6 edges (cell) since epoch 4"
    )
    assert "lambda_max rose 4.2x" in text and "sdarts_rs" in text
    empty = [NONE, SKIP, POOL, POOL, CONV, CONV]
    kinds = collapse.empty_edges(SPACE.decode(empty))["cell"]
    assert kinds == (4, 6, ("avg_pool_3x3", "none", "skip_connect"))


def test_half_of_the_edges_need_another_sign():
    half = [row(e, with_skips(3)) for e in range(1, 9)]
    assert collapse.verdict(half).level == "healthy"
    assert "watch" in collapse.verdict(half).text
    for one in half:
        one["lambda_max"] = 0.1 * one["epoch"]
    assert collapse.verdict(half).level == "collapsing"
    growing = [row(1, with_skips(1)), row(2, with_skips(3))]
    assert collapse.verdict(growing).level == "collapsing"
    # Curvature alone is a reason to watch.
    rising = [row(e, with_skips(0), lambda_max=0.1 * e) for e in range(1, 9)]
    assert collapse.verdict(rising).level == "healthy"
    assert "lambda_max rose" in collapse.verdict(rising).text


def test_the_ratio_is_of_means_and_needs_four():
    assert collapse.rise([{"lambda_max": x} for x in (1.0, 9.0, 9.0)]) is None
    values = [1.0] * 5 + [7.0] * 3 + [1.31] * 5
    assert collapse.rise([{"lambda_max": x} for x in values]) == pytest.approx(1.31)
    assert collapse.rise([{"lambda_max": x} for x in (-1.0, -1.0, 1.0, 1.0)]) is None
    mixed = [{"lambda_max": None}, {}, *({"lambda_max": 2.0} for _ in range(4))]
    assert collapse.rise(mixed) == 1.0


@pytest.mark.parametrize(
    ("entropy", "level"), [(0.96, "undecided"), (0.9, "collapsed")]
)
def test_undecided_comes_first(entropy, level):
    rows = [row(1, with_skips(6), arch_entropy=entropy)]
    found = collapse.verdict(rows)
    assert found.level == level and "6 of 6" in found.text


def test_the_gap_is_told():
    for derived, told in ((0.75, False), (0.5, True)):
        rows = [row(1, with_skips(0), mixture_accuracy=0.9, derived_accuracy=derived)]
        rows.append(row(2, with_skips(0)))
        assert ("below that of the mixture" in collapse.verdict(rows).text) == told


def test_two_cells_noise_and_nothing():
    space = robust_darts("S4")
    noisy = str(space.decode([0] * len(space.genes)))
    found = collapse.verdict([{"epoch": 1, "genotype": noisy}])
    assert found.level == "collapsed"
    assert found.text.count("noise on 8 of 8 edges") == 2
    assert collapse.verdict([]).level == "unknown"
    assert collapse.verdict([{"epoch": 1, "genotype": "?"}]).level == "unknown"
    assert collapse.verdict([{"epoch": 1, "train_loss": 1.0}]).level == "unknown"


def test_the_result_counts_and_the_method_is_not_advised():
    rows = [row(e, with_skips(1)) for e in (1, 2)]
    told = collapse.verdict(rows, SPACE.decode(with_skips(6)), "darts_es")
    assert told.text.startswith("collapsed: skip_connect on 6 of 6 edges (cell)")
    assert told.text.endswith(
        "try random smoothing (sdarts_rs) or more weight decay (r_darts_l2)"
    )
