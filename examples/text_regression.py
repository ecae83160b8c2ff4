"""
Fine-tune a pre-trained text encoder to answer each text, or pair of texts, with a number, plainly or with Fast Trainable
Projection, and measure how far off it is on ID and OOD data.

    python examples/text_regression.py --config examples/configs/sts_regression_minilm.yaml --method ftp
    accelerate launch examples/text_regression.py --config examples/configs/sts_regression_minilm.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.regression import TextRegressionOptions, TextRegressionTask


@dataclass
class TextRegressionArguments(TextRegressionOptions, ScriptArguments):
    """The options of all examples, and those of texts with a number each."""


def main() -> None:
    script, training = parse_arguments(TextRegressionArguments, TextRegressionTask)
    finetune(script, training, TextRegressionTask)


if __name__ == "__main__":
    main()
