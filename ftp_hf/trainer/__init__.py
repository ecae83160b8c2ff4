"""
The Trainers: [`FTPTrainer`], [`PlainTrainer`] to compare it with, and the mixins that both are made of. What they do to a
step of training is in `optim`; here it is only decided what the optimizer gets, and what of a run is kept.

Each mixin overrides hooks of transformers' `Trainer` and calls what it overrides, so that it can be put before any
`Trainer` class. Where two files have a hook, the upper row calls the lower one: `ModelCardMixin` stands before
`CompleteSavingMixin`, whose `save_state` calls nothing.

| hook | file | why |
| --- | --- | --- |
| `__init__` | baselines/ewc_trainer.py | the method's options; refuses models whose answers say nothing |
| `__init__` | baselines/flow.py | the method's options; refuses a new head, and a loss that is not the cross entropy |
| `__init__` | baselines/kl.py | the method's options; refuses a new head |
| `__init__` | baselines/l2_sp.py | the method's options |
| `__init__` | baselines/ldifs.py | the method's options |
| `__init__` | baselines/linear_probe.py | finds the new parameters, which alone are trained |
| `__init__` | baselines/mofo_trainer.py | the method's options; finds the new parameters, which are not filtered |
| `__init__` | baselines/spd.py | the method's options |
| `__init__` | baselines/tpgm_trainer.py | the method's options, and its held-out data |
| `__init__` | baselines/_answers.py | refuses a model without distributions over classes |
| `__init__` | baselines/_beside.py | keeps the pre-trained model, before a checkpoint to resume from is loaded |
| `__init__` | baselines/_anchored.py | takes the anchors, before a checkpoint to resume from is loaded |
| `__init__` | trainer/probe.py | the options; a model that cannot be probed is refused |
| `__init__` | trainer/statistics.py | the option, of a Trainer whose arguments do not have it |
| `train` | baselines/linear_probe.py | all but the new parameters are frozen until it returns |
| `train` | trainer/card.py | remembers the log, the time of the steps and the radii of the weights that are kept |
| `train` | trainer/saving.py | locks the folder, and resumes from a whole checkpoint only |
| `train` | trainer/probe.py | probes first, unless it resumes |
| `train` | trainer/evaluation.py | a model that was evaluated before is wrapped in DDP all the same |
| `create_optimizer` | trainer/ftp.py | puts the projection around the optimizer: the one hook that every strategy goes through |
| `create_optimizer` | baselines/_anchored.py | attaches the method to the optimizer's step |
| `create_optimizer` | baselines/linear_probe.py | freezes the model that is certain now, before DDP looks at it |
| `create_optimizer` | baselines/mofo_trainer.py | the method's optimizer, with the options of the Trainer's own |
| `create_optimizer` | trainer/probe.py | as baselines/linear_probe.py, in a probe |
| `create_optimizer` | trainer/statistics.py | finds the batch norms of the model that is certain now |
| `get_batch_samples` | trainer/loading.py | none when a finished run is resumed, which would take one more step |
| `training_step` | trainer/ftp.py | refuses an optimizer that does not project, which a subclass may have made |
| `compute_loss` | baselines/_answers.py | the answers of both models, of which the method makes the loss |
| `compute_loss` | baselines/ldifs.py | adds how far features are from the pre-trained model's |
| `compute_loss` | baselines/linear_probe.py | evaluation mode of the features, from which each training step takes the model |
| `compute_loss` | trainer/probe.py | the same, in a probe |
| `compute_loss` | trainer/statistics.py | evaluation mode of batch norms alone |
| `get_eval_dataloader` | trainer/evaluation.py | the rows of the last batch too |
| `get_test_dataloader` | trainer/evaluation.py | the same |
| `evaluation_loop` | trainer/evaluation.py | each row once and the loss of one process, however many there are; anchors are not rounded |
| `prediction_step` | trainer/evaluation.py | rows that a model answers NaN to, whose loss is left out otherwise |
| `log` | trainer/ftp.py | adds the radii: callbacks that report are called before any of ours; ends a run that diverged |
| `save_model` | trainer/ftp.py | refuses weights that are not finite |
| `save_model` | trainer/saving.py | an earlier model stays until the new one is whole |
| `save_state` | trainer/card.py | names no folder of this machine: the file is pushed |
| `save_state` | trainer/saving.py | the earlier file stays until the new one is whole |
| `_save` | trainer/card.py | `training_args.bin` holds no token and no folder: the file is pushed |
| `_save_checkpoint` | trainer/ftp.py | refuses weights that are not finite; remembers the radii |
| `_save_checkpoint` | trainer/saving.py | seals the checkpoint; only then is it pushed, and are older ones deleted |
| `_save_optimizer_and_scheduler` | trainer/ftp.py | the options that were asked for are in the checkpoint too |
| `_save_optimizer_and_scheduler` | baselines/ewc_trainer.py | the Fisher information is in the checkpoint too |
| `_save_optimizer_and_scheduler` | baselines/tpgm_trainer.py | the radii are in the checkpoint too |
| `_load_optimizer_and_scheduler` | trainer/ftp.py | options that changed take effect, or are refused |
| `_load_optimizer_and_scheduler` | baselines/ewc_trainer.py | and is resumed from it |
| `_load_optimizer_and_scheduler` | baselines/tpgm_trainer.py | and are resumed from it |
| `_load_from_checkpoint` | trainer/loading.py | loads the tensors that are saved under other names |
| `_load_best_model` | trainer/loading.py | the same, under an optimizer that may go on |
| `_push_from_checkpoint` | trainer/card.py | as `_save`: it writes `training_args.bin` too |
| `_push_from_checkpoint` | trainer/saving.py | not before the checkpoint is whole |
| `create_model_card` | trainer/card.py | the card of what happened |
| `push_to_hub` | trainer/card.py | refuses an adapter whose base model nobody else could load |

`_prepare_resume` is a hook of our own: `CompleteSavingMixin.train` calls it with the checkpoint, before anything of it is
read, and `FTPTrainerMixin` finds the anchors there.
"""

from .arguments import FTPArguments, FTPTrainingArguments
from .card import ModelCardMixin
from .ftp import FTPTrainer, FTPTrainerMixin
from .guard import RobustnessGuard
from .loading import CompleteLoadingMixin
from .plain import PlainTrainer
from .probe import ProbeFirstMixin
from .saving import CompleteSavingMixin
from .statistics import FrozenStatisticsMixin

__all__ = [
    "CompleteLoadingMixin",
    "CompleteSavingMixin",
    "FTPArguments",
    "FTPTrainer",
    "FTPTrainerMixin",
    "FTPTrainingArguments",
    "FrozenStatisticsMixin",
    "ModelCardMixin",
    "PlainTrainer",
    "ProbeFirstMixin",
    "RobustnessGuard",
]
