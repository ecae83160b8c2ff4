"""
Draw docs/steps.png: one step of Fast Trainable Projection on two rows of two weights, computed by `ftp_hf/optim/reference.py`.

    python docs/steps.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from torch import Tensor

from ftp_hf.optim.reference import SGD, Reference

START = torch.tensor([[0.20, 0.15], [-0.10, 0.25]])
BEFORE = 0.35
GRADIENT = torch.tensor([[-0.9, -0.3], [-0.2, 0.25]])
BLUE, ORANGE, GREY = "#0b6e99", "#d9730d", "#6b7280"


def take_step() -> dict[str, Tensor | float]:
    """The quantities of a step that starts with rows on their way and a learned radius, at rates that can be seen."""
    method = Reference(torch.zeros(2, 2), SGD(lr=0.45), mu=0.1)
    method.t, method.w, method.c, method.gamma = 1, START, START, torch.tensor(BEFORE)
    method.step(GRADIENT)
    return {"unconstrained": method.c, "radius": float(method.gamma), "projected": method.w}


def ball(axes: Axes, radius: float, *, style: str = "-", label: str | None = None) -> None:
    corners = [(radius, 0), (0, radius), (-radius, 0), (0, -radius)]
    axes.add_patch(Polygon(corners, fill=False, edgecolor=BLUE, linestyle=style, label=label))


def arrows(axes: Axes, start: Tensor, end: Tensor, color: str) -> None:
    for (x, y), (to_x, to_y) in zip(start.tolist(), end.tolist(), strict=True):
        axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "color": color})


def main() -> None:
    step = take_step()
    unconstrained, projected, radius = step["unconstrained"], step["projected"], step["radius"]
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.7), layout="constrained", sharex=True, sharey=True)
    titles = ("1  where the gradients push", "2  the radius learns", "3  torch's step", "4  the projection")
    for axes, title in zip(panels, titles, strict=True):
        axes.plot(0, 0, marker="o", color="black", linestyle="none")
        axes.set(title=title, xlim=(-0.75, 0.75), ylim=(-0.75, 0.75), aspect="equal", xticks=[], yticks=[])
        axes.title.set_fontsize(10)
    first, second, third, last = panels
    ball(first, BEFORE, label="ball of radius γ(t−1)")
    arrows(first, START, START - 0.3 * GRADIENT, ORANGE)
    ball(second, BEFORE, style=":", label="γ(t−1)")
    ball(second, radius, label="γ(t)")
    arrows(second, torch.zeros(2, 2), START, GREY)
    for axes in (first, second, third):
        axes.plot(*START.T.tolist(), marker="o", color=BLUE, linestyle="none", label="rows W(t−1)")
    ball(third, radius, label="ball of radius γ(t)")
    arrows(third, START, unconstrained, ORANGE)
    third.plot(*unconstrained.T.tolist(), marker="o", color=ORANGE, linestyle="none", label="W̃")
    ball(last, radius)
    arrows(last, unconstrained, projected, BLUE)
    last.plot(*unconstrained.T.tolist(), marker="o", color=ORANGE, linestyle="none", label="W̃")
    last.plot(*projected.T.tolist(), marker="o", color=BLUE, linestyle="none", label="W(t)")
    for axes in panels:
        axes.legend(loc="lower right", fontsize=7)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
