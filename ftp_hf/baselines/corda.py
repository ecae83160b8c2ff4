"""CorDA: adapters that start where the pre-trained model uses its weights least (Yang et al., NeurIPS 2024, arXiv 2406.05223)."""

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ftp_hf.common.modes import evaluation_mode

from .adapters import targeted_layers

__all__ = ["attach_corda", "save_as_lora"]


def attach_corda(model: nn.Module, options: Mapping[str, Any], run: Callable[[nn.Module], None]) -> Any:
    """
    Give a model the adapters of CorDA in its knowledge-preserving mode, as PEFT makes them (`corda_method="kpm"`).

    With C the covariance of a layer's inputs, `W C = U Σ Vᵀ`. The r components with the smallest singular values become the
    adapter, `B A = U_r Σ_r V_rᵀ C⁻¹`, which is taken out of W; the others are frozen: they are what these inputs need.
    Here C is collected from all inputs of a layer that `run` has seen, each scaled to a largest entry of 1, as in the
    paper's code and in PEFT, which collects it only from samples that are given one by one to layers with inputs of tokens.

    Because the base weights are changed, the trained adapter fits no other copy of the model: [`save_as_lora`] writes one
    that does. Weight decay would pull what was taken out to zero: train without it.

    Args:
        model (`nn.Module`): to be adapted, in place.
        options (mapping): arguments of `peft.LoraConfig`.
        run (callable): runs the model, which it is given in evaluation mode, on samples of what is to be kept, without
            padding. The paper takes questions of the kind whose answers are to be remembered; PEFT calls 256 samples of 2,048
            tokens enough for 4,096 features.

    Returns:
        `PeftModel`

    Raises:
        ValueError: the samples do not reach a layer, or an option does not go with it.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict  # noqa: PLC0415
    from peft.tuners.lora.config import CordaConfig  # noqa: PLC0415
    from peft.tuners.lora.corda import preprocess_corda  # noqa: PLC0415

    if options.get("use_dora"):
        raise ValueError("use_dora: the adapter of CorDA cannot be written as DoRA: leave it out")
    layers, rank = targeted_layers(model, options), options.get("r", 8)
    if small := [name for name in layers if min(cast("Tensor", model.get_submodule(name).weight).shape) < rank]:
        raise ValueError(
            f"{', '.join(small)}: fewer in- or outputs than the rank {rank}: lower r, or leave it out of target_modules"
        )
    with _collecting({name: model.get_submodule(name) for name in layers}) as covariances, torch.no_grad():
        with evaluation_mode(model):
            run(model)
        if unseen := [name for name in layers if name not in covariances]:
            raise ValueError(f"the samples never reach {', '.join(unseen)}: leave it out of target_modules")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "covariances.pt")
        torch.save(covariances, file)
        corda = CordaConfig(corda_method="kpm", covariance_file=file)
        config = LoraConfig(
            **{
                **options,
                "target_modules": layers,
                "init_lora_weights": "corda",
                "corda_config": corda,
            }
        )
        preprocess_corda(model, config)
        adapted: Any = get_peft_model(model, config)
    corda.covariance_file = None  # it would be saved with each checkpoint
    adapted.taken_out = {
        name: factor.detach().clone() for name, factor in get_peft_model_state_dict(adapted).items() if ".lora_" in name
    }
    return adapted


def save_as_lora(model: Any, folder: Path) -> None:
    """
    Save a trained adapter of [`attach_corda`] as the LoRA of twice its rank that does the same to the pre-trained weights:
    `B A − B₀ A₀ = [B, −B₀] [A; A₀]`. Modules that are trained themselves, such as a new head, are saved with it, which PEFT's
    own conversion loses.

    Args:
        model (`PeftModel`): trained.
        folder (`Path`): where `PeftModel.from_pretrained` is to find it.
    """
    from peft import get_peft_model_state_dict  # noqa: PLC0415
    from peft.utils import SAFETENSORS_WEIGHTS_NAME  # noqa: PLC0415

    state = dict(get_peft_model_state_dict(model))
    for name, before in model.taken_out.items():
        after = state[name]
        of_rows = ".lora_A." in name
        state[name] = torch.cat([after, (before if of_rows else -before).to(after)], dim=0 if of_rows else 1)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / SAFETENSORS_WEIGHTS_NAME)
    config = copy.deepcopy(model.peft_config[model.active_adapter])
    config.init_lora_weights, config.corda_config, config.inference_mode = True, None, True
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2
    config.r *= 2
    for pattern in (config.rank_pattern, config.alpha_pattern):
        pattern.update({name: 2 * value for name, value in pattern.items()})
    config.save_pretrained(str(folder))


@contextmanager
def _collecting(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The mean of `Xᵀ X` over the inputs X (positions × features) that each layer gets within the block, by its name."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(layers, 0)

    def collect(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            positions = inputs[0].detach().flatten(end_dim=-2).float()
            positions = positions / positions.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
            counts[name] += 1
            covariance = positions.T @ positions
            sums[name] = sums[name].lerp(covariance, 1 / counts[name]) if name in sums else covariance

        return hook

    handles = [layer.register_forward_pre_hook(collect(name)) for name, layer in layers.items()]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()
