"""What a person reads while an example trains: on a terminal, without bars there, and in a file."""

import io

import pytest
from progress import ShowProgress
from rich.console import Console
from transformers import TrainerState

EVALUATED = {"accuracy": 0.935, "loss": 0.25, "runtime": 2.0, "samples_per_second": 100.0, "steps_per_second": 1.0}


def printed(*, terminal, disable_bars=False):
    """Of two steps, an evaluation among them, and one of another set."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    state = TrainerState(max_steps=2, global_step=0)
    with ShowProgress(console, disable_bars=disable_bars) as shown:
        shown.on_train_begin(None, state, None)
        for step in (1, 2):
            state.global_step = step
            shown.on_step_end(None, state, None)
            shown.on_log(None, state, None, logs={"loss": 1.5 / step, "grad_norm": 2.0, "epoch": step / 2})
        for name in (None, "sketch"):
            shown.measured = name
            shown.on_prediction_step(None, state, None, eval_dataloader=[None] * 4)
            logs = {f"eval_{metric}": value for metric, value in EVALUATED.items()}
            shown.on_log(None, state, None, logs=logs | {"epoch": 1.0})
        shown.on_log(None, state, None, logs={"train_runtime": 3.0, "train_loss": 1.125, "epoch": 1.0})
        shown.on_train_end(None, state, None)
    return file.getvalue()


EVALUATIONS = [
    "validation, epoch 1: accuracy 93.5 %, loss 0.25",
    "sketch: accuracy 93.5 %, loss 0.25",
    "trained: 2 steps in 3 s, mean loss 1.125",
]


@pytest.mark.parametrize("options", [{"terminal": False}, {"terminal": True, "disable_bars": True}])
def test_lines_without_bars(options):
    steps = ["step 1/2, epoch 0.5: loss 1.5, grad_norm 2", "step 2/2, epoch 1: loss 0.75, grad_norm 2"]
    assert printed(**options).splitlines() == steps + EVALUATIONS


def test_a_terminal_has_one_bar_with_loss_and_epoch():
    text = printed(terminal=True)
    assert "step 1/2" not in text
    assert all(line in text for line in EVALUATIONS)
    last = text[text.rindex("training, ") :]
    assert last.startswith("training, epoch 1, loss 0.75")
    assert "100 %" in last
    assert "evaluation" not in last
