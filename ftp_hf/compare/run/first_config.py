"""A config to start with: what must be said, with its comments, and what may be, commented out."""

import math
import textwrap
from typing import Any

import yaml

from ftp_hf.tasks import task_class

from .config import left_out
from .keys import Key, comparison_keys, keys_of

__all__ = ["first_config"]

_GIVEN = {
    "model": "MODEL",
    "train": "train.parquet",
    "test": "test.parquet",
    "validation_fraction": 0.15,
    "ood": ["shifted=shifted.parquet"],
    "methods": ["plain", "small-lr", "wise-ft", "ftp"],
    "learning_rate": [1.0e-5, 1.0e-4, 1.0e-3],
    "seeds": [0, 1, 2],
    "training": {"num_train_epochs": 3, "per_device_train_batch_size": 16},
}
_HEAD = """\
Compare methods of fine-tuning: say which model and data, look with --dry-run, then run ftp-hf compare with this file.
What is commented out has the value that stands there unless you change it.
"""


def first_config(task: str) -> str:
    """
    A commented config for one of `ftp_hf.tasks.TASKS` or `MODULE:CLASS`, as YAML. It can be read as it is; the model and the
    data that it names are yours to fill in.

    Raises:
        ValueError: there is no such task.
        ImportError: a package that it needs is missing.
    """
    kind = task_class(task)
    own = [key for key in comparison_keys() if key.name not in left_out(kind)]
    keys = {key.name: key for key in (*own, *keys_of(kind.options_class))}
    given = {"task": task, **_GIVEN}
    first = [_entry(keys[name], value) for name, value in given.items()]
    others = [_entry(key, _as_left_out(key), commented=True) for name, key in keys.items() if name not in given]
    return "\n".join([_comment(_HEAD), *first, _comment("What else may be said."), *others])


def _as_left_out(key: Key) -> Any:
    return None if key.is_required else key.default


def _entry(key: Key, value: Any, *, commented: bool = False) -> str:
    return f"{_comment(key.help)}{'# ' * commented}{key.name}: {_yaml(value)}\n"


def _comment(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, 118)]
    return "".join(f"# {line}\n" for line in lines)


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()
