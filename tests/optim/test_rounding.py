"""bfloat16 weights without masters: what is rounded at random is right on average, and drawn again alike."""

import copy
import math

import pytest
import torch
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from ftp_hf import FTP, FTPSGD, FTPAdamW, LowRankProduct, LowRankUpdate
from ftp_hf.optim.rounding import round_stochastically
from tests.support.equal import assert_equal
from tests.support.pieces import EVERYTHING, cut_into_pieces, every_optimizer
from tests.support.problems import assert_goes_on_alike, clone, make_gradients, make_parameters, train

MAKE = {
    "FTPAdamW": lambda p, **kw: FTPAdamW(p, lr=1e-3, **kw),
    "FTPAdamW-fused": lambda p, **kw: FTPAdamW(p, lr=1e-3, fused=True, **kw),
    "FTPSGD": lambda p, **kw: FTPSGD(p, lr=1e-3, momentum=0.9, **kw),
    "FTP-RAdam": lambda p, **kw: FTP(torch.optim.RAdam(p, lr=1e-3), **kw),
    "FTP-Adafactor": lambda p, **kw: FTP(torch.optim.Adafactor(p, lr=1e-3), **kw),
}
every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
OPTIONS = {"exclude": ["head.*"], "stochastic_rounding": True}


def problem(steps=12):
    """bfloat16 parameters, and gradients for them."""
    parameters = {n: torch.nn.Parameter(p.detach().bfloat16()) for n, p in make_parameters(torch.float32).items()}
    return parameters, make_gradients(parameters, steps)


@pytest.fixture
def tiny_pieces(monkeypatch):
    cut_into_pieces(monkeypatch)


def drawn(values, seed=0):
    rounded = values.clone()
    round_stochastically(rounded, torch.Generator().manual_seed(seed))
    return rounded


@pytest.mark.parametrize("value", [1 + 0.3 * 2**-7, -3.1, 1e-3, -2.0e-30, 1e-39])
def test_rounding_is_right_on_average(value):
    values = torch.full((200_001,), value)
    rounded = drawn(values)
    low, high = rounded.unique().double().tolist()
    assert torch.equal(rounded.bfloat16().float(), rounded)
    exact = values[0].double().item()
    up = (exact - low) / (high - low)
    assert 0 < up < 1
    assert torch.equal(torch.tensor([low, high]).bfloat16().view(torch.int16).diff().abs(), torch.ones(1).short())
    error = (high - low) * math.sqrt(up * (1 - up) / len(values))
    assert abs(rounded.double().mean().item() - exact) < 4 * error


def test_what_bfloat16_holds_stays():
    every_number = torch.arange(-(2**15), 2**15, dtype=torch.int32).short().view(torch.bfloat16).float()
    every_nan = torch.tensor([0x7F800001, 0x7FFFFFFF, -1, -(2**23) + 1], dtype=torch.int32).view(torch.float32)
    values = torch.cat([every_number, every_nan]).view(20, -1).t()
    rounded = drawn(values)
    nan = values.isnan()
    assert torch.equal(rounded.isnan(), nan)
    assert torch.equal(rounded[~nan].view(torch.int32), values[~nan].view(torch.int32))


def test_a_row_is_on_average_as_far_from_its_anchor_as_before():
    anchor = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    step = 1e-3 * torch.randn(400, 1000, generator=torch.Generator().manual_seed(1))
    before = (anchor + step - anchor).abs().double().sum(1)
    after = (drawn(anchor + step) - anchor).abs().double().sum(1)
    ratio = after / before
    assert ratio.std() > 0.01
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.usefixtures("tiny_pieces")
@every
def test_resumed_equals_uninterrupted_bit_for_bit(make):
    parameters, gradients = problem()
    optimizer = make(parameters.items(), **OPTIONS)
    train(optimizer, parameters, gradients[:6])
    resumed = clone(parameters)
    second = make(resumed.items(), **OPTIONS)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[6:])
    for name, parameter in parameters.items():
        assert_equal(second.state[resumed[name]], optimizer.state[parameter])
        state = optimizer.state[parameter]
        assert "master" not in state
        moments = [
            v for k, v in state.items() if k not in ("anchor_or_direction", "radius") and v.shape == parameter.shape
        ]
        assert all(moment.dtype == torch.bfloat16 or not moment.ndim for moment in moments)
    assert optimizer.param_groups[0]["params"] == list(parameters.values())


