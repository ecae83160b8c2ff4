"""
Fine-tune a pre-trained vision model on a classification task, plainly or with Fast Trainable Projection, and measure
its accuracy on ID and OOD data.

    python examples/image_classification.py --config examples/configs/pacs_mobilenet.yaml --method ftp
    accelerate launch examples/image_classification.py --config examples/configs/pacs_mobilenet.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, explaining, finetune, parse_arguments
from transformers import set_seed

from ftp_hf.tasks import ImageOptions, ImageTask, TaskData


@dataclass
class ImageArguments(ImageOptions, ScriptArguments):
    """The options of all examples, and those of images."""


def main() -> None:
    script, training = parse_arguments(ImageArguments)
    training.remove_unused_columns = False  # images become pixels when a row is read
    with explaining():
        data = TaskData.load(script)
        task = ImageTask(script.model, script, labels=data.labels, label_column=script.label_column)
    set_seed(training.seed)
    finetune(script, training, task, data)


if __name__ == "__main__":
    main()
