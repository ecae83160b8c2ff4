"""How the CUDA kernels are told to read a tensor."""

import pytest
import torch

from ftp_hf import FTPAdamW
from ftp_hf.projection.kernels.cuda_table import RadiusOptions, Reading, Row, on_device, plan
from ftp_hf.projection.rates import fan_ins
from ftp_hf.projection.tensor import ProjectedTensor


def shifted(tensor):
    """A copy that begins four bytes after a boundary."""
    room = torch.empty(tensor.numel() + 1)
    return room[1:].view(tensor.shape).copy_(tensor)


READ = {
    "of few columns": (torch.randn(16, 64), 0, Reading.ANY),
    "linear": (torch.randn(4, 768), 0, Reading.SHORT),
    "longer": (torch.randn(4, 3072), 0, Reading.LONG),
    "vector": (torch.randn(768), 0, Reading.SHORT),
    "rows of an odd length": (torch.randn(4, 767), 0, Reading.ANY),
    "between boundaries": (shifted(torch.randn(4, 768)), 0, Reading.ANY),
    "transposed": (torch.randn(768, 16), 1, Reading.UPRIGHT),
    "of three dimensions, in two ways": (torch.randn(3, 16, 8), (0, 2), Reading.ANY),
    "channels last": (torch.randn(8, 32, 3, 3).to(memory_format=torch.channels_last), 0, Reading.SHORT),
}


def reading(weight, rows, gradient=None):
    parameter = torch.nn.Parameter(weight)
    parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
    optimizer = FTPAdamW([("w", parameter)])
    optimizer.step()
    tensor = ProjectedTensor.of("w", parameter, None, optimizer.state[parameter], optimizer.param_groups[0], rows)
    table, *_ = plan([tensor], 2**15)
    return Reading(Row(*table[0].tolist()).reading)


@pytest.mark.parametrize(("weight", "rows", "expected"), READ.values(), ids=READ)
def test_tensors_are_read_in_the_widest_way_that_their_memory_allows(weight, rows, expected):
    assert reading(weight, rows) is expected


def test_all_of_a_tensor_decides():
    assert reading(torch.randn(4, 768), 0, gradient=shifted(torch.zeros(4, 768))) is Reading.ANY
    # Strides of the gradient alone.
    assert reading(torch.randn(4, 768), 0, gradient=torch.zeros(768, 4).t()) is Reading.ANY


def test_what_holds_of_many_param_groups_is_sent_once():
    """Sending waits for the device, or takes time on the host, at each step; layer-wise learning rates make a group a layer."""

    def sent():
        for number in range(100):
            weight = torch.nn.Parameter(torch.zeros(2, number + 1))
            yield fan_ins([ProjectedTensor.of("w", weight, None, {}, {}, 0)], torch.float32)
            yield on_device(weight.device, RadiusOptions(0.9**number, 0.9, 0.999, 1.0, 1.0))

    once = [*sent()]
    assert all(one is again for one, again in zip(once, sent(), strict=True))
