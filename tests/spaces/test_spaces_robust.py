"""RobustDARTS' spaces: what each edge offers, and the published sizes of their nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.spaces import robust_darts


def test_lists_of_edges():
    for name, operations in (
        ("S2", ("skip_connect", "sep_conv_3x3")),
        ("S3", ("none", "skip_connect", "sep_conv_3x3")),
        ("S4", ("noise", "sep_conv_3x3")),
    ):
        space = robust_darts(name)
        for group in space.groups:
            assert group.operations == operations and group.allowed.all()
        assert space.never == (("none",) if name == "S3" else ())
        assert space.keep == 2 and space.is_darts_like
    s1 = robust_darts("S1")
    for group in s1.groups:
        assert (group.allowed.sum(axis=1) == 2).all()
    normal, reduce = (group.candidates for group in s1.groups)
    assert normal[5] == ("max_pool_3x3", "skip_connect")
    assert normal[13] == ("dil_conv_3x3", "dil_conv_5x5")
    assert reduce[6] == ("max_pool_3x3", "sep_conv_3x3")
    assert reduce[11] == ("skip_connect", "dil_conv_5x5")


@pytest.mark.parametrize(
    ("name", "weights"),
    [("S1", 405_146), ("S2", 665_466), ("S3", 665_466), ("S4", 624_506)],
)
def test_supernets_have_the_published_number_of_weights(name, weights):
    net = jnas.supernet.build(robust_darts(name), channels=16, cells=8, num_classes=10)
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    found = jax.eval_shape(net.init, jax.random.key(0), image).weights
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == weights


@pytest.mark.parametrize("name", ["S1", "S2", "S3", "S4"])
def test_names_and_texts(name):
    space = jnas.spaces.get(f"robust_darts_{name.lower()}")
    assert space == robust_darts(name)
    rng = np.random.default_rng(0)
    for genes in space.random(rng, 20):
        genotype = space.decode(genes)
        assert jnas.Genotype.parse(genotype.to_text()) == genotype
        np.testing.assert_array_equal(space.encode(genotype), genes)


def test_unknown_name():
    with pytest.raises(jnas.JnasError, match="did you mean 'S2'"):
        robust_darts("s2")
