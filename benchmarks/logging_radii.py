"""
What does a look at the radii cost? `optimizer.radii()`, which the Trainer calls each time it logs, against a step.

    python benchmarks/logging_radii.py --models vit_s vit_b
"""

from typing import Any

from contestants import CONTESTANTS, MODELS, Gradients, Training, elements, shapes
from measure import Timed, alternate, cuda_facts, parser, print_table, write


def main() -> None:
    options = parser(__doc__, repetitions=20)
    options.add_argument("--models", nargs="+", choices=MODELS, default=["vit_s", "vit_b"], help="parameter lists")
    arguments = options.parse_args()

    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        sizes = shapes(model)
        gradients = Gradients(sizes, arguments.device, arguments.seed)
        training = Training(CONTESTANTS["ftp"], sizes, gradients, arguments.seed)
        calls = {"step": training.timed(), "radii": Timed(training.optimizer.radii)}
        timings = alternate(calls, arguments.repetitions, arguments.device)
        for name, call in calls.items():
            row = {"model": model, "parameters": elements(sizes), "call": name, **timings[name]}
            row["ratio"] = row["ms"] / timings["step"]["ms"]
            rows.append(row | cuda_facts(call.run, arguments.device))
    print_table("optimizer.radii() against a step of FTPAdamW", rows, ["model", "call", "ms", "ratio", "launches"])
    write("logging_radii", arguments, rows)


if __name__ == "__main__":
    main()
