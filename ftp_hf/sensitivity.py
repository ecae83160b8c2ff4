"""How strongly a model, and each of its layers, answers small changes of real inputs.

The figures of [`~ftp_hf.distance`] are bounds for any input; these are measured on a sample. Every input is changed by
`± ε` in each component (random signs, which is as far as one can go within `ε` in the ∞-norm), in pixels or in word
embeddings, and followed through the fine-tuned and the pre-trained model.

How an owner reads these figures:

- `fine_tuned` and `pretrained` are the largest `‖Δoutput‖∞ / ‖Δinput‖∞` that were met, of a layer or of all of the body
  (its last hidden states). A fine-tuned model that answers several times as strongly as the pre-trained one did has
  become nervous: noise that used to pass unnoticed now reaches the head. About equal is what one hopes for.
- `difference` is the same of what fine-tuning added to a layer, `h − h0`, at the fine-tuned model's own inputs. It is
  never above `bound`, which holds for all inputs. Far below it means that the bound is pessimistic on such data, near
  it that the inputs already go where the layer was changed most.
- The largest ratio is decided by one component of one input: a single steep channel is enough. Where activations have a
  ceiling it ends there: MobileNetV2's last one is a ReLU6, so that a channel that opens fully answers 6, and 6 / `ε` is
  what every such model gives, whatever its other channels do. Read orders of magnitude, and go by the next ones.
- `typical_fine_tuned` and `typical_pretrained` are medians over the inputs of `rms(Δoutput) / rms(Δinput)`, root mean
  squares over all components of the body's output: they rise and fall with all of its channels, and no ceiling of a few
  of them holds them.
- All of them are *lower* bounds of the local Lipschitz constants: other inputs or directions, adversarial ones above
  all, can be answered more strongly. They compare models on the same sample and seed; they certify nothing.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ftp_hf.common.modes import evaluation_mode
from ftp_hf.common.names import canonical_name
from ftp_hf.pretrained.origin import has_adapters
from ftp_hf.pretrained.parts import outermost_models

from .distance import LINEAR_LAYERS, parameter_distance

__all__ = ["LayerSensitivity", "ModelSensitivity", "model_sensitivity"]


@dataclass(frozen=True)
class LayerSensitivity:
    """
    The largest ratios `‖Δoutput‖∞ / ‖Δinput‖∞` that were met in one linear layer; 0 where no change of the model's input
    reaches that of the layer, as where a decoder has read nothing but tokens.

    Args:
        name (`str`): of the layer in the fine-tuned model, without wrapper prefixes.
        fine_tuned (`float`): of `h`, the fine-tuned layer.
        pretrained (`float`): of `h0`, the pre-trained layer, in the pre-trained model.
        difference (`float`): of `h − h0`, on the inputs of `h`.
        bound (`float`): `max_row ‖W − W0‖₁`, which `difference` cannot exceed.
    """

    name: str
    fine_tuned: float
    pretrained: float
    difference: float
    bound: float


@dataclass(frozen=True)
class ModelSensitivity:
    """
    The largest ratios `‖Δoutput‖∞ / ‖Δinput‖∞` that were met, and typical ones.

    Args:
        fine_tuned (`float`): from the input of the fine-tuned body to its last hidden states.
        pretrained (`float`): the same of the pre-trained body.
        layers (`tuple[LayerSensitivity, ...]`): the layers that both bodies have, in the order of the model.
        typical_fine_tuned (`float`): the median over all changed inputs of `rms(Δoutput) / rms(Δinput)`, from the input of
            the fine-tuned body to its last hidden states.
        typical_pretrained (`float`): the same of the pre-trained body.
    """

    fine_tuned: float
    pretrained: float
    layers: tuple[LayerSensitivity, ...]
    typical_fine_tuned: float
    typical_pretrained: float


def model_sensitivity(
    model: nn.Module,
    pretrained: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    size: float = 0.01,
    perturbations: int = 4,
    seed: int = 0,
    before: ModelSensitivity | None = None,
) -> ModelSensitivity:
    """
    Measure the sensitivity of a fine-tuned model beside that of the pre-trained one. Heads are left out: the
    pre-trained model has none, or another one.

    Args:
        model (`PreTrainedModel` or `SentenceTransformer`): the fine-tuned model, in float32 or float64.
        pretrained (`PreTrainedModel`): the pre-trained one, with or without a head; of the same body.
        batches (iterable of mappings): what the models are called with. Labels are ignored, except for what the decoder
            of a model with an encoder has written before each of them; and padding counts like any other input: batches of
            one length have none. They are kept in memory.
        size (`float`, *optional*, defaults to 0.01): `ε` as a share of the inputs' root mean square.
        perturbations (`int`, *optional*, defaults to 4): how many changes of each input are tried.
        seed (`int`, *optional*, defaults to 0): of the signs.
        before ([`ModelSensitivity`], *optional*): of another model that was fine-tuned from the same one, on the same batches
            and changes: what it says of the pre-trained one is not measured again.

    Returns:
        [`ModelSensitivity`]

    Raises:
        TypeError: one of them is no model of transformers.
        ValueError: the models are in 16 bits, where small changes drown in rounding; `batches` is empty or lacks the
            model's input; the bodies have no linear layer in common; a model has
            diverged; `size` or `perturbations` is not positive.
    """
    batches = list(batches)
    if not batches:
        raise ValueError("batches is empty: pass at least one batch of inputs")
    if not (size > 0 and perturbations >= 1):
        raise ValueError(f"size must be positive and perturbations at least 1, got {size!r} and {perturbations!r}")
    body, pretrained_body = _body(model, "model"), _body(pretrained, "pretrained")
    fine_tuned, counterparts = _counterparts(body, pretrained_body, perturbations)
    if not fine_tuned:
        raise ValueError(
            "model and pretrained have no linear layer of the same name and shape in common. Pass the model that was "
            "fine-tuned and the one that it was loaded from"
        )
    whole, typical = _ratios(body, fine_tuned, batches, size, perturbations, seed)
    names = {layer: canonical_name(name) for name, layer in model.named_modules()}
    called = [(watched, other) for watched, other in zip(fine_tuned, counterparts, strict=True) if watched.called]
    known = {} if before is None else {layer.name: layer.pretrained for layer in before.layers}
    if before is not None and all(names[watched.layer] in known for watched, _ in called):
        pretrained_whole, pretrained_typical = before.pretrained, before.typical_pretrained
    else:
        pretrained_whole, pretrained_typical = _ratios(
            pretrained_body, counterparts, batches, size, perturbations, seed
        )
        known = {names[watched.layer]: other.ratio for watched, other in called}
    layers = tuple(
        LayerSensitivity(
            names[watched.layer],
            watched.ratio,
            known[names[watched.layer]],
            watched.difference_ratio,
            bound=_bound(watched.layer, other.layer),
        )
        for watched, other in called
    )
    return ModelSensitivity(whole, pretrained_whole, layers, typical, pretrained_typical)


def _body(model: nn.Module, role: str) -> PreTrainedModel:
    body = getattr(model, "base_model", model)
    if not (isinstance(body, PreTrainedModel) or has_adapters(model)):
        # Of sentence-transformers: one of its modules holds it.
        body = next((part.base_model for _, part in outermost_models(model)), body)
    if body is model and not hasattr(body, "decoder") and isinstance(getattr(body, "encoder", None), PreTrainedModel):
        body = body.encoder  # WhisperForAudioClassification, which no prefix leads into
    if not isinstance(body, PreTrainedModel):
        raise TypeError(
            f"{role} must be a model of transformers, got {type(model).__name__}; merge adapters into theirs before "
            "(merge_and_unload())"
        )
    if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in body.parameters()):
        raise ValueError(f"{role} is in 16 bits, in which small changes drown: load it with dtype=torch.float32")
    return body


class _Watched:
    """
    A layer, and the largest ratios that were met in it. It is the layer's forward hook, in a model that sees each batch and the
    changed batches one after the other.

    Args:
        changes (`int`): how many changed batches there are.
        pretrained (`nn.Module`, *optional*): the layer to compare it with.
    """

    def __init__(self, layer: Any, changes: int, pretrained: Any = None) -> None:
        self.layer, self.changes = layer, changes
        self.called = False
        self.ratio = self.difference_ratio = 0.0
        # (W − W0) Δx, and not the difference of four outputs, whose rounding errors can be larger than it.
        self.difference = None if pretrained is None else _difference(layer, pretrained)

    def __call__(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if args[0].shape[0] % (1 + self.changes):
            return  # no batch, but what is the same for all of it, such as a table of positions
        self.called = True
        change = _change(args[0], self.changes)
        self.ratio = max(self.ratio, _ratio(self._rows(_change(output, self.changes)), self._rows(change)))
        if self.difference is not None:
            answer = self._rows(self.difference(change))
            self.difference_ratio = max(self.difference_ratio, _ratio(answer, self._rows(change)))

    def _rows(self, x: Tensor) -> Tensor:
        """What the layer maps one by one: whole samples of a convolution, positions of the others."""
        return x.flatten(0, -2) if isinstance(self.layer, nn.Linear | Conv1D) else x.flatten(1)


@torch.no_grad()
def _difference(layer: Any, pretrained: Any) -> Any:
    """`h − h0` without its bias, which is the same for all inputs."""
    difference = copy.deepcopy(layer)
    difference.weight.sub_(pretrained.weight.to(difference.weight))
    if difference.bias is not None:
        difference.bias.zero_()
    return difference


def _bound(layer: Any, pretrained: Any) -> float:
    return parameter_distance("", layer.weight, pretrained.weight, int(isinstance(layer, Conv1D))).row_norm


def _counterparts(body: nn.Module, pretrained_body: nn.Module, changes: int) -> tuple[list[_Watched], list[_Watched]]:
    """The linear layers that both bodies have under one name and in one shape."""
    layers = {name: layer for name, layer in pretrained_body.named_modules() if isinstance(layer, LINEAR_LAYERS)}
    pairs = [
        (layer, layers[name])
        for name, layer in body.named_modules()
        if name in layers and type(layer) is type(layers[name]) and layer.weight.shape == layers[name].weight.shape
    ]
    return [_Watched(layer, changes, before) for layer, before in pairs], [
        _Watched(before, changes) for _, before in pairs
    ]


@torch.no_grad()
def _ratios(
    body: PreTrainedModel,
    layers: Iterable[_Watched],
    batches: Iterable[Mapping[str, Tensor]],
    size: float,
    perturbations: int,
    seed: int,
) -> tuple[float, float]:
    """The largest and the typical ratio of the whole body; those of its layers are kept by themselves."""
    largest, typical = 0.0, []
    generator = torch.Generator().manual_seed(seed)
    with _watching(body, layers):
        for batch in batches:
            name, inputs, others = _inputs(body, batch, 1 + perturbations)
            signs = [
                torch.randint(2, inputs.shape, generator=generator).to(inputs) * 2 - 1 for _ in range(perturbations)
            ]
            step = size * inputs.square().mean().sqrt()
            given = torch.cat([inputs, *(inputs + step * sign for sign in signs)])
            hidden = body(**{name: given}, **others)[0]
            if not hidden.isfinite().all():
                raise ValueError(f"{type(body).__name__} answers with NaN or infinite values: it has diverged")
            answer, change = (_change(values, perturbations).flatten(1) for values in (hidden, given))
            largest = max(largest, _ratio(answer, change))
            typical.append(_rms(answer) / _rms(change))
    return largest, torch.cat(typical).median().item()


def _inputs(body: PreTrainedModel, batch: Mapping[str, Tensor], times: int) -> tuple[str, Tensor, dict[str, Tensor]]:
    """The name of the input that is changed, its values, and all other inputs so many times."""
    given = {key: value.to(body.device) for key, value in batch.items() if key not in {"label", "labels"}}
    name = body.main_input_name
    if name == "input_ids":
        if name in given:
            given["inputs_embeds"] = body.get_input_embeddings()(given.pop(name))
        name = "inputs_embeds"
    if name not in given:
        raise ValueError(f"batches lack {body.main_input_name!r}, the model's input; they have {', '.join(batch)}")
    inputs = given.pop(name)
    labels = batch.get("labels")
    has_decoder = getattr(body.config, "is_encoder_decoder", False) and hasattr(body, "decoder")
    if has_decoder and "decoder_input_ids" not in given and labels is not None and labels.ndim == inputs.ndim - 1:
        given["decoder_input_ids"] = _written_before(body, labels.to(body.device))
    return name, inputs, {key: torch.cat([value] * times) for key, value in given.items()}


def _written_before(body: PreTrainedModel, labels: Tensor) -> Tensor:
    """What the decoder reads as it writes each of the labels: the start, and those before."""
    start, padding = body.config.decoder_start_token_id, body.config.pad_token_id
    return torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1).masked_fill_(labels < 0, padding)


@contextmanager
def _watching(body: nn.Module, layers: Iterable[_Watched]) -> Iterator[None]:
    """Evaluation mode and hooks; both are undone."""
    hooks = [watched.layer.register_forward_hook(watched) for watched in layers]
    try:
        with evaluation_mode(body):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _change(values: Tensor, changes: int) -> Tensor:
    before, *changed = values.chunk(1 + changes)
    return torch.cat([after - before for after in changed])


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(dim=1).sqrt()


def _ratio(outputs: Tensor, inputs: Tensor) -> float:
    """The largest `‖Δoutput‖∞ / ‖Δinput‖∞` of the rows whose input changed."""
    change = inputs.abs().amax(dim=1)
    ratios = outputs.abs().amax(dim=1)[change > 0] / change[change > 0]
    return ratios.max().item() if ratios.numel() else 0.0
