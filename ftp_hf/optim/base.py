"""The projection around an optimizer's step, and what users ask of the optimizers: radii, anchors, state dicts."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from ftp_hf.pretrained.anchors import validate_anchors
from ftp_hf.projection.exchange import PendingProjection, gather_shards
from ftp_hf.projection.kernels.dispatch import batches
from ftp_hf.projection.low_rank_tensor import LowRankUpdate
from ftp_hf.projection.radius import RADIUS
from ftp_hf.projection.sharding import like
from ftp_hf.projection.tensor import DIRECTION, ProjectedTensor

from .anchoring import otherwise_anchored, own_anchors, states_before
from .checks import (
    check_low_rank,
    check_names,
    check_options,
    check_parameters,
    check_patterns_match,
    check_pretrained_rows,
    check_rows,
)
from .findings import Findings, findings
from .hooks import load_between_hooks, step_without_hooks
from .masters import Masters, adopt_masters, masters_of, pieces_of_a_step, step_in_pieces
from .naming import add_patterns, by_name, name_unnamed_groups, rows_by_name
from .options import Anchors, ProjectionOptions, group_options, unchanged_if_refused
from .participants import Participants
from .radii import Radius, radii_of, raise_radii
from .rounding import MASTER, count_step
from .state_dict import check_anchored, check_sharding, is_handed_back, is_narrowed, restore_dtypes, restore_options
from .unconstrained import MOVE_EACH_ALONE, radius_gradients

__all__ = ["ProjectedOptimizer"]

_PICKLED = ("_options", "_anchors", "_low_rank", "_rows", "_pretrained_rows", "_weights_are_elsewhere", "_begun")
"""What an optimizer is pickled with, in addition to what torch's optimizers have."""


