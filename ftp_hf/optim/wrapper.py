"""Fast Trainable Projection around any optimizer."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from .base import ProjectedOptimizer
from .hooks import has_step_hooks
from .naming import name_parameters
from .options import GROUP_OPTIONS, SET_ASIDE, ProjectionOptions, unchanged_if_refused

__all__ = ["FTP"]


class FTP(ProjectedOptimizer):
    """
    Fast Trainable Projection around any `torch.optim.Optimizer`: Adafactor, RAdam, Lion, an 8-bit Adam, …

    It is itself an optimizer and shares `param_groups` and `state` with the one it wraps, so that learning-rate
    schedulers, the Trainer, Accelerate and `state_dict` see one optimizer.

    Args:
        optimizer (`torch.optim.Optimizer`): takes the unconstrained step, with its own options and defaults (torch's
            `AdamW` has a weight decay of 0.01, [`FTPAdamW`] of 0). Its param groups may already set `kappa`,
            `radius_lr`, `radius_share`, `radius_betas`, `exclude`, `transposed`, `anchor_device`, `stochastic_rounding` or
            `project`. Where one of these is an option of the optimizer itself (the `kappa` of AccSGD), it stays that, and is
            `wrapped_kappa` between steps; `kappa` is then the projection's.
        named_parameters (iterable of `(str, Tensor)`, *optional*): `model.named_parameters()`, for an optimizer that
            was built without names.
        kappa, radius_lr, radius_share, radius_betas, exclude, transposed, rows, pretrained_rows, anchors, anchor_device,
        stochastic_rounding, low_rank: as for [`FTPAdamW`]. `radius_share` is meant for optimizers that move an entry by about
            the `lr` of its group, as Adam, RAdam, Adafactor, Lion and 8-bit Adams do; of one that multiplies `lr` by something
            else (a gradient, as SGD; an estimate, as Prodigy), it is a share of `lr · fan-in` all the same.

    Raises:
        TypeError: `optimizer` is not an instance of `torch.optim.Optimizer`, already projects, or swaps the weights
            for evaluation (schedule-free).
        ValueError: a parameter of `optimizer` is not in `named_parameters`; otherwise as [`FTPAdamW`].

    Example:
        ```python
        optimizer = FTP(torch.optim.RAdam(model.named_parameters(), lr=1e-4), exclude=["classifier.*"])
        ```
    """

    optimizer: Optimizer

    def __init__(
        self,
        optimizer: Optimizer,
        named_parameters: Iterable[tuple[str, Tensor]] | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be an instance of torch.optim.Optimizer, got {optimizer!r}; "
                "write FTP(torch.optim.AdamW(model.named_parameters(), lr=...), ...)"
            )
        if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
            raise TypeError(
                f"{type(optimizer).__name__} swaps the weights between its train and eval modes, so the projected ones "
                "would not be those that are evaluated: wrap an optimizer without such modes"
            )
        if isinstance(optimizer, ProjectedOptimizer):
            raise TypeError(f"optimizer already projects: {type(optimizer).__name__} needs no FTP around it")
        self._set_options(options)
        with unchanged_if_refused(optimizer):
            for group in optimizer.param_groups:
                _set_aside(group, optimizer.defaults)
            if named_parameters is not None:
                name_parameters(optimizer.param_groups, named_parameters)
            # torch's constructor would begin with new groups and an empty state: all else that it does is here.
            Optimizer.__setstate__(self, {"optimizer": optimizer})
            for group in self.param_groups:
                self._complete(group)
            self._set_anchors(options.get("anchors"))

    @property
    def state(self) -> Any:
        """The wrapped optimizer's state, in which the radii and anchors live too."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The wrapped optimizer's param groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, param_groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = param_groups

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The wrapped optimizer's defaults."""
        return self.optimizer.defaults

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state dict, with the radii and anchors in it."""
        return self.optimizer.state_dict()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the wrapped optimizer does it."""
        self.optimizer.zero_grad(set_to_none)

    def register_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the wrapped optimizer, whose state dict it is."""
        return self.optimizer.register_state_dict_pre_hook(hook, prepend)

    def register_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the wrapped optimizer, whose state dict it is."""
        return self.optimizer.register_state_dict_post_hook(hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the wrapped optimizer, which loads the state."""
        return self.optimizer.register_load_state_dict_pre_hook(hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the wrapped optimizer, which loads the state."""
        return self.optimizer.register_load_state_dict_post_hook(hook, prepend)

    def __getstate__(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, **self._pickled()}

    def _add_unconstrained_group(self, param_group: dict[str, Any]) -> None:
        ours = {key: param_group[key] for key in GROUP_OPTIONS if key in param_group}
        theirs = {key: value for key, value in param_group.items() if key not in ours} if ours else param_group
        self.optimizer.add_param_group(theirs)
        group = self.param_groups[-1]
        _set_aside(group, self.optimizer.defaults)
        group.update(ours)

    def _load_unconstrained_state(self, state_dict: dict[str, Any]) -> None:
        before = self.param_groups
        self.optimizer.load_state_dict(state_dict)
        for group, old in zip(self.param_groups, before, strict=True):
            for key in old.keys() - group.keys():
                if key.startswith(SET_ASIDE):
                    group[key] = old[key]

    def _unconstrained_step(self) -> None:
        aside = [
            (group, key.removeprefix(SET_ASIDE))
            for group in self.param_groups
            for key in group
            if key.startswith(SET_ASIDE)
        ]
        _swap(aside)
        try:
            self.optimizer.step()
        finally:
            _swap(aside)

    @property
    def _steps_as(self) -> type[Optimizer]:
        # Its hooks expect one step, over all parameters.
        return Optimizer if has_step_hooks(self.optimizer) else type(self.optimizer)


def _set_aside(group: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Make room for the projection's option where the optimizer has one of that name itself (the kappa of AccSGD)."""
    for key in GROUP_OPTIONS:
        if key in defaults and SET_ASIDE + key not in group:
            group[SET_ASIDE + key] = group.pop(key)


def _swap(aside: Iterable[tuple[dict[str, Any], str]]) -> None:
    for group, key in aside:
        group[key], group[SET_ASIDE + key] = group[SET_ASIDE + key], group[key]
