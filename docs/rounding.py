"""
Draw docs/rounding.png: a small network on scikit-learn's digits, in float32 weights and in bfloat16 ones, with masters, without them
(`stochastic_rounding`) and plainly.

    python docs/rounding.py

It is trained on the digits 0 to 4 first, and fine-tuned on all ten; one seed, less than a minute.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ftp_hf import FTPAdamW

STEPS, BATCH, WINDOW = 200, 64, 20
RATE = {"lr": 1e-4}
RADII = {**RATE, "radius_lr": 0.05}

LINES: list[tuple[str, torch.dtype, Callable[[Any], Optimizer], str]] = [
    ("FTP, float32", torch.float32, lambda params: FTPAdamW(params, **RADII), "-"),
    ("FTP, bfloat16 with masters", torch.bfloat16, lambda params: FTPAdamW(params, **RADII), "--"),
    ("FTP, bfloat16 without", torch.bfloat16, lambda params: FTPAdamW(params, **RADII, stochastic_rounding=True), ":"),
    ("plain AdamW, float32", torch.float32, lambda params: AdamW(params, **RATE, weight_decay=0.0), "-"),
    ("plain AdamW, bfloat16", torch.bfloat16, lambda params: AdamW(params, **RATE, weight_decay=0.0), "--"),
]


def train(model: nn.Module, optimizer: Optimizer, images: Tensor, digits: Tensor, steps: int) -> list[float]:
    """The loss of every step."""
    generator, losses = torch.Generator().manual_seed(0), []
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        batch = torch.randint(len(images), (BATCH,), generator=generator)
        loss = nn.functional.cross_entropy(model(images[batch].to(dtype)).float(), digits[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    images, digits = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
    images, few = images.float() / 16, digits < 5
    torch.manual_seed(0)
    layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    pretrained = nn.Sequential(*layers)
    train(pretrained, AdamW(pretrained.parameters(), lr=1e-3), images[few], digits[few], 60)
    weights = {name: weight.bfloat16() for name, weight in pretrained.state_dict().items()}

    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for label, dtype, make, style in LINES:
        model = pretrained.to(dtype)
        model.load_state_dict(weights)
        losses = train(model, make(model.named_parameters()), images, digits, STEPS)
        smooth = np.convolve(losses, np.ones(WINDOW) / WINDOW, mode="valid")
        colour = "#1f6f8b" if label.startswith("FTP") else "#b5523b"
        axes.plot(np.arange(len(smooth)) + WINDOW, smooth, style, color=colour, label=label)
        print(f"{label}: {smooth[-1]:.3f} over the last {WINDOW} steps")
    axes.set_xlabel("step")
    axes.set_ylabel(f"training loss, mean of {WINDOW} steps")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