class ProjectedOptimizer(Optimizer):
    """
    What [`FTPAdamW`], [`FTPSGD`] and [`FTP`] share: the projection around an unconstrained step.

    The state of a projected parameter `p` is in `optimizer.state[p]`, beside torch's own: `anchor_or_direction` (the
    shape of `p`; [`ProjectedTensor`] says which of the two it is), `radius` (the six values of a [`RadiusState`]), and
    for a bfloat16 parameter its float32 `master`, unless it is rounded stochastically. It is created at the first step
    for which `p` has a gradient. A [`LowRankUpdate`] has nothing but a `radius`, in the state of its first `rows`. The
    options are in `optimizer.param_groups`.
    """

    _options: dict[str, Any]
    _anchors: Mapping[str, Tensor] | None
    _low_rank: tuple[LowRankUpdate, ...]
    _rows: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    _pretrained_rows: Mapping[str, int] = MappingProxyType({})
    _is_built = False
    _weights_are_elsewhere = False
    """Whether the weights may not be where the last projection left them."""
    _begun: dict[Tensor, dict[str, Any]]
    """The states of tensors before their first step, until it is done: if that is interrupted, the weights have moved."""
    _findings: Findings | None = None

    def _set_options(self, options: ProjectionOptions) -> None:
        """Take the options, before torch's constructor adds the param groups, which need them."""
        self._options = group_options(type(self).__name__, options)
        self._begun = {}
        self._low_rank = tuple(options.get("low_rank", ()))
        self._rows = check_rows(options.get("rows", {}))
        self._pretrained_rows = check_pretrained_rows(options.get("pretrained_rows", {}))

    @torch.no_grad()
    def _set_anchors(self, anchors: Anchors | None) -> None:
        """Take the anchors, once all param groups are there, and check what takes all groups."""
        self._anchors = None if anchors is None else own_anchors(anchors, self.param_groups)
        # torch's fused optimizers unscale gradients inside their kernel and skip the step there when one overflowed. The
        # radius must read unscaled gradients and skip as well, so GradScaler has to do both (torch 2.8 to 2.13).
        self._step_supports_amp_scaling = False
        self._check_groups()
        self._is_built = True

    def _check_groups(self) -> None:
        check_names(self.param_groups, self._low_rank)
        check_patterns_match(self.param_groups, rows=self._rows, pretrained_rows=self._pretrained_rows)
        check_low_rank(self._low_rank, self.param_groups)
        if self._anchors is not None:
            if not all("param_names" in group for group in self.param_groups if group["project"]):
                raise ValueError("anchors= needs parameter names: pass model.named_parameters() as the first argument")
            validate_anchors(self._anchors, self.projected_parameters().items(), self.pretrained_rows)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """
        Add a param group. Besides torch's options it may set those of [`~ftp_hf.optim.options.GroupOptions`], and
        `project=False` to leave all of its parameters to the unconstrained optimizer.

        Args:
            param_group (`dict`): as for `torch.optim.Optimizer.add_param_group`.

        Raises:
            ValueError: an option is out of range, or a projected parameter is complex or float16, has no anchor, or has the name
                of another one; the group is not added.
            TypeError: an option is of the wrong type; the group is not added.
        """
        self._add_unconstrained_group(param_group)
        group = self.param_groups[-1]
        try:
            self._complete(group)
            # torch's constructor adds the groups one by one.
            if self._is_built:
                self._check_groups()
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def _complete(self, group: dict[str, Any]) -> None:
        """Give a group the options that it does not set, and check what takes no other group."""
        self._fill_in(group)
        check_options(group)
        check_parameters(group, self._rows, self._pretrained_rows)

    def _fill_in(self, group: dict[str, Any]) -> None:
        for option, default in self._options.items():
            group.setdefault(option, default)

    def _add_unconstrained_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)

    def fill_in(
        self,
        named_parameters: Mapping[str, Tensor],
        *,
        unprojected: Iterable[Tensor] = (),
        row_dims: Mapping[Tensor, Sequence[int]] | None = None,
        first_rows: Mapping[Tensor, int] | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> None:
        """
        Fill in what the constructor was not given: names, more exclusions, row dimensions, anchors, low-rank updates.

        Args:
            named_parameters (mapping from `str` to `Tensor`): those of the model.
            unprojected (iterable of `Tensor`, *optional*): parameters to exclude, such as new ones.
            row_dims (mapping from `Tensor` to sequence of `int`, *optional*): what counts rows, where not dimension 0.
            first_rows (mapping from `Tensor` to `int`, *optional*): how many first rows are pre-trained, where not all are.
            exclude, transposed, rows, pretrained_rows, anchors, low_rank: as for [`FTPAdamW`].

        Raises:
            ValueError: none of the optimizer's parameters is the model's; otherwise as [`FTPAdamW`]. Nothing is filled in.
            TypeError: as [`FTPAdamW`].
        """
        with unchanged_if_refused(self):
            name_unnamed_groups(self.param_groups, named_parameters)
            rows = {**self._rows, **options.get("rows", {})}
            self._rows = check_rows(rows | rows_by_name(self.param_groups, row_dims or {}, tuple(rows)))
            counts = {**self._pretrained_rows, **options.get("pretrained_rows", {})}
            counts |= by_name(self.param_groups, first_rows or {}, tuple(counts))
            self._pretrained_rows = check_pretrained_rows(counts)
            for group in self.param_groups:
                if group["project"]:
                    add_patterns(group, "exclude", options.get("exclude", ()), {*unprojected})
                    add_patterns(group, "transposed", options.get("transposed", ()))
                    check_parameters(group, self._rows, self._pretrained_rows)
            self._low_rank = self._low_rank or tuple(options.get("low_rank", ()))
            self._set_anchors(options.get("anchors") if self._anchors is None else self._anchors)

    def _load_unconstrained_state(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)

    def _unconstrained_step(self) -> None:
        step_without_hooks(self._steps_as, self)

    @property
    def _steps_as(self) -> type[Optimizer]:
        """The class whose step the unconstrained one is, if nothing else happens in it."""
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
        if self._weights_are_elsewhere:
            raise_radii(self._participants.with_state())
            self._weights_are_elsewhere = False
        count_step(self.param_groups)
        for piece in pieces_of_a_step(self.param_groups, self._participants.factors(), self._moves_each_alone):
            self._step_over(piece)

    def _step_over(self, piece: Set[Tensor]) -> None:
        with masters_of(self, piece) as masters:
            self._findings = findings(self._participants._replace(members=piece), self._findings)
            try:
                self._step_with(self._findings, masters)
            finally:
                self._findings = self._findings.between_steps()

    def _step_with(self, found: Findings, masters: Masters) -> None:
        if not found.are_kept:
            adopt_masters(self.state, masters.members)
        new = [tensor for tensor in found.tensors if not tensor.has_state]
        unknown = [tensor for tensor in new if tensor.source not in self._begun]
        self._begun |= zip((each.source for each in unknown), states_before(unknown, self._anchors), strict=True)
        learning = []
        self._weights_are_elsewhere = True
        for kernels, batch in found.learning:
            gradients, moved = radius_gradients(kernels, batch, self._steps_as)
            learning.append(PendingProjection(kernels, batch, gradients))
            masters.moved.update(moved)
        step_in_pieces(self, masters, self._unconstrained_step, self._moves_each_alone)
        # torch's optimizers create their own state where they find none, so ours has to come after it.
        new = [tensor.with_state(self.state[tensor.source]) for tensor in new]
        for tensor in new:
            tensor.state.update(self._begun.pop(tensor.source))
        starting = [PendingProjection(kernels, batch) for kernels, batch in batches(new)]
        for pending in gather_shards([*learning, *starting]):
            masters.rounded.update(pending.project())
        self._weights_are_elsewhere = False

    @property
    def _moves_each_alone(self) -> bool:
        return self._steps_as in MOVE_EACH_ALONE

    @property
    def has_stepped(self) -> bool:
        """Whether a parameter has taken a projected step, or a state was loaded of which one had."""
        return any(RADIUS in state for state in self.state.values())

    @torch.no_grad()
    def radii(self) -> dict[str, Radius]:
        """
        The learned radius of every projected parameter that has taken a step, at the cost of one transfer to the host
        per device. If parameters are sharded, every process has to call it: distances are those of the whole tensors.
        Of a Trainer, whose optimizer Accelerate hides, call `projected_optimizer(trainer.optimizer).radii()`.

        Returns:
            `dict[str, Radius]`: by parameter name; where the optimizer was given no names, by position (`"0.3"` is
            parameter 3 of group 0).
        """
        return radii_of(self._participants.with_state())

    def projected_parameters(self) -> dict[str, Tensor]:
        """
        The dense parameters that are projected: neither excluded nor in a group with `project=False`, and no factors of
        [`low_rank_updates`].

        Returns:
            `dict[str, Tensor]`: by parameter name, as for [`radii`].
        """
        return {dense.name: dense.parameter for dense in self._participants.dense()}

    @property
    def low_rank_updates(self) -> tuple[LowRankUpdate, ...]:
        """The `low_rank` updates that are projected: none of their `rows` is excluded or in a group with `project=False`."""
        return self._participants.updates()

    @property
    def pretrained_rows(self) -> dict[str, int]:
        """How many of the first rows are projected, of the [`projected_parameters`] whose other rows are not."""
        return {
            each.name: each.pretrained_rows for each in self._participants.dense() if each.pretrained_rows is not None
        }

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
            a bfloat16 parameter; a `DTensor` for a sharded one. Rows without an anchor ([`pretrained_rows`]) are as in
            the parameter.
        """
        with_state = self._participants.with_state()
        dense = (tensor.widened() for tensor in with_state if isinstance(tensor, ProjectedTensor))
        return {each.name: like(each.parameter, each.whole(each.anchor()), dtype=each.weight.dtype) for each in dense}

    @torch.no_grad()
    def otherwise_anchored(self) -> list[str]:
        """
        The dense parameters whose anchors are not those of [`external_anchors`], because a state was loaded that has others.

        Returns:
            `list[str]`: their names; none where no anchors were given.
        """
        if self._anchors is None:
            return []
        dense = [tensor for tensor in self._participants.with_state() if isinstance(tensor, ProjectedTensor)]
        return otherwise_anchored(dense, self._anchors, self.projected_parameters())

    @torch.no_grad()
    def release_weights(self) -> None:
        """
        Keep nothing in the weights. Call it before other weights are loaded into the model under an optimizer that goes
        on: the anchors of tensors at the floor go back into their buffers, and the masters of bfloat16 parameters, which
        would overwrite what is loaded, are given up (with `stochastic_rounding` there are none). Radii and moments stay, but the
        next step raises the radii to the distances from the anchors at which it finds the weights: what was loaded is not lost.
        """
        for tensor in self._participants.with_state():
            if isinstance(tensor, ProjectedTensor):
                tensor.held.copy_(tensor.anchor())
                tensor.radius_state.at_floor.zero_()
                tensor.state.pop(DIRECTION, None)
        for state in self.state.values():
            state.pop(MASTER, None)
        self._findings, self._weights_are_elsewhere, self._begun = None, True, {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Load a state dict. The radii and anchors come with it, and so do the options of the param groups, as torch's do, except for
        what is a matter of memory: `anchor_device` and `stochastic_rounding` stay as they are. Masters that were saved are where
        the next step starts from, whether it keeps them or, with float32 weights for example, not; where none were saved, it starts
        from the weights. Hooks are run as torch runs them: what one returns before loading is what is loaded, and what one changes
        after it is as it left it.

        Args:
            state_dict (`dict`): what `state_dict()` returned.

        Raises:
            ValueError: the state is that of an optimizer without projection, and no `anchors` were given: the current
                weights would silently become the anchors; it is of whole tensors, but the parameters are sharded; or it has
                one name for two parameters.
        """
        before = (self.param_groups, self.state)

        def restore(loaded: dict[str, Any]) -> None:
            try:
                check_sharding(loaded, self.param_groups)
                restore_options(self.param_groups, loaded["param_groups"], before[0])
                check_names(self.param_groups, self._low_rank)  # which torch takes from the state
                restore_dtypes(self.state, self.param_groups, loaded)
                if self._anchors is None:
                    check_anchored(self.projected_parameters(), before[1], self.param_groups, loaded)
            except (TypeError, ValueError):
                self.param_groups, self.state = before
                raise
            released = self._weights_are_elsewhere and is_handed_back(before[1], self.param_groups, loaded)
            self._weights_are_elsewhere = released or is_narrowed(self.param_groups, loaded)
            self._begun = {each: begun for each, begun in self._begun.items() if RADIUS not in self.state[each]}
            adopt_masters(self.state, {each for group in self.param_groups for each in group["params"]})

        load_between_hooks(self, state_dict, self._load_unconstrained_state, restore)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self._pickled()}

    def _pickled(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._findings = None
        self._is_built = True
        for group in self.param_groups:
            self._fill_in(group)

    @property
    def _participants(self) -> Participants:
        return Participants(self.param_groups, self.state, self._low_rank, self._rows, self._pretrained_rows)
