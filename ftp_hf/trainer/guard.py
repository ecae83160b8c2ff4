"""A guard over a training: ID and OOD figures at every evaluation, rules on them, and what happens when one is broken."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ftp_hf.checkpoints.whole import checkpoint_at, find_damage
from ftp_hf.common.files import write_text
from ftp_hf.common.folder import HISTORY
from ftp_hf.common.processes import from_all_processes, from_first_process
from ftp_hf.common.randomness import unchanged_randomness
from ftp_hf.common.records import build, plain
from ftp_hf.pretrained.origin import has_origin, new_parameters
from ftp_hf.runs.facts import GuardCheck, RuleResult
from ftp_hf.runs.figures import Figures, learnt_figures
from ftp_hf.runs.logs import measured, split_numbers
from ftp_hf.runs.rules import SET, Rule, check_rules, describe, parse_rules

from .evaluation import evaluated
from .loading import kept_step, load_best_model

__all__ = ["RobustnessGuard"]

logger = logging.getLogger(__name__)


_ACTIONS = ("alert", "stop", "roll_back")
# In `TrainerState.stateful_callbacks`, and so in each checkpoint. Not the name of the class: by that the Trainer would make
# a new guard, without its arguments (`restore_callback_states_from_checkpoint`).
_STATE = "ftp_hf_guard"
_PREFIX = "guard_"


class RobustnessGuard(TrainerCallback):
    """
    Evaluates ID and OOD data whenever the Trainer evaluates (`eval_strategy`, `eval_steps`, `eval_delay`), and holds the
    figures against rules. For any `Trainer` class:

        guard = RobustnessGuard(
            trainer,
            {"id/test": test, "ood/sketch": sketches},
            ["ood/sketch >= 0.60", "ood_mean >= pretrained - 0.02"],
            action="roll_back",
        )
        trainer.add_callback(guard)

    The guard is armed once every rule has been met, at an evaluation or by the model before its first step; until then the
    model is still to learn, and what it misses is only noted. With `eval_delay` it is armed from the first evaluation on, and
    what the training ends with (with `load_best_model_at_end` the weights that the Trainer loads then) has to meet the rules in
    any case. When one is broken,

    - `"alert"` says so and goes on training;
    - `"stop"` also ends the training there;
    - `"roll_back"` also puts the weights of the last checkpoint that met every rule into the model. That checkpoint is kept
      from `save_total_limit` as the Trainer's best one (`state.best_model_checkpoint`); if there is none, `train()` raises.

    Weights that end a training are not saved as a checkpoint. Figures of the model before its first step are measured too:
    they are what `pretrained` and `forgetting` refer to, and a rule that cannot be checked is refused before anything is
    trained. The guard does not change what is trained: it leaves the random numbers as they were.

    `guard.jsonl` in `output_dir` has a line for each check, a [`GuardCheck`]. The history is in each checkpoint as well: a
    run that was killed and resumed has the one of the uninterrupted run. [`FTPTrainer`] puts it in `results.json` and the
    model card.

    Args:
        trainer (`Trainer`): the one that this callback is added to afterwards. It is named here as well because a Trainer
            does not pass itself to its callbacks, and the guard evaluates with its data loaders and metrics.
        data (mapping from `str` to `Dataset`): by set, `"id/NAME"`, `"ood/NAME"` or `"validation"`, as rules and model
            cards call them. Evaluated with the Trainer's `compute_metrics`. In a later stage, `"earlier/NAME"` is the ID test set
            of one that [`~ModelCardMixin.note_earlier_stages`] was given; rules may compare it with what was `learnt` then.
        rules (sequence of `str` or [`Rule`]): see [`parse_rules`]; [`load_rules`] reads them from a file.
        action (`str`, *optional*, defaults to `"alert"`): `"alert"`, `"stop"` or `"roll_back"`.
        on_broken (`Callable`, *optional*): called with the [`GuardCheck`] that broke a rule, on the first process.
        pretrained (mapping from `str` to mapping, *optional*): set → metric → value of the pre-trained model, if not those
            of the model before its first step: for a model with a new head, which nothing can be expected of then, and for a
            later stage, which starts from the model that the last one left.

    Attributes:
        history (list of [`GuardCheck`]): of the last training, by step.

    Raises:
        ValueError: a rule is not understood or about a set that is not in `data`; a set has another kind of name or is
            empty; the head is new, and `pretrained` missing. At the beginning of `train()`: the Trainer never evaluates; a
            rule names a metric that is not measured; with `"roll_back"`, some evaluations have no checkpoint.
        RuntimeError: in `train()`, nothing is there to roll back to.
    """

    def __init__(
        self,
        trainer: Any,
        data: Mapping[str, Any],
        rules: Sequence[str | Rule],
        *,
        action: str = "alert",
        on_broken: Callable[[GuardCheck], object] | None = None,
        pretrained: Figures | None = None,
    ) -> None:
        self.history: list[GuardCheck] = []
        self.rules = parse_rules(rules)
        self.action = action
        self._trainer = trainer
        self._data = dict(data)
        self._on_broken = on_broken
        self._given = pretrained
        if action not in _ACTIONS:
            raise ValueError(f"action must be one of {', '.join(_ACTIONS)}, got {action!r}")
        _check_sets(self._data)
        for rule in self.rules:
            _check_rule(rule, self._data, pretrained, trainer.model)

    @property
    def restored_step(self) -> int | None:
        """The step whose weights were put back into the model; `None` if the last ones were kept."""
        return self.history[-1].restored_step if self.history else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Measure the model before its first step, or take up the history of the checkpoint that is resumed."""
        self._check_training(args, state)
        # A second training of the same model does not begin from the pre-trained one.
        start = next((check for check in self.history[:1] if check.step == state.global_step == 0), None)
        stored: Any = state.stateful_callbacks or {}
        self.history = [build(GuardCheck, json.loads(line)) for line in stored.get(_STATE, ())]
        if not self.history:
            self.history = [start or GuardCheck(state.global_step, state.epoch, self._measure())]
        found = self._results(self.history[0].figures)
        if unknown := [describe(result) for result in found if result.value is None]:
            raise ValueError(f"a rule cannot be checked: {'; '.join(unknown)}")
        if self.action == "roll_back" and not self._can_restore(state):
            state.best_global_step = state.best_model_checkpoint = None
        self._write(state)

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002 - as the Trainer calls it
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Check the rules, once a step."""
        if self._trainer.is_in_train and state.global_step > self.history[-1].step:
            self._check(state, control, state.global_step)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Check the weights that are kept, also if something ended the training between two evaluations; and roll back."""
        # The Trainer has loaded its best ones by now.
        kept = kept_step(args, state)
        check = next((check for check in self.history if check.step == kept), None) or self._check(state, control, kept)
        if check.action is None and _broken(check.rules):
            self._act(check, state, control)
        if check.action == "roll_back":
            self._restore(state)

    def _check(self, state: TrainerState, control: TrainerControl, step: int) -> GuardCheck:
        armed = self._is_armed()
        found = self._measure()
        epoch = state.epoch if step == state.global_step else None
        check = GuardCheck(step, epoch, found, self._results(found))
        self.history.append(check)
        if broken := _broken(check.rules):
            if armed:
                self._act(check, state, control)
            elif state.is_world_process_zero:
                logger.info("Guard: step %d does not meet %s yet.", state.global_step, "; ".join(broken))
        elif self.action == "roll_back" and control.should_save:
            # The Trainer keeps its best checkpoint, and finds it again after a resume.
            state.best_global_step = state.global_step
        self._write(state)
        return check

    def _is_armed(self) -> bool:
        """Whether the rules, as they are now, have been met before, or had to be met from here on."""
        if self._trainer.args.eval_delay:
            return True
        return any(not _broken(self._results(check.figures)) for check in self.history)

    def _act(self, check: GuardCheck, state: TrainerState, control: TrainerControl) -> None:
        """On a check that broke a rule."""
        check.action, broken = self.action, _broken(check.rules)
        self._write(state)
        if self.action != "alert":
            control.should_training_stop = True
            control.should_save = False
        if state.is_world_process_zero:
            logger.warning("Guard: step %d breaks %s. Action: %s.", check.step, "; ".join(broken), self.action)
            if self._on_broken is not None:
                self._on_broken(check)
        if self.action == "roll_back" and state.best_global_step is None:
            raise RuntimeError(
                f"step {check.step} breaks {'; '.join(broken)}, and no checkpoint before it met every rule, so there is "
                "nothing to roll back to. Train longer, or hold it to rules that it can meet; if eval_delay is set, to a "
                "larger one"
            )

    def _restore(self, state: TrainerState) -> None:
        checkpoint = self._good_checkpoint(state)
        damages = from_all_processes(find_damage(checkpoint) if self._trainer.args.should_save else None)
        damage = next(filter(None, damages), None)
        if damage is not None:
            raise RuntimeError(
                f"{checkpoint}, the last checkpoint that met every rule, cannot be rolled back to: {damage}. The model "
                f"has the weights of step {state.global_step}, which break them"
            )
        state.best_model_checkpoint = str(checkpoint)
        load_best_model(self._trainer, self._trainer._load_best_model)
        self.history[-1].restored_step = state.best_global_step
        self._write(state)
        if state.is_world_process_zero:
            logger.warning("Guard: rolled back to %s.", checkpoint)

    def _measure(self) -> dict[str, dict[str, float | None]]:
        """The figures of the model as it is, the same on all processes."""
        trainer = self._trainer
        found: dict[str, dict[str, float | None]] = {}
        device = trainer.args.device
        with unchanged_randomness([device] if device.type == "cuda" else []):
            for name, dataset in self._data.items():
                numbers, _ = split_numbers(measured(evaluated(trainer, dataset, f"Guard, {name}", _PREFIX), _PREFIX))
                # A model whose loss is not finite answers with the first class, which has an accuracy.
                is_lost = not math.isfinite(numbers.get("loss", 0.0))
                found[name] = {
                    metric: None if is_lost or not math.isfinite(value) else float(value)
                    for metric, value in numbers.items()
                }
        found = from_first_process(found)
        logs = {
            f"{_PREFIX}{name}_{metric}": value for name, metrics in found.items() for metric, value in metrics.items()
        }
        trainer.log({name: value for name, value in logs.items() if value is not None})
        return found

    def _results(self, found: Figures) -> list[RuleResult]:
        learnt = learnt_figures(getattr(self._trainer, "earlier_stages", ()))
        return check_rules(self.rules, found, self._pretrained(), learnt)

    def _pretrained(self) -> Figures:
        if self._given is not None:
            return self._given
        return self.history[0].figures if self.history[0].step == 0 else {}

    def _can_restore(self, state: TrainerState) -> bool:
        """Whether the checkpoint that a resumed run calls its best met the rules as they are now, and is there."""
        good = next((check for check in self.history if check.step == state.best_global_step and check.rules), None)
        if good is None or not from_first_process(self._good_checkpoint(state).is_dir()):
            return False
        return all(result.passed for result in self._results(good.figures))

    def _good_checkpoint(self, state: TrainerState) -> Path:
        best = state.best_model_checkpoint
        run = Path(self._trainer.args.output_dir) if best is None else Path(best).parent
        return checkpoint_at(run, state.best_global_step)

    def _write(self, state: TrainerState) -> None:
        # As text, because `trainer_state.json` would sort the metrics, whose order says which of them counts.
        lines = [json.dumps(plain(check)) for check in self.history]
        stored: Any = state.stateful_callbacks or {}
        state.stateful_callbacks = {**stored, _STATE: lines}  # type: ignore[assignment]
        if state.is_world_process_zero:
            file = Path(self._trainer.args.output_dir) / HISTORY
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, "".join(f"{line}\n" for line in lines))

    def _check_training(self, args: TrainingArguments, state: TrainerState) -> None:
        callbacks = self._trainer.callback_handler.callbacks
        guards = [callback for callback in callbacks if isinstance(callback, RobustnessGuard)]
        if guards != [self]:
            raise ValueError(
                f"the Trainer has {len(guards)} guards, or one that was made for another Trainer: add one guard to the "
                "Trainer that it was made with"
            )
        if state.is_hyper_param_search:
            raise ValueError(
                f"the trials of a hyper-parameter search would share one {HISTORY}: train without the guard"
            )
        if args.eval_strategy == "no":
            raise ValueError("the guard checks whenever the Trainer evaluates, which eval_strategy='no' never does")
        if self.action == "roll_back":
            _check_saving(args, state)


