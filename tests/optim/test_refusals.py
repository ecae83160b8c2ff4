"""What the optimizers refuse, what they leave to torch, and that a bad batch cannot poison a radius."""

import math
import re

import numpy as np
import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW
from ftp_hf.common.names import first_match
from ftp_hf.optim.restart import lengthen_states
from tests.support.problems import (
    IMPLEMENTATIONS,
    UPDATE,
    clone,
    make_factors,
    make_gradients,
    make_parameters,
    train,
    values,
)

MAKE = {
    "FTPAdamW": FTPAdamW,
    "FTPSGD": FTPSGD,
    "FTP": lambda params, **ours: FTP(torch.optim.AdamW(params), **ours),
}
every_class = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("plain", "make"), [(torch.optim.AdamW, FTPAdamW), (torch.optim.SGD, FTPSGD)])
def test_a_gradient_that_is_not_finite_leaves_the_radius_and_does_torchs_thing_to_the_weights(
    plain, make, bad, implementation
):
    parameters = make_parameters()
    gradients = make_gradients(parameters, 10)
    options = {"lr": 1e-2, "weight_decay": 0.0, **IMPLEMENTATIONS[implementation]}
    optimizer = make(parameters.items(), **options)
    train(optimizer, parameters, gradients[:9])
    radii = optimizer.radii()
    twin = clone(parameters)
    reference = plain(twin.items(), **options)
    for name, parameter in parameters.items():
        ours = optimizer.state[parameter]
        reference.state[twin[name]] = {
            key: value.clone() for key, value in ours.items() if key in ("step", "exp_avg", "exp_avg_sq")
        }
    moments = {name: optimizer.state[p]["radius"][1].item() for name, p in parameters.items()}

    gradients[9]["proj.weight"][2, 1] = bad
    gradients[9]["scale"].fill_(bad)
    train(optimizer, parameters, gradients[9:])
    train(reference, twin, gradients[9:])
    for name in ("proj.weight", "scale"):
        assert optimizer.radii()[name].radius == radii[name].radius
        assert optimizer.state[parameters[name]]["radius"][1].item() == moments[name]
        assert not np.isfinite(values(parameters)[name]).all()
    np.testing.assert_array_equal(values(parameters)["scale"], values(twin)["scale"])
    np.testing.assert_array_equal(values(parameters)["proj.weight"][2, 1], values(twin)["proj.weight"][2, 1])
    for name in set(parameters) - {"proj.weight", "scale"}:
        assert optimizer.radii()[name].radius != radii[name].radius
        assert np.isfinite(values(parameters)[name]).all()


def test_a_radius_goes_on_after_a_bad_batch():
    parameters = make_parameters()
    anchors = values(parameters)
    gradients = make_gradients(parameters, 12)
    optimizer = FTPSGD(parameters.items(), lr=1e-2)
    train(optimizer, parameters, gradients[:6])
    weights, radii = values(parameters), optimizer.radii()
    train(optimizer, parameters, [{name: torch.full_like(g, math.nan) for name, g in gradients[6].items()}])
    with torch.no_grad():  # what going back to the last good weights does
        for name, parameter in parameters.items():
            parameter.copy_(torch.tensor(weights[name]))
    assert {name: radius.radius for name, radius in optimizer.radii().items()} == {
        n: r.radius for n, r in radii.items()
    }
    train(optimizer, parameters, gradients[7:])
    for name, parameter in parameters.items():
        assert parameter.isfinite().all()
        assert math.isfinite(optimizer.radii()[name].radius)
        assert not np.array_equal(parameter.detach(), anchors[name])


@every_class
def test_sparse_gradient_is_refused_before_anything_moves(make):
    parameters = {"body": torch.nn.Parameter(torch.ones(3, 2)), "embed.weight": torch.nn.Parameter(torch.ones(4, 2))}
    optimizer = make(parameters.items())
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    parameters["embed.weight"].grad = torch.ones(4, 2).to_sparse()
    with pytest.raises(ValueError, match=r"embed\.weight is sparse.*project=False"):
        optimizer.step()
    assert all(torch.equal(parameter, torch.ones_like(parameter)) for parameter in parameters.values())
    assert not optimizer.state


