"""The part of the Trainers that says what happened: the run's summary, its model card, and what is pushed with them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftp_hf.cards.files import surviving, write_run_files
from ftp_hf.checkpoints.whole import step_of
from ftp_hf.common.folder import RESULTS
from ftp_hf.common.host import Host
from ftp_hf.common.privacy import public_name, public_value
from ftp_hf.common.records import plain
from ftp_hf.common.replaced import replaced
from ftp_hf.optim.radii import Radius
from ftp_hf.optim.unwrap import projected_optimizer
from ftp_hf.runs.data import data_facts
from ftp_hf.runs.facts import KINDS, PRETRAINED, BaseModel, DataFacts, Evaluation, OtherModel, StageFacts
from ftp_hf.runs.figures import stages_of
from ftp_hf.runs.logs import measured, split_numbers
from ftp_hf.runs.summary import RunSummary

from .card_options import CardOptions
from .guard import RobustnessGuard
from .in_force import saved_radii
from .public_arguments import saving_public_arguments
from .summarize import summarize_run
from .watch import PeakMemory, StepTimer

__all__ = ["ModelCardMixin"]


class ModelCardMixin(Host):
    """
    For any `Trainer` class: a model card made of what happened, which `push_to_hub` pushes with its picture and with the
    `results.json` that it was made of. Tell it what the Trainer cannot know, which data is ID and which is OOD:

        metrics = trainer.evaluate(sketches, metric_key_prefix="eval_sketch")
        trainer.note_evaluation(metrics, data_facts(sketches, "sketch", "ood"))

    The saved `training_args.bin` holds no token, and of each folder the name only: it is pushed too.
    """

    earlier_stages: tuple[StageFacts, ...] = ()
    """The trainings that this one follows, the first one first."""

    _step_seconds: Sequence[float] = ()
    _training_log: tuple[Mapping[str, Any], ...] = ()
    _kept_radii: Mapping[str, Radius] | None = None
    _saved_radii: Mapping[int, Mapping[str, Radius]] | None = None
    _noted_settings: Mapping[str, Any] | None = None
    _noted_data: tuple[DataFacts, ...] = ()
    _noted_evaluations: tuple[Evaluation, ...] = ()
    _noted_others: Mapping[str, tuple[Evaluation, ...]] | None = None
    _first_base: BaseModel | None = None
    _card_options = CardOptions()
    _made_card_in_training = False

    def note_data(self, data: DataFacts) -> None:
        """
        Note what is known of a data set. Of the training data the Trainer knows what `datasets` knows.

        Args:
            data ([`DataFacts`]): takes the place of the one that has its name and kind, or that is for training too.
        """
        self._noted_data = (*(noted for noted in self._noted_data if _place(noted) != _place(data)), data)

    def note_settings(self, **settings: Any) -> None:
        """
        Note what else defines the run, beside the training arguments: `note_settings(max_length=128)`.

        Args:
            **settings: what JSON can hold.
        """
        self._noted_settings = {**(self._noted_settings or {}), **settings}

    def note_evaluation(self, metrics: Mapping[str, Any], data: DataFacts, model: str | None = None) -> None:
        """
        Have an evaluation of the finished model in its summary and card, or of another one beside it. Those of the finished model
        are forgotten when it is trained again.

        Args:
            metrics (mapping from `str`): as `Trainer.evaluate` returns it, with any `metric_key_prefix`. What is no number
                (a list of each class, a text) goes into `results.json` beside the figures.
            data ([`DataFacts`]): what it was evaluated on; [`data_facts`] reads it from a data set.
            model (`str`, *optional*): which other model it is: `"pre-trained"` before training, so that the card says
                what was forgotten.
        """
        if data.kind not in KINDS[1:]:
            raise ValueError(f"the data {data.name!r} is of kind {data.kind!r}: say one of {', '.join(KINDS[1:])}")
        self.note_data(data)
        prefix = next((name.removesuffix("runtime") for name in metrics if name.endswith("_runtime")), "eval_")
        numbers, details = split_numbers(measured(metrics, prefix))
        evaluation = self._evaluation(data.name, data.kind, numbers, details)
        if model is None:
            self._noted_evaluations = _with(self._noted_evaluations, evaluation)
        else:
            others = self._noted_others or {}
            self._noted_others = {**others, model: _with(others.get(model, ()), evaluation)}

    def note_earlier_stages(self, run: str | Path | RunSummary) -> None:
        """
        Note that what is trained next is a stage after a finished run, and after the stages which that run followed. Summary and
        card then have what the model of each could do, rules may say `learnt`, and the pre-trained model is that of the first
        stage, with what was measured of it. Evaluations of the run before, which this Trainer may have noted, are forgotten.

        A stage goes by the names of its ID test sets: `data_facts(test, "march", "id")` when it is trained, and
        `data_facts(test, "march", "earlier")` in the later ones.

        Args:
            run (`str`, `Path` or [`RunSummary`]): its folder, its `results.json`, or what `run_summary` returned then.

        Raises:
            FileNotFoundError: there is no `results.json`.
            ValueError: it is not a summary of this version.
        """
        before = run if isinstance(run, RunSummary) else RunSummary.load(run)
        self.earlier_stages = tuple(stages_of(before))
        self._first_base = before.base_model
        self._noted_data, self._noted_evaluations, self._noted_others = (), (), None
        if before.pretrained is not None:
            known = [replace(each, kind="earlier") if each.kind == "id" else each for each in before.pretrained.results]
            self._noted_others = {PRETRAINED: tuple(known)}

    def run_summary(self, name: str | None = None) -> RunSummary:
        """
        What happened, so far as this process knows it.

        Args:
            name (`str`, *optional*): of the model; by default that which `create_model_card` was given, that on the Hub, or
                the name of `output_dir`.
        """
        hub_id = getattr(self, "hub_model_id", None) or self.args.hub_model_id
        here = (hub_id or Path(self.args.output_dir).resolve().name).split("/")[-1]
        summary = summarize_run(
            self,
            name=name or self._card_options.model_name or here,
            log_history=self.state.log_history if self.is_in_train else self._training_log,
            radii=self._radii_to_show() or {},
            step_seconds=self._step_seconds,
        )
        summary.hyperparameters |= public_value(plain(self._noted_settings or {}))
        noted = {_place(data) for data in self._noted_data}
        summary.data = [*(data for data in summary.data if _place(data) not in noted), *self._noted_data]
        summary.data.sort(key=lambda data: KINDS.index(data.kind))
        summary.results = sorted(self._noted_evaluations, key=lambda result: KINDS.index(result.kind))
        summary.stages, summary.base_model = [*self.earlier_stages], self._first_base or summary.base_model
        summary.comparisons = [OtherModel(model, [*noted]) for model, noted in (self._noted_others or {}).items()]
        if (guard := self._guard()) is not None:
            summary.guard = guard.history
            summary.kept_step = guard.restored_step or summary.kept_step
        if not summary.results:
            self._take_results_from_log(summary)
        self._card_options.put_into(summary)
        return summary

    def save_run_summary(self) -> None:
        """Write `results.json` in `output_dir`: [`~ModelCardMixin.run_summary`], for cards and comparisons."""
        if self.is_world_process_zero():
            self.run_summary().save(self.args.output_dir)

    def create_model_card(self, *args: Any, **options: Any) -> None:
        """
        Write the card (`README.md`), its picture (`radii.png`) and what both are made of (`results.json`) in
        `output_dir`. Of a card that is there already only the generated part is replaced. Whatever cannot be written is
        logged as an error, and no reason to lose a finished run.

        Args:
            *args: in the order of the Trainer class that this is mixed into.
            **options: those of [`CardOptions`]; others that the Trainer class takes have no place in this card. What was given
                once stays until something else is given.

        Raises:
            TypeError: neither knows an argument of that name.
        """
        self._card_options = self._card_options.updated(super().create_model_card, args, options)
        self._made_card_in_training |= self.is_in_train
        if self.is_world_process_zero():
            self._write_card()

    def _write_card(self) -> None:
        folder = Path(self.args.output_dir)
        hub_id = getattr(self, "hub_model_id", None) or self.args.hub_model_id
        with surviving(RESULTS):  # making them, too
            write_run_files(self.run_summary(), folder, model_id=hub_id)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's `train`, remembering what the card needs."""
        if self.args.push_to_hub:
            self._check_base_is_public()
        # They are of another model from here on; data and other models stay what they are.
        self._noted_evaluations = ()
        self._saved_radii = {}
        timer = StepTimer()
        self._step_seconds = timer.seconds
        watching = (timer, PeakMemory())
        for callback in watching:
            self.add_callback(callback)
        try:
            result = super().train(*args, **kwargs)
        except KeyboardInterrupt:
            if self.args.world_size == 1:  # the others of several may be anywhere, and sharded radii need them all
                self._note_saved_radii(self._radii_now())
            raise
        finally:
            for callback in watching:
                self.remove_callback(callback)
        # Now, because later evaluations are logged as well, and on all processes, because sharded radii need them.
        self._training_log = tuple(self.state.log_history)
        guard, best = self._guard(), self.state.best_model_checkpoint
        rolled_back = guard is not None and guard.restored_step is not None
        if best and (rolled_back or self.args.load_best_model_at_end):
            self._kept_radii = self._radii_of(best)
        else:
            self._kept_radii = self._radii_now()
        if self._made_card_in_training:
            # The last checkpoint's card has less in it.
            self._made_card_in_training = False
            if self.is_world_process_zero():
                self._write_card()
        return result

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """
        As the Trainer's `push_to_hub`, with the card of what happened.

        Raises:
            ValueError: the model is an adapter of a base model in a local folder, which nobody else could load.
        """
        self._check_base_is_public()
        return super().push_to_hub(*args, **kwargs)

    def save_state(self) -> None:
        """As the Trainer's `save_state`, without the folders above the best checkpoint: the file is pushed."""
        with replaced(self.state, best_model_checkpoint=public_value(self.state.best_model_checkpoint)):
            super().save_state()

    def _check_base_is_public(self) -> None:
        for config in getattr(self.model, "peft_config", {}).values():
            base = config.base_model_name_or_path
            if base and not public_name(base)[1]:
                raise ValueError(
                    f"the adapter's base model is {base!r}, a path of this machine, which adapter_config.json would tell "
                    "everybody: load the base model by its Hub name, or set base_model_name_or_path in model.peft_config"
                )

    def _radii_now(self) -> Mapping[str, Radius]:
        projected = projected_optimizer(self.optimizer)
        return {} if projected is None else projected.radii()

    def _note_saved_radii(self, radii: Mapping[str, Radius]) -> None:
        """Of the checkpoint that is saved now, or the step that a run is interrupted at: it may be what is kept."""
        saved, best = self._saved_radii or {}, self.state.best_model_checkpoint
        kept = {step: saved[step] for step in saved if best and step == step_of(best)}
        self._saved_radii = {**kept, self.state.global_step: radii}

    def _radii_of(self, checkpoint: str) -> Mapping[str, Radius]:
        step = step_of(checkpoint)
        known = None if step is None else (self._saved_radii or {}).get(step)
        return saved_radii(Path(checkpoint)) if known is None else known

    def _radii_to_show(self) -> Mapping[str, Radius] | None:
        """Of the kept weights; while training, of the checkpoint that is saved at this step."""
        return (self._saved_radii or {}).get(self.state.global_step) if self.is_in_train else self._kept_radii

    def _guard(self) -> RobustnessGuard | None:
        callbacks = self.callback_handler.callbacks
        return next((callback for callback in callbacks if isinstance(callback, RobustnessGuard)), None)

    def _take_results_from_log(self, summary: RunSummary) -> None:
        row = next((row for row in summary.log if row.step == summary.kept_step and row.metrics), None)
        if row is None:
            return
        several = isinstance(self.eval_dataset, dict)
        datasets: Any = self.eval_dataset if several else {"validation": self.eval_dataset}
        for name, dataset in datasets.items():
            numbers, details = (
                (_of_set(each, name, datasets) if several else each) for each in (row.metrics, row.details)
            )
            summary.results.append(self._evaluation(name, "validation", numbers, details))
            if dataset is not None:
                summary.data.append(data_facts(dataset, name, "validation"))

    def _evaluation(self, data: str, kind: str, numbers: Mapping[str, float], details: Mapping[str, Any]) -> Evaluation:
        seed = str(self.args.seed)
        return Evaluation(
            data,
            kind,
            metrics={name: {seed: value} for name, value in numbers.items()},
            details={name: {seed: value} for name, value in details.items()},
        )

    def _save(self, *args: Any, **kwargs: Any) -> None:
        with saving_public_arguments(self):
            super()._save(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        with saving_public_arguments(self):
            super()._push_from_checkpoint(checkpoint_folder)


def _with(noted: tuple[Evaluation, ...], evaluation: Evaluation) -> tuple[Evaluation, ...]:
    """In place of what was noted of the same data."""
    place = evaluation.data, evaluation.kind
    return (*(each for each in noted if (each.data, each.kind) != place), evaluation)


def _of_set(measured: Mapping[str, Any], name: str, names: Collection[str]) -> dict[str, Any]:
    """The metrics of one of several sets, whose names begin with that of their set; without it."""

    def is_of(metric: str) -> bool:
        of = (each for each in names if metric.startswith(f"{each}_"))
        return max(of, key=len, default=None) == name

    return {metric.removeprefix(f"{name}_"): value for metric, value in measured.items() if is_of(metric)}


def _place(data: DataFacts) -> tuple[str, str]:
    return ("", "train") if data.kind == "train" else (data.name, data.kind)