@pytest.mark.parametrize("rounding", [False, True])
def test_random_numbers_are_its_own(rounding):
    parameters, gradients = problem()
    before = torch.get_rng_state()
    train(FTPAdamW(parameters.items(), stochastic_rounding=rounding), parameters, gradients)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_step_and_each_tensor_draws_its_own():
    weights = [torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16)) for _ in range(2)]
    optimizer = FTPSGD([{"params": weights[:1]}, {"params": weights[1:]}], lr=1e-3, stochastic_rounding=True)
    for group in optimizer.param_groups:
        group["exclude"] = ("*",)
    moved = []
    for _ in range(3):
        for weight in weights:
            weight.data.fill_(1)
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        moved.extend(weight.detach() < 1 for weight in weights)
    shares = torch.stack([where.float().mean() for where in moved])
    assert shares.min() > 0.2  # a step of 0.001 of the 0.0039 to the next number
    assert shares.max() < 0.31
    assert len({tuple(where.tolist()) for where in moved}) == 6


@every_optimizer
def test_steps_in_pieces_are_steps_of_all(optimizer, monkeypatch):
    trained = []
    for elements in (EVERYTHING, 1):
        cut_into_pieces(monkeypatch, elements)
        parameters, gradients = problem(steps=5)
        ours = FTP(optimizer(parameters.items(), lr=1e-2), **OPTIONS)
        train(ours, parameters, gradients)
        trained.append((parameters, ours))
    assert_equal(trained[0][0], trained[1][0])
    states = [[ours.state[p] for p in parameters.values()] for parameters, ours in trained]
    assert_equal(*states)
    assert trained[0][1].radii() == trained[1][1].radii()


def test_weights_and_second_moments_follow_those_in_float32_on_average():
    weights = [torch.nn.Parameter(torch.ones(64, 64, dtype=dtype)) for dtype in (torch.bfloat16, torch.float32)]
    optimizers = [FTPAdamW([weight], lr=1e-4, stochastic_rounding=True) for weight in weights]
    for step in range(100):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = torch.full_like(weight, 1.0 if step < 20 else 0.5)
            optimizer.step()
    moved, exact = ((weight.detach().float() - 1).mean().item() for weight in weights)
    assert exact < -5e-3
    assert moved == pytest.approx(exact, rel=0.03)
    rounded, seconds = (
        o.state[w]["exp_avg_sq"].float().mean().item() for o, w in zip(optimizers, weights, strict=True)
    )
    assert rounded == pytest.approx(seconds, rel=0.01)


@every
def test_a_tensor_at_rest_is_its_anchor(make):
    parameters, gradients = problem()
    optimizer, before = make(parameters.items(), **OPTIONS), clone(parameters)
    train(optimizer, parameters, gradients[:1])
    assert all(torch.equal(p, before[name]) for name, p in parameters.items() if name != "head.weight")
    train(optimizer, parameters, gradients[1:])
    anchors = optimizer.anchors()
    assert anchors
    assert all(anchor.dtype == torch.float32 for anchor in anchors.values())
    assert all(torch.equal(anchor, before[name].float()) for name, anchor in anchors.items())
    optimizer.release_weights()
    assert all(torch.equal(anchor, before[name].float()) for name, anchor in optimizer.anchors().items())


def test_radii_tell_the_distance_of_the_rounded_weights():
    parameters, gradients = problem()
    optimizer, before = MAKE["FTPSGD"](parameters.items(), **OPTIONS), clone(parameters)
    train(optimizer, parameters, gradients)
    told = optimizer.radii()["conv1d.weight"]
    moved = parameters["conv1d.weight"].detach().double() - before["conv1d.weight"].detach().double()
    assert told.deviation == pytest.approx(moved.abs().sum(1).max().item(), rel=1e-5)
    assert told.deviation > 0


@every
def test_from_masters_to_none_and_back(make):
    parameters, gradients = problem()
    with_masters = make(parameters.items(), exclude=["head.*"])
    train(with_masters, parameters, gradients[:6])
    assert "stochastic_rounding" not in with_masters.param_groups[0]
    state = copy.deepcopy(with_masters.state_dict())

    without = make(parameters.items(), **OPTIONS)
    without.load_state_dict(state)
    assert without.radii() == with_masters.radii()
    master = without.state[parameters["conv.weight"]]["master"].clone()
    train(without, parameters, [{**gradients[6], "conv.weight": None}])
    assert torch.equal(without.state[parameters["conv.weight"]]["master"], master)
    assert "master" not in without.state[parameters["proj.weight"]]
    train(without, parameters, gradients[7:9])
    state = copy.deepcopy(without.state_dict())

    back = make(parameters.items(), exclude=["head.*"])
    back.load_state_dict(state)
    assert "stochastic_rounding" not in back.param_groups[0]
    assert back.radii() == without.radii()
    before = clone(parameters)
    train(back, parameters, gradients[9:])
    assert any(not torch.equal(p, before[name]) for name, p in parameters.items())
    for parameter in parameters.values():
        entry = back.state[parameter]
        assert torch.equal(entry["master"].bfloat16(), parameter)
        assert all(v.dtype == torch.float32 for v in entry.values() if isinstance(v, torch.Tensor))


