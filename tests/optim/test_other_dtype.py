"""Runs that go on in weights of another dtype than they began in."""

import copy
import itertools

import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW
from ftp_hf.optim.rounding import MASTER
from tests.support import problems
from tests.support.equal import assert_equal

MAKE = {
    **{
        f"FTPAdamW-{name}": lambda p, o=options, **kw: FTPAdamW(p, lr=1e-2, **o, **kw)
        for name, options in problems.IMPLEMENTATIONS.items()
    },
    "FTPSGD": lambda p, **kw: FTPSGD(p, lr=1e-2, momentum=0.9, **kw),
    "FTP-RAdam": lambda p, **kw: FTP(torch.optim.RAdam(p, lr=1e-2), **kw),
}
every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
PAIRS = list(itertools.permutations([torch.bfloat16, torch.float32, torch.float64], 2))
EXCLUDED = {"exclude": ["head.*"]}


def of_dtype(parameters, dtype):
    return {name: torch.nn.Parameter(p.detach().to(dtype, copy=True)) for name, p in parameters.items()}


def cast(gradients, dtype):
    return [{name: g.to(dtype) for name, g in gradient.items()} for gradient in gradients]


@pytest.fixture
def problem():
    """bfloat16 parameters, and gradients that bfloat16 holds."""
    narrow = of_dtype(problems.make_parameters(torch.float32), torch.bfloat16)
    return narrow, problems.make_gradients(narrow, 20)


def load(make, optimizer, parameters, dtype, **options):
    """The parameters of a run in another dtype, and their optimizer with the state of that run."""
    other = of_dtype(parameters, dtype)
    second = make(other.items(), **options)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    if dtype != torch.bfloat16:
        begun_from = {name: optimizer.state[p].get(MASTER, p) for name, p in parameters.items()}
        assert all(torch.equal(parameter, begun_from[name].to(dtype)) for name, parameter in other.items())
        assert not any(MASTER in state for state in second.state.values())
        for name, anchor in optimizer.anchors().items():
            torch.testing.assert_close(second.anchors()[name], anchor.to(dtype), rtol=1e-7, atol=0)
    return other, second


def convert(_, optimizer, parameters, dtype, **__):
    """As `model.float()`: the same parameters."""
    for parameter in parameters.values():
        parameter.grad = None
        parameter.data = parameter.data.to(dtype)
    return parameters, optimizer


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("go_on", [load, convert])
@every
def test_from_bfloat16_to_float32_the_run_goes_on_from_its_masters(make, go_on, steps, problem):
    narrow, gradients = problem
    throughout = of_dtype(narrow, torch.float32)
    reference = make(throughout.items(), **EXCLUDED)
    problems.train(reference, throughout, cast(gradients, torch.float32))
    optimizer = make(narrow.items(), **EXCLUDED)
    problems.train(optimizer, narrow, gradients[:steps])
    wide, second = go_on(make, optimizer, narrow, torch.float32, **EXCLUDED)
    problems.assert_told_as_it_is(second, wide)
    problems.train(second, wide, cast(gradients[steps:], torch.float32))
    problems.assert_same_run(reference, throughout, second, wide)
    problems.assert_told_as_it_is(second, wide)
    assert not any(MASTER in state for state in second.state.values())


@pytest.mark.parametrize("rounding", [{}, {"stochastic_rounding": True}], ids=str)
@pytest.mark.parametrize("steps", [1, 10])
@every
def test_stochastically_rounded_state_goes_on_in_float32(make, steps, rounding, problem):
    narrow, gradients = problem
    optimizer = make(narrow.items(), stochastic_rounding=True, **EXCLUDED)
    problems.train(optimizer, narrow, gradients[:steps])
    anchors = optimizer.anchors()
    wide, second = load(make, optimizer, narrow, torch.float32, **EXCLUDED, **rounding)
    problems.train(second, wide, cast(gradients[steps:], torch.float32))
    assert_equal(second.anchors(), anchors)
    problems.assert_told_as_it_is(second, wide)
    tensors = [value for state in second.state.values() for key, value in state.items() if key != "anchor_or_direction"]
    assert {value.dtype for value in tensors if isinstance(value, torch.Tensor)} == {torch.float32}


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)], ids=str)
@every
def test_between_float32_and_float64_the_run_goes_on(make, dtypes, steps):
    before, after = dtypes
    parameters = problems.make_parameters(before)
    gradients = problems.make_gradients(parameters, 20)
    pretrained = {name: parameter.detach().to(after) for name, parameter in problems.clone(parameters).items()}
    throughout = problems.clone(parameters)
    reference, optimizer = make(throughout.items(), **EXCLUDED), make(parameters.items(), **EXCLUDED)
    problems.train(reference, throughout, gradients)
    problems.train(optimizer, parameters, gradients[:steps])
    other, second = load(make, optimizer, parameters, after, **EXCLUDED)
    problems.train(second, other, cast(gradients[steps:], after))
    for name, anchor in second.anchors().items():
        torch.testing.assert_close(anchor, pretrained[name], rtol=1e-7, atol=0)
    if steps > 1:  # else all is at the floor, which float32 has digits for in the buffers alone
        for name, parameter in other.items():
            torch.testing.assert_close(parameter, throughout[name].detach().to(after), rtol=1e-4, atol=1e-4)
    problems.assert_told_as_it_is(second, other)


