"""The projection around an optimizer's step: which parameters take part, their state, and the checks."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from . import projection
from ._checks import check_options, check_parameter, check_parameters, check_patterns_match, matches
from .anchors import canonical_name, open_anchors, validate_anchors

__all__ = ["Anchors", "ProjectedOptimizer", "Radius"]

Anchors = Mapping[str, Tensor] | str | Path


class Radius(NamedTuple):
    """What [`~ProjectedOptimizer.radii`] tells of one parameter."""

    radius: float
    """γ, in units of a row's L1 norm."""
    deviation: float
    """`max_row ‖W − W0‖₁`: how far the parameter is from its anchor, in the same units."""
    on_boundary: float
    """Share of the rows that the last step projected onto the ball, in [0, 1]."""


class _Projected(NamedTuple):
    """A parameter that takes part in the projection at this step."""

    name: str
    parameter: Tensor
    state: dict[str, Any]
    group: dict[str, Any]
    row_dim: int

    @property
    def gradient(self) -> Tensor:
        if self.parameter.grad is None:
            raise ValueError(f"{self.name} has no gradient")
        return self.parameter.grad


class ProjectedOptimizer(Optimizer):
    """
    What [`FTPAdamW`], [`FTPSGD`] and [`FTP`] share: the projection around an unconstrained step.

    The state of a projected parameter `p` is in `optimizer.state[p]`, beside torch's own: `anchor` and `displacement`
    (the shape of `p`), and the 0-D tensors `radius`, `radius_exp_avg`, `radius_exp_avg_sq` and `radius_step`. It is
    created at the first step for which `p` has a gradient. The options are in `optimizer.param_groups`.
    """

    _options: dict[str, Any]
    _anchors: Mapping[str, Tensor] | None
    _step_supports_amp_scaling: bool

    def _set_anchors(self, anchors: Anchors | None) -> None:
        self._anchors = None if anchors is None else open_anchors(anchors)
        if isinstance(self._anchors, dict):
            # Tensors that share memory with the parameters (`model.state_dict()`) would be trained with them.
            trained = {p.untyped_storage().data_ptr() for group in self.param_groups for p in group["params"]}
            self._anchors = {
                name: anchor.detach().clone() if anchor.untyped_storage().data_ptr() in trained else anchor
                for name, anchor in self._anchors.items()
            }
        self._check_groups()

    def _check_groups(self) -> None:
        """Check across all groups what one group alone cannot tell, before anything is trained."""
        check_patterns_match(self.param_groups)
        if self._anchors is not None:
            if not all("param_names" in group for group in self.param_groups if group["project"]):
                raise ValueError("anchors= needs parameter names: pass model.named_parameters() as the first argument")
            validate_anchors(self._anchors, self.projected_parameters().items())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """
        Add a param group. Besides torch's options it may set `kappa`, `radius_lr`, `radius_betas`, `exclude`,
        `transposed`, and `project=False` to leave all of its parameters to the unconstrained optimizer.

        Args:
            param_group (`dict`): as for `torch.optim.Optimizer.add_param_group`.

        Raises:
            ValueError: an option is out of range, or a projected parameter is complex or 16-bit or has no anchor; the
                group is not added.
        """
        self._add_unconstrained_group(param_group)
        group = self.param_groups[-1]
        try:
            for option, default in self._options.items():
                group.setdefault(option, default)
            check_options(group)
            check_parameters(group)
            # torch's constructor adds the groups one by one, before the anchors are set.
            if "_anchors" in vars(self):
                self._check_groups()
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def _add_unconstrained_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)

    def _load_unconstrained_state(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)

    def _unconstrained_step(self) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """
        One step: learn the radii, step without constraint, project.

        Args:
            closure (`Callable`, *optional*): reevaluates the model and returns the loss.

        Returns:
            What `closure` returned, or `None`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        projected = list(self._projected_with_gradient())
        first_states = {item.parameter: self._first_state(item) for item in projected if "anchor" not in item.state}
        for batch in _alike([item for item in projected if "anchor" in item.state]):
            _learn_radii(batch)
        self._unconstrained_step()
        # torch's optimizers create their own state where they find none, so ours has to come after it.
        projected = [item._replace(state=self.state[item.parameter]) for item in projected]
        for item in projected:
            item.state.update(first_states.get(item.parameter, {}))
        for batch in _alike(projected):
            _project(batch)
        return loss

    def radii(self) -> dict[str, Radius]:
        """
        The learned radius of every projected parameter that has taken a step, at the cost of one transfer to the host
        per device.

        Returns:
            `dict[str, Radius]`: by parameter name; where the optimizer was given no names, by position (`"0.3"` is
            parameter 3 of group 0).
        """
        names: list[str] = []
        rows: list[Tensor] = []
        for item in self._projected():
            if "anchor" in item.state:
                names.append(item.name)
                rows.append(_measure(item))
        values: dict[str, Radius] = {}
        for device in dict.fromkeys(row.device for row in rows):
            here = [(name, row) for name, row in zip(names, rows, strict=True) if row.device == device]
            table = torch.stack([row for _, row in here]).tolist()
            values |= {name: Radius(*row) for (name, _), row in zip(here, table, strict=True)}
        return {name: values[name] for name in names}

    def projected_parameters(self) -> dict[str, Tensor]:
        """
        The parameters that are projected: neither excluded nor in a group with `project=False`.

        Returns:
            `dict[str, Tensor]`: by parameter name, as for [`radii`].
        """
        return {item.name: item.parameter for item in self._projected()}

    @property
    def has_external_anchors(self) -> bool:
        """Whether `anchors` were given, so that the weights before the first step are not taken for anchors."""
        return self._anchors is not None

    def anchors(self) -> dict[str, Tensor]:
        """
        The anchor of every projected parameter that has taken a step.

        Returns:
            `dict[str, Tensor]`: by parameter name, as for [`radii`]. The tensors are the optimizer's own: do not
            write to them.
        """
        return {item.name: item.state["anchor"] for item in self._projected() if "anchor" in item.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Load a state dict. The radii and anchors come with it, and so do the options of the param groups, as torch's do.

        Args:
            state_dict (`dict`): what `state_dict()` returned.

        Raises:
            ValueError: the state is that of an optimizer without projection, and no `anchors` were given: the current
                weights would silently become the anchors.
        """
        before = (self.param_groups, self.state)
        self._load_unconstrained_state(state_dict)
        # A state without projection says nothing of our options: they stay as they were, group by group.
        for group, saved, old in zip(self.param_groups, state_dict["param_groups"], before[0], strict=True):
            group.update({option: old[option] for option in self._options if option not in saved})
        without = [item.name for item in self._projected() if item.state and "anchor" not in item.state]
        if without and self._anchors is None:
            self.param_groups, self.state = before
            raise ValueError(
                f"the loaded optimizer state has no anchors for {len(without)} projected parameters ({without[0]}, …): "
                "it was saved by an optimizer without projection. Give the pre-trained weights with anchors= "
                "(ftp_anchors of the FTPTrainer), or start a new run without this state."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_options": self._options, "_anchors": self._anchors}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for option, default in self._options.items():
                group.setdefault(option, default)

    def _projected(self) -> Iterator[_Projected]:
        for number, group in enumerate(self.param_groups):
            if not group["project"]:
                continue
            names = group.get("param_names") or [f"{number}.{index}" for index in range(len(group["params"]))]
            # A dict, because torch only warns of a parameter that is twice in its group.
            for parameter, name in dict(zip(group["params"], names, strict=True)).items():
                if parameter.numel() and not matches(name, group["exclude"]):
                    row_dim = 1 if matches(name, group["transposed"]) else 0
                    # Not `self.state[parameter]`: torch.distributed.checkpoint takes an empty entry for a state.
                    state = self.state.get(parameter, {})
                    yield _Projected(canonical_name(name), parameter, state, group, row_dim)

    def _projected_with_gradient(self) -> Iterator[_Projected]:
        for item in self._projected():
            if item.parameter.grad is None:
                continue
            if item.parameter.grad.is_sparse:
                raise ValueError(
                    f"the gradient of {item.name} is sparse, and rows without a gradient have no radius gradient: "
                    "create the embedding with sparse=False, or put it in a param group with project=False"
                )
            yield item

    def _first_state(self, item: _Projected) -> dict[str, Tensor]:
        check_parameter(item.name, item.parameter)
        weight = item.parameter.detach()
        anchor = weight.clone() if self._anchors is None else _like(weight, self._anchors[item.name])
        radius = projection.row_norms(weight - anchor, item.row_dim).max()
        return {
            "anchor": anchor,
            "displacement": torch.empty_like(anchor),
            "radius": radius,
            "radius_exp_avg": torch.zeros_like(radius),
            "radius_exp_avg_sq": torch.zeros_like(radius),
            "radius_step": torch.ones_like(radius),
        }


def _like(weight: Tensor, anchor: Tensor) -> Tensor:
    return torch.empty_like(weight).copy_(anchor.detach())


def _alike(items: list[_Projected]) -> Iterator[list[_Projected]]:
    """Parameters whose radii can be computed together: of one group, device and dtype."""
    batches: dict[Any, list[_Projected]] = {}
    for item in items:
        batches.setdefault((id(item.group), item.parameter.device, item.parameter.dtype), []).append(item)
    yield from batches.values()


def _stacked(batch: list[_Projected], key: str) -> Tensor:
    return torch.stack([item.state[key] for item in batch])


def _store(batch: list[_Projected], key: str, values: Tensor) -> None:
    for item, value in zip(batch, values.unbind(), strict=True):
        item.state[key].copy_(value)


def _learn_radii(batch: list[_Projected]) -> None:
    group = batch[0].group
    gradient = torch.stack(
        [projection.radius_gradient(item.gradient, item.state["displacement"], item.row_dim) for item in batch]
    )
    _store(batch, "radius_step", _stacked(batch, "radius_step") + 1)
    radius, exp_avg, exp_avg_sq = projection.radius_adam_step(
        _stacked(batch, "radius"),
        -gradient if group.get("maximize", False) else gradient,
        _stacked(batch, "radius_exp_avg"),
        _stacked(batch, "radius_exp_avg_sq"),
        _stacked(batch, "radius_step"),
        lr=group["radius_lr"],
        betas=group["radius_betas"],
        kappa=group["kappa"],
    )
    _store(batch, "radius", radius)
    _store(batch, "radius_exp_avg", exp_avg)
    _store(batch, "radius_exp_avg_sq", exp_avg_sq)


def _project(batch: list[_Projected]) -> None:
    norms = []
    for item in batch:
        displacement = item.state["displacement"]
        torch.sub(item.parameter, item.state["anchor"], out=displacement)
        norms.append(projection.row_norms(displacement, item.row_dim))
    largest = torch.stack([row_norms.max() for row_norms in norms])
    _store(batch, "radius", projection.clip_radius(_stacked(batch, "radius"), largest))
    for item, row_norms in zip(batch, norms, strict=True):
        state, weight = item.state, item.parameter
        projection.project(weight, state["anchor"], state["displacement"], state["radius"], row_norms, out=weight)


def _measure(item: _Projected) -> Tensor:
    state, weight = item.state, item.parameter.detach()
    deviation = projection.row_norms(weight - state["anchor"], item.row_dim).max() - projection.RADIUS_FLOOR
    before = projection.row_norms(state["displacement"], item.row_dim)
    on_boundary = projection.projected_rows(state["radius"], before).to(before.dtype).mean()
    return torch.stack([state["radius"], deviation, on_boundary])
