"""Updates in factors: projected exactly, with the steps that a dense weight would take where the two must agree."""

import copy
import pickle

import numpy as np
import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW, LowRankProduct, LowRankUpdate
from ftp_hf.optim.reference import SGD, AdamW, Reference, norms
from ftp_hf.projection import low_rank
from ftp_hf.projection.low_rank import row_norms
from tests.support.problems import LOOP, UPDATE

ROWS, COLUMNS, STEPS = 5, 6, 40

# Radii that find back to their floor within a few steps.
BOLD = {"radius_lr": 0.5, "radius_betas": (0.3, 0.999)}
BOLD_REFERENCE = {"mu": 0.5, "betas": (0.3, 0.999)}


def gradients(rows=ROWS, columns=COLUMNS, steps=STEPS):
    """Of the dense weight: a direction that turns round early, which sends the radius back to its floor, and late."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    noise = torch.randn(steps, rows, columns, generator=generator, dtype=torch.float64)
    sign = torch.ones(steps).double()
    sign[4:20] = -1
    return sign[:, None, None] * direction + 0.3 * noise


def factors(rank=3, dtype=torch.float64, columns=COLUMNS):
    generator = torch.Generator().manual_seed(2)
    b = torch.nn.Parameter(torch.zeros(ROWS, rank, dtype=dtype))
    return b, torch.nn.Parameter(torch.randn(rank, columns, generator=generator, dtype=torch.float64).to(dtype))


def train(optimizer, b, a, grads, scaling=1.0):
    """Feed what the chain rule makes of the gradients of the dense weight `scaling · B A`."""
    for gradient in grads:
        with torch.no_grad():
            g = gradient.to(b.dtype) * scaling
            b.grad = g @ a.T
            if a.requires_grad:
                a.grad = b.T @ g
        optimizer.step()
        yield


@pytest.mark.parametrize("elements", [1, 20, 2**19])
def test_row_norms_are_those_of_the_product(monkeypatch, elements):
    monkeypatch.setattr(low_rank, "_BLOCK_ELEMENTS", elements)
    left, right = torch.randn(2, 7, 3).double(), torch.randn(2, 3, 5).double()
    torch.testing.assert_close(row_norms(left, right), (left @ right).abs().sum(dim=2) + 1e-8, rtol=1e-14, atol=0)


def orthogonal():
    return torch.linalg.qr(
        torch.randn(COLUMNS, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    )[0]


def signed_permutation():
    return torch.diag(torch.tensor([1, -1, 1, 1, -1, -1]).double())[[3, 1, 5, 0, 2, 4]]


@pytest.mark.parametrize("kappa", [1.0, 0.5])
@pytest.mark.parametrize(
    ("right", "reference", "make"),
    [
        (orthogonal, SGD(lr=0.01, momentum=0.9), lambda p, **k: FTPSGD(p, lr=0.01, momentum=0.9, **k)),
        (orthogonal, SGD(lr=0.01), lambda p, **k: FTP(torch.optim.SGD(p, lr=0.01), **k)),
        (signed_permutation, AdamW(lr=0.01), lambda p, **k: FTPAdamW(p, lr=0.01, **LOOP, **k)),
    ],
    ids=["SGD-momentum", "FTP-SGD", "AdamW"],
)
def test_behind_a_fixed_orthogonal_factor_the_steps_are_those_of_a_dense_weight(right, reference, make, kappa):
    # The gradient of B is that of W in other coordinates: rotated ones for SGD, which does not see rotations; the same
    # ones in another order and with other signs for Adam, which would see a rotation.
    dense = Reference(torch.ones(ROWS, COLUMNS).double(), copy.deepcopy(reference), kappa=kappa, **BOLD_REFERENCE)
    b, a = torch.nn.Parameter(torch.zeros(ROWS, COLUMNS).double()), right()
    update = LowRankUpdate("w", (LowRankProduct("b", a),))
    optimizer = make([("b", b)], kappa=kappa, **BOLD, low_rank=[update])
    grads = gradients()
    floors = 0
    for g, _ in zip(grads, train(optimizer, b, a, grads), strict=True):
        dense.step(g)
        radius = optimizer.radii()["w"]
        np.testing.assert_allclose((b @ a).detach(), dense.w - dense.w0, rtol=1e-7, atol=1e-15)
        assert radius.radius == pytest.approx(dense.gamma.item(), rel=1e-9)
        assert radius.deviation == pytest.approx(dense.deviation, rel=1e-6, abs=1e-15)
        assert radius.on_boundary == dense.on_boundary
        floors += dense.gamma == 1e-8
    assert dense.gamma > 0.01
    assert floors > 1 or kappa < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_row_leaves_the_ball_and_the_direction_survives_the_floor(dtype):
    b, a = factors(dtype=dtype)
    scaling = 4.0
    update = LowRankUpdate("w", (LowRankProduct("b", "a", scaling),))
    optimizer = FTPAdamW([("b", b), ("a", a)], lr=1e-2, **BOLD, low_rank=[update])
    radii, grads = [], gradients()
    for _ in train(optimizer, b, a, grads, scaling):
        radii.append(optimizer.radii()["w"].radius)
        merged = scaling * (b.double() @ a.double()).detach()
        assert merged.abs().sum(dim=1).max() <= radii[-1] * (1 + 1e-6)
        assert optimizer.radii()["w"].deviation == pytest.approx(merged.abs().sum(dim=1).max().item(), rel=1e-5)
    assert radii[0] == pytest.approx(1e-8)
    assert min(radii[5:30]) == pytest.approx(1e-8)
    assert max(radii) > 0.05
    assert radii[-1] > 0.05


def test_float32_takes_the_steps_of_float64():
    ends = []
    for dtype in (torch.float32, torch.float64):
        b, a = factors(dtype=dtype)
        optimizer = FTPSGD([("b", b), ("a", a)], lr=1e-2, momentum=0.9, low_rank=UPDATE)
        *_, _ = train(optimizer, b, a, gradients())
        ends.append(((b @ a).detach().double(), optimizer.radii()["w"].radius))
    torch.testing.assert_close(*(product for product, _ in ends), rtol=2e-3, atol=1e-5)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-3)


def test_two_products_are_projected_as_the_one_of_their_factors_side_by_side():
    b, a = factors(rank=4)
    one = FTPSGD([("b", b), ("a", a)], lr=1e-2, low_rank=UPDATE)
    halves = {"b1": b[:, :1], "a1": a[:1], "b2": b[:, 1:], "a2": a[1:]}
    halves = {name: torch.nn.Parameter(value.detach().clone()) for name, value in halves.items()}
    products = LowRankProduct("b1", "a1"), LowRankProduct("b2", "a2")
    two = FTPSGD(halves.items(), lr=1e-2, low_rank=[LowRankUpdate("w", products)])
    for _ in train(one, b, a, gradients()):
        for name, grad in {"b1": b.grad[:, :1], "a1": a.grad[:1], "b2": b.grad[:, 1:], "a2": a.grad[1:]}.items():
            halves[name].grad = grad.clone()
        two.step()
        together = torch.cat([halves["b1"], halves["b2"]], dim=1)
        torch.testing.assert_close(together, b, rtol=1e-10, atol=1e-18)
        assert two.radii()["w"].radius == pytest.approx(one.radii()["w"].radius, rel=1e-10)
    assert one.radii()["w"].on_boundary > 0


@pytest.mark.parametrize("how", ["project=False", "exclude", "radius"])
def test_without_a_bound_it_is_torch(how):
    b, a = factors(dtype=torch.float32)
    plain_b, plain_a = copy.deepcopy(b), copy.deepcopy(a)
    plain = torch.optim.AdamW([plain_b, plain_a], lr=1e-2, weight_decay=0.1)
    group = {"params": [("b", b), ("a", a)], "project": how != "project=False"}
    exclude = ["b"] if how == "exclude" else []
    optimizer = FTPAdamW([group], lr=1e-2, weight_decay=0.1, exclude=exclude, low_rank=UPDATE)
    if how == "radius":
        optimizer.state[b]["radius"] = torch.zeros(6)
        # torch's optimizers make their own state where they find none.
        moments = {"exp_avg": torch.zeros_like(b), "exp_avg_sq": torch.zeros_like(b), "step": torch.tensor(0.0)}
        optimizer.state[b] |= moments
    steps = train(optimizer, b, a, gradients(), 1.0), train(plain, plain_b, plain_a, gradients(), 1.0)
    for _ in range(STEPS):
        if how == "radius":
            # It is clipped to the largest row at every step.
            optimizer.state[b]["radius"][0] = torch.inf
        for step in steps:
            next(step)
        assert torch.equal(b, plain_b)
        assert torch.equal(a, plain_a)
    assert optimizer.radii().keys() == ({"w"} if how == "radius" else set())


@pytest.mark.parametrize("how", ["project=False", "exclude"])
def test_an_update_has_no_radius_where_one_of_its_products_is_left_out(how):
    named = dict(zip(("b1", "a1", "b2", "a2"), (*factors(), *factors()), strict=True))
    groups = [
        {"params": [item for item in named.items() if item[0] != "b2"]},
        {"params": [("b2", named["b2"])], "project": how != "project=False"},
    ]
    update = LowRankUpdate("w", (LowRankProduct("b1", "a1"), LowRankProduct("b2", "a2")))
    optimizer = FTPSGD(groups, lr=1e-2, exclude=["b2"] if how == "exclude" else [], low_rank=[update])
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.radii() == {}


def test_the_state_is_six_numbers_an_update():
    b, a = factors(dtype=torch.float32)
    optimizer = FTPAdamW([("b", b), ("a", a)], low_rank=UPDATE)
    *_, _ = train(optimizer, b, a, gradients())
    extra = {
        p: {key: value for key, value in optimizer.state[p].items() if key not in ("step", "exp_avg", "exp_avg_sq")}
        for p in (b, a)
    }
    assert {key: value.nbytes for key, value in extra[b].items()} == {"radius": 24}
    assert extra[a] == {}
    assert optimizer.anchors() == optimizer.projected_parameters() == {}


def test_a_radius_starts_at_the_distance_that_the_product_has():
    b, a = factors()
    with torch.no_grad():
        b.normal_()
    before = norms((b @ a).detach()).max()
    optimizer = FTPSGD([("b", b), ("a", a)], lr=1e-2, low_rank=UPDATE)
    # A step that leads further away.
    next(train(optimizer, b, a, [-(b @ a).detach()]))
    assert optimizer.radii()["w"].radius == pytest.approx(before)
    assert optimizer.radii()["w"].on_boundary > 0


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_alike(copy_of):
    b, a = factors()
    optimizer = FTPAdamW([("b", b), ("a", a)], low_rank=UPDATE)
    *_, _ = train(optimizer, b, a, gradients()[:10])
    second, b2, a2 = copy_of((optimizer, b, a))
    *_, _ = train(optimizer, b, a, gradients()[10:])
    *_, _ = train(second, b2, a2, gradients()[10:])
    assert torch.equal(b, b2)
    assert optimizer.radii() == second.radii()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_dict_goes_on_bit_for_bit(dtype):
    b, a = factors(dtype=dtype)
    optimizer = FTPAdamW([("b", b), ("a", a)], lr=1e-2, low_rank=UPDATE)
    *_, _ = train(optimizer, b, a, gradients()[:10])
    b2, a2 = (torch.nn.Parameter(p.detach().clone()) for p in (b, a))
    second = FTPAdamW([("b", b2), ("a", a2)], lr=1e-2, low_rank=UPDATE)
    second.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    *_, _ = train(optimizer, b, a, gradients()[10:])
    *_, _ = train(second, b2, a2, gradients()[10:])
    assert torch.equal(b, b2)
    assert torch.equal(a, a2)
    assert optimizer.radii() == second.radii()
    assert optimizer.radii()["w"].radius > 1e-3


def test_bfloat16_factors_are_projected_in_float32():
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        b, a = factors(dtype=torch.bfloat16)
        b, a = (torch.nn.Parameter(p.detach().to(dtype)) for p in (b, a))
        optimizer = FTPSGD([("b", b), ("a", a)], lr=1e-2, low_rank=UPDATE)
        for g in gradients():
            # Gradients that both dtypes hold.
            b.grad, a.grad = (g[:, :3].bfloat16().to(dtype), g[:3].bfloat16().to(dtype))
            optimizer.step()
        masters = [optimizer.state[p].get("master", p).detach() for p in (b, a)]
        results.append((*masters, optimizer.radii()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]


def test_a_nan_gradient_keeps_the_radius():
    b, a = factors()
    optimizer = FTPSGD([("b", b), ("a", a)], lr=1e-2, low_rank=UPDATE)
    grads = gradients()[:8].clone()
    *_, _ = train(optimizer, b, a, grads[:7])
    before = optimizer.radii()["w"].radius
    grads[7, 0, 0] = torch.nan
    *_, _ = train(optimizer, b, a, grads[7:])
    assert optimizer.radii()["w"].radius == before


def test_refusals():
    b, a = factors()
    with pytest.raises(ValueError, match="low_rank: the factors a of w are not among"):
        FTPSGD([("b", b)], low_rank=UPDATE)
    with pytest.raises(ValueError, match="low_rank: the factors a, b of w are not among"):
        FTPSGD([b, a], low_rank=UPDATE)
    other = LowRankUpdate("v", (LowRankProduct("a", "b"),))
    with pytest.raises(ValueError, match="low_rank: a is a factor of both v and w"):
        FTPSGD([("b", b), ("a", a)], low_rank=[*UPDATE, other])


def test_a_step_without_one_of_its_products_is_refused():
    b, a = factors()
    b2, a2 = factors()
    both = LowRankUpdate("w", (LowRankProduct("b", "a"), LowRankProduct("b2", "a2")))
    optimizer = FTPSGD([("b", b), ("a", a), ("b2", b2), ("a2", a2)], low_rank=[both])
    optimizer.step()
    assert optimizer.radii() == {}
    with pytest.raises(ValueError, match="adapters of w are projected together, but b2 has no gradient"):
        next(train(optimizer, b, a, gradients()))
