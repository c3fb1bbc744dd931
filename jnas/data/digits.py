"""The digits that come with scikit-learn: a real task that needs no download.

1,797 handwritten digits of 8x8 pixels with values 0..16 (UCI "Optical Recognition of
Handwritten Digits", the test part; Alpaydin & Kaynak 1998). Values become uint8 by
``rint(value * 255 / 16)``. Split, fixed for ever: 360 stratified test examples, the
remaining 1,437 halved into 719 for train and 718 for validation (seed 0, rule of
`jnas.data.splits`). Augmentation: pad 1 and crop; no flip, since a mirrored digit is
another sign.
"""

import numpy as np

from jnas import errors
from jnas.data import base, splits

__all__ = ["load"]

TEST_SIZE = 360


def load() -> base.Dataset:
    """Loads the digits.

    Returns:
      The dataset, images `[N, 8, 8, 1]`, 10 classes.

    Raises:
      JnasError: when scikit-learn is not installed.
    """
    try:
        # Imported here: it takes a second that only this set needs.
        from sklearn import datasets
    except ImportError as error:
        raise errors.JnasError(
            "the digits dataset comes with scikit-learn, which cannot be imported "
            f"({error}): install scikit-learn"
        ) from error
    values, labels = datasets.load_digits(return_X_y=True)
    images = np.rint(np.asarray(values) * 255 / 16).astype(np.uint8)
    return splits.from_arrays(
        images.reshape(-1, 8, 8),
        np.asarray(labels),
        num_classes=10,
        augment=base.Augment(crop=1),
        class_names=tuple("0123456789"),
        name="digits",
        source="UCI digits, 8x8, from scikit-learn",
        test_size=TEST_SIZE,
    )
