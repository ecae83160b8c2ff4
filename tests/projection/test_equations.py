import math

import numpy as np
import pytest
import torch

from ftp_hf.projection import equations as projection
from tests.support.equal import assert_equal

SHAPES = [((), 0), ((5,), 0), ((5,), 1), ((4, 3), 0), ((4, 3), 1), ((4, 3, 2, 2), 0), ((4, 3, 2, 2), 1), ((1, 1), 0)]
SHAPES += [((3, 4, 5), (0, 1)), ((3, 4, 5), (0, 2)), ((5, 2, 3), (1, 2)), ((4, 3), (0, 1)), ((5,), (0, 1))]
OPTIONS = {"lr": 1e-2, "betas": (0.9, 0.999), "kappa": 1.0}


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def rows(x, row_dim):
    """The tensor as a matrix of its rows: slices along `row_dim`; fewer than two dimensions are one row."""
    dims = dims_of(row_dim, x.shape)
    return np.moveaxis(x, dims, range(len(dims))).reshape(math.prod(x.shape[dim] for dim in dims), -1)


def dims_of(row_dim, shape):
    if len(shape) < 2:
        return ()
    return row_dim if isinstance(row_dim, tuple) else (row_dim,)


def unrows(matrix, shape, row_dim):
    """The inverse of `rows`."""
    dims = dims_of(row_dim, shape)
    others = [dim for dim in range(len(shape)) if dim not in dims]
    return np.moveaxis(matrix.reshape([shape[dim] for dim in (*dims, *others)]), range(len(dims)), dims)


def row_norms(matrix):
    return np.abs(matrix).sum(axis=1) + 1e-8


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("shape", "row_dim"), SHAPES)
def test_row_norms_are_those_of_the_reference_and_broadcast(shape, row_dim):
    c = randn(*shape)
    norms = projection.row_norms(c, row_dim)
    expected = row_norms(rows(c.numpy(), row_dim))
    np.testing.assert_allclose(norms.flatten(), expected, rtol=1e-14)
    assert (c / norms).shape == c.shape
    if c.ndim >= 2:
        assert norms.shape == tuple(size if dim in dims_of(row_dim, shape) else 1 for dim, size in enumerate(shape))


@pytest.mark.parametrize(("shape", "row_dim"), SHAPES)
def test_radius_gradient_is_the_derivative_of_the_loss_by_the_radius(shape, row_dim):
    # Where every row lies outside the ball, W(γ) = W0 + γ c / ‖c‖₁, so that autograd can differentiate a loss by γ.
    w0, c, target = randn(*shape), randn(*shape), randn(*shape)
    radius = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
    weight = projection.project(w0 + c, w0, c, radius, projection.row_norms(c, row_dim))
    weight.retain_grad()
    ((weight - target) ** 2).sum().backward()
    torch.testing.assert_close(
        projection.radius_gradient(weight.grad, c, row_dim=row_dim), radius.grad, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("shape", "row_dim"), SHAPES)
@pytest.mark.parametrize("radius", [0.1, 0.7, 2.0, 100.0])
def test_radius_gradient_needs_only_the_displacement_that_the_projection_left(shape, row_dim, radius):
    gradient, c, anchor = randn(*shape), randn(*shape), torch.zeros(shape, dtype=torch.float64)
    weight = projection.project(c, anchor, c, scalar(radius), projection.row_norms(c, row_dim))
    recomputed = projection.radius_gradient(gradient, weight, scalar(radius), row_dim)
    torch.testing.assert_close(recomputed, projection.radius_gradient(gradient, c, row_dim=row_dim), rtol=1e-7, atol=0)


