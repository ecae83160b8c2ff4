"""
Which dimensions count the rows of which parameters, in every architecture of transformers that can be built from its
default config without memory (on the meta device). Prints the tables of docs/rows.md; takes a few minutes.

    python benchmarks/census.py > census.md
"""

import sys
from collections import defaultdict
from collections.abc import Iterator

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from ftp_hf.pretrained import parameter_rows

KNOWN = (
    *(nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, Conv1D, nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention),
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.RNNBase),
)
"""Modules of torch, and `Conv1D`, whose parameters need no look."""


def architectures() -> Iterator[tuple[str, PreTrainedModel | None]]:
    """The base class of each architecture by name, without memory; `None` if its default config makes no model."""
    for model_type, names in MODEL_MAPPING_NAMES.items():
        for name in names if isinstance(names, (list, tuple)) else [names]:
            yield name, built(name, model_type)


def built(name: str, model_type: str) -> PreTrainedModel | None:
    """A model of the default config."""
    try:
        with torch.device("meta"):
            return getattr(transformers, name)(CONFIG_MAPPING[model_type]())
    except Exception:  # noqa: BLE001 - whatever a default config lacks, or a package
        return None


def main() -> None:
    """Print the tables."""
    transformers.logging.set_verbosity_error()
    count, failed = 0, []
    other: dict[tuple[str, ...], set[str]] = defaultdict(set)
    as_before: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, model in architectures():
        if model is None:
            failed.append(name)
            continue
        count += 1
        rows = parameter_rows(model)
        for path, module in model.named_modules():
            for key, parameter in module.named_parameters(recurse=False):
                if parameter.ndim < 2:
                    continue
                dims = rows.get(f"{path}.{key}" if path else key)
                kind = type(module).__name__
                if dims is not None:
                    other[kind, key, f"{parameter.ndim}-D", " × ".join(map(str, dims))].add(name)
                elif not isinstance(module, KNOWN) and kind != "ParametrizationList":
                    as_before[kind, key, shape_of(parameter)].add(name)
        print(f"\r{count}", end="", file=sys.stderr)
    print(f"{count} architectures were built, {len(failed)} not: {', '.join(sorted(failed))}.\n")
    print_table("Rows along other dimensions than 0", ("module", "parameter", "dimensions", "rows"), other)
    print_table(
        "Rows along dimension 0, though the module is of none of the known kinds",
        ("module", "parameter", "shape"),
        as_before,
    )


def shape_of(parameter: torch.Tensor) -> str:
    """Which of its dimensions are 1: what the size of one model says would make a line of each size."""
    return "(" + ", ".join("1" if size == 1 else "n" for size in parameter.shape) + ")"


def print_table(title: str, head: tuple[str, ...], entries: dict[tuple[str, ...], set[str]]) -> None:
    """A Markdown table with a line for each entry, modules with the same parameters together."""
    print(f"## {title}\n\n| {' | '.join(head)} | architectures |\n|{' --- |' * (len(head) + 1)}")
    lines: dict[tuple[str, ...], tuple[list[str], set[str]]] = {}
    for (module, *rest), names in sorted(entries.items()):
        modules, models = lines.setdefault(tuple(rest), ([], set()))
        modules.append(module)
        models.update(names)
    for rest, (modules, models) in sorted(lines.items()):
        shown = ", ".join(sorted(models)[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
        some = ", ".join(f"`{module}`" for module in modules[:3]) + (
            f" and {len(modules) - 3} more" if len(modules) > 3 else ""
        )
        parameter, *more = rest
        print(f"| {some} | `{parameter}` | {' | '.join(more)} | {shown} |")
    print()


if __name__ == "__main__":
    main()
