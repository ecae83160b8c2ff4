"""Parameters of which only the first rows have a pre-trained value: those are projected, the others left to the optimizer."""

import copy

import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW
from ftp_hf.projection.kernels import dispatch
from tests.support.equal import assert_equal
from tests.support.problems import LOOP, PROJECTED, assert_goes_on_alike, make_gradients, train

STEPS = 12
SHAPES = {"embed.weight": (11, 5), "head.weight": (11, 5), "head.bias": (11,), "proj.weight": (6, 5)}
FIRST = {"embed.weight": 7, "head.*": 9}
ELEMENTWISE = ["FTPAdamW-loop", "FTPSGD", "FTP-RAdam"]
MAKE = {**PROJECTED, "FTPAdamW-loop": lambda params, **ours: FTPAdamW(params, lr=1e-2, **LOOP, **ours)}


def first_rows(name):
    return 7 if name == "embed.weight" else 9 if name.startswith("head") else None


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}
    return {name: torch.nn.Parameter(tensor.to(dtype)) for name, tensor in tensors.items()}


def trained(make=MAKE["FTPAdamW-loop"], dtype=torch.float32, steps=STEPS, **options):
    whole = parameters(dtype)
    optimizer = make(whole.items(), **{"pretrained_rows": FIRST, **options})
    train(optimizer, whole, make_gradients(whole, STEPS)[:steps])
    return whole, optimizer


def cut(tensors, which):
    """The first rows of each tensor, or the rest; of a tensor that is all pre-trained nothing is left."""
    parts = {name: tensor.detach()[which(first_rows(name))] for name, tensor in tensors.items()}
    return {name: part.clone() for name, part in parts.items() if part.numel()}


def old(n):
    return slice(None, n)


