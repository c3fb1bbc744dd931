"""How one array is divided into train, validation and test, and datasets from arrays.

Two rules exist. Official sets are halved *in order*, as DARTS does with CIFAR-10
(first half train, second half validation). Arrays that may be sorted by class are
divided *stratified*: one permutation of all examples is drawn from
``numpy.random.default_rng(0)``; each class gives to a part its share of that part's
size, rounded by largest remainders (ties to the lower class); it gives the members
that come first in the permutation, and every part is then put back in the original
order.
"""

from typing import Any

import numpy as np

from jnas import errors
from jnas.data import base, checks

__all__ = ["assemble", "from_arrays", "halve", "stratify"]

SEED = 0
TEST_SHARE = 0.2


def halve(split: base.Split) -> tuple[base.Split, base.Split]:
    """Returns the first and the second half in order; an odd example goes first.

    Example:
      >>> part = base.Split(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5, dtype="i4"))
      >>> [list(map(int, half.label)) for half in halve(part)]
      [[0, 1, 2], [3, 4]]
    """
    if len(split) < 2:
        raise errors.JnasError(
            "halving into train and validation needs at least 2 examples, got 1"
        )
    middle = (len(split) + 1) // 2
    return split.take(slice(None, middle)), split.take(slice(middle, None))


def stratify(
    label: np.ndarray, sizes: tuple[int, ...], seed: int = SEED
) -> tuple[np.ndarray, ...]:
    """Divides positions 0..N-1 into parts with equal shares of every class.

    Args:
      label: int32 `[N]`.
      sizes: how many examples each part gets; they sum to `N`.
      seed: of the permutation.

    Returns:
      One ascending array of positions per part.

    Example:
      >>> label = np.repeat(np.arange(2), 4)
      >>> [np.bincount(label[part]).tolist() for part in stratify(label, (2, 3, 3))]
      [[1, 1], [2, 1], [1, 2]]
    """
    if sum(sizes) != len(label) or min(sizes) < 1:
        raise errors.JnasError(
            f"sizes must be >= 1 and sum to the {len(label)} examples, got {sizes}: "
            "give more examples"
        )
    order = np.random.default_rng(seed).permutation(len(label))
    # Members of each class not given away yet, in the order of the permutation.
    waiting = [order[label[order] == c] for c in range(int(label.max()) + 1)]
    parts = []
    for size in sizes:
        left = np.array([len(members) for members in waiting])
        share = size * left
        quota, remainder = share // left.sum(), share % left.sum()
        extra = np.argsort(-remainder, kind="stable")[: size - quota.sum()]
        quota[extra] += 1
        taken = [members[:count] for members, count in zip(waiting, quota, strict=True)]
        waiting = [
            members[count:] for members, count in zip(waiting, quota, strict=True)
        ]
        parts.append(np.sort(np.concatenate(taken)))
    return tuple(parts)


def assemble(
    name: str,
    train: base.Split,
    validation: base.Split,
    test: base.Split,
    *,
    num_classes: int,
    augment: base.Augment,
    class_names: tuple[str, ...] | None = None,
    source: str = "",
) -> base.Dataset:
    """Builds a dataset, measuring mean and std on train and validation together."""
    if train.image.shape[3] != validation.image.shape[3]:
        raise errors.JnasError(
            f"all splits must have one image shape, got "
            f"{list(validation.image.shape[1:])} in validation and "
            f"{list(train.image.shape[1:])} in train"
        )
    mean, std = base.channel_statistics(train, validation)
    return base.Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        num_classes=num_classes,
        mean=mean,
        std=std,
        augment=augment,
        class_names=class_names,
        source=source,
    )


def from_arrays(
    images: Any,
    labels: Any,
    *,
    validation: tuple[Any, Any] | None = None,
    test: tuple[Any, Any] | None = None,
    num_classes: int | None = None,
    augment: base.Augment | None = None,
    class_names: tuple[str, ...] | None = None,
    name: str = "arrays",
    source: str = "arrays",
    test_size: int | None = None,
) -> base.Dataset:
    """Makes a checked dataset of the user's own arrays.

    Without `test`, a fifth of the examples (rounded) becomes the test split; without
    `validation`, what is left is halved into train and validation (an odd example
    goes to train). Both divisions are stratified with seed 0 (see the module).

    Args:
      images: uint8 `[N, H, W]` or `[N, H, W, C]` in 0..255, at least 8x8.
      labels: integers `[N]` in 0..K-1.
      validation: images and labels of a validation split; needs `test` too.
      test: images and labels of a test split.
      num_classes: `K`; by default the largest label of all splits + 1.
      augment: augmentation for training; by default none.
      class_names: `K` readable names.
      name: the dataset's name.
      source: where the arrays come from; the split rule is appended.
      test_size: examples for test, instead of a fifth.

    Returns:
      The dataset.

    Raises:
      JnasError: in one line, for whatever is wrong with the arrays.

    Example:
      >>> images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8)
      >>> data = from_arrays(images, np.arange(50) % 5)
      >>> len(data.train), len(data.validation), len(data.test), data.num_classes
      (20, 20, 10, 5)
    """
    whole = _split(images, labels, "")
    if validation is not None and test is None:
        raise errors.JnasError(
            "a validation split without a test split is ambiguous: give test too, or "
            "join them and let the library split"
        )
    if test is not None and test_size is not None:
        raise errors.JnasError("give either test or test_size, not both")

    if test is not None:
        held_out, rest, rule = _split(*test, "test "), whole, "given test split"
    else:
        count = round(len(whole) * TEST_SHARE) if test_size is None else test_size
        test_part, rest_part = stratify(whole.label, (count, len(whole) - count))
        held_out, rest = whole.take(test_part), whole.take(rest_part)
        rule = f"test: {count} stratified examples, seed {SEED}"

    if validation is not None:
        train, second = rest, _split(*validation, "validation ")
        rule += "; given validation split"
    else:
        size = len(rest)
        first_part, second_part = stratify(
            rest.label, ((size + 1) // 2, size - (size + 1) // 2)
        )
        train, second = rest.take(first_part), rest.take(second_part)
        rule += f"; train and validation: stratified halves, seed {SEED}"

    if num_classes is None:
        parts = (train, second, held_out)
        num_classes = 1 + max(int(part.label.max()) for part in parts)
    return assemble(
        name,
        train,
        second,
        held_out,
        num_classes=num_classes,
        augment=base.Augment() if augment is None else augment,
        class_names=class_names,
        source=f"{source} ({rule})",
    )


def _split(images: Any, labels: Any, prefix: str) -> base.Split:
    """Checks one pair of arrays from the user."""
    return base.Split(
        checks.as_images(images, f"{prefix}images"),
        checks.as_labels(labels, f"{prefix}labels"),
    )
