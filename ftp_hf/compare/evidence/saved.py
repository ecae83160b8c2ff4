"""`results.json` of a comparison or a stream, written and read."""

import json
from pathlib import Path
from typing import ClassVar

from typing_extensions import Self

from ftp_hf.common.figures import Metric, declare_metrics
from ftp_hf.common.files import write_text
from ftp_hf.common.folder import RESULTS
from ftp_hf.common.records import build, plain

__all__ = ["SavedResults", "kind_of_results"]

_KEY_OF = {"stream": "orders", "comparison": "methods"}
"""What the results of each kind have, a comparison's only those without orders."""


class SavedResults:
    """What was measured, as a dataclass."""

    what: ClassVar[str]
    """`"comparison"` or `"stream"`."""
    metric: str
    metrics: list[Metric]

    def save(self, folder: Path) -> Path:
        """Write `results.json` in a folder."""
        write_text(folder / RESULTS, json.dumps(plain(self), indent=1, ensure_ascii=False) + "\n")
        return folder / RESULTS

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """
        Read `results.json` from a folder, and declare its metrics.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, of something else, of another version, or in a metric that its task does not have.
        """
        file = Path(folder) / RESULTS
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: name the output_dir of a {cls.what} that has finished")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:  # which does not tell what it is of
            raise ValueError(
                f"{file} is damaged: {error}. Start what wrote it again, a comparison or a stream: finished runs are not repeated"
            ) from error
        try:
            results = build(cls, content)
            declare_metrics(results.metrics)
            _check_metric(results)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{file} is not a {cls.what}: {error}. If another version of ftp_hf wrote it, start the {cls.what} again: finished "
                "runs are not repeated"
            ) from error
        return results


def kind_of_results(folder: Path) -> str | None:
    """Of what the `results.json` in a folder is; `None` if there is none, or none that can be read: loading it says why."""
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    keys = content if isinstance(content, dict) else {}
    return next((kind for kind, key in _KEY_OF.items() if key in keys), "run or something else")


def _check_metric(results: SavedResults) -> None:
    names = [metric.name for metric in results.metrics]
    if names and results.metric not in names:
        raise ValueError(f"metric must be one of {', '.join(names)}, got {results.metric!r}")