def test_sparse_gradient_without_projection_is_torchs():
    parameter = torch.nn.Parameter(torch.ones(4, 2))
    twin = torch.nn.Parameter(torch.ones(4, 2))
    gradient = torch.sparse_coo_tensor([[1]], [[1.0, 2.0]], (4, 2), check_invariants=True)
    parameter.grad, twin.grad = gradient, gradient.clone()
    FTPSGD([{"params": [parameter], "project": False}], lr=0.1).step()
    torch.optim.SGD([twin], lr=0.1).step()
    assert torch.equal(parameter, twin)
    assert not torch.equal(parameter, torch.ones(4, 2))


@every_class
@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        (torch.float16, "small gradients are zero in float16"),
        (torch.complex64, r"only float32, float64 and bfloat16 are projected\. Name it in exclude \(ftp_exclude"),
    ],
)
def test_complex_and_float16_parameters_are_refused_by_name_unless_they_are_not_projected(make, dtype, reason):
    named = [("good", torch.nn.Parameter(torch.ones(2))), ("bad.one", torch.nn.Parameter(torch.ones(2, dtype=dtype)))]
    with pytest.raises(ValueError, match=rf"bad\.one is {dtype}.*{reason}.*project=False"):
        make(named)
    with pytest.raises(ValueError, match=rf"parameter 1 of the group is {dtype}"):
        make([parameter for _, parameter in named])
    make(named, exclude=["bad.*"])
    make([{"params": [named[0]]}, {"params": [named[1]], "project": False}])


@pytest.mark.parametrize("options", [{}, {"exclude": ["wide"]}])
def test_fused_steps_of_weights_with_gaps_are_refused_on_the_cpu(options):
    wide = torch.randn(4, 8)
    for spaced in (wide[:, :4], wide[::2], wide[:, :1], wide[:1].expand(4, 8)):
        named = [("body", torch.nn.Parameter(torch.ones(2))), ("wide", torch.nn.Parameter(spaced))]
        with pytest.raises(
            ValueError, match=r"wide, of shape .* has gaps or shared elements.*contiguous\(\).*fused=False"
        ):
            FTPAdamW(named, fused=True, **options)
        with pytest.raises(ValueError, match=r"wide, of shape .* has gaps"):
            FTP(torch.optim.AdamW([parameter for _, parameter in named], fused=True), named, **options)
        optimizer = FTPAdamW(named, fused=False, **options)
        state = optimizer.state_dict()
        state["param_groups"][0]["fused"] = True
        with pytest.raises(ValueError, match=r"wide, of shape .* has gaps"):
            optimizer.load_state_dict(state)
        assert optimizer.param_groups[0]["fused"] is False
    dense = [
        wide,
        wide.T,
        wide[:2],
        wide.as_strided((1, 4), (100, 1)),
        torch.ones(2, 3, 4, 4).permute(0, 2, 3, 1),
        wide[0, 0],
    ]
    FTPAdamW([torch.nn.Parameter(tensor) for tensor in dense], fused=True)
    FTPAdamW(torch.nn.LazyLinear(3).parameters(), fused=True)


@every_class
def test_a_frozen_float16_parameter_is_refused_once_it_has_a_gradient(make):
    frozen = torch.nn.Parameter(torch.ones(2, dtype=torch.float16), requires_grad=False)
    optimizer = make([("frozen", frozen), ("free", torch.nn.Parameter(torch.ones(2)))])
    optimizer.step()
    frozen.grad = torch.ones_like(frozen)
    with pytest.raises(ValueError, match=r"frozen is torch\.float16"):
        optimizer.step()


def resize(_, weight, rows):
    weight.data = torch.ones(rows, *weight.shape[1:], dtype=weight.dtype)


