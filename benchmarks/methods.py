"""
What does each method of a comparison take beside plain fine-tuning: memory, time, data? Does it train adapters, and sharded?

    python benchmarks/methods.py --write docs/methods.md

Trainers are made as `ftp-hf compare` makes them, on random models and data. In each round every method trains a few steps
in a Trainer of its own, and its median step is set against that of plain fine-tuning in the same round. Extra memory is
what more tensors are alive between two steps, in bytes for each parameter of the model. `lora` and `sharded` train a tiny
model with LoRA, and with FSDP2 on one process; what was refused stands there with the reason. Methods that refuse the new
head of a classifier are measured on a language model.
"""

import atexit
import gc
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import datasets
import torch
import transformers
import yaml
from datasets import ClassLabel, Dataset, Features, Value
from measure import in_fresh_process, parser, print_table, spread, synchronize, write
from method_table import markdown, written
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.run.method_kinds import Trained
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.runner import Runner

REFERENCE = "plain"
WARMUP = 2
"""Steps of each Trainer that are not timed."""

SIZES = {
    "tiny": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert_base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
CLASSIFIER, LANGUAGE = "text-classification", "text-generation"
LAYERS = {CLASSIFIER: "BertLayer", LANGUAGE: "LlamaDecoderLayer"}
"""What FSDP2 shards together."""

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
REFUSALS = (ImportError, TypeError, ValueError)
FAULTS = (AttributeError, KeyError, NotImplementedError, RuntimeError)


class Done(Exception):  # noqa: N818 - nothing is wrong
    """Enough steps were taken."""


def make_model(task: str, size: str, words: list[str], folder: Path) -> None:
    """A random pre-trained model, without a head for a classifier, with a tokenizer of these words."""
    common = {**SIZES[size], "vocab_size": len(words), "max_position_embeddings": 512}
    torch.manual_seed(0)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    if task == LANGUAGE:
        names = {"pad_token": "[PAD]", "eos_token": "[SEP]", "unk_token": "[UNK]"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names)
        ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 3}
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**common, **ends))
    else:
        model = BertModel(BertConfig(**common))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def make_rows(task: str, words: list[str], rows: int, length: int, seed: int) -> Dataset:
    """Random sentences of so many words, of two classes, or questions with answers."""
    chosen = random.Random(seed)
    texts = [" ".join(chosen.choices(words, k=length)) for _ in range(rows)]
    if task == LANGUAGE:
        answers = [" ".join(text.split()[: length // 2]) for text in texts]
        return Dataset.from_dict({"question": answers, "answer": answers})
    features = Features({"text": Value("string"), "label": ClassLabel(names=["even", "odd"])})
    return Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(rows)]}, features)