def new(n):
    return slice(n, None) if n is not None else slice(0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_the_first_rows_take_the_steps_of_a_tensor_of_their_own_and_the_others_those_of_the_plain_optimizer(
    kind, dtype
):
    whole, optimizer = trained(MAKE[kind], dtype)
    start = parameters(dtype)
    gradients = make_gradients(start, STEPS)
    close = {"rtol": 0, "atol": {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]}

    projected = {name: torch.nn.Parameter(part) for name, part in cut(start, old).items()}
    alone = MAKE[kind](projected.items())
    train(alone, projected, [cut(gradient, old) for gradient in gradients])
    for name, part in cut(whole, old).items():
        torch.testing.assert_close(part, projected[name].detach(), **close)
    for name, radius in alone.radii().items():
        torch.testing.assert_close(optimizer.radii()[name], radius, rtol=1e-3, atol=1e-5)

    # bfloat16 too is trained in float32 where it is excluded.
    plain = {name: torch.nn.Parameter(part) for name, part in cut(start, new).items()}
    train(MAKE[kind](plain.items(), exclude=["*"]), plain, [cut(gradient, new) for gradient in gradients])
    for name, part in cut(whole, new).items():
        torch.testing.assert_close(part, plain[name].detach(), **close)


@pytest.mark.parametrize("kernels", ["fast", "torch's own"])
def test_all_kernels_leave_the_new_rows_alone(kernels, monkeypatch):
    if kernels != "fast":
        monkeypatch.setattr(dispatch.cpu, "takes", lambda _: False)
    # Radii that never grow hold the old rows at their anchors.
    whole, optimizer = trained(radius_lr=0.0)
    for name, part in cut(whole, old).items():
        assert_equal(part, cut(parameters(), old)[name])
    plain = parameters()
    train(MAKE["FTPAdamW-loop"](plain.items(), exclude=["*"]), plain, make_gradients(plain, STEPS))
    for name, part in cut(whole, new).items():
        assert_equal(part, cut(plain, new)[name])
    assert optimizer.radii()["embed.weight"].deviation == 0


def test_columns_first_in_memory():
    """Strides that are not those of a matrix of rows one after another."""
    results = []
    for transposed in (False, True):
        whole = parameters()
        if transposed:
            whole["embed.weight"] = torch.nn.Parameter(whole["embed.weight"].detach().t().contiguous().t())
        optimizer = MAKE["FTPAdamW-loop"](whole.items(), pretrained_rows=FIRST)
        train(optimizer, whole, make_gradients(whole, STEPS))
        results.append(whole["embed.weight"].detach())
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_resumed_run_goes_on_bit_for_bit(dtype, steps):
    whole, optimizer = trained(dtype=dtype, steps=steps)
    state = copy.deepcopy(optimizer.state_dict())
    for name, parameter in whole.items():
        assert state["state"][list(SHAPES).index(name)]["anchor_or_direction"].shape == parameter.shape
    again = {name: torch.nn.Parameter(parameter.detach().clone()) for name, parameter in whole.items()}
    resumed = MAKE["FTPAdamW-loop"](again.items(), pretrained_rows=FIRST)
    resumed.load_state_dict(state)
    assert_goes_on_alike(optimizer, whole, resumed, again, make_gradients(whole, STEPS)[steps:])


def test_the_state_is_finite_and_the_same_every_time():
    states = [trained(dtype=torch.float64)[1].state_dict()["state"] for _ in range(2)]
    for first, second in zip(*(state.values() for state in states), strict=True):
        for key, value in first.items():
            assert torch.isfinite(value).all(), key
            assert_equal(second[key], value)


def test_anchors_are_the_first_rows_of_what_is_given():
    start = parameters()
    anchors = {name: tensor.detach() + 0.5 for name, tensor in start.items()}
    # As many rows as have a pre-trained value, all, and more than the parameter has.
    anchors["embed.weight"] = anchors["embed.weight"][:7]
    anchors["head.bias"] = torch.cat([anchors["head.bias"], torch.full((3,), torch.nan)])
    whole, optimizer = trained(anchors=anchors, radius_lr=0.0, steps=1)
    found = optimizer.anchors()
    for name, parameter in whole.items():
        n = first_rows(name)
        torch.testing.assert_close(found[name][:n], anchors[name][:n])
        torch.testing.assert_close(found[name][new(n)], parameter.detach()[new(n)])
    assert optimizer.otherwise_anchored() == []
    # At its own distance from the anchors the run starts: 5 weights, each 0.5 away.
    assert optimizer.radii()["embed.weight"].radius == pytest.approx(2.5, rel=1e-4)
    other = MAKE["FTPAdamW-loop"](
        whole.items(), pretrained_rows=FIRST, anchors={**anchors, "embed.weight": anchors["embed.weight"] + 1}
    )
    other.load_state_dict(optimizer.state_dict())
    assert other.otherwise_anchored() == ["embed.weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_released_weights_can_be_replaced(dtype):
    whole, optimizer = trained(dtype=dtype, radius_lr=0.0)
    anchors = {name: anchor[: first_rows(name)].clone() for name, anchor in optimizer.anchors().items()}
    optimizer.release_weights()
    for parameter in whole.values():
        torch.nn.init.ones_(parameter)
    for name, anchor in optimizer.anchors().items():
        assert_equal(anchor[: first_rows(name)].float(), anchors[name])
        assert (anchor[new(first_rows(name))] == 1).all()


def test_groups_and_state_have_the_keys_of_any_other_run():
    """torch's distributed checkpoints know them by key."""
    optimizers = [trained(steps=1, pretrained_rows=rows)[1] for rows in ({}, FIRST)]
    plain, partly = (optimizer.state_dict() for optimizer in optimizers)
    assert [group.keys() for group in plain["param_groups"]] == [group.keys() for group in partly["param_groups"]]
    for number, state in plain["state"].items():
        shapes = [{key: value.shape for key, value in held.items()} for held in (state, partly["state"][number])]
        assert shapes[0] == shapes[1]


def test_the_share_on_the_boundary_is_of_the_projected_rows():
    _, optimizer = trained(radius_lr=1e-4)
    assert optimizer.radii()["embed.weight"].on_boundary == 1.0


def test_options_are_kept_by_copies_and_filled_in():
    whole = parameters()
    optimizer = copy.deepcopy(MAKE["FTPAdamW-loop"](whole.items(), pretrained_rows=FIRST, radius_lr=0.0))
    assert optimizer.pretrained_rows == {"embed.weight": 7, "head.weight": 9, "head.bias": 9}
    wrapped = copy.deepcopy(FTP(torch.optim.AdamW(whole.items()), pretrained_rows=FIRST))
    assert wrapped.pretrained_rows == optimizer.pretrained_rows
    unnamed = FTPSGD(whole.values(), lr=1e-2)
    unnamed.fill_in(whole, pretrained_rows=FIRST)
    assert unnamed.pretrained_rows == optimizer.pretrained_rows


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pretrained_rows": ["embed.weight"]}, TypeError, "pretrained_rows must map"),
        ({"pretrained_rows": {"embed.weight": 0}}, ValueError, "pretrained_rows: .*'embed.weight'.* got 0"),
        ({"pretrained_rows": {"embed.weight": 12}}, ValueError, "pretrained_rows: embed.weight has 11 rows, .* 12"),
        ({"pretrained_rows": {"embd.weight": 7}}, ValueError, "pretrained_rows: 'embd.weight' matches no parameter"),
        (
            {"pretrained_rows": FIRST, "transposed": ["embed.*"]},
            ValueError,
            "pretrained_rows: the rows of embed.weight",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        FTPAdamW(parameters().items(), **options)


def test_names_are_needed():
    with pytest.raises(ValueError, match=r"pretrained_rows=.* needs parameter names"):
        FTPAdamW(parameters().values(), pretrained_rows=FIRST)


def test_sparse_gradients_are_refused_by_name():
    whole = parameters()
    optimizer = FTPAdamW(whole.items(), pretrained_rows=FIRST)
    whole["embed.weight"].grad = torch.zeros(11, 5).to_sparse()
    with pytest.raises(ValueError, match=r"the gradient of embed\.weight is sparse"):
        optimizer.step()


def test_an_anchor_of_another_shape_is_refused_without_the_option():
    anchors = {name: tensor.detach()[:7] for name, tensor in parameters().items()}
    with pytest.raises(ValueError, match=r"wrong shape: embed.weight \(anchor \(7, 5\), parameter \(11, 5\)\)"):
        FTPAdamW(parameters().items(), anchors=anchors)
    with pytest.raises(ValueError, match=r"wrong shape: head\.weight"):
        FTPAdamW(parameters().items(), anchors=anchors, pretrained_rows=FIRST)


def test_a_tensor_that_is_all_pretrained_pays_nothing():
    whole = parameters()
    optimizer = MAKE["FTPAdamW-loop"](whole.items())
    train(optimizer, whole, make_gradients(whole, 1))
    for tensor in optimizer._participants.with_state():
        assert tensor.weight is whole[tensor.name]
        assert tensor.held is optimizer.state[whole[tensor.name]]["anchor_or_direction"]
        assert tensor.whole(tensor.weight) is tensor.weight