def tolerance(before, after, rounding):
    is_rounded = after == torch.bfloat16 or (before == torch.bfloat16 and rounding)
    return 2e-2 if is_rounded else 1e-5


def assert_moments_are_those_saved(loaded, saved):
    (optimizer, parameter), (other, another) = loaded, saved
    moments = {
        name: moment for name, moment in other.state[another].items() if name.startswith(("exp_avg", "momentum"))
    }
    assert moments
    for name, moment in moments.items():
        torch.testing.assert_close(
            optimizer.state[parameter][name].double(), moment.double(), rtol=1e-2, atol=1e-12, msg=name
        )


@pytest.mark.parametrize("rounding", [{}, {"stochastic_rounding": True}], ids=str)
@pytest.mark.parametrize("dtypes", PAIRS, ids=str)
@every
def test_excluded_parameters_go_on_in_any_other(make, dtypes, rounding):
    before, after = dtypes
    parameters = problems.make_parameters(before)
    gradients = problems.make_gradients(parameters, 8)
    throughout = of_dtype(parameters, torch.float64)
    problems.train(make(throughout.items(), **EXCLUDED), throughout, cast(gradients, torch.float64))
    optimizer = make(parameters.items(), **EXCLUDED, **rounding)
    problems.train(optimizer, parameters, gradients[:5])
    other, second = load(make, optimizer, parameters, after, **EXCLUDED, **rounding)
    assert_moments_are_those_saved((second, other["head.weight"]), (optimizer, parameters["head.weight"]))
    problems.train(second, other, cast(gradients[5:], after))
    torch.testing.assert_close(
        other["head.weight"].double(), throughout["head.weight"], rtol=0, atol=tolerance(before, after, rounding)
    )


@pytest.mark.parametrize("rounding", [{}, {"stochastic_rounding": True}], ids=str)
@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [(torch.float64, torch.bfloat16, 1), (torch.float64, torch.float32, 1), (torch.float32, torch.bfloat16, 5)],
    ids=str,
)
@every
def test_radii_go_on_from_weights_that_were_narrowed(make, before, after, steps, rounding):
    parameters = problems.make_parameters(before)
    gradients = problems.make_gradients(parameters, 20)
    optimizer = make(parameters.items(), radius_lr=1e-5)
    problems.train(optimizer, parameters, gradients[:steps])
    narrow, second = load(make, optimizer, parameters, after, radius_lr=1e-5, **rounding)
    told = second.radii()
    problems.train(second, narrow, cast(gradients[steps : steps + 1], after))
    for name, parameter in narrow.items():
        radius, _, exp_avg_sq, *_ = second.state[parameter]["radius"].tolist()
        assert radius >= 0.9 * told[name].deviation - 1e-5, name
        # ⟨g, d⟩ / ‖d‖₁ of a row is at most as large as its largest gradient.
        bound = sum(gradient[name].abs().sum() ** 2 for gradient in gradients[: steps + 1])
        assert exp_avg_sq <= 1.01e-3 * bound, name


@pytest.mark.parametrize("go_on", [load, convert])
def test_low_rank_updates_go_on_from_their_masters(go_on):
    def adapted(parameters):
        return FTPAdamW(parameters, lr=1e-2, low_rank=problems.UPDATE)

    narrow = problems.make_factors(torch.bfloat16)
    gradients = problems.make_gradients(narrow, 20)
    throughout = of_dtype(narrow, torch.float32)
    reference, optimizer = adapted(throughout.items()), adapted(narrow.items())
    problems.train(reference, throughout, cast(gradients, torch.float32))
    problems.train(optimizer, narrow, gradients[:10])
    wide, second = go_on(adapted, optimizer, narrow, torch.float32)
    update_now = (wide["b"] @ wide["a"]).abs().sum(1).max().item()
    assert second.radii()["w"].deviation == pytest.approx(update_now, rel=1e-5)
    problems.train(second, wide, cast(gradients[10:], torch.float32))
    problems.assert_same_run(reference, throughout, second, wide)


@pytest.mark.parametrize("rounding", [{}, {"stochastic_rounding": True}], ids=str)
@pytest.mark.parametrize("dtypes", PAIRS, ids=str)
def test_low_rank_updates_go_on_in_any_other(dtypes, rounding):
    def adapted(parameters):
        return FTPAdamW(parameters, lr=1e-2, low_rank=problems.UPDATE, **rounding)

    before, after = dtypes
    factors = problems.make_factors(before)
    gradients = problems.make_gradients(factors, 8)
    throughout = of_dtype(factors, torch.float64)
    problems.train(adapted(throughout.items()), throughout, cast(gradients, torch.float64))
    optimizer = adapted(factors.items())
    problems.train(optimizer, factors, gradients[:5])
    other, second = load(adapted, optimizer, factors, after)
    for name, factor in other.items():
        assert_moments_are_those_saved((second, factor), (optimizer, factors[name]))
    problems.train(second, other, cast(gradients[5:], after))
    for name, factor in other.items():
        torch.testing.assert_close(factor.double(), throughout[name], rtol=0, atol=tolerance(before, after, rounding))
