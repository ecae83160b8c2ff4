"""
Fine-tune a pre-trained text encoder on a classification task, plainly or with Fast Trainable Projection, and measure
its accuracy on ID and OOD data.

    python examples/text_classification.py --config examples/configs/sst2_minilm.yaml --method ftp
    accelerate launch examples/text_classification.py --config examples/configs/sst2_minilm.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks import TextOptions, TextTask


@dataclass
class TextArguments(TextOptions, ScriptArguments):
    """The options of all examples, and those of texts."""


def main() -> None:
    script, training = parse_arguments(TextArguments, TextTask)
    finetune(script, training, TextTask)


if __name__ == "__main__":
    main()
