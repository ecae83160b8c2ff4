"""
What does FTP add to FSDP2, on paper? Bytes that a process sends and receives a step, and bytes of state that it keeps,
by the formulas that tests/projection/test_sharding.py and tests/trainer/test_data_parallel.py check on 2 and 4 processes.

    python benchmarks/sharding.py --models vit_b llama_1b
"""

from typing import Any

from contestants import MODELS, Shapes, elements, shapes
from measure import parser, print_table, write

PROCESSES = (8, 64, 256, 1024)
EXCHANGED = 16
"""Bytes of a radius gradient and a largest row norm, in float64."""
RADIUS_STATE = 24
"""Bytes of the six float32 values of a radius, which every process keeps."""


def estimate(parameters: Shapes, processes: int) -> dict[str, Any]:
    """Bytes per process, with float32 weights, anchors and moments, and FSDP2 that gathers and reduces in bfloat16."""
    count, tensors = elements(parameters), len(parameters)
    others = (processes - 1) / processes
    # The weights are gathered for the forward and for the backward pass, and the gradients reduced.
    fsdp = 3 * 2 * count * others
    exchange = EXCHANGED * tensors * (processes - 1)
    return {
        "parameters": count,
        "tensors": tensors,
        "processes": processes,
        "fsdp_mb": fsdp / 1e6,
        "sent_kb": EXCHANGED * tensors / 1e3,
        "received_kb": exchange / 1e3,
        "received_percent": 100 * exchange / fsdp,
        "adamw_state_mb": 8 * count / processes / 1e6,
        "ftp_adds_mb": (4 * count / processes + RADIUS_STATE * tensors) / 1e6,
    }


def main() -> None:
    options = parser(__doc__, repetitions=1)
    options.add_argument("--models", nargs="+", choices=MODELS, default=["vit_b", "llama_1b"])
    arguments = options.parse_args()
    rows = [
        {"model": model, **estimate(shapes(model), processes)} for model in arguments.models for processes in PROCESSES
    ]
    print_table("per process and step", rows, list(rows[0]))
    write("sharding", arguments, rows)


if __name__ == "__main__":
    main()
