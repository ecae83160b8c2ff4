"""A `forward` for as long as a block lasts."""

from torch import nn

from ftp_hf.common.modes import forward_of


def test_a_module_has_its_own_forward_back():
    module, own, other = nn.Linear(2, 2), object(), object()
    with forward_of(module, other):
        assert module.forward is other
    assert "forward" not in vars(module)
    module.forward = own
    with forward_of(module, other):
        assert module.forward is other
    assert module.forward is own