def _broken(results: Sequence[RuleResult]) -> list[str]:
    return [describe(result) for result in results if not result.passed]


def _check_sets(data: Mapping[str, Any]) -> None:
    if not data:
        raise ValueError("data is empty: name at least one set, such as {'ood/sketch': sketches}")
    for name, dataset in data.items():
        if not SET.fullmatch(name):
            raise ValueError(
                f"data: {name!r} must be 'id/NAME', 'earlier/NAME', 'ood/NAME', 'retained/NAME' or 'validation', without : < > = in it"
            )
        if hasattr(dataset, "__len__") and not len(dataset):
            raise ValueError(f"data: {name!r} is empty, so nothing can be measured on it")


def _check_rule(rule: Rule, data: Mapping[str, Any], pretrained: Figures | None, model: Any) -> None:
    try:
        sets = rule.sets(data)
    except ValueError as error:
        raise ValueError(f"the rule {rule.text!r} cannot be checked: {error}") from error
    if rule.needs_pretrained and pretrained is not None and (missing := set(sets) - pretrained.keys()):
        raise ValueError(f"the rule {rule.text!r} cannot be checked: pretrained says nothing of {', '.join(missing)}")
    if pretrained is None and rule.needs_pretrained and (new := _new_at_first(model)):
        raise ValueError(
            f"the rule {rule.text!r} compares with the pre-trained model, but {', '.join(sorted(new)[:3])} are new: before "
            "the first step this model knows nothing of its task. Write a number, or pass the figures of a pre-trained "
            "model with a head (zero-shot, or a linear probe): pretrained={'ood/sketch': {'accuracy': 0.6}}"
        )


