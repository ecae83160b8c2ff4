"""
Fine-tune a pre-trained text encoder to tell which of several classes a text is of, any number of them, plainly or with Fast
Trainable Projection, and measure the F1 of its answers on ID and OOD data.

    python examples/text_multi_label.py --config examples/configs/mentions_minilm.yaml --method ftp
    accelerate launch examples/text_multi_label.py --config examples/configs/mentions_minilm.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.multi_label import MultiLabelTextTask
from ftp_hf.tasks.text import TextOptions


@dataclass
class MultiLabelTextArguments(TextOptions, ScriptArguments):
    """The options of all examples, and those of texts."""


def main() -> None:
    script, training = parse_arguments(MultiLabelTextArguments, MultiLabelTextTask)
    finetune(script, training, MultiLabelTextTask)


if __name__ == "__main__":
    main()
