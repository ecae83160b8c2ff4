"""
Two tasks measure 7 rows, and one of them all of its rows and a step of training, then another step of an adapter on a model that
was measured: `measured.py FOLDER`, with the models and data of texts and pairs in FOLDER. Rank 0 leaves
FOLDER/measured-PROCESSES.json.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from ftp_hf.tasks import TextTask
from ftp_hf.tasks.similarity import SimilarityTask
from ftp_hf.trainer.plain import plain_trainer
from tests.support import process_groups
from tests.support.trainers import arguments


def load(task):
    """The same new head every time, and no dropout."""
    torch.manual_seed(0)
    model = task.load_model()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def make_trainer(task, data, folder, model):
    """That takes all rows in a step."""
    options = {"max_steps": 1, "logging_steps": 1, "per_device_eval_batch_size": 2, **task.arguments()}
    args = arguments(folder, task.arguments_class, **options)
    args.per_device_train_batch_size = len(data) // args.world_size
    return plain_trainer(task.trainer_class)(
        model=model, args=args, train_dataset=task.prepare(data), **task.trainer_options(model)
    )


def gradient_of(trainer):
    """The norm of the gradient of a training of one step."""
    trainer.train()
    return trainer.state.log_history[-2]["grad_norm"]


def main(folder):
    """Measure, train, write."""
    texts = TextTask(str(folder / "texts" / "model"), labels=["negative", "positive"])
    pairs = SimilarityTask(str(folder / "pairs" / "model"))
    found = {}
    for name, task, metric in (("texts", texts, "accuracy"), ("pairs", pairs, "spearman")):
        data = Dataset.from_parquet(str(folder / name / "train.parquet"))
        trainer = make_trainer(task, data, folder / "run", load(task))
        predicted = trainer.predict(task.prepare(data.select(range(7))))
        found[name] = {"rows": len(predicted.predictions), metric: predicted.metrics[f"test_{metric}"]}
        if name == "texts":
            found[name]["loss"] = trainer.evaluate(task.prepare(data))["eval_loss"]
            found[name]["gradient"] = gradient_of(trainer)
            model = load(task)
            options = arguments(folder / "run", Seq2SeqTrainingArguments, per_device_eval_batch_size=2)
            other = plain_trainer(Seq2SeqTrainer)(model=model, args=options, data_collator=task.collator)
            found[name]["rows of Seq2SeqTrainer"] = len(other.predict(task.prepare(data.select(range(7)))).predictions)
            make_trainer(task, data, folder / "run", model).evaluate(task.prepare(data))
            torch.manual_seed(0)
            adapted = get_peft_model(model, LoraConfig(target_modules=["query"], modules_to_save=["classifier"]))
            found[name]["gradient of an adapter"] = gradient_of(make_trainer(task, data, folder / "run", adapted))
    if trainer.args.process_index == 0:
        (folder / f"measured-{trainer.args.world_size}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    process_groups.leave()
