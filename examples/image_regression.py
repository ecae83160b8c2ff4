"""
Fine-tune a pre-trained vision model to answer each image with a number, plainly or with Fast Trainable Projection, and measure
how far off it is on ID and OOD data.

    python examples/image_regression.py --config examples/configs/camvid_road_mobilenet.yaml --method ftp
    accelerate launch examples/image_regression.py --config examples/configs/camvid_road_mobilenet.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.regression import ImageRegressionOptions, ImageRegressionTask


@dataclass
class ImageRegressionArguments(ImageRegressionOptions, ScriptArguments):
    """The options of all examples, and those of images with a number each."""


def main() -> None:
    script, training = parse_arguments(ImageRegressionArguments, ImageRegressionTask)
    finetune(script, training, ImageRegressionTask)


if __name__ == "__main__":
    main()
