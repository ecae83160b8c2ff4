"""
Fine-tune a pre-trained text encoder on a classification task, plainly or with Fast Trainable Projection, and measure
its accuracy on ID and OOD data.

    python examples/text_classification.py --config examples/configs/sst2_minilm.yaml --method ftp
    accelerate launch examples/text_classification.py --config examples/configs/sst2_minilm.yaml --method plain
"""

from dataclasses import dataclass, field

from datasets import Dataset
from finetuning import Data, ScriptArguments, finetune, parse_arguments
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, set_seed


@dataclass
class TextArguments(ScriptArguments):
    """
    Args:
        text_columns (`list[str]`, *optional*, defaults to `["text"]`): what the column of texts may be called; each
            data set must have one of them.
        max_length (`int`, *optional*, defaults to 128): longer texts are cut, in tokens.
    """

    text_columns: list[str] = field(
        default_factory=lambda: ["text"],
        metadata={"help": "What the column of texts may be called; each data set must have one of them."},
    )
    max_length: int = field(default=128, metadata={"help": "Longer texts are cut, in tokens."})


def main() -> None:
    script, training = parse_arguments(TextArguments)
    data = Data.load(script)
    set_seed(training.seed)
    tokenizer = AutoTokenizer.from_pretrained(script.model)
    model = AutoModelForSequenceClassification.from_pretrained(script.model, **data.model_options())

    def tokenize(dataset: Dataset) -> Dataset:
        found = [column for column in script.text_columns if column in dataset.column_names]
        if len(found) != 1:
            raise ValueError(
                f"expected one text column of {script.text_columns} in a data set with the columns "
                f"{dataset.column_names}: name it in --text_columns"
            )

        def encode(batch: dict) -> dict:
            encoding = tokenizer(batch[found[0]], truncation=True, max_length=script.max_length)
            return {**encoding, "label": batch[script.label_column]}

        return dataset.map(encode, batched=True, remove_columns=dataset.column_names, desc="Tokenizing")

    data = data.map(tokenize)
    finetune(script, training, model, tokenizer, DataCollatorWithPadding(tokenizer), data)


if __name__ == "__main__":
    main()
