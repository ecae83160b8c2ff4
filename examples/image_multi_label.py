"""
Fine-tune a pre-trained vision model to tell which of several classes an image shows, any number of them, plainly or with Fast
Trainable Projection, and measure the F1 of its answers on ID and OOD data.

    python examples/image_multi_label.py --config examples/configs/camvid_classes_mobilenet.yaml --method ftp
    accelerate launch examples/image_multi_label.py --config examples/configs/camvid_classes_mobilenet.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.image import ImageOptions
from ftp_hf.tasks.multi_label import MultiLabelImageTask


@dataclass
class MultiLabelImageArguments(ImageOptions, ScriptArguments):
    """The options of all examples, and those of images."""


def main() -> None:
    script, training = parse_arguments(MultiLabelImageArguments, MultiLabelImageTask)
    finetune(script, training, MultiLabelImageTask)


if __name__ == "__main__":
    main()
