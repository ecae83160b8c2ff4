import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture
def _accelerate_as_it_was():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
