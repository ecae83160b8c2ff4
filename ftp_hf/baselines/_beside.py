"""The pre-trained model beside the one that is trained, for methods that hold on to what it answers."""

import copy
import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ftp_hf.adapters.find import find_adapters
from ftp_hf.adapters.products import product_taken_out
from ftp_hf.common.host import Host
from ftp_hf.common.modes import evaluation_mode
from ftp_hf.common.replaced import replaced
from ftp_hf.pretrained.origin import has_adapters

from ._anchored import check_whole, parameters_without_anchor

__all__ = ["Call", "PretrainedBesideMixin", "adapters_off", "base_of", "frozen_copy", "recorded"]


class Call(NamedTuple):
    """What a module was called with, and what it returned."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any


@contextmanager
def recorded(module: nn.Module, **asked: Any) -> Iterator[list[Call]]:
    """The calls of a module within the block; `asked` is more keywords that it is called with."""
    calls: list[Call] = []
    # Not a hook, because sentence-transformers calls `forward` itself.
    forward = module.forward

    @functools.wraps(forward)
    def record(*args: Any, **kwargs: Any) -> Any:
        given = {**kwargs, **asked}
        outputs = forward(*args, **given)
        calls.append(Call(args, given, outputs))
        return outputs

    with replaced(module, forward=record):
        yield calls


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy of a model that is not trained, in evaluation mode."""
    copied = copy.deepcopy(model)
    # TRL puts a `forward` on its models that calls that of the model it was made for, also from the copy.
    copied.__dict__.pop("forward", None)
    return copied.requires_grad_(False).eval()


@contextmanager
def adapters_off(model: Any) -> Iterator[nn.Module]:
    """
    Within the block, a model of PEFT is the one that its adapters were put on, in evaluation mode. Afterwards the same
    parameters are trained as before.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        with evaluation_mode(model), model.disable_adapter():
            yield model
    finally:
        # PEFT has all parameters of the active adapters trained now.
        model.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


class PretrainedBesideMixin(Host):
    """
    The model that the Trainer is constructed with, as it is then: a frozen copy of it, or, with adapters of PEFT, the model
    itself with its adapters off, which takes no memory. It is in evaluation mode and has no gradients, each process has its
    own, and it is not in checkpoints: construct the Trainer on the pre-trained model, also to resume.

    Args:
        new (collection of `str`, *optional*, defaults to `()`): names or glob patterns of more parameters without a
            pre-trained value, where `from_pretrained` cannot tell (a model made from a config, for example).

    Raises:
        ValueError: FSDP, DeepSpeed or another strategy that splits tensors; `torch_compile`; several GPUs in one process;
            adapters that are not a `PeftModel`'s, without which the model is not the pre-trained one, or beside which its
            own weights are trained; a pattern matches no parameter.
    """

    method_name: str

    def __init__(self, *args: Any, new: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = self.method_name
        check_whole(name, self.model, self.accelerator)
        if self.args.torch_compile:
            raise ValueError(f"{name} looks into the model while it runs: set torch_compile=False")
        if self.args.n_gpu > 1:
            raise ValueError(f"{name} needs a process for each GPU: start with torchrun, or set CUDA_VISIBLE_DEVICES")
        self.new = _new(name, self.model, new)
        self._frozen = None if has_adapters(self.model) else frozen_copy(self.looked_at(self.model))

    def looked_at(self, model: nn.Module) -> nn.Module:
        """The part of a model that the method compares, by default all of it: nothing else is kept."""
        return model

    @contextmanager
    def pretrained(self, inputs: Mapping[str, Any]) -> Iterator[nn.Module]:
        """
        What is looked at of the pre-trained model, for a call within the block, in the precision of the training and without
        gradients. The Trainer may have to prepare the model for the inputs (`forward_context`).
        """
        prepared: Any = getattr(self, "forward_context", _no_context)
        inner = self.accelerator.unwrap_model(self.model)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(self.accelerator.autocast())
            model = self._frozen
            if model is None:
                model = self.looked_at(stack.enter_context(adapters_off(inner)))
            stack.enter_context(prepared(model, inputs))
            yield model

    def share(
        self, total: Tensor, count: Tensor | int, num_items_in_batch: Tensor | int | None, *, of_items: bool = True
    ) -> Tensor:
        """
        What a sum over a batch adds to the loss that `compute_loss` returns, so that the step is one of the mean over all
        batches that are accumulated, and over all processes: as losses themselves are handled.

        Args:
            total (`Tensor`): the sum (0-D).
            count (`int` or `Tensor`): of how many items.
            num_items_in_batch (`int` or `Tensor`, *optional*): of `compute_loss`: the items of all of these batches.
            of_items (`bool`, *optional*, defaults to `True`): whether these are what is summed over. If not, batches weigh
                alike.
        """
        scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if scaled is None:
            by_model = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            scaled = by_model or self.compute_loss_func is not None
        mean = total / torch.as_tensor(count).clamp(min=1)
        if not scaled:
            return mean  # `training_step` divides it by the number of batches
        if num_items_in_batch is None or not of_items:
            return mean / self.current_gradient_accumulation_steps
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return total * processes / num_items_in_batch


def base_of(model: Any) -> Any:
    """A model, without what PEFT puts around it."""
    return model.get_base_model() if hasattr(model, "disable_adapter") else model


def _no_context(model: nn.Module, inputs: Mapping[str, Any]) -> AbstractContextManager[None]:  # noqa: ARG001
    return nullcontext()


def _new(method: str, model: Any, patterns: Collection[str]) -> set[str]:
    without = parameters_without_anchor(model, patterns)
    if not has_adapters(model):
        return without
    if not hasattr(model, "disable_adapter"):
        raise ValueError(f"{method} switches adapters off, which it can with those of get_peft_model: use that")
    if taken := product_taken_out(model):
        raise ValueError(
            f"{method}: without its adapters the model is not the pre-trained one, because init_lora_weights="
            f"{taken!r} took a product out of its weights: use True, or call ftp_hf.adapters.restore_base_weights(model)"
        )
    adapters = find_adapters(model, "none")
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if own := trained.keys() - adapters.twin_of.keys():
        raise ValueError(
            f"{method}: without its adapters the model is not the pre-trained one, because {min(own)} is trained beside "
            "them: freeze it, or name it in modules_to_save"
        )
    return set(adapters.new(trained, without))
