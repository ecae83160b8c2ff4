"""
Whether multiple choice comes to what lm-evaluation-harness computes of the same questions and the same model.

    pip install lm_eval
    python benchmarks/multiple_choice.py build/models/smollm2-135m-instruct ../shared/data/text/abilities/arc_easy.parquet
"""

import argparse
import tempfile
from pathlib import Path

from datasets import Dataset, load_dataset
from lm_eval import evaluator
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from ftp_hf.tasks.language import LanguageOptions, LanguageTask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", help="a Parquet file with question, choices and answer")
    parser.add_argument("--rows", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.parquet"
        load_dataset("parquet", data_files=options.data, split=f"train[:{options.rows}]").to_parquet(file)
        task = LanguageTask(options.model, LanguageOptions())
        model = task.load_model(dtype="float32")
        ours = task.measure(trainer_of(task, model, folder), Dataset.from_parquet(str(file)))
        theirs = harness(model, task.processor, str(file))
    for name in ("acc_norm", "acc"):
        print(f"{name}: {ours[f'eval_{name}']:.4f} here, {theirs[f'{name},none']:.4f} there")


def trainer_of(task: LanguageTask, model: PreTrainedModel, folder: str) -> Trainer:
    any_rows = task.prepare(Dataset.from_dict({"question": ["one"], "answer": ["two"]}))
    arguments = task.arguments_class(folder, report_to="none", bf16=False, **task.arguments())
    return task.trainer_class(model=model, args=arguments, eval_dataset=any_rows, **task.trainer_options(model))


def harness(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, file: str) -> dict[str, float]:
    config = {
        "task": "questions",
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": file}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }
    language_model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
    found = evaluator.simple_evaluate(model=language_model, tasks=[ConfigurableTask(config=config)], bootstrap_iters=0)
    return found["results"]["questions"]


if __name__ == "__main__":
    main()
