"""A search in bfloat16 is as good as one in float32, within noise."""

import statistics

import pytest

from benchmarks import precision


@pytest.mark.slow
def test_bfloat16_searches_digits_as_well_as_float32(tmp_path):
    """Student's two-sided test at 5 %, five seeds each, of the supernet's accuracy.

    All have to be far from chance (0.1), where no difference would mean nothing.
    """
    config = precision.Config(
        tmp_path / "rows.jsonl", epochs=12, retrain_epochs=0, channels=4
    )
    found = {
        dtype: [
            precision.measure(dtype, seed, config)["validation_accuracy"]
            for seed in range(config.seeds)
        ]
        for dtype in precision.DTYPES
    }
    for accuracies in found.values():
        assert statistics.fmean(accuracies) > 0.8
    difference, error, limit = precision.compare(*found.values())
    assert error > 0 and abs(difference) <= limit, found
    assert found["float32"] != found["bfloat16"]
