"""Attributes with other values for as long as a block lasts."""

from torch import nn

from ftp_hf.common.replaced import replaced


def test_a_module_has_its_own_forward_back():
    module, own, other = nn.Linear(2, 2), object(), object()
    with replaced(module, forward=other):
        assert module.forward is other
    assert "forward" not in vars(module)
    module.forward = own
    with replaced(module, forward=other):
        assert module.forward is other
    assert module.forward is own


def test_a_property_is_set_back():
    class Owner:
        @property
        def value(self):
            return self._value

        @value.setter
        def value(self, value):
            self._value = value

    owner = Owner()
    owner.value = 1
    with replaced(owner, value=2):
        assert owner.value == 2
    assert owner.value == 1
