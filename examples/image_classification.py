"""
Fine-tune a pre-trained vision model on a classification task, plainly or with Fast Trainable Projection, and measure
its accuracy on ID and OOD data.

    python examples/image_classification.py --config examples/configs/pacs_mobilenet.yaml --method ftp
    accelerate launch examples/image_classification.py --config examples/configs/pacs_mobilenet.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks import ImageOptions, ImageTask


@dataclass
class ImageArguments(ImageOptions, ScriptArguments):
    """The options of all examples, and those of images."""


def main() -> None:
    script, training = parse_arguments(ImageArguments, ImageTask)
    finetune(script, training, ImageTask)


if __name__ == "__main__":
    main()
