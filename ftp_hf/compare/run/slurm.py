"""A comparison as jobs of SLURM."""

import shlex
from collections.abc import Sequence
from pathlib import Path

__all__ = ["sbatch_script"]

_SCRIPT = """\
#!/bin/bash
# bash THIS_FILE OPTIONS: an array of {count} jobs that share the runs of a comparison, then one that makes the report.
# The options are sbatch's, of all jobs: --gres=gpu:1 --time=8:00:00, say. Submitted again it goes on with what is left.
set -euo pipefail
cd {folder}
array=$(sbatch --parsable --job-name={name} --array=1-{count} "$@" --wrap {share})
sbatch --dependency=afterany:"${{array%%;*}}" --job-name={name} "$@" --wrap {command}
"""


def sbatch_script(command: Sequence[str], name: str, count: int) -> str:
    """
    A script for bash that submits a comparison to `count` jobs that train. `command` has the words of `ftp-hf compare` and its
    arguments, without `--share`.
    """
    if count < 1:
        raise ValueError(f"sbatch must be at least 1, got {count}")
    return _SCRIPT.format(
        count=count,
        folder=shlex.quote(str(Path.cwd())),
        name=shlex.quote(name),
        share=shlex.quote(shlex.join([*command, "--share"])),
        command=shlex.quote(shlex.join(command)),
    )
