"""
Draw docs/method.png: Fast Trainable Projection on a row of two weights, computed by the package itself.

    python docs/method.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from ftp_hf import FTPSGD

ANCHOR = torch.tensor([[0.0, 0.0]])
MINIMUM = torch.tensor([[0.42, 0.2]])
CURVATURE = torch.tensor([[1.0, 4.0]])
STEPS = 100
BLUE, ORANGE, GREY = "#0b6e99", "#d9730d", "#6b7280"


def train(optimizer_class: type[torch.optim.Optimizer]) -> dict[str, np.ndarray]:
    """
    Minimise a quadratic from noisy gradients, starting at the anchor.

    Args:
        optimizer_class (`type`): `torch.optim.SGD` or `FTPSGD`.

    Returns:
        `dict[str, np.ndarray]`: `weight` (steps + 1, 2) and, with projection, `radius` (steps + 1,).
    """
    generator = torch.Generator().manual_seed(3)
    weight = torch.nn.Parameter(ANCHOR.clone())
    optimizer = optimizer_class([("weight", weight)], lr=0.1)
    weights, radii = [weight.detach().numpy().copy()[0]], [0.0]
    for _ in range(STEPS):
        noise = 0.35 * torch.randn(1, 2, generator=generator)
        weight.grad = CURVATURE * (weight.detach() - MINIMUM) + noise
        optimizer.step()
        weights.append(weight.detach().numpy().copy()[0])
        if isinstance(optimizer, FTPSGD):
            radii.append(optimizer.radii()["weight"].radius)
    return {"weight": np.array(weights), "radius": np.array(radii)}


def draw_weights(axes: Axes, plain: dict[str, np.ndarray], projected: dict[str, np.ndarray]) -> None:
    """The paths of both runs over the loss, and the ball of radius γ around the anchor at three steps."""
    x, y = np.meshgrid(np.linspace(-0.65, 0.85, 200), np.linspace(-0.75, 0.75, 200))
    offset = np.stack([x, y], axis=-1) - MINIMUM.numpy()
    axes.contour(x, y, (CURVATURE.numpy() * offset**2).sum(-1), levels=10, colors=GREY, linewidths=0.5, alpha=0.5)
    # Steps with radii that are apart: their names stand below each other, in the lowest corners.
    for step, shade in ((15, 0.8), (45, 0.5), (83, 0.2)):
        radius = projected["radius"][step]
        corners = [(radius, 0), (0, radius), (-radius, 0), (0, -radius)]
        axes.add_patch(Polygon(corners, fill=False, edgecolor=BLUE, linestyle="--", alpha=1.2 - shade))
        axes.text(
            0, -radius, f"γ({step})", color=BLUE, fontsize=8, ha="center", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    axes.plot(*plain["weight"].T, color=ORANGE, linewidth=1, marker=".", markersize=3, label="plain SGD")
    axes.plot(*projected["weight"].T, color=BLUE, linewidth=1, marker=".", markersize=3, label="FTPSGD")
    axes.plot(*ANCHOR[0], marker="o", color="black", linestyle="none", label="anchor W0 (pre-trained)")
    axes.plot(*MINIMUM[0], marker="*", markersize=12, color="black", linestyle="none", label="minimum of the loss")
    axes.set(xlabel="weight 1", ylabel="weight 2", title="One row of two weights, noisy gradients", aspect="equal")
    axes.legend(loc="lower right", fontsize=7)


def draw_distances(axes: Axes, plain: dict[str, np.ndarray], projected: dict[str, np.ndarray]) -> None:
    """How far the row is from its anchor at each step, and the radius that FTP learns."""

    def distance(run: dict[str, np.ndarray]) -> np.ndarray:
        return np.abs(run["weight"] - ANCHOR.numpy()).sum(axis=-1)

    axes.plot(distance(plain), color=ORANGE, linewidth=1, label="‖W − W0‖₁, plain SGD")
    axes.plot(distance(projected), color=BLUE, linewidth=1, label="‖W − W0‖₁, FTPSGD")
    # The row lies on the ball at nearly every step: dots leave both to be seen.
    axes.plot(projected["radius"], ".", color="black", markersize=5, markevery=3, label="learned radius γ")
    axes.set(
        xlabel="step", title="The radius γ grows while the gradient pushes outwards", ylim=(0, 1.05), xlim=(0, STEPS)
    )
    axes.legend(loc="upper left", fontsize=7)


def main() -> None:
    plain, projected = train(torch.optim.SGD), train(FTPSGD)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    draw_weights(left, plain, projected)
    draw_distances(right, plain, projected)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    main()