def _new_at_first(model: Any) -> set[str]:
    """
    The new parameters that the model has before its first step. Those of adapters are new too, but change nothing at first:
    of a model with adapters, whose new head PEFT trains as a copy, only the frozen original of that head counts.
    """
    new = new_parameters(model) if has_origin(model) else set()
    if not hasattr(model, "peft_config"):
        return new
    return {name for name, parameter in model.named_parameters() if name in new and not parameter.requires_grad}


def _check_saving(args: TrainingArguments, state: TrainerState) -> None:
    if args.load_best_model_at_end or args.metric_for_best_model is not None:
        raise ValueError(
            "action='roll_back' keeps the last checkpoint that met the rules, load_best_model_at_end and "
            "metric_for_best_model the best by that metric: leave them out, or take action='stop'"
        )
    saved, evaluated = SaveStrategy(args.save_strategy).value, IntervalStrategy(args.eval_strategy).value
    if saved != evaluated:
        raise ValueError(
            f"action='roll_back' needs checkpoints of what was evaluated, but eval_strategy={evaluated!r} and "
            f"save_strategy={saved!r}: set both to 'steps' or both to 'epoch'"
        )
    if saved == "steps" and state.save_steps % state.eval_steps:
        raise ValueError(
            "action='roll_back' needs checkpoints of what was evaluated: save_steps must be a multiple of eval_steps, got "
            f"{state.save_steps} and {state.eval_steps}"
        )
