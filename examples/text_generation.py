"""
Fine-tune a causal language model to answer prompts, plainly or with Fast Trainable Projection, and measure the loss of its
answers, and what it retains: the loss of other texts, and the accuracy of multiple choice.

    python examples/text_generation.py --config examples/configs/smollm2_gsm8k.yaml --method ftp
    accelerate launch examples/text_generation.py --config examples/configs/smollm2_gsm8k.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.language import LanguageOptions, LanguageTask


@dataclass
class LanguageArguments(LanguageOptions, ScriptArguments):
    """The options of all examples, and those of prompts and answers."""


def main() -> None:
    script, training = parse_arguments(LanguageArguments, LanguageTask)
    finetune(script, training, LanguageTask)


if __name__ == "__main__":
    main()
