"""The projection around an optimizer's step: which parameters take part, their state, and the checks."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.common.names import canonical_name, matches
from ftp_hf.pretrained.anchors import open_anchors, validate_anchors
from ftp_hf.projection.exchange import Batch, put_together
from ftp_hf.projection.first_state import first_states, low_rank_first_states
from ftp_hf.projection.kernels.dispatch import batches
from ftp_hf.projection.low_rank_tensor import LowRankTensor, LowRankUpdate
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.sharding import is_dtensor, like, local, local_part_of
from ftp_hf.projection.tensor import HELD, ProjectedTensor, placed

from .checks import check_low_rank, check_options, check_parameter, check_parameters, check_patterns_match
from .masters import MASTER, masters_in_place
from .radii import Radius, radii_on_device
from .state_dict import check_sharding

__all__ = ["Anchors", "ProjectedOptimizer", "projected_optimizer"]

Anchors = Mapping[str, Tensor] | str | Path


# torch's fused optimizers unscale gradients inside their kernel and skip the step there when one overflowed. The radius
# must read unscaled gradients and skip as well, so GradScaler has to do both (torch 2.8 to 2.13).
_STEP_UNSCALES = False


class ProjectedOptimizer(Optimizer):
    """
    What [`FTPAdamW`], [`FTPSGD`] and [`FTP`] share: the projection around an unconstrained step.

    The state of a projected parameter `p` is in `optimizer.state[p]`, beside torch's own: `anchor_or_direction` (the
    shape of `p`; [`ProjectedTensor`] says which of the two it is), `radius` (the six values of a [`RadiusState`]), and
    for a bfloat16 parameter its float32 `master`. It is created at the first step for which `p` has a gradient. A
    [`LowRankUpdate`] has nothing but a `radius`, in the state of its first `rows`. The options are in
    `optimizer.param_groups`.
    """

    _options: dict[str, Any]
    _anchors: Mapping[str, Tensor] | None
    _low_rank: tuple[LowRankUpdate, ...] = ()
    _step_supports_amp_scaling: bool

    @torch.no_grad()
    def _set_anchors(self, anchors: Anchors | None) -> None:
        self._anchors = None if anchors is None else open_anchors(anchors)
        if isinstance(self._anchors, dict):
            # Tensors that share memory with the parameters (`model.state_dict()`) would be trained with them.
            trained = {_memory(parameter) for group in self.param_groups for parameter in group["params"]}
            self._anchors = {
                name: anchor.detach().clone() if _memory(anchor) in trained else anchor
                for name, anchor in self._anchors.items()
            }
        self._check_groups()

    def _check_groups(self) -> None:
        """Check across all groups what one group alone cannot tell, before anything is trained."""
        check_patterns_match(self.param_groups)
        check_low_rank(self._low_rank, self.param_groups)
        if self._anchors is not None:
            if not all("param_names" in group for group in self.param_groups if group["project"]):
                raise ValueError("anchors= needs parameter names: pass model.named_parameters() as the first argument")
            validate_anchors(self._anchors, self.projected_parameters().items())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """
        Add a param group. Besides torch's options it may set `kappa`, `radius_lr`, `radius_betas`, `exclude`,
        `transposed`, `anchor_device`, and `project=False` to leave all of its parameters to the unconstrained optimizer.

        Args:
            param_group (`dict`): as for `torch.optim.Optimizer.add_param_group`.

        Raises:
            ValueError: an option is out of range, or a projected parameter is complex or float16 or has no anchor;
                the group is not added.
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
        if torch.compiler.is_compiling():
            # The kernels are compiled already, and torch.compile would trace them into something slower. Not a decorator,
            # because it imports the compiler.
            torch.compiler.disable(self._projected_step)()  # type: ignore[no-untyped-call]
        else:
            self._projected_step()
        return loss

    def _projected_step(self) -> None:
        with masters_in_place(self) as parameter_of:
            tensors = list(self._tensors_with_gradient())
            new = [tensor for tensor in tensors if not tensor.has_state]
            states = self._first_states(new, parameter_of)
            known = [
                Batch(kernels, batch, kernels.radius_gradients(batch))
                for kernels, batch in batches([tensor for tensor in tensors if tensor.has_state])
            ]
            self._unconstrained_step()
            # torch's optimizers create their own state where they find none, so ours has to come after it.
            new = [tensor._replace(state=self.state[tensor.parameter]) for tensor in new]
            for tensor, state in zip(new, states, strict=True):
                tensor.state.update(state)
            first = [Batch(kernels, batch, None) for kernels, batch in batches(new)]
            for kernels, batch, gradients, largest in put_together(known + first):
                kernels.project(batch, gradients, largest)

    @torch.no_grad()
    def radii(self) -> dict[str, Radius]:
        """
        The learned radius of every projected parameter that has taken a step, at the cost of one transfer to the host
        per device. If parameters are sharded, every process has to call it: distances are those of the whole tensors.

        Returns:
            `dict[str, Radius]`: by parameter name; where the optimizer was given no names, by position (`"0.3"` is
            parameter 3 of group 0).
        """
        tensors = self._tensors_with_state()
        distance_of: dict[str, Tensor] = {}
        for kernels, batch in batches(tensors):
            distance_of |= zip((tensor.name for tensor in batch), kernels.distances(batch), strict=True)
        values: dict[str, Radius] = {}
        for device in dict.fromkeys(tensor.weight.device for tensor in tensors):
            here = [tensor for tensor in tensors if tensor.weight.device == device]
            values |= radii_on_device(here, torch.stack([distance_of[tensor.name] for tensor in here]))
        return {tensor.name: values[tensor.name] for tensor in tensors}

    def projected_parameters(self) -> dict[str, Tensor]:
        """
        The dense parameters that are projected: neither excluded nor in a group with `project=False`, and no factors of
        [`low_rank_updates`].

        Returns:
            `dict[str, Tensor]`: by parameter name, as for [`radii`].
        """
        return {name: parameter for name, parameter, *_ in self._projected()}

    @property
    def low_rank_updates(self) -> tuple[LowRankUpdate, ...]:
        """The `low_rank` updates that are projected: none of their `rows` is excluded or in a group with `project=False`."""
        named = self._named_parameters()
        return tuple(update for update in self._low_rank if _takes_part(update, named))

    @property
    def external_anchors(self) -> Mapping[str, Tensor] | None:
        """The `anchors` that were given, whole; `None` if the weights before the first step are the anchors."""
        return self._anchors

    @torch.no_grad()
    def anchors(self) -> dict[str, Tensor]:
        """
        The anchor of every dense parameter that is projected and has taken a step. (That of a low-rank update is zero.)

        Returns:
            `dict[str, Tensor]`: by parameter name, as for [`radii`]; new tensors in the parameter's dtype, float32 for
            a bfloat16 parameter; a `DTensor` for a sharded one.
        """
        return {
            tensor.name: like(tensor.parameter, tensor.anchor())
            for tensor in self._tensors_with_state()
            if isinstance(tensor, ProjectedTensor)
        }

    @torch.no_grad()
    def release_weights(self) -> None:
        """
        Keep nothing in the weights. Call it before other weights are loaded into the model under an optimizer that goes
        on: the anchors of tensors at the floor go back into their buffers, and the masters of bfloat16 parameters, which
        would overwrite what is loaded, are given up. Radii and moments stay.
        """
        for tensor in self._tensors_with_state():
            if isinstance(tensor, ProjectedTensor):
                tensor.held.copy_(tensor.anchor())
                tensor.radius_state.at_floor.zero_()
        for state in self.state.values():
            state.pop(MASTER, None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Load a state dict. The radii and anchors come with it, and so do the options of the param groups, as torch's do.

        Args:
            state_dict (`dict`): what `state_dict()` returned.

        Raises:
            ValueError: the state is that of an optimizer without projection, and no `anchors` were given: the current
                weights would silently become the anchors; or it is of whole tensors, but the parameters are sharded.
        """
        check_sharding(state_dict, self.param_groups)
        before = (self.param_groups, self.state)
        self._load_unconstrained_state(state_dict)
        # A state without projection says nothing of our options: they stay as they were, group by group.
        for group, saved, old in zip(self.param_groups, state_dict["param_groups"], before[0], strict=True):
            group.update({option: old[option] for option in self._options if option not in saved})
            # Where anchors are kept is a matter of this machine, not of the one that saved them.
            group["anchor_device"] = old["anchor_device"]
            # Distributed checkpoints make lists of tuples.
            check_options(group)
        self._restore_dtypes(state_dict)
        states = {name: self.state.get(parameter, {}) for name, parameter, *_ in self._projected()}
        without = [name for name, state in states.items() if state and "radius" not in state]
        if without and self._anchors is None:
            self.param_groups, self.state = before
            raise ValueError(
                f"the loaded optimizer state has no anchors for {len(without)} projected parameters ({without[0]}, …): "
                "it was saved by an optimizer without projection. Give the pre-trained weights with anchors= "
                "(ftp_anchors of the FTPTrainer), or start a new run without this state."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "_options": self._options,
            "_anchors": self._anchors,
            "_low_rank": self._low_rank,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for option, default in self._options.items():
                group.setdefault(option, default)

    def _restore_dtypes(self, state_dict: dict[str, Any]) -> None:
        # torch casts what it loads to the dtype of the parameter: the master of a bfloat16 weight would be rounded, and
        # a bfloat16 anchor of a float32 weight widened.
        ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        parameters = [(group, parameter) for group in self.param_groups for parameter in group["params"]]
        for index, (group, parameter) in zip(ids, parameters, strict=True):
            saved = state_dict["state"].get(index, {})
            if "radius" in saved or MASTER in saved:
                tensors = {key: value for key, value in saved.items() if isinstance(value, Tensor) and key != "step"}
                state = {key: value.to(parameter.device) for key, value in tensors.items() if key != HELD}
                if HELD in tensors:
                    state[HELD] = placed(tensors[HELD], parameter, group["anchor_device"])
                if "radius" in state and is_dtensor(parameter):
                    # It counts the rows of one process, and which one that was is not known.
                    state["radius"] = state["radius"].clone()
                    RadiusState(*state["radius"]).rows_projected.fill_(math.nan)
                self.state[parameter] |= state

    def _projected(self) -> Iterator[tuple[str, Tensor, dict[str, Any], int]]:
        """Name, parameter, param group and row dimension of each dense parameter that is projected."""
        factors = {factor for update in self._low_rank for factor in update.factors}
        for number, group in enumerate(self.param_groups):
            if not group["project"]:
                continue
            names = group.get("param_names") or [f"{number}.{index}" for index in range(len(group["params"]))]
            # A dict, because torch only warns of a parameter that is twice in its group.
            for parameter, name in dict(zip(group["params"], names, strict=True)).items():
                if parameter.numel() and not matches(name, group["exclude"]) and canonical_name(name) not in factors:
                    row_dim = 1 if matches(name, group["transposed"]) else 0
                    yield canonical_name(name), parameter, group, row_dim

    def _tensors(self) -> Iterator[ProjectedTensor]:
        for name, parameter, group, row_dim in self._projected():
            # Not `self.state[parameter]`: torch.distributed.checkpoint takes an empty entry for a state.
            state = self.state.get(parameter, {})
            yield ProjectedTensor.of(name, state.get(MASTER, parameter), state, group, row_dim)

    def _low_rank_tensors(self) -> Iterator[LowRankTensor]:
        if not self._low_rank:
            return
        named = self._named_parameters()
        trained = {name: self.state.get(parameter, {}).get(MASTER, parameter) for name, (parameter, _) in named.items()}
        for update in self._low_rank:
            if _takes_part(update, named):
                parameter, group = named[update.products[0].rows]
                yield LowRankTensor.of(update, trained, self.state.get(parameter, {}), group)

    def _named_parameters(self) -> dict[str, tuple[Tensor, dict[str, Any]]]:
        """Name → parameter and param group, of all parameters that have a name."""
        return {
            canonical_name(name): (parameter, group)
            for group in self.param_groups
            for name, parameter in zip(group.get("param_names", ()), group["params"], strict=False)
        }

    def _tensors_with_state(self) -> list[ProjectedTensor | LowRankTensor]:
        dense = [tensor for tensor in self._tensors() if tensor.has_state]
        return [*dense, *(tensor for tensor in self._low_rank_tensors() if tensor.has_state)]

    def _tensors_with_gradient(self) -> Iterator[ProjectedTensor | LowRankTensor]:
        yield from (tensor for tensor in self._low_rank_tensors() if tensor.has_gradient)
        for tensor in self._tensors():
            if tensor.grad is None:
                continue
            if tensor.grad.is_sparse:
                raise ValueError(
                    f"the gradient of {tensor.name} is sparse, and rows without a gradient have no radius gradient: "
                    "create the embedding with sparse=False, or put it in a param group with project=False"
                )
            yield tensor

    def _first_states(
        self, tensors: Sequence[ProjectedTensor | LowRankTensor], parameter_of: Mapping[Tensor, Tensor]
    ) -> list[dict[str, Tensor]]:
        low_rank = [tensor for tensor in tensors if isinstance(tensor, LowRankTensor)]
        dense = [tensor for tensor in tensors if isinstance(tensor, ProjectedTensor)]
        for tensor in dense:
            check_parameter(tensor.name, parameter_of.get(tensor.parameter, tensor.parameter), tensor.row_dim)

        def anchor_of(tensor: ProjectedTensor) -> Tensor:
            if self._anchors is None:
                return tensor.weight.detach()
            # In the parameter's own dtype: the weights that the pre-trained model would run with.
            parameter = parameter_of.get(tensor.parameter, tensor.parameter)
            anchor = local_part_of(self._anchors[tensor.name].detach(), parameter)
            return anchor.to(tensor.weight.device, parameter.dtype)

        return low_rank_first_states(low_rank) + first_states(dense, anchor_of)


def projected_optimizer(optimizer: Any) -> ProjectedOptimizer | None:
    """
    The projecting optimizer inside the wrappers that Accelerate puts around it.

    Args:
        optimizer (`Optimizer` or `None`): for example `trainer.optimizer`.

    Returns:
        `ProjectedOptimizer` or `None`: `None` if nothing projects.
    """
    while optimizer is not None and not isinstance(optimizer, ProjectedOptimizer):
        optimizer = getattr(optimizer, "optimizer", None)
    return optimizer


def _takes_part(update: LowRankUpdate, named: Mapping[str, tuple[Tensor, dict[str, Any]]]) -> bool:
    groups = {product.rows: named[product.rows][1] for product in update.products}
    return all(group["project"] and not matches(name, group["exclude"]) for name, group in groups.items())


def _memory(tensor: Tensor) -> int:
    return local(tensor).untyped_storage().data_ptr()


def _options(
    kappa: float,
    radius_lr: float,
    radius_betas: tuple[float, float],
    exclude: Sequence[str],
    transposed: Sequence[str],
    anchor_device: str | None,
) -> dict[str, Any]:
    return {
        "kappa": kappa,
        "radius_lr": radius_lr,
        "radius_betas": radius_betas,
        "exclude": exclude,
        "transposed": transposed,
        "anchor_device": anchor_device,
        "project": True,
    }


def _step_without_hooks(base: type[Optimizer], optimizer: Optimizer) -> None:
    # torch wraps the `step` of a class in its hooks once that class was instantiated, so `super().step()` would run
    # this optimizer's hooks a second time, or not, depending on what else the process did (torch 2.8 to 2.13).
    step = inspect.unwrap(base.step, stop=lambda function: not hasattr(function, "hooked"))
    step(optimizer)
