"""
How long is `optimizer.step()`? Torch's AdamW in its three implementations, FTPAdamW on every path it can take, and FTP
as published, on parameter lists of real models.

    python benchmarks/step.py --models vit_s vit_b

All contestants train side by side and take turns. `first_ms` is the first step of a fresh process: state is
created, pages are touched, kernels are compiled. `on_boundary` is the share of the weights that the last step projected
(where it is 0 the projection had nothing to do), `at_floor` the share whose radius is at its floor of 1e-8.
"""

from argparse import Namespace
from typing import Any

import torch
from contestants import (
    BASELINE,
    CONTESTANTS,
    MODELS,
    Gradients,
    Shapes,
    Training,
    default_contestants,
    elements,
    shapes,
)
from measure import alternate, cuda_facts, in_fresh_process, parser, print_table, seconds, write
from published import check_same_trajectory


def first_step(name: str, shapes: Shapes, device: str, seed: int) -> float:
    """Milliseconds of the very first step, once torch has imported what its optimizers import at their first step."""
    weight = torch.ones(1, device=device, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], fused=True).step()
    training = Training(CONTESTANTS[name], shapes, Gradients(shapes, device, seed, sets=1), seed)
    training.prepare(0)
    return 1000 * seconds(training.step, device)


def compare(shapes: Shapes, names: list[str], arguments: Namespace) -> list[dict[str, Any]]:
    """The rows of some contestants, the baseline among them, that alternate on the same parameters."""
    gradients = Gradients(shapes, arguments.device, arguments.seed)
    trainings = {name: Training(CONTESTANTS[name], shapes, gradients, arguments.seed) for name in names}
    timings = alternate({name: t.timed() for name, t in trainings.items()}, arguments.repetitions, arguments.device)
    rows = []
    for name, training in trainings.items():
        row = {"contestant": name, "tensors": len(shapes), "parameters": elements(shapes), **timings[name]}
        row["ratio"] = row["ms"] / timings[BASELINE]["ms"]
        row["bytes_per_parameter"] = training.bytes_per_parameter()
        rows.append(row | training.binding() | cuda_facts(training.step, arguments.device))
    return rows


def main() -> None:
    options = parser(__doc__, repetitions=20)
    options.add_argument("--models", nargs="+", choices=MODELS, default=["vit_s", "vit_b"], help="parameter lists")
    options.add_argument("--contestants", nargs="+", choices=CONTESTANTS, help="besides the fused AdamW (default: all)")
    options.add_argument(
        "--pairwise",
        action="store_true",
        help="alternate each contestant with the fused AdamW alone: for models too large to be held once per contestant",
    )
    options.add_argument("--skip_first", action="store_true", help="do not time first steps in fresh processes")
    arguments = options.parse_args()

    difference = check_same_trajectory(arguments.device, arguments.seed)
    rows: list[dict[str, Any]] = []
    others = [name for name in arguments.contestants or default_contestants(arguments.device) if name != BASELINE]
    groups = [[BASELINE, name] for name in others] if arguments.pairwise else [[BASELINE, *others]]
    for model in arguments.models:
        sizes = shapes(model)
        results = [{"model": model, **row} for group in groups for row in compare(sizes, group, arguments)]
        if not arguments.skip_first:
            for row in results:
                row["first_ms"] = in_fresh_process(
                    first_step, row["contestant"], sizes, arguments.device, arguments.seed
                )
        columns = ["contestant", "ms", "ratio", "on_boundary", "at_floor", "first_ms", "launches", "peak_extra_bytes"]
        print_table(f"optimizer.step(), {model}, {elements(sizes):,} parameters", results, columns)
        rows += results
    write("step", arguments, rows, largest_difference_from_published=difference)


if __name__ == "__main__":
    main()
