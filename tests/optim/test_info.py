"""torch's own catalogue of its optimizers, with their options and errors, against ours."""

import copy

import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW
from tests.support.equal import assert_equal
from tests.support.problems import assert_goes_on_alike, clone, make_gradients, make_parameters, train

pytest.importorskip("expecttest", reason="torch's catalogue of optimizers imports expecttest")
with pytest.MonkeyPatch.context() as patch:
    # The import would lock torch's backend flags for every test of this process.
    patch.setattr(torch.backends, "disable_global_flags", lambda: None)
    from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

OURS = {torch.optim.AdamW: FTPAdamW, torch.optim.SGD: FTPSGD}
DENSE = [info for info in optim_db if not info.step_requires_closure and info.optim_cls is not torch.optim.SparseAdam]
INPUTS = [
    pytest.param(info.optim_cls, entry.kwargs, id=f"{info.optim_cls.__name__}-{entry.desc}")
    for info in DENSE
    for entry in info.optim_inputs_func(device="cpu")
]
ERRORS = [
    pytest.param(OURS[info.optim_cls], entry, id=f"{info.optim_cls.__name__}-{index}")
    for info in DENSE
    if info.optim_cls in OURS
    for index, entry in enumerate(info.optim_error_inputs_func(device="cpu", dtype=torch.float32))
    if entry.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
]


def matrices(parameters):
    return {name: parameter for name, parameter in parameters.items() if parameter.ndim == 2}


@pytest.mark.parametrize(("plain", "options"), INPUTS)
def test_ftp_without_projection_is_torchs_optimizer_bit_for_bit(plain, options):
    parameters = make_parameters(torch.float32)
    if plain.__name__ == "Muon":
        parameters = matrices(parameters)
    twin = clone(parameters)
    gradients = make_gradients(parameters, 5)
    train(FTP(plain(parameters.items(), **options), exclude=["*"]), parameters, gradients)
    train(plain(twin.items(), **options), twin, gradients)
    assert_equal(parameters, twin)


@pytest.mark.parametrize(("plain", "options"), INPUTS)
def test_ftp_resumes_bit_for_bit_around_every_optimizer(plain, options):
    parameters = make_parameters(torch.float32)
    if plain.__name__ == "Muon":
        parameters = matrices(parameters)
    gradients = make_gradients(parameters, 10)
    optimizer = FTP(plain(parameters.items(), **options))
    train(optimizer, parameters, gradients[:5])
    resumed = clone(parameters)
    second = FTP(plain(resumed.items(), **options))
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[5:])


@pytest.mark.parametrize(("make", "entry"), ERRORS)
def test_torchs_errors_are_ours(make, entry):
    case = entry.optimizer_error_input
    parameters = [torch.nn.Parameter(torch.zeros(1))] if case.params is None else case.params
    expect = pytest.warns if issubclass(entry.error_type, Warning) else pytest.raises
    with expect(entry.error_type, match=entry.error_regex):
        make(parameters, **case.kwargs)


def test_the_catalogue_leaves_torchs_flags_alone():
    # Where they are locked, setting one is an error, to whatever value.
    torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark
