"""How far an example is: a bar with a label for the training on a terminal, lines elsewhere, and one for each evaluation."""

from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerState

from ftp_hf.common.figures import is_share, show
from ftp_hf.compare.run.progress import make_progress


class ShowProgress(TrainerCallback):
    """
    Takes the place of the Trainer's own bars. To be entered as a context, so that the terminal is left as it was found.

    Args:
        console (`Console`): where to.
        disable_bars (`bool`): print lines on a terminal too.

    Attributes:
        measured (`str`, *optional*): what the data are called that are evaluated now, where it is not the training that
            evaluates its validation data.
    """

    measured: str | None = None

    def __init__(self, console: Console, *, disable_bars: bool) -> None:
        self._progress = make_progress(console, disable=disable_bars)
        self._training = self._progress.add_task("training", total=None, visible=False)
        self._evaluation = self._progress.add_task("evaluation", total=None, visible=False)

    def __enter__(self) -> "ShowProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._progress.reset(self._training, total=state.max_steps, completed=state.global_step, visible=True)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._progress.update(self._training, completed=state.global_step)

    def on_prediction_step(
        self,
        args: Any,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: Any,  # noqa: ARG002
        eval_dataloader: Any = None,
        **_: Any,
    ) -> None:
        self._progress.update(self._evaluation, total=len(eval_dataloader), advance=1, visible=True)

    def on_log(
        self,
        args: Any,  # noqa: ARG002
        state: TrainerState,
        control: Any,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = dict(logs or {})
        epoch = logs.pop("epoch", None)
        prefix = next((key.removesuffix("_runtime") for key in logs if key.endswith("_runtime")), None)
        if prefix == "train":
            seconds = logs["train_runtime"]
            self._say(f"trained: {state.global_step} steps in {seconds:.3g} s, mean loss {logs['train_loss']:.4g}")
        elif prefix is not None:
            self._progress.reset(self._evaluation, visible=False)
            name = self.measured or f"validation, epoch {epoch:.3g}"
            self._say(f"{name}: {_measured(prefix, logs)}")
        elif self._progress.disable:
            figures = ", ".join(f"{key} {value:.4g}" for key, value in logs.items() if _is_number(value))
            self._say(f"step {state.global_step}/{state.max_steps}, epoch {epoch:.3g}: {figures}")
        elif "loss" in logs:
            self._progress.update(self._training, description=f"training, epoch {epoch:.3g}, loss {logs['loss']:.4g}")

    def _say(self, line: str) -> None:
        self._progress.console.print(line, soft_wrap=True, highlight=False, markup=False)


def _measured(prefix: str, logs: dict[str, Any]) -> str:
    """The figures of an evaluation, without those of its speed."""
    speed = {"runtime", "samples_per_second", "steps_per_second", "model_preparation_time"}
    named = {key.removeprefix(f"{prefix}_"): value for key, value in logs.items()}
    return ", ".join(
        f"{name.replace('_', ' ')} {show(value, name)}{' %' * is_share(name)}"
        for name, value in named.items()
        if name not in speed and _is_number(value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