def load_the_state_of_another(optimizer, weight, rows):
    states = optimizer.state_dict()
    resize(optimizer, weight, rows)
    optimizer.load_state_dict(states)


def be_interrupted_at_the_first_step(optimizer, weight, rows):
    optimizer.state.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(optimizer), "_unconstrained_step", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            optimizer.step()
    resize(optimizer, weight, rows)


@every_class
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [3, 5000])
@pytest.mark.parametrize(
    "change", [resize, load_the_state_of_another, be_interrupted_at_the_first_step], ids=lambda change: change.__name__
)
@pytest.mark.parametrize("old", [{}, {"embed.weight": 2}], ids=["all rows", "2 old rows"])
def test_a_state_of_another_shape_is_refused_by_name_before_anything_is_projected(make, dtype, rows, change, old):
    weight = torch.nn.Parameter(torch.ones(4, 5, dtype=dtype))
    optimizer = make([("embed.weight", weight)], pretrained_rows=old)
    train(optimizer, {"w": weight}, [{"w": torch.ones_like(weight)}] * 3)
    change(optimizer, weight, rows)
    message = rf"embed\.weight has shape \({rows}, 5\), but \w+ in its optimizer state has shape \(4, 5\).*anchors="
    weight.grad = torch.zeros_like(weight)
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    torch.testing.assert_close(weight, torch.ones_like(weight), rtol=0, atol=1e-4)  # which weight decay alone may move
    if "radius" in optimizer.state[weight] and dtype != torch.bfloat16:  # whose master and anchor still go together
        with pytest.raises(ValueError, match=message):
            optimizer.radii()


def test_a_gradient_of_another_shape_is_torchs_error():
    weight = torch.nn.Parameter(torch.ones(4, 5))
    optimizer = FTPAdamW([weight], fused=True)
    train(optimizer, {"w": weight}, [{"w": torch.ones_like(weight)}] * 3)
    resize(optimizer, weight, 5000)
    lengthen_states(optimizer)
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()


@every_class
def test_non_leaf_and_repeated_parameters_are_torchs_errors(make):
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match="non-leaf"):
        make([parameter * 2])
    with pytest.raises(ValueError, match="more than one parameter group"):
        make([{"params": [parameter]}, {"params": [parameter]}])


@every_class
def test_a_parameter_that_is_twice_in_its_group_has_one_radius(make):
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = make([parameter, parameter])
    for _ in range(3):
        parameter.grad = torch.ones(2, 2)
        optimizer.step()
    assert len(optimizer.radii()) == 1
    assert optimizer.state[parameter]["radius"][3] == 3


@every_class
def test_an_empty_parameter_is_left_alone(make):
    parameters = {"empty": torch.nn.Parameter(torch.ones(0, 3)), "full": torch.nn.Parameter(torch.ones(2, 3))}
    optimizer = make(parameters.items())
    train(optimizer, parameters, [{name: torch.ones_like(p) for name, p in parameters.items()}] * 3)
    assert set(optimizer.radii()) == {"full"}


@pytest.mark.parametrize("make", [FTPAdamW, FTPSGD, lambda p, **kw: FTP(torch.optim.AdamW(p, **kw))])
def test_differentiable_is_refused(make):
    with pytest.raises(ValueError, match="differentiable=True is not supported"):
        make([torch.nn.Parameter(torch.ones(2))], differentiable=True)
    make([{"params": [torch.nn.Parameter(torch.ones(2))], "project": False}], differentiable=True)


