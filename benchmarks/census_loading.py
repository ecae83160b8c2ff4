"""
Which architectures of transformers merge, split or rename tensors on loading, and whether `CheckpointAnchors` and
`load_weights` give back exactly what was saved. Each class that can be built small is saved and loaded three ways.
Prints the tables of docs/loading.md. What is known of a class is kept in a file, so that a run goes on where one ended.

    nice python benchmarks/census_loading.py > census.md              # all of them: half an hour
    python benchmarks/census_loading.py --only MixtralModel ViTModel  # some
    python benchmarks/census_loading.py --limit 0                     # the tables of what is known
"""

import copy
import gc
import json
import signal
import sys
import tempfile
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ftp_hf.pretrained import CheckpointAnchors, load_weights
from ftp_hf.pretrained.converted import ConvertedTensor

HEADS = (
    *("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "SEQUENCE_CLASSIFICATION", "IMAGE_CLASSIFICATION", "IMAGE_TEXT_TO_TEXT"),
    *("OBJECT_DETECTION", "SEMANTIC_SEGMENTATION", "AUDIO_CLASSIFICATION", "CTC"),
)
"""The first that an architecture has is taken beside its base class."""

LARGEST = 120_000_000
"""Parameters of a model that is still tried."""

EXACT = "exact"


@dataclass
class Record:
    """What became of a class; empty texts and zeros where it was not tried."""

    name: str
    failed: str = ""
    tensors: int = 0
    renamed: int = 0
    converted: int = 0
    transformers: str = ""
    anchors: str = ""
    load_weights: str = ""


def model_classes() -> Iterator[tuple[str, str]]:
    """Class and model type of each architecture: the base classes, then one with a head for each."""
    yield from _pairs(modeling_auto.MODEL_MAPPING_NAMES)
    headed: set[str] = set()
    for head in HEADS:
        for name, model_type in _pairs(getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES")):
            if model_type not in headed:
                headed.add(model_type)
                yield name, model_type


def _pairs(names_of: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for model_type, names in names_of.items():
        for name in names if isinstance(names, (list, tuple)) else [names]:
            yield name, model_type


def examined(name: str, model_type: str) -> Record:
    """Save and load one class."""
    try:
        model = built(getattr(transformers, name), model_type)
    except Exception as error:  # noqa: BLE001 - whatever a default config lacks, or a package
        return Record(name, failed=_short(error))
    if model is None:
        return Record(name, failed="large")
    record = Record(name, tensors=len(tensors_of(model)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.empty(tensor.shape).normal_(generator=generator))
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.save_pretrained(folder)
        except Exception as error:  # noqa: BLE001
            record.failed = f"saving: {_short(error)}"
            return record
        record.transformers = outcome(lambda: loaded_by_transformers(model, folder))
        record.anchors = outcome(lambda: read_as_anchors(model, folder, record))
        record.load_weights = outcome(lambda: loaded_by_us(model, folder))
    return record


def built(model_class: type[PreTrainedModel], model_type: str) -> PreTrainedModel | None:
    """The smallest model that a shrunk config makes; `None` if it is large all the same."""
    for divisor, all_layers in ((8, False), (8, True), (1, False), (1, True)):
        try:
            config = CONFIG_MAPPING[model_type]()
            if not (divisor == 1 and all_layers):
                shrink(config, divisor, all_layers=all_layers)
            config = type(config).from_dict(config.to_dict())  # so that what is saved can be loaded
            with torch.device("meta"):
                outline = model_class(config)
        except Exception:  # sizes that do not fit each other
            if divisor == 1 and all_layers:
                raise
            continue
        if sum(parameter.numel() for parameter in outline.parameters()) <= LARGEST:
            return model_class(config)
    return None


def shrink(config: PreTrainedConfig, divisor: int, *, all_layers: bool, depth: int = 0) -> None:
    """Two layers or all, four experts, short tables, and widths divided: what may be merged stays, in small."""
    held = dict(vars(config))
    counts = ("num_hidden_layers", "n_layer", "num_layers")
    layers = 0 if all_layers else next((held[name] for name in counts if _is_int(held.get(name))), 0)
    kept = ("layer", "depth", "dense_replace") if all_layers else ()
    for name, value in held.items():
        if isinstance(value, PreTrainedConfig) and depth < 3:
            shrink(value, divisor, all_layers=all_layers, depth=depth + 1)
        elif not any(part in name for part in kept) and (smaller := _smaller(name, value, layers, divisor)) != value:
            setattr(config, name, smaller)


def _smaller(name: str, value: Any, layers: int, divisor: int) -> Any:
    if isinstance(value, list) and layers > 2 and len(value) == layers:
        return [value[0], value[-1]]
    if isinstance(value, (list, tuple)) and "hidden_sizes" in name and all(_divides(size, divisor) for size in value):
        return type(value)(size // divisor for size in value)
    if not _is_int(value):
        return value
    limits = {"dense_replace": 1, "layers": 2, "n_layer": 2, "depth": 2, "experts": 4, "intermediate": 64, "ffn": 64}
    limits |= {"vocab_size": 256, "token_id": 1, "max_position_embeddings": 256, "_per_tok": 2}
    for part, limit in limits.items():
        if part in name:
            return min(value, limit)
    widths = ("hidden_size", "d_model", "embed_dim", "n_embd", "hidden_dim", "lora_rank", "projection_dim")
    return value // divisor if any(width in name for width in widths) and _divides(value, divisor) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _divides(value: Any, divisor: int) -> bool:
    return _is_int(value) and value >= 8 * divisor and value % divisor == 0


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, and buffers that are saved."""
    return dict(model.state_dict(keep_vars=True))


def loaded_by_transformers(model: PreTrainedModel, folder: str) -> list[str]:
    """The tensors that `from_pretrained` does not give back."""
    return differing(tensors_of(model), tensors_of(type(model).from_pretrained(folder)).get)


def read_as_anchors(model: PreTrainedModel, folder: str, record: Record) -> list[str]:
    """The tensors that `CheckpointAnchors` does not give back."""
    anchors = CheckpointAnchors(folder, model)
    sources = {name: anchors.source(name) for name in tensors_of(model) if name in anchors}
    record.converted = sum(isinstance(source, ConvertedTensor) for source in sources.values())
    record.renamed = sum(isinstance(source, str) and source != name for name, source in sources.items())
    return differing(tensors_of(model), anchors.get)


@torch.no_grad()
def loaded_by_us(model: PreTrainedModel, folder: str) -> list[str]:
    """The tensors that `load_weights` does not give back."""
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.zero_()
    load_weights(other, Path(folder))
    return differing(tensors_of(model), tensors_of(other).get)


def differing(tensors: dict[str, Tensor], read: Callable[[str], Tensor | None]) -> list[str]:
    """The names of which what is read is something else, or which go by none of the names that share them."""
    found: dict[int, bool] = {}
    wrong = []
    for name, tensor in tensors.items():
        other = read(name)
        found[id(tensor)] = found.get(id(tensor), False) or other is not None
        if other is not None and not torch.equal(other, tensor):
            wrong.append(name)
    return [*wrong, *(name for name, tensor in tensors.items() if not found[id(tensor)])]


def outcome(load: Callable[[], list[str]]) -> str:
    """In a few words."""
    try:
        wrong = load()
    except Exception as error:  # noqa: BLE001 - it is what is counted here
        return _short(error)
    return f"not {', '.join(wrong[:2])}{f' and {len(wrong) - 2} more' * (len(wrong) > 2)}" if wrong else EXACT


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


class TooSlowError(BaseException):
    """Of no kind that is expected anywhere."""


def _ring(*_: Any) -> None:
    raise TooSlowError


def census(only: list[str], limit: int | None, seconds: int, file: Path) -> tuple[list[Record], int]:
    """Examine what is not known yet: what is known then, and of how many classes nothing is."""
    lines = file.read_text().splitlines() if file.is_file() else []
    known = {record.name: record for record in (Record(**json.loads(line)) for line in lines)}
    classes = {name: model_type for name, model_type in model_classes() if not only or name in only}
    fresh = [name for name in classes if name not in known][:limit]
    file.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGALRM, _ring)
    for count, name in enumerate(fresh, start=1):
        print(f"{count}/{len(fresh)} {name}", file=sys.stderr)
        signal.alarm(seconds)
        try:
            known[name] = examined(name, classes[name])
        except TooSlowError:
            known[name] = Record(name, failed="slow")
        finally:
            signal.alarm(0)
        with file.open("a") as lines_so_far:
            lines_so_far.write(json.dumps(asdict(known[name])) + "\n")
        if count % 20 == 0:
            gc.collect()
    records = sorted((known[name] for name in classes if name in known), key=lambda record: record.name)
    return records, len(classes) - len(records)


def print_tables(records: list[Record], left: int) -> None:
    """In Markdown."""
    tried = [record for record in records if not record.failed]
    print(
        f"{datetime.now(timezone.utc):%Y-%m-%d}, torch {torch.__version__}, transformers {transformers.__version__}: "
        f"{len(tried)} classes were saved and loaded, {len(records) - len(tried)} could not be, {left} are left. Of the "
        f"{len(tried)}\n"
    )
    for count, what in (
        (sum(bool(record.converted) for record in tried), "have tensors that are merged or split on loading"),
        (sum(bool(record.renamed) for record in tried), "have tensors that are saved under other names"),
        (sum(record.transformers == EXACT for record in tried), "are given back exactly by `from_pretrained`"),
        (sum(record.anchors == EXACT for record in tried), "by `CheckpointAnchors(folder, model)`"),
        (sum(record.load_weights == EXACT for record in tried), "by `load_weights`"),
    ):
        print(f"- {count} {what}")
    columns = ("transformers", "anchors", "load_weights")
    print_table(
        "Tensors that are merged or split on loading",
        ("tensors", "of them merged or split", "renamed"),
        [((record.tensors, record.converted, record.renamed), record) for record in tried if record.converted],
    )
    print_table(
        "Not exact",
        ("`from_pretrained`", "`CheckpointAnchors`", "`load_weights`"),
        [
            (tuple(getattr(record, column) for column in columns), record)
            for record in tried
            if any(getattr(record, column) != EXACT for column in columns)
        ],
    )
    print("\n## Not tried\n")
    reasons: dict[str, list[str]] = {}
    for record in records:
        if record.failed:
            reasons.setdefault(_reason(record.failed), []).append(record.name)
    for reason, names in sorted(reasons.items()):
        print(f"- {reason} ({len(names)}): {', '.join(names)}")


def _reason(failed: str) -> str:
    named = {
        "large": f"more than {LARGEST // 1_000_000} million parameters",
        "slow": "too slow",
        "saving": "not saved",
    }
    return next((text for start, text in named.items() if failed.startswith(start)), "not built from a default config")


def print_table(title: str, head: tuple[str, ...], lines: list[tuple[tuple[Any, ...], Record]]) -> None:
    """A line for each class."""
    print(f"\n## {title}\n\n| class | {' | '.join(head)} |\n|{' --- |' * (len(head) + 1)}")
    for cells, record in lines:
        print(f"| `{record.name}` | {' | '.join(str(cell).replace('|', '¦') for cell in cells)} |")


def main() -> None:
    """Examine and print."""
    parser = ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=[], metavar="CLASS", help="these classes alone")
    parser.add_argument("--limit", type=int, metavar="N", help="end after so many classes that were not known")
    parser.add_argument("--seconds", type=int, default=60, help="for one class")
    parser.add_argument("--known", type=Path, default=Path("build/census_loading.jsonl"), help="what is known")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    print_tables(*census(options.only, options.limit, options.seconds, options.known))


if __name__ == "__main__":
    main()
