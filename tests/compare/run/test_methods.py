"""What the methods of a comparison ask of a training."""

import pytest

from ftp_hf.compare.run.methods import METHODS


@pytest.mark.parametrize(
    ("method", "rate", "share"), [("ftp", 0.01, None), ("ftp-share", 0.01, 0.03), ("lora+ftp-share", 0.01, 0.03)]
)
def test_radii_learn_at_a_rate_or_at_a_share(method, rate, share, tmp_path):
    setting = {"learning_rate": 1e-4, **{name: values[0] for name, values in METHODS[method].sweep.items()}}
    arguments = METHODS[method].arguments(setting, {"output_dir": str(tmp_path)})
    assert (arguments.ftp_radius_lr, arguments.ftp_radius_share, arguments.learning_rate) == (rate, share, 1e-4)
    assert METHODS[method].adapter is method.startswith("lora")