@every_class
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kappa", -0.1),
        ("kappa", 1.1),
        ("kappa", math.nan),
        ("radius_lr", -1e-3),
        ("radius_lr", math.inf),
        ("radius_lr", math.nan),
        ("radius_betas", (0.9, 1.0)),
        ("radius_betas", (-0.1, 0.9)),
        ("radius_betas", (0.9,)),
        ("radius_betas", 0.9),
        ("anchor_device", "cuda"),
    ],
)
def test_options_out_of_range_are_named_with_their_value(make, option, value):
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=rf"{option} must .*got {re.escape(repr(value))}"):
        make([parameter], **{option: value})
    with pytest.raises(ValueError, match=rf"{option} must "):
        make([{"params": [parameter], option: value}])
    optimizer = make([parameter])
    with pytest.raises(ValueError, match=rf"{option} must "):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], option: value})
    assert len(optimizer.param_groups) == 1


@every_class
@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("kappa", "1e-1", "kappa"),
        ("radius_lr", "1e-1", "radius_lr"),
        ("radius_share", "3e-2", "radius_share"),
        ("radius_betas", (0.9, "9e-1"), "radius_betas[1]"),
        ("kappa", None, "kappa"),
    ],
)
def test_options_that_are_no_numbers_are_named_with_their_value(make, option, value, named):
    parameter = torch.nn.Parameter(torch.ones(2))
    message = f"{named} must be a number, got {value[-1] if named[-1] == ']' else value!r}"
    message += "; in YAML 1e-3 is a text, 1.0e-3 a number" if value is not None else ""
    with pytest.raises(TypeError, match=rf"^{re.escape(message)}$"):
        make([parameter], **{option: value})
    optimizer = make([parameter])
    with pytest.raises(TypeError, match=rf"^{re.escape(message)}$"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], option: value})
    assert len(optimizer.param_groups) == 1
    make([parameter], kappa=np.float32(0.5), radius_lr=torch.tensor(0.1), radius_betas=np.array([0.5, 0.9]))


@every_class
@pytest.mark.parametrize("option", ["exclude", "transposed"])
def test_patterns(make, option):
    parameters = make_parameters()
    with pytest.raises(TypeError, match=rf"for a single one write {option}=\('head\.\*',\)"):
        make(parameters.items(), **{option: "head.*"})
    for wrong in ([3], None, (name for name in ["head.*"])):
        with pytest.raises(
            TypeError, match=rf"{option} must be a sequence of parameter names .*, got {re.escape(repr(wrong))}"
        ):
            make(parameters.items(), **{option: wrong})
    with pytest.raises(
        ValueError, match=rf"{option}: 'heads\.\*' matches no parameter.* a later param group .* own {option}"
    ):
        make(parameters.items(), **{option: ["head.*", "heads.*"]})
    with pytest.raises(
        ValueError, match=rf"{option}=\('head\.\*',\) needs parameter names: pass model\.named_parameters"
    ):
        make(list(parameters.values()), **{option: ["head.*"]})


@every_class
def test_names_are_compared_with_no_other_names(make):
    """Thousands of parameters may be excluded by name."""
    parameters = {f"layers.{number}.weight": torch.nn.Parameter(torch.ones(1)) for number in range(100)}
    first_match.cache_clear()
    assert not make(parameters.items(), exclude=[*parameters]).projected_parameters()
    assert first_match.cache_info().currsize < 3 * len(parameters)


@every_class
def test_a_pattern_of_an_empty_group_matches_no_parameter(make):
    optimizer = make(make_parameters().items())
    with pytest.raises(ValueError, match=r"exclude: 'head\.\*' matches no parameter"):
        optimizer.add_param_group({"params": [], "param_names": [], "exclude": ["head.*"]})


@every_class
@pytest.mark.parametrize("low_rank", [(), UPDATE], ids=["dense", "low rank"])
def test_patterns_may_be_set_later(make, low_rank):
    parameters = make_factors(torch.float32) | {"c": torch.nn.Parameter(torch.ones(2, 2))}
    gradients = make_gradients(parameters, 3)
    optimizer = make(parameters.items(), low_rank=low_rank)
    train(optimizer, parameters, gradients[:1])
    weights = values(parameters)
    (group,) = optimizer.param_groups
    group["exclude"] = "c"
    for refused in (optimizer.radii, optimizer.step):
        with pytest.raises(TypeError, match=r"exclude must be .*for a single one write exclude=\('c',\)"):
            refused()
    assert all(np.array_equal(weights[name], now) for name, now in values(parameters).items())
    group["exclude"] = ["c"]
    train(optimizer, parameters, gradients[1:])
    assert set(optimizer.radii()) == ({"w"} if low_rank else {"a", "b"})


