"""The options that all optimizers share."""

import copy
import re

import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW, FTPArguments
from ftp_hf.optim.options import DEFAULTS, ProjectionOptions
from tests.support.problems import make_gradients, make_parameters, train

MAKE = {
    "FTPAdamW": FTPAdamW,
    "FTPSGD": FTPSGD,
    "FTP": lambda params, **options: FTP(torch.optim.AdamW(params), **options),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_misspelt_option_is_named(name):
    with pytest.raises(TypeError, match=rf"{name}\.__init__\(\) got an unexpected keyword argument 'kapa'"):
        MAKE[name]([torch.nn.Parameter(torch.ones(2))], kapa=0.5)


def test_the_help_has_every_option_with_its_default():
    for option in ProjectionOptions.__optional_keys__:
        (entry,) = re.findall(rf"^        {option} \((.*?)\): ", FTPAdamW.__doc__, flags=re.MULTILINE | re.DOTALL)
        default = DEFAULTS.get(option)
        assert "*optional*" in entry
        if default is not None and option != "radius_lr":
            assert f"defaults to {default}" in entry
    assert "radius_lr (`float`, *optional*, defaults to 1e-2)" in FTPAdamW.__doc__
    assert DEFAULTS["radius_lr"] == 1e-2


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_groups_carry_the_defaults_and_flags_have_them(make):
    (group,) = make([torch.nn.Parameter(torch.ones(2))]).param_groups
    assert {option: group.get(option, DEFAULTS[option]) for option in DEFAULTS} == DEFAULTS
    # Sharded checkpoints of earlier versions have no such key, and torch looks for every one that a group has.
    assert DEFAULTS.keys() - group.keys() == {"radius_share", "stochastic_rounding"}
    flags = FTPArguments()
    assert (flags.ftp_kappa, flags.ftp_radius_lr) == (DEFAULTS["kappa"], DEFAULTS["radius_lr"])
    assert flags.ftp_radius_share is DEFAULTS["radius_share"]
    assert (flags.ftp_radius_beta1, flags.ftp_radius_beta2) == DEFAULTS["radius_betas"]
    assert flags.ftp_anchor_device is DEFAULTS["anchor_device"]
    assert flags.ftp_stochastic_rounding is DEFAULTS["stochastic_rounding"]


@pytest.mark.parametrize(("saved", "here"), [(None, "cpu"), ("cpu", None)])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_where_anchors_are_kept_is_not_loaded_with_a_state(make, saved, here):
    parameters = make_parameters(torch.float32)
    optimizer, other = (make(parameters.items(), anchor_device=device) for device in (saved, here))
    train(optimizer, parameters, make_gradients(parameters, 1))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.param_groups[0]["anchor_device"] == here
