"""The folder that a trial begins with."""

from pathlib import Path

from ftp_hf.common.figures import Metric
from ftp_hf.common.files import check_folder, write_text
from ftp_hf.compare.run.first_config import first_config
from ftp_hf.tasks import task_class

from .pages import CHECKLIST, CONFIG, DECISION, LANGUAGES, RULES, render

__all__ = ["LANGUAGES", "start_trial"]

_LEFT_OUT = "# rules: []\n"


def start_trial(folder: Path, task: str, language: str = "en") -> list[Path]:
    """
    Make a folder with a config, a file of rules, a checklist of what to collect, and a page for the decision; return the files
    in the order in which they are of use. The task is one of `ftp_hf.tasks.TASKS`, or `MODULE:CLASS`.

    Raises:
        FileExistsError: one of the files is there already, or the folder is a file: nothing is written.
        ValueError: there is no such task or language.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    config = first_config(task).replace(_LEFT_OUT, f"rules: {RULES}\n")
    texts = {
        CHECKLIST: render(language, CHECKLIST, folder=folder),
        CONFIG: render(language, CONFIG) + config,
        RULES: render(language, RULES, **_first_rule(task_class(task).metrics[0])),
        DECISION: render(language, DECISION, folder=folder),
    }
    check_folder("DIR", folder)
    if taken := [name for name in texts if (folder / name).exists()]:
        raise FileExistsError(f"{folder / taken[0]} exists: name another folder, a trial replaces nothing")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _first_rule(metric: Metric) -> dict[str, str]:
    """What a rule on a metric looks like; the number is the owner's to write."""
    if not metric.less_is_better:
        return {"operator": ">=", "number": "0.8", "sign": "-"}
    return {"operator": "<=", "number": "0.2" if metric.is_share else "1.0", "sign": "+"}