def make_runner(task: str, size: str, folder: Path, arguments: Namespace, **training: Any) -> Runner:
    """What trains all methods on a model of a size, with data for as many steps as are taken."""
    folder.mkdir(parents=True)
    count = 64 if size == "tiny" else arguments.vocabulary
    words = [f"word{number}" for number in range(count - len(SPECIAL))]
    make_model(task, size, [*SPECIAL, *words], folder)
    steps = WARMUP + arguments.steps + 1
    for number, (name, batches) in enumerate({"train": steps, "validation": 2, "test": 2}.items()):
        rows = make_rows(task, words, batches * arguments.batch_size, arguments.length, number)
        rows.to_parquet(folder / f"{name}.parquet")
    config = {
        "task": task,
        "model": str(folder),
        **{name: str(folder / f"{name}.parquet") for name in ("train", "validation", "test")},
        ("max_length" if task == CLASSIFIER else "max_tokens"): arguments.length + 2,
        "methods": list(METHODS),
        "learning_rate": 1e-5,
        "seeds": [arguments.seed],
        "training": {
            "max_steps": steps,
            "per_device_train_batch_size": arguments.batch_size,
            "use_cpu": arguments.device == "cpu",
            "bf16": False,
        },
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    loaded = ComparisonConfig.load(file)
    loaded.training |= training
    return Runner(loaded, folder / "runs")


def run_of(runner: Runner, name: str) -> Run:
    """A method at the first of the values that it is tried with by default."""
    setting = {key: values[0] for key, values in runner.config.methods[name.partition("+with")[0]].items()}
    return Run(name, setting, runner.config.sweep_seed)


@contextmanager
def with_lora(name: str) -> Iterator[str]:
    """A method that trains all weights, on LoRA's instead."""
    method, adapted = METHODS[name], f"{name}+with LoRA"
    # The names of new parameters that a comparison gives are those without adapters.
    needs = [need for need in method.needs if need != "new"]
    with patch.dict(METHODS, {adapted: replace(method, adapter=True, needs=needs)}):
        yield adapted


def take_steps(runner: Runner, name: str, steps: int, look: Callable[[], Any] = lambda: None) -> list[float]:
    """Train so many steps after `WARMUP`, and look at what there is at the end: how many seconds each took."""
    device = "cpu" if runner.config.training["use_cpu"] else "cuda"
    ends: list[float] = []

    def count(_: float) -> None:
        synchronize(device)
        ends.append(time.perf_counter())
        if len(ends) == WARMUP + steps:
            look()
            raise Done

    set_seed(runner.config.sweep_seed)
    with suppress(Done):
        runner.train(run_of(runner, name), count)
    gc.collect()
    return [end - start for start, end in pairwise(ends[WARMUP - 1 :])]


def held_bytes(runner: Runner, name: str) -> int:
    """How many bytes the tensors hold that there are after a step of a method, and were not before its training."""
    before, after = alive(), {}
    take_steps(runner, name, 1, lambda: after.update(alive()))
    return sum(size for place, size in after.items() if place not in before)


def alive() -> dict[tuple[str, int], int]:
    """The bytes of every storage that a tensor of this process refers to, by its device and place."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor) and not thing.is_meta]
    storages = [(str(tensor.device), tensor.untyped_storage()) for tensor in tensors]
    return {(device, storage.data_ptr()): storage.nbytes() for device, storage in storages}


def reason(runner: Runner, name: str) -> str:
    """Why a method does not train as the runner has it; empty if all is well."""
    try:
        take_steps(runner, name, 1)
    except REFUSALS as error:
        said = " ".join(str(error).split())
    except FAULTS as error:
        said = f"fails: {type(error).__name__}: {' '.join(str(error).split())}"
    else:
        return ""
    return said.removeprefix(f"{name.partition('+with')[0]} ")


def sharded(names: dict[str, str], arguments: Namespace) -> dict[str, str]:
    """The same of methods, each with its task, under FSDP2 in one process: to be called in a fresh one."""
    quiet()
    sys.path.append(str(Path(__file__).parents[1]))
    from torch import distributed  # noqa: PLC0415

    from tests.support import fsdp_on_cpu  # noqa: PLC0415

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    fsdp_on_cpu.enable()
    reasons = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in sorted(set(names.values())):
            options = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": [LAYERS[task]]}}
            runner = make_runner(task, "tiny", Path(folder, task), arguments, **options)
            reasons |= {name: reason(runner, name) for name, own in names.items() if own == task}
    distributed.destroy_process_group()
    return reasons


def trials(folder: Path, names: list[str], arguments: Namespace) -> list[dict[str, Any]]:
    """What each method accepts, on tiny models: a classifier with a new head, or else a language model; LoRA; FSDP2."""
    runners: dict[str, Runner] = {}
    rows = []
    for name in names:
        row: dict[str, Any] = {"method": name}
        for task in (CLASSIFIER, LANGUAGE):
            if task not in runners:
                runners[task] = make_runner(task, "tiny", folder / task, arguments)
            row["task"] = task
            if not (refused := reason(runners[task], name)):
                break
            row["refused" if task == LANGUAGE else "new_head"] = refused
        row["lora"] = "" if METHODS[name].adapter else refused_with_lora(runners[row["task"]], name)
        rows.append(row)
    found = in_fresh_process(sharded, {row["method"]: row["task"] for row in rows}, arguments)
    return [row | {"sharded": found[row["method"]]} for row in rows]


def refused_with_lora(runner: Runner, name: str) -> str:
    if name == "linear-probe":
        return "by its definition the head alone is trained"
    with with_lora(name) as adapted:
        return reason(runner, adapted)


def costs(folder: Path, tasks: dict[str, str], arguments: Namespace) -> dict[str, dict[str, Any]]:
    """The extra bytes and the ratio of the time of each method, by the task that it is measured on."""
    needed = sorted(set(tasks.values()))
    runners = {task: make_runner(task, arguments.size, folder / task, arguments) for task in needed}
    contestants = [(task, REFERENCE) for task in needed]
    contestants += [(task, name) for name, task in tasks.items() if name != REFERENCE]
    held = {(task, name): held_bytes(runners[task], name) for task, name in contestants}
    rounds: list[dict[tuple[str, str], list[float]]] = []
    for number in range(arguments.repetitions):
        first = number % len(contestants)
        turns = contestants[first:] + contestants[:first]
        rounds.append({(task, name): take_steps(runners[task], name, arguments.steps) for task, name in turns})
    found = {}
    for name, task in tasks.items():
        parameters = runners[task].data.task.load_model().num_parameters()
        extra = held[task, name] - held[task, REFERENCE]
        found[name] = {"parameters": parameters, "extra_bytes_per_parameter": extra / parameters}
        if rounds:
            found[name] |= times([of_round[task, name] for of_round in rounds], [r[task, REFERENCE] for r in rounds])
    return found


def times(ours: list[list[float]], theirs: list[list[float]]) -> dict[str, float]:
    """The ratio of the median steps of two methods in each round, and all of the steps in milliseconds."""
    ratios = sorted(median(own) / median(other) for own, other in zip(ours, theirs, strict=True))
    return {
        "ratio": median(ratios),
        "lowest_ratio": ratios[0],
        "highest_ratio": ratios[-1],
        **spread([1000 * seconds for of_round in ours for seconds in of_round]),
    }


def quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("ftp_hf").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # What was imported need not be looked through for tensors.
    gc.freeze()
    atexit.register(gc.unfreeze)


def main() -> None:
    options = parser(__doc__, repetitions=5)
    options.add_argument("--size", choices=SIZES, default="minilm", help="of the models (default: %(default)s)")
    options.add_argument("--methods", nargs="+", choices=METHODS, help="(default: all)")
    options.add_argument("--steps", type=int, default=5, help="that are timed in a round (default: %(default)s)")
    options.add_argument("--batch_size", type=int, default=16, help="(default: %(default)s)")
    options.add_argument("--length", type=int, default=64, help="words of a text (default: %(default)s)")
    options.add_argument("--vocabulary", type=int, default=30522, help="of the models (default: %(default)s)")
    options.add_argument("--write", type=Path, help="the page whose table is replaced")
    arguments = options.parse_args()
    quiet()
    names = [name for name in arguments.methods or METHODS if isinstance(METHODS[name], Trained)]
    with tempfile.TemporaryDirectory() as folder:
        rows = trials(Path(folder, "tiny"), names, arguments)
        measured = costs(Path(folder, "sized"), {r["method"]: r["task"] for r in rows if "refused" not in r}, arguments)
    rows = [row | measured.get(row["method"], {}) for row in rows]
    print_table("methods", rows, ["method", "task", "extra_bytes_per_parameter", "ratio", "ms"])
    table = markdown(rows)
    print(table)
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(), table))
    write("methods", arguments, rows)


if __name__ == "__main__":
    main()