@pytest.mark.parametrize(("shape", "row_dim"), SHAPES)
def test_row_blocks_are_all_of_the_rows_once_and_in_order(shape, row_dim, monkeypatch):
    monkeypatch.setattr(projection, "_BLOCK_ELEMENTS", 7)
    x, y = randn(*shape), randn(*shape)
    blocks = list(projection.row_blocks(row_dim, x, y))
    for whole, parts in zip((x, y), zip(*blocks, strict=True), strict=True):
        found = np.concatenate([rows(part.numpy(), row_dim) for part in parts])
        assert np.array_equal(found, rows(whole.numpy(), row_dim))
        assert all(part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr() for part in parts)
    assert all(part.numel() <= 7 or rows(part.numpy(), row_dim).shape[0] == 1 for part, _ in blocks)
    if not isinstance(row_dim, tuple):
        count = rows(x.numpy(), row_dim).shape[0]
        assert len(blocks) == -(-count // max(1, 7 * count // x.numel()))


def test_radius_gradient_of_no_displacement_is_zero():
    assert projection.radius_gradient(randn(4, 3), torch.zeros(4, 3, dtype=torch.float64)) == 0


def test_radius_adam_step_is_torch_adam():
    # torch's Adam counts from 1 and the radius from 2, where its moments are still zero: a zero gradient at step 1.
    radius, m, v = scalar(0.5), scalar(0.0), scalar(0.0)
    parameter = torch.nn.Parameter(radius.clone())
    adam = torch.optim.Adam([parameter], lr=1e-2, foreach=False)
    for step, gradient in enumerate([0.0, 0.3, -0.2, 1e-9, 5.0, -7.0], start=1):
        parameter.grad = scalar(gradient)
        adam.step()
        if step > 1:
            radius, m, v = projection.radius_adam_step(radius, scalar(gradient), m, v, scalar(float(step)), **OPTIONS)
        torch.testing.assert_close(radius, parameter.detach(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("step", [2.0, 3.0, 10.0, 1e3, 1e6])
def test_radius_adam_step_is_exact_in_float32(step):
    # 1 − 0.999² computed as it reads has four good digits in float32.
    inputs = [scalar(value) for value in (0.5, 0.3, 0.02, 0.0005, step)]
    exact = projection.radius_adam_step(*inputs, **{**OPTIONS, "lr": 1.0})
    single = projection.radius_adam_step(*[value.float() for value in inputs], **{**OPTIONS, "lr": 1.0})
    for actual, expected in zip(single, exact, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=5e-7, atol=0)


@pytest.mark.parametrize("betas", [(0.0, 0.9), (0.9, 0.0), (0.0, 0.0)])
def test_radius_adam_step_without_a_moment(betas):
    inputs = [scalar(value) for value in (0.5, 0.3, 0.02, 0.0005)]
    radius, m, v = projection.radius_adam_step(*inputs, scalar(3.0), **{**OPTIONS, "betas": betas})
    m_hat, v_hat = m / (1 - betas[0] ** 3), v / (1 - betas[1] ** 3)
    torch.testing.assert_close(radius, 0.5 - 1e-2 * m_hat / (v_hat.sqrt() + 1e-8), rtol=1e-14, atol=0)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_kappa_scales_only_gradients_that_would_shrink_the_radius(kappa):
    zero, gradient = torch.zeros(2, dtype=torch.float64), torch.tensor([2.0, -2.0], dtype=torch.float64)
    radius = torch.full_like(zero, 0.5)
    options = {**OPTIONS, "kappa": kappa}
    new_radius, m, v = projection.radius_adam_step(radius, gradient, zero, zero, scalar(2.0), **options)
    np.testing.assert_allclose(m, [0.1 * kappa * 2, -0.1 * 2], rtol=1e-14)
    np.testing.assert_allclose(v, [0.001 * (kappa * 2) ** 2, 0.001 * 4], rtol=1e-14)
    assert new_radius[1] > 0.5
    assert new_radius[0] < 0.5 if kappa else new_radius[0] == 0.5


@pytest.mark.parametrize("kappa", [0.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30], ids=str)
def test_radius_adam_step_ignores_what_overflows(bad, kappa):
    # 1e30 is finite in float32, but its square is not, and an infinite second moment would stop the radius for good.
    state = [torch.tensor([value, value]) for value in (0.5, 0.25, 0.125)]
    gradient = torch.tensor([bad, 1.0])
    options = {**OPTIONS, "kappa": kappa}
    new = projection.radius_adam_step(state[0], gradient, state[1], state[2], torch.tensor(7.0), **options)
    skipped = not (kappa == 0 and bad == 1e30)  # κ = 0 makes a large gradient a zero one
    assert [bool(after[0] == before[0]) for before, after in zip(state, new, strict=True)] == [skipped] * 3
    assert all(after.isfinite().all() for after in new)
    assert all(after[1] != before[1] for before, after in zip(state, new, strict=True))


@pytest.mark.parametrize(
    ("radius", "largest", "expected"),
    [
        (0.5, 0.9, 0.5),
        (2.0, 0.9, 0.9),
        (-1.0, 0.9, 1e-8),
        (0.5, 1e-8, 1e-8),
        (0.5, math.inf, 0.5),
        (0.5, math.nan, 0.5),
    ],
)
def test_clip_radius(radius, largest, expected):
    assert projection.clip_radius(scalar(radius), scalar(largest)).item() == expected


@pytest.mark.parametrize(("shape", "row_dim"), SHAPES)
@pytest.mark.parametrize("radius", [1e-8, 0.7, 2.0, 100.0])
def test_project(shape, row_dim, radius):
    anchor, c = randn(*shape), randn(*shape)
    norms = projection.row_norms(c, row_dim)
    weight = projection.project(anchor + c, anchor, c, scalar(radius), norms)

    matrix = rows(c.numpy(), row_dim)
    scale = np.minimum(1.0, radius / row_norms(matrix))
    expected = anchor.numpy() + unrows(scale[:, None] * matrix, shape, row_dim)
    np.testing.assert_allclose(weight, expected, rtol=0, atol=1e-14)
    assert projection.row_norms(weight - anchor, row_dim).max() <= max(radius, 1e-8) + 1e-8 + 1e-14
    inside = ~projection.projected_rows(scalar(radius), norms).expand(shape)
    assert_equal(weight[inside], (anchor + c)[inside])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_project_leaves_a_diverged_row_as_it_is_and_projects_the_others(bad):
    anchor, c = torch.zeros(2, 3), torch.tensor([[bad, 1.0, 1.0], [1.0, 1.0, 2.0]])
    weight = projection.project(anchor + c, anchor, c, torch.tensor(1.0), projection.row_norms(c))
    torch.testing.assert_close(weight, torch.tensor([[bad, 1.0, 1.0], [0.25, 0.25, 0.5]]), equal_nan=True)


def test_rows_are_those_of_the_difference_functions_lipschitz_constant():
    difference = randn(6, 5)
    largest = int(projection.row_norms(difference).argmax())
    x = difference[largest].sign()
    torch.testing.assert_close((difference @ x).abs().max() + 1e-8, projection.row_norms(difference).max())
