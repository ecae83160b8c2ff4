"""A guard over a recogniser: rules on what is generated, of which less is better."""

import pytest
from safetensors.torch import load_file

pytest.importorskip("soundfile")
pytest.importorskip("jiwer")

from ftp_hf import RobustnessGuard
from ftp_hf.tasks.speech import SpeechOptions, SpeechTask
from ftp_hf.trainer.arguments import with_ftp_options
from ftp_hf.trainer.ftp import ftp_trainer
from ftp_hf.trainer.plain import plain_trainer
from tests.support.equal import assert_equal, weights
from tests.support.speech import answered, save_whisper, sounds
from tests.support.trainers import arguments

RULE = "retained/noise:wer <= pretrained + 0.02"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return SpeechTask(str(save_whisper(tmp_path_factory.mktemp("whisper"))), SpeechOptions(max_seconds=1))


def guarded(task, folder, rules, action, *, make=plain_trainer, **options):
    model = task.load_model()
    kept = answered(task, sounds(3, 1.6))  # longer ones
    steps = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 1,
    }
    kind = with_ftp_options(task.arguments_class) if make is ftp_trainer else task.arguments_class
    trainer = make(task.trainer_class)(
        args=arguments(folder, kind, **task.arguments(), **{**steps, "logging_steps": 500, **options}),
        model=model,
        train_dataset=task.prepare(sounds(8)),
        eval_dataset=task.prepare(sounds(2)),
        **task.trainer_options(model),
    )
    sets = {"id/test": task.prepare(sounds(4)), "retained/noise": task.prepare(kept)}
    guard = RobustnessGuard(trainer, sets, rules, action=action)
    trainer.add_callback(guard)
    return trainer, guard, sets


@pytest.mark.slow
def test_the_figures_before_the_first_step_are_those_of_an_evaluation(task, tmp_path):
    """With as many tokens generated, though nothing was evaluated before."""
    trainer, guard, sets = guarded(
        task, tmp_path, ["retained/noise:cer <= 1"], "stop", max_steps=1, eval_steps=1, save_strategy="no",
        learning_rate=0.0, generation_max_length=4,
    )  # fmt: skip
    trainer.train()
    assert [check.step for check in guard.history] == [0, 1]
    found = trainer.evaluate(sets["retained/noise"])
    expected = {metric.name: found[f"eval_{metric.name}"] for metric in task.metrics}
    assert expected["cer"] > 0, "of the answer the rest is missing"
    for check in guard.history:
        assert {name: check.figures["retained/noise"][name] for name in expected} == expected


@pytest.mark.slow
@pytest.mark.parametrize("make", [plain_trainer, ftp_trainer])
def test_a_recogniser_that_forgets_is_stopped_and_rolled_back(make, task, tmp_path):
    trainer, guard, sets = guarded(
        task, tmp_path, [RULE], "roll_back", make=make, max_steps=40, learning_rate=1e-2, warmup_steps=40
    )
    trainer.train()
    *met, last = guard.history
    assert len(met) > 1
    assert all(check.figures["retained/noise"]["wer"] <= 0.02 for check in met)
    assert last.figures["retained/noise"]["wer"] > 0.02, "what is worse here is more"
    assert trainer.state.global_step == last.step < 40
    assert (last.action, last.restored_step) == ("roll_back", met[-1].step)
    assert trainer.evaluate(sets["retained/noise"])["eval_wer"] <= 0.02
    saved = load_file(tmp_path / f"checkpoint-{last.restored_step}" / "model.safetensors")
    restored = weights(trainer.model)
    assert_equal(saved, {name: restored[name] for name in saved})
    assert saved["model.encoder.embed_positions.weight"].shape == (150, 16), "it hears as much as before"