@every_class
def test_rows(make):
    parameters = make_parameters()
    with pytest.raises(TypeError, match=r"rows must map parameter names .* got \['conv\.weight'\]"):
        make(parameters.items(), rows=["conv.weight"])
    for dims in [(), (-1,), (0, 0), ("0",)]:
        with pytest.raises(ValueError, match=r"rows: 'conv\.weight' must name distinct dimensions, 0 or greater"):
            make(parameters.items(), rows={"conv.weight": dims})
    with pytest.raises(
        ValueError, match=r"rows: proj\.weight has 2 dimensions, but rows= names \(0, 2\): the last dimension is 1"
    ):
        make(parameters.items(), rows={"p*": (0, 2)})
    with pytest.raises(ValueError, match=r"rows: 'experts\.\*' matches no parameter"):
        make(parameters.items(), rows={"experts.*": (0, 1)})
    with pytest.raises(ValueError, match=r"needs parameter names: pass model\.named_parameters"):
        make(list(parameters.values()), rows={"proj.weight": (0,)})


@every_class
def test_a_pattern_may_match_in_any_group(make):
    parameters = make_parameters()
    groups = [{"params": [(name, parameter)]} for name, parameter in parameters.items()]
    optimizer = make(groups, exclude=["head.weight", "con*"])
    train(optimizer, parameters, make_gradients(parameters, 2))
    assert set(optimizer.radii()) == {"scale", "norm.weight", "proj.weight"}


def two_modules():
    return torch.nn.Sequential(torch.nn.Linear(3, 2)), torch.nn.Sequential(torch.nn.Linear(2, 2))


@every_class
def test_two_parameters_of_one_name_are_refused(make):
    encoder, decoder = two_modules()
    named = [*encoder.named_parameters(), *decoder.named_parameters("module")]  # as DDP calls those of a module
    message = r"two parameters are called '0\.weight'.*enc\.named_parameters\('enc'\).*project=False"
    with pytest.raises(ValueError, match=message):
        make(named)
    with pytest.raises(ValueError, match=message):
        make(named, exclude=["0.*"])
    with pytest.raises(ValueError, match=message):
        FTP(torch.optim.SGD([parameter for _, parameter in named]), named)
    optimizer = make(encoder.named_parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [*decoder.named_parameters()]})
    assert len(optimizer.param_groups) == 1
    apart = make([*encoder.named_parameters("enc"), *decoder.named_parameters("dec")])
    state = apart.state_dict()
    state["param_groups"][0]["param_names"] = ["0.weight", "0.bias"] * 2
    with pytest.raises(ValueError, match=message):
        apart.load_state_dict(state)
    assert apart.param_groups[0]["param_names"][0] == "enc.0.weight"


