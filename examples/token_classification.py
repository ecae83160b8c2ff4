"""
Fine-tune a pre-trained text encoder to tag words, plainly or with Fast Trainable Projection, and measure how many entities it
finds on ID and OOD data.

    python examples/token_classification.py --config examples/configs/tagging_minilm.yaml --method ftp
    accelerate launch examples/token_classification.py --config examples/configs/tagging_minilm.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.tagging import TaggingOptions, TaggingTask


@dataclass
class TaggingArguments(TaggingOptions, ScriptArguments):
    """The options of all examples, and those of sentences."""


def main() -> None:
    script, training = parse_arguments(TaggingArguments, TaggingTask)
    finetune(script, training, TaggingTask)


if __name__ == "__main__":
    main()