def test_groups_set_it_for_themselves():
    parameters, gradients = problem(steps=3)
    own = [{}, {"stochastic_rounding": False}, {"project": False}]
    groups = [{"params": [pair], **options} for pair, options in zip(parameters.items(), own, strict=False)]
    optimizer = FTPAdamW(groups, stochastic_rounding=True)
    train(optimizer, parameters, gradients)
    kept = ["master" in optimizer.state[group["params"][0]] for group in optimizer.param_groups]
    assert kept == [False, True, False]
    assert [group.get("rounded_steps") for group in optimizer.param_groups] == [3, None, None]


@pytest.mark.usefixtures("tiny_pieces")
def test_float32_weights_do_not_notice():
    trained = []
    for options in ({}, {"stochastic_rounding": True}):
        parameters = make_parameters(torch.float32)
        optimizer = FTPAdamW(parameters.items(), lr=1e-2, **options)
        train(optimizer, parameters, make_gradients(parameters, 6))
        trained.append(parameters)
        assert "rounded_steps" not in optimizer.param_groups[0]
    assert_equal(*trained)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stochastic_rounding": 1}, TypeError, "must be True or False, got 1"),
        ({"stochastic_rounding": True, "capturable": True}, ValueError, "does not go with capturable=True"),
    ],
    ids=["type", "capturable"],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        FTPAdamW([torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))], **options)


@pytest.mark.usefixtures("tiny_pieces")
def test_a_refused_gradient_leaves_all_pieces_as_they_were():
    parameters, gradients = problem(steps=3)
    optimizer = FTPAdamW(parameters.items(), lr=1e-2, **OPTIONS)
    train(optimizer, parameters, gradients[:2])
    before, state = clone(parameters), copy.deepcopy(optimizer.state_dict()["state"])
    gradients[2]["conv1d.weight"] = gradients[2]["conv1d.weight"].to_sparse()
    with pytest.raises(ValueError, match=r"conv1d\.weight is sparse"):
        train(optimizer, parameters, gradients[2:])
    assert_equal(parameters, before)
    assert_equal(optimizer.state_dict()["state"], state)


def test_factors_of_an_update_are_stepped_together(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    update = LowRankUpdate("w", (LowRankProduct("b", "a", 2.0),))
    trained, weights = [], []
    for rounding, elements in ((False, 1), (True, 1), (True, EVERYTHING)):
        cut_into_pieces(monkeypatch, elements)
        generator.manual_seed(0)
        b = torch.nn.Parameter(torch.zeros(24, 4, dtype=torch.bfloat16))
        a = torch.nn.Parameter(torch.randn(4, 32, generator=generator).bfloat16())
        optimizer = FTPAdamW([("b", b), ("a", a)], lr=1e-2, low_rank=[update], stochastic_rounding=rounding)
        for _ in range(10):
            b.grad, a.grad = (torch.randn(p.shape, generator=generator).bfloat16() for p in (b, a))
            optimizer.step()
        assert [optimizer.state[p]["exp_avg"].dtype for p in (b, a)] == [(torch.float32, torch.bfloat16)[rounding]] * 2
        trained.append(optimizer.radii()["w"])
        weights.append((b, a))
    assert trained[1] == trained[2]
    assert_equal(weights[1], weights[2])
    assert trained[0].radius > 1e-3
    assert trained[1].radius == pytest.approx(trained[0].radius, rel=0.2)
    assert trained[1].deviation == pytest.approx(trained[1].radius, rel=0.1)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.slow
def test_parts_of_sharded_tensors_are_rounded_as_they_are(mesh):
    parameters, gradients = problem()
    whole = clone(parameters)
    train(FTPAdamW(whole.items(), lr=1e-3, **OPTIONS), whole, gradients)

    def spread(tensor):
        return distribute_tensor(tensor, mesh, [Shard(0) if tensor.ndim else Replicate()])

    sharded = {name: torch.nn.Parameter(spread(p.detach())) for name, p in parameters.items()}
    optimizer = FTPAdamW(sharded.items(), lr=1e-3, **OPTIONS)
    train(optimizer, sharded, [{name: spread(g) for name, g in gradient.items()} for gradient in gradients])
    assert all(torch.equal(p.full_tensor(), whole[name]) for name, p in sharded.items())
    assert optimizer.state[sharded["proj.weight"]]["exp_avg"].dtype == torch.bfloat16
    assert optimizer.anchors()["proj.weight"].dtype == torch.float32
    resumed = {name: torch.nn.Parameter(p.detach().clone()) for name, p in sharded.items()}
    second = FTPAdamW(resumed.items(), lr=1e-3, **OPTIONS)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    gradient = [{name: spread(g) for name, g in gradients[0].items()}]
    train(optimizer, sharded, gradient)
    train(second, resumed, gradient)
    assert all(torch.equal(p.full_tensor(), resumed[name].full_tensor()) for name, p in sharded.items())