@every_class
@pytest.mark.parametrize("options", [{"project": False}, {"exclude": ["0.*"]}])
def test_parameters_that_are_not_projected_may_have_the_names_of_others(make, options):
    encoder, decoder = two_modules()
    optimizer = make(encoder.named_parameters())
    optimizer.add_param_group({"params": [*decoder.named_parameters()], **options})
    assert list(optimizer.projected_parameters().values()) == [*encoder.parameters()]
    factors = make_factors(torch.float32)
    optimizer = make(factors.items(), low_rank=UPDATE)
    with pytest.raises(ValueError, match="two parameters are called 'b'"):
        optimizer.add_param_group({"params": [("b", torch.nn.Parameter(torch.ones(2)))], "project": False})
    twice = torch.nn.Parameter(torch.ones(2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        make([("tied", twice), ("tied", twice)])


@every_class
def test_a_refused_group_is_not_added(make):
    anchor = torch.ones(2)
    optimizer = make([("a", torch.nn.Parameter(torch.ones(2)))], anchors={"a": anchor})
    for group, error, message in (
        ({"params": [("b", torch.nn.Parameter(torch.ones(2)))]}, ValueError, "no anchor: b"),
        ({"params": [("c", torch.nn.Parameter(torch.ones(2)))], "exclude": ["d"]}, ValueError, "'d' matches no"),
        ({"params": [("e", torch.nn.Parameter(torch.ones(2)))], "exclude": "e"}, TypeError, "exclude must be"),
        (["f"], TypeError, "param_group must be a dict"),
    ):
        with pytest.raises(error, match=message):
            optimizer.add_param_group(group)
    assert [group["param_names"] for group in optimizer.param_groups] == [["a"]]


def test_ftp_wraps_one_optimizer_instance():
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(TypeError, match=r"must be an instance of torch\.optim\.Optimizer, got <class"):
        FTP(torch.optim.AdamW)
    for optimizer in (FTPAdamW([parameter]), FTP(torch.optim.AdamW([parameter]))):
        with pytest.raises(TypeError, match=f"already projects: {type(optimizer).__name__}"):
            FTP(optimizer)


def test_ftp_names_the_parameters_of_an_optimizer_built_without_names():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no name for parameters \\[2, 3\\] of group 0"):
        FTP(torch.optim.AdamW(model.parameters()), model[0].named_parameters())
    optimizer = FTP(torch.optim.AdamW(model.parameters()), model.named_parameters(), exclude=["1.*"])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert set(optimizer.radii()) == {"0.weight", "0.bias"}


def test_a_refused_ftp_leaves_the_optimizer_for_a_second_attempt():
    parameters = make_parameters()
    plain = torch.optim.AdamW(parameters.items())
    before = plain.state_dict()["param_groups"]
    for refused in ({"exclude": ["heads.*"]}, {"kappa": 2.0}, {"anchors": {}}, {"anchors": "nowhere"}):
        with pytest.raises((ValueError, FileNotFoundError)):
            FTP(plain, **refused)
        assert plain.state_dict()["param_groups"] == before
    optimizer = FTP(plain, exclude=["head.*"], kappa=0.5)
    assert (optimizer.param_groups[0]["exclude"], optimizer.param_groups[0]["kappa"]) == (("head.*",), 0.5)


@every_class
@pytest.mark.parametrize(
    "refused",
    [
        {"exclude": ["heads.*"]},
        {"exclude": ["head.*"], "anchors": {"proj.weight": torch.zeros(1)}},
        {"transposed": ["proj.weight"], "rows": {"conv.weight": (4,)}},
        {"pretrained_rows": {"proj.weight": 1000}},
    ],
)
def test_what_is_refused_is_not_filled_in(make, refused):
    parameters = make_parameters()
    optimizer = make([*parameters.values()])
    before = {**vars(optimizer)}, [{**group} for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=r"no parameter|do not fit|dimensions|rows"):
        optimizer.fill_in(parameters, **refused)
    assert (vars(optimizer), optimizer.param_groups) == before
    optimizer.fill_in(parameters, anchors=clone(parameters))
    assert optimizer.projected_parameters().keys() == parameters.keys()


def test_an_optimizer_that_needs_the_closure_is_not_silently_wrong():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = FTP(torch.optim.LBFGS([parameter]))

    def closure():
        return (parameter**2).sum()

    with pytest.raises(TypeError, match="closure"):
        optimizer.step(closure)


def test_an_optimizer_that_swaps_weights_for_evaluation_is_refused():
    class ScheduleFree(torch.optim.SGD):
        def train(self): ...

        def eval(self): ...

    with pytest.raises(TypeError, match="ScheduleFree swaps the weights"):
        FTP(ScheduleFree([torch.nn.Parameter(torch.ones(2))]))
