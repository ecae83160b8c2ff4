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
# Wide enough for two panels, so that the letters can be read on a phone as well.
SIZE, FONT = (6, 5.3), 12


def take_step() -> dict[str, Tensor | float]:
    """The quantities of a step that starts with rows on their way and a learned radius, at rates that can be seen."""
    method = Reference(torch.zeros(2, 2), SGD(lr=0.45), mu=0.1)
    method.t, method.w, method.c, method.gamma = 1, START, START, torch.tensor(BEFORE)
    method.step(GRADIENT)
    return {"unconstrained": method.c, "radius": float(method.gamma), "projected": method.w}


def ball(axes: Axes, radius: float, label: str, *, inner: bool = False) -> None:
    corners = [(radius, 0), (0, radius), (-radius, 0), (0, -radius)]
    axes.add_patch(Polygon(corners, fill=False, edgecolor=BLUE, linestyle=":" if inner else "-"))
    where, ha = ((0, -0.5 * radius), "center") if inner else ((-0.53 * radius, -0.53 * radius), "right")
    name(axes, where, label, BLUE, (0, 0), ha=ha, va="center" if inner else "top")


def arrows(axes: Axes, start: Tensor, end: Tensor, color: str) -> None:
    for (x, y), (to_x, to_y) in zip(start.tolist(), end.tolist(), strict=True):
        axes.annotate(
            "", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 0}
        )


def rows(axes: Axes, where: Tensor, color: str) -> None:
    axes.plot(*where.T.tolist(), marker="o", color=color, linestyle="none")


def name(
    axes: Axes, where: tuple[float, float], text: str, color: str, beside: tuple[float, float], **how: str
) -> None:
    axes.annotate(text, where, beside, textcoords="offset points", color=color, fontsize=FONT, **how)


def main() -> None:
    step = take_step()
    unconstrained, projected, radius = step["unconstrained"], step["projected"], step["radius"]
    figure, panels = plt.subplots(2, 2, figsize=SIZE, layout="constrained", sharex=True, sharey=True)
    # The numbers are those of the steps in docs/method.md, of which the fourth changes nothing here.
    titles = ("1  the gradient of the radius", "2  the radius learns", "3  torch's step", "5  the projection")
    for axes, title in zip(panels.flat, titles, strict=True):
        axes.set(xlim=(-0.48, 0.72), ylim=(-0.48, 0.48), aspect="equal", xticks=[], yticks=[])
        axes.set_title(title, fontsize=FONT, loc="left")
        axes.plot(0, 0, marker="o", color="black", linestyle="none")
        name(axes, (0, 0), "W0", "black", (0, -5), ha="center", va="top")
    first, second, third, last = panels.flat
    ball(first, BEFORE, "γ(t−1)")
    arrows(first, torch.zeros(2, 2), START, GREY)
    arrows(first, START, START - 0.3 * GRADIENT, ORANGE)
    name(first, (0.09, 0), "c(t−1)", GREY, (0, 0), ha="left", va="center")
    name(first, (0.33, 0.2), "−g(t)", ORANGE, (-4, 5), ha="center", va="bottom")
    ball(second, BEFORE, "γ(t−1)", inner=True)
    ball(second, radius, "γ(t)")
    name(first, START[1].tolist(), "W(t−1)", BLUE, (-4, 3), ha="right", va="bottom")
    for axes, right in ((second, 7), (third, 14)):
        name(axes, START[0].tolist(), "W(t−1)", BLUE, (right, -5), ha="right", va="top")
    for axes in (first, second, third):
        rows(axes, START, BLUE)
    ball(third, radius, "γ(t)")
    arrows(third, START, unconstrained, ORANGE)
    ball(last, radius, "γ(t)")
    arrows(last, unconstrained, projected, BLUE)
    for axes in (third, last):
        rows(axes, unconstrained, ORANGE)
        name(axes, unconstrained[0].tolist(), "W̃", ORANGE, (0, 5), ha="center", va="bottom")
    rows(last, projected, BLUE)
    name(last, projected[0].tolist(), "W(t)", BLUE, (-4, -4), ha="right", va="top")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    main()
