"""
How do the step's time and memory grow? FTPAdamW against the fused AdamW, by the number of parameters (tensors of
1024 × 1024), and by the number of tensors that 16.8 M parameters are cut into.

    python benchmarks/scaling.py --largest 100
"""

from typing import Any

from contestants import BASELINE, Shapes
from measure import parser, print_table, write
from step import compare

MILLIONS = (10, 30, 100, 300, 1000)
TOTAL = 2**24
COUNTS = (16, 64, 256, 1024, 4096, 16384)


def square(count: int, side: int) -> Shapes:
    return {f"weight{number}": (side, side) for number in range(count)}


def main() -> None:
    options = parser(__doc__, repetitions=20)
    options.add_argument(
        "--largest", type=int, choices=MILLIONS, default=100, help="millions of parameters (default: %(default)s)"
    )
    arguments = options.parse_args()

    sizes = [square(round(1e6 * millions / 2**20), 1024) for millions in MILLIONS if millions <= arguments.largest]
    cuts = [square(count, int((TOTAL / count) ** 0.5)) for count in COUNTS]
    rows: list[dict[str, Any]] = []
    columns = ["parameters", "tensors", "contestant", "ms", "ratio", "bytes_per_parameter", "on_boundary"]
    for varied, cases in (("parameters", sizes), ("tensors", cuts)):
        results = [
            {"varied": varied, **row} for shapes in cases for row in compare(shapes, [BASELINE, "ftp"], arguments)
        ]
        print_table(f"by the number of {varied}", results, [*columns, "launches", "peak_extra_bytes"])
        rows += results
    write("scaling", arguments, rows)


if __name__ == "__main__":
    main()
