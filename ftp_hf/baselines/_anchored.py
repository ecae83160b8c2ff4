"""What the baselines share: which parameters are pre-trained, what their values were, and where a method may run."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import Tensor, nn
from torch.optim import Optimizer

from ftp_hf.adapters.find import find_adapters
from ftp_hf.common.host import Host, check_steps_after_backward, optimizer_of
from ftp_hf.common.names import matches
from ftp_hf.pretrained.origin import has_origin, new_parameters, pretrained_rows
from ftp_hf.projection.sharding import is_dtensor

__all__ = [
    "AnchoredTrainerMixin",
    "add_to_gradient",
    "check_no_closure",
    "check_no_weight_decay",
    "check_not_negative",
    "check_positive",
    "check_whole",
    "new_among_trained",
    "pairs",
    "parameters_without_anchor",
]

logger = logging.getLogger(__name__)


class AnchoredTrainerMixin(Host):
    """
    The pre-trained values of the trained parameters, taken when the Trainer is constructed, before a checkpoint to resume
    from is loaded: construct it on the pre-trained model. On a model that was fine-tuned already, the anchors are the
    fine-tuned weights. Parameters that the model's checkpoint does not hold (a new classification head) have no anchor. The
    new rows of resized embeddings have: their values at the start, which a line in the log says.

    Args:
        new (collection of `str`, *optional*, defaults to `()`): names or glob patterns of more parameters without a
            pre-trained value, where `from_pretrained` cannot tell (a model made from a config, for example).

    Raises:
        ValueError: FSDP, DeepSpeed or another strategy that splits tensors, or an optimizer that steps during the
            backward pass; a pattern matches no parameter; no trained parameter has a pre-trained value.
    """

    method_name: str

    _attached_to: Optimizer | None = None

    def __init__(self, *args: Any, new: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_whole(self.method_name, self.model, self.accelerator)
        check_steps_after_backward(self.args.optim)
        without = self._without_anchor(new)
        _log_new_rows(self.method_name, self.model)
        self.anchors = {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and name not in without
        }
        if not self.anchors:
            raise ValueError(
                f"{self.method_name} holds trained parameters to their pre-trained values, and none has one: all are new, or of "
                "an adapter. Train the model's own weights, or take FTP, which projects what an adapter adds to them"
            )

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """The optimizer of the Trainer class, with the method attached to its step."""
        optimizer = optimizer_of(self, super().create_optimizer, model)
        if getattr(self, "probing", False):  # a new head alone, which has no anchor (`ProbeFirstMixin`)
            return optimizer
        inner = optimizer
        while isinstance(inner, AcceleratedOptimizer):
            inner = inner.optimizer
        if inner is not self._attached_to:  # a second `train()` finds the optimizer of the first
            trained = {parameter for group in inner.param_groups for parameter in group["params"]}
            named = (self.model if model is None else model).named_parameters()
            self._attach(inner, {name: parameter for name, parameter in named if parameter in trained})
            self._attached_to = inner
        return optimizer

    def _without_anchor(self, new: Collection[str]) -> set[str]:
        return parameters_without_anchor(self.model, new)

    def _attach(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
        raise NotImplementedError


def pairs(parameters: Mapping[str, nn.Parameter], anchors: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    """
    The parameters that have an anchor, each with its own, on the parameter's device.

    Raises:
        ValueError: an anchor is of another shape.
    """
    for name, parameter in parameters.items():
        if name in anchors and anchors[name].shape != parameter.shape:
            raise ValueError(
                f"the anchor of {name} has the shape {tuple(anchors[name].shape)}, the parameter "
                f"{tuple(parameter.shape)}: take the anchors from the pre-trained model itself"
            )
    return [(p, anchors[name].to(p.device)) for name, p in parameters.items() if name in anchors]


def parameters_without_anchor(model: nn.Module, patterns: Collection[str] = ()) -> set[str]:
    """
    The parameters without a pre-trained value: those that [`~ftp_hf.pretrained.new_parameters`] finds, and those that
    are named.

    Raises:
        TypeError: `patterns` is a single string.
        ValueError: a pattern matches no parameter.
    """
    if isinstance(patterns, str):
        raise TypeError(
            f"new must be a collection of names or glob patterns, got {patterns!r}: write new=({patterns!r},)"
        )
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(matches(name, (pattern,)) for name in names):
            raise ValueError(f"new: {pattern!r} matches no parameter. Name one ({names[-1]!r}) or use a glob pattern")
    found = new_parameters(model) if has_origin(model) or not patterns else set()
    return found | {name for name in names if matches(name, tuple(patterns))}


def new_among_trained(model: nn.Module, patterns: Collection[str] = ()) -> set[str]:
    """
    The trained parameters without a pre-trained value, as [`parameters_without_anchor`], for methods to which the parameters
    of adapters are not new: with them a model starts at the pre-trained function.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    unknown = parameters_without_anchor(model, patterns)
    named = {name for name in trained if matches(name, tuple(patterns))}
    return {*find_adapters(model, "factors").new(trained, unknown)} | named


def _log_new_rows(method: str, model: nn.Module) -> None:
    rows = pretrained_rows(model)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    new = [name for name, count in rows.items() if name in named and count < named[name].shape[0]]
    if new:
        logger.warning(
            "%s holds the new rows of %s near their first values, as if they were pre-trained", method, ", ".join(new)
        )


def check_whole(method: str, model: nn.Module, accelerator: Any) -> None:
    """Raise if a process would not hold whole parameters, from which the method computes norms and distances."""
    kind = accelerator.distributed_type
    asked = [name for name in ("FSDP", "DEEPSPEED") if parse_flag_from_env(f"ACCELERATE_USE_{name}")]
    split = any(map(is_dtensor, model.parameters()))
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM) or asked or split:
        strategy = asked[0] if asked else "tensor parallelism" if split else kind.value
        raise ValueError(
            f"{method} needs whole parameters on every process, which {strategy} splits: train on one process or with DDP"
        )


def check_not_negative(name: str, value: float) -> None:
    """Raise if a strength is not a finite number from 0 on."""
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and not negative, got {value!r}; 0 leaves the optimizer as it is")


def check_positive(name: str, value: float) -> None:
    """Raise if an option is not a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")


def check_no_weight_decay(method: str, optimizer: Optimizer) -> None:
    """Raise if the optimizer also pulls the weights to zero, where the method replaces weight decay."""
    if any(group.get("weight_decay", 0.0) for group in optimizer.param_groups):
        raise ValueError(f"{method} takes the place of weight decay, which pulls to zero as well: set weight_decay=0.0")


def check_no_closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise in a hook before the step if the gradients are to be computed only within it."""
    if any(argument is not None for argument in (*args[1:], *kwargs.values())):
        raise ValueError("step(closure) computes the gradients too late: call backward() first, and step() without one")


def add_to_gradient(parameter: nn.Parameter, gradient: Tensor, scale: Tensor | None) -> None:
    """Add a penalty's gradient to that of the loss, which is scaled where a fused optimizer is handed a scale."""
    if scale is not None:
        gradient.mul_(scale)
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad.add_(gradient)
