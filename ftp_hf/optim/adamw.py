"""Optimizers whose every step ends in Fast Trainable Projection.

# The order of things

1. **Step 1 returns every projected tensor to its anchor.** There is no displacement yet to learn a radius from, so the
   first radius is the model's distance from its anchor before the step: 1e-8 when training starts at the anchor. The
   first real movement is step 2. (A model that starts away from explicit `anchors` keeps its distance as its first
   radius: going on with a fine-tuned model does not throw the fine-tuning away.)
2. Every later step learns the radius from the gradient and the displacement of the step before, takes torch's
   unconstrained step, clips the radius to the largest row norm, and projects. Gradients must therefore be unscaled and
   clipped *before* `step()`, as `GradScaler` and the Trainer do it.
3. **The radius learning rate is in units of a row's L1 norm.** The radius moves by about `radius_lr` a step whatever
   the fan-in is, while a row of `n` weights that each move by the learning rate `lr` moves by `n · lr`. An AdamW layer
   can therefore outrun its radius where `n · lr > radius_lr`: with the default 1e-2 and a fan-in of 768, above
   `lr = 1.3e-5`. Well below that, the projection binds only where the loss pushes the radius back. With `radius_share`,
   ρ, the radius moves by about `ρ · lr · n` instead, so that layers of any fan-in outrun their radii alike, at any rate
   and through a whole schedule. See `projection/rates.py`.
4. **Rows are output units**, and dimension 0 counts them, unless `transposed` (GPT-2's `Conv1D`) or `rows` (experts in
   one tensor) say otherwise. A parameter whose rows are too long, a whole expert, hardly moves: its radius grows by
   `radius_lr` a step for all of a row's weights together. Rows that were added to a pre-trained parameter
   (`pretrained_rows`) are no part of what is projected: not of radius and distance either.
5. **bfloat16 weights are trained in float32**, the excluded ones too (not those of groups with `project=False`): the
   optimizer keeps a float32 master of each, and the weight is the master rounded. See `optim/masters.py`. With
   `stochastic_rounding` the master, and the moments in float32, last as long as the step: see `optim/rounding.py`.
6. **Between steps the weights are the optimizer's to change.** While a radius is at the floor, the weight itself is the
   only copy of its anchor, and a bfloat16 weight is overwritten by its master. Load other weights before the first step,
   with the optimizer state that was saved beside them, or after `release_weights()`.
7. **Sharded parameters (FSDP2) have one radius, not one for each process.** Every process projects the rows that it has,
   and one all-gather a step gives them the radius gradient and the largest row norm of the whole tensor. So all
   processes have to call `step()` and `radii()`. See `projection/sharding.py` and
   `projection/exchange.py`.
8. A step counts for a parameter if the parameter had a gradient. As in torch, the step number in the bias correction
   is the parameter's own, and its neighbours do not notice.

# What is refused and what is left to torch

| input                                        | what happens                                                         |
| -------------------------------------------- | -------------------------------------------------------------------- |
| NaN or infinite gradient                     | the weights do what torch's optimizer does, the radius keeps still   |
| sparse gradient, complex or float16 weights  | `ValueError` with its name; its group can set `project=False`        |
| matrix sharded through its rows (TP, FSDP1)  | `ValueError` with its name and the sharding that serves              |
| two parameters of one name                   | `ValueError` with the name, if the groups of both are projected      |
| non-leaf tensor, duplicate parameter         | torch's own error or warning                                         |
| `differentiable=True`                        | `ValueError`: the projection is not differentiated through           |
| a closure                                    | evaluated once, before the radius is learned                         |
| an optimizer that needs the closure (LBFGS)  | torch's own `TypeError`                                              |
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import AdamW
from typing_extensions import Unpack

from .base import ProjectedOptimizer
from .options import ProjectionOptions

__all__ = ["FTPAdamW"]


class FTPAdamW(ProjectedOptimizer, AdamW):
    """
    torch's `AdamW` with Fast Trainable Projection around each step.

    For every projected tensor with anchor `W0`, at step `t`:

        ∇γ ← Σ_rows ⟨g(t), c(t−1)⟩ / ‖c(t−1)‖₁, times κ where positive
        γ  ← γ − μ · Adam(∇γ)
        W̃  ← AdamW(W(t−1), g(t)),  c(t) ← W̃ − W0
        γ  ← clip(γ, 1e-8, max_row ‖c(t)‖₁)
        W  ← W0 + min(1, γ / ‖c(t)‖₁) · c(t), row by row

    with `W0` = `anchor`, `c` = `displacement`, `γ` = `radius`, `κ` = `kappa`, `μ` = `radius_lr` (Tian et al., NeurIPS
    2023, arXiv 2310.19182), or `ρ · lr · fan-in` with `ρ` = `radius_share`. The module's docstring says what follows from the
    order of these lines.

    Args:
        params (iterable): tensors, `(name, tensor)` pairs such as `model.named_parameters()`, or param groups. A group
            may set its own options, and `project=False` to be left to plain AdamW, bit for bit.
        lr, betas, eps, weight_decay, amsgrad, maximize, foreach, capturable, differentiable, fused:
            as in `torch.optim.AdamW`, with its defaults but `weight_decay=0.0` (decay towards zero works against the
            projection).
        kappa (`float`, *optional*, defaults to 1.0): factor on radius gradients that would shrink the radius, in
            [0, 1]. 1 regularises most; with 0 the radius never shrinks.
        radius_lr (`float`, *optional*, defaults to 1e-2): learning rate of the radii, in units of a row's L1 norm.
        radius_share (`float`, *optional*): ρ, instead of `radius_lr`: the radii learn at a rate of `ρ · lr · fan-in`, a
            share of what an Adam-like optimizer, whose entries move by about `lr` a step, could move a row by. It has no
            unit; `lr` is that of the param group at the step. Of low-rank updates, for the fan-in stands `s · Σ|A|`, what
            a step of `B` can move a row of `s · B A` by. By default the rate is the paper's, `radius_lr`.
        radius_betas (`tuple[float, float]`, *optional*, defaults to (0.9, 0.999)): moments of the radii's Adam.
        exclude (sequence of `str`, *optional*, defaults to ()): names or glob patterns of parameters that have no
            pre-trained value, such as a new classification head. They are left to plain AdamW.
        transposed (sequence of `str`, *optional*, defaults to ()): names or glob patterns of parameters whose rows
            (output units) are dimension 1, such as the weights of GPT-2's `Conv1D`.
        rows (mapping from `str` to sequence of `int`, *optional*, defaults to {}): names or glob patterns of parameters,
            and the dimensions that together count their rows: `(0, 1)` for experts in one tensor of shape (experts, out,
            in). The first that matches is taken, before `transposed`. [`parameter_rows`] finds them in a model.
        pretrained_rows (mapping from `str` to `int`, *optional*, defaults to {}): names or glob patterns of parameters of
            which only some rows have a pre-trained value, such as resized embeddings, and how many: the first ones. They
            are projected, with a radius of their own, and the others are left to plain AdamW. [`pretrained_rows`] finds
            them in a model. Their `anchors` have these rows, and may have more.
        anchors (mapping from `str` to `Tensor`, `str` or `Path`, *optional*): the pre-trained weights by parameter
            name, or the path of a checkpoint (a `save_pretrained` folder or a safetensors file) that is read tensor by
            tensor. By default each parameter's value just before its first step.
        anchor_device (`"cpu"`, *optional*): keep the anchors in (pinned) host memory and stream them through each
            step, for a model that fits the GPU only just. By default they are beside the weights.
        stochastic_rounding (`bool`, *optional*, defaults to False): keep no float32 masters of bfloat16 weights: weights and
            moments are rounded to bfloat16 at random after each step, so that they are right on average, and take 10 bytes a
            parameter with gradient and anchor, instead of 18. What is projected is in float32, before it is rounded. By
            default nothing is rounded so; float32 weights never are.
        low_rank (sequence of [`LowRankUpdate`], *optional*, defaults to ()): adapters whose product is projected, and
            not their factors; [`adapter_options`] makes them of a model of PEFT.

    Raises:
        ValueError: an option is out of range; `radius_lr` and `radius_share`, or `stochastic_rounding` and `capturable`, are both
            set; two parameters have one name; a parameter lacks one of its row dimensions, or has fewer rows than
            `pretrained_rows` says; a pattern matches nothing or lacks names to match; a projected parameter is complex, float16 or
            sharded through its rows; anchors are missing, misshapen or not finite.
        TypeError: `kappa`, `radius_lr`, `radius_share`, `radius_betas`, `exclude`, `transposed`, `rows`, `pretrained_rows` or
            `anchors` is of the wrong type.
        FileNotFoundError: `anchors` is a path without safetensors weights.
    """

    _steps_as = AdamW

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> None:
        self._set_options(options)
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )
        self._set_anchors(options.get("anchors"))
