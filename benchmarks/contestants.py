"""The optimizers that are compared, and the parameter lists of real models to compare them on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple
from unittest.mock import patch

import torch
from measure import Timed
from published import PublishedFTP
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from ftp_hf import FTPAdamW, ProjectedOptimizer
from ftp_hf.projection import RADIUS_FLOOR

Shapes = dict[str, tuple[int, ...]]

LEARNING_RATE = 1e-4
BASELINE = "adamw_fused"


def _vit(width: int, layers: int, heads: int) -> PreTrainedModel:
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            num_labels=1000,
        )
    )


def _llama() -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000,
            hidden_size=2048,
            intermediate_size=5632,
            num_hidden_layers=22,
            num_attention_heads=32,
            num_key_value_heads=4,
        )
    )


_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "vit_s": partial(_vit, 384, 12, 6),
    "vit_b": partial(_vit, 768, 12, 12),
    "vit_l": partial(_vit, 1024, 24, 16),
    "bert_base": lambda: BertModel(BertConfig()),
    "llama_1b": _llama,
}
MODELS = tuple(_MODELS)


def build(model: str) -> PreTrainedModel:
    """One of `MODELS`, with random weights."""
    return _MODELS[model]()


def shapes(model: str) -> Shapes:
    """The parameters of one of `MODELS`, by name."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in _MODELS[model]().named_parameters()}


