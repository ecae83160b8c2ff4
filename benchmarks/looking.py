"""
What does it cost to look? The time of what a comparison measures of its models, beside that of their training, both estimated
from a few steps of each method and rows of each kind of data, as by `ftp-hf compare --estimate`.

    python benchmarks/looking.py examples/compare/quick.yaml examples/compare/sst2_minilm.yaml
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import parser, print_table, write

from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.run.allocation import keep_freed_memory, leaving_out_what_stays
from ftp_hf.compare.run.estimate import estimate
from ftp_hf.compare.run.progress import quiet
from ftp_hf.compare.run.runner import Runner


def look(config: Path, methods: Sequence[str]) -> dict[str, Any]:
    """Seconds of all runs of the methods, and of all that is measured of them."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder, quiet(), leaving_out_what_stays():
        runner = Runner(ComparisonConfig.load(config, methods=list(methods)), Path(folder))
        runner.check()
        found = estimate(runner)
    training = sum(found.training.values())
    return {
        "config": config.stem,
        "training_s": training,
        "looking_s": found.evaluation,
        "percent_of_training": 100 * found.evaluation / training,
    }


def main() -> None:
    options = parser(__doc__, repetitions=1)
    options.add_argument("configs", nargs="+", type=Path)
    options.add_argument("--methods", nargs="+", default=["plain", "ftp"])
    arguments = options.parse_args()
    rows = [look(config, arguments.methods) for config in arguments.configs]
    print_table("looking beside training", rows, list(rows[0]))
    write("looking", arguments, rows)


if __name__ == "__main__":
    main()