def elements(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


class Contestant(NamedTuple):
    """An optimizer and the weights it trains."""

    optimizer: Callable[..., Optimizer]
    title: str
    dtype: torch.dtype = torch.float32
    """Of weights and gradients."""
    rounded: bool = False
    """Whether the first weights are exact in bfloat16, as those of a bfloat16 checkpoint."""
    fallback: bool = False
    """Whether torch's eager operations stand in for the fast kernels."""


_FTP = partial(FTPAdamW, fused=True)

CONTESTANTS = {
    BASELINE: Contestant(partial(AdamW, fused=True, weight_decay=0.0), "AdamW fused"),
    "adamw_bf16_weights": Contestant(
        partial(AdamW, fused=True, weight_decay=0.0), "AdamW fused, bfloat16 weights", dtype=torch.bfloat16
    ),
    "adamw_foreach": Contestant(partial(AdamW, foreach=True, weight_decay=0.0), "AdamW foreach"),
    "adamw_loop": Contestant(partial(AdamW, foreach=False, weight_decay=0.0), "AdamW loop"),
    "ftp": Contestant(_FTP, "FTPAdamW"),
    "ftp_bf16_anchors": Contestant(_FTP, "FTPAdamW, bfloat16 anchors", rounded=True),
    "ftp_bf16_weights": Contestant(_FTP, "FTPAdamW, bfloat16 weights", dtype=torch.bfloat16),
    "ftp_without_masters": Contestant(
        partial(_FTP, stochastic_rounding=True), "FTPAdamW, bfloat16 weights without masters", dtype=torch.bfloat16
    ),
    "ftp_host_anchors": Contestant(partial(_FTP, anchor_device="cpu"), "FTPAdamW, anchors in host memory"),
    "ftp_fallback": Contestant(_FTP, "FTPAdamW without kernels", fallback=True),
    "published": Contestant(PublishedFTP, "FTP as published"),
}


def default_contestants(device: str) -> list[str]:
    """All of them; on the CPU without the one that keeps anchors in host memory, where they are anyway."""
    on_cpu = torch.device(device).type == "cpu"
    return [name for name in CONTESTANTS if not (on_cpu and name == "ftp_host_anchors")]


class Training:
    """
    A contestant with parameters of given shapes, which takes steps along prepared gradients.

    Args:
        contestant (`Contestant`)
        shapes (`Shapes`): parameters by name, drawn from a normal distribution of standard deviation 0.02.
        gradients (`Gradients`): shared by the contestants of a comparison.
        seed (`int`, *optional*, defaults to 0): of the weights.
    """

    def __init__(self, contestant: Contestant, shapes: Shapes, gradients: "Gradients", seed: int = 0) -> None:
        generator = torch.Generator(gradients.device).manual_seed(seed)
        self.contestant = contestant
        self.parameters: list[Parameter] = []
        for shape in shapes.values():
            weight = 0.02 * torch.randn(shape, generator=generator, device=gradients.device)
            if contestant.rounded:
                weight = weight.bfloat16().float()
            self.parameters.append(Parameter(weight.to(contestant.dtype)))
        self.elements = elements(shapes)
        self.optimizer = contestant.optimizer(zip(shapes, self.parameters, strict=True), lr=LEARNING_RATE)
        self._gradients = gradients.of(contestant.dtype)

    def prepare(self, number: int) -> None:
        """Put the gradients of step `number` in place."""
        for parameter, gradient in zip(self.parameters, self._gradients[number % len(self._gradients)], strict=True):
            parameter.grad = gradient

    def step(self) -> None:
        """One step of the optimizer."""
        with eager_kernels_only() if self.contestant.fallback else ExitStack():
            self.optimizer.step()

    def timed(self) -> Timed:
        return Timed(self.step, self.prepare)

    def bytes_per_parameter(self) -> float:
        """Of weights, gradients and optimizer state at rest, on their device; tensors that share memory count once."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        tensors = [*self.parameters, *(p.grad for p in self.parameters), *states]
        here = (tensor for tensor in tensors if isinstance(tensor, Tensor) and tensor.device == tensors[0].device)
        storages = (tensor.untyped_storage() for tensor in here)
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()) / self.elements

    def binding(self) -> dict[str, float]:
        """The shares of the weights that the last step projected, and whose radius is at its floor."""
        if not isinstance(self.optimizer, ProjectedOptimizer):
            return {}
        sizes = {name: parameter.numel() for name, parameter in self.optimizer.projected_parameters().items()}
        radii = self.optimizer.radii().items()
        return {
            "on_boundary": sum(radius.on_boundary * sizes[name] for name, radius in radii) / self.elements,
            "at_floor": sum(sizes[name] for name, radius in radii if radius.radius <= RADIUS_FLOOR) / self.elements,
        }


class Gradients:
    """
    Prepared gradients for parameters of the given shapes: a drift, strong in a few rows and weak in most, with noise
    added in one set and subtracted in the next. Rows with enough drift run into their radius, the others do not.
    """

    def __init__(self, shapes: Shapes, device: str, seed: int = 0, sets: int = 2) -> None:
        generator = torch.Generator(device).manual_seed(seed + 1)
        self.device = device
        self._sets: dict[torch.dtype, list[list[Tensor]]] = {torch.float32: [[] for _ in range(sets)]}
        for shape in shapes.values():
            strength = torch.rand([*shape[:1], *[1] * (len(shape) - 1)], generator=generator, device=device) ** 4
            drift, noise = (1e-3 * torch.randn(shape, generator=generator, device=device) for _ in range(2))
            for number, gradients in enumerate(self._sets[torch.float32]):
                gradients.append((strength * drift).add_(noise, alpha=0.2 * (-1) ** number))

    def of(self, dtype: torch.dtype) -> list[list[Tensor]]:
        """The sets, rounded to a dtype."""
        if dtype not in self._sets:
            self._sets[dtype] = [[g.to(dtype) for g in gradients] for gradients in self._sets[torch.float32]]
        return self._sets[dtype]


@contextmanager
def eager_kernels_only() -> Iterator[None]:
    """While it is open, the fast kernels of `ftp_hf` take no tensor."""
    names = ["cpu", *(["cuda"] if find_spec("triton") else [])]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(
                patch.object(import_module(f"ftp_hf.projection.kernels.{name}"), "takes", lambda _: False)
            )
        yield
