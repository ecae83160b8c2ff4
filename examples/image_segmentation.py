"""
Fine-tune a pre-trained vision model to give each pixel a class, plainly or with Fast Trainable Projection, and measure how
well its classes and the true ones overlap on ID and OOD data.

    python examples/image_segmentation.py --config examples/configs/camvid_mobilenet.yaml --method ftp
    accelerate launch examples/image_segmentation.py --config examples/configs/camvid_mobilenet.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.segmentation import SegmentationOptions, SegmentationTask


@dataclass
class SegmentationArguments(SegmentationOptions, ScriptArguments):
    """The options of all examples, and those of images and masks."""


def main() -> None:
    script, training = parse_arguments(SegmentationArguments, SegmentationTask)
    finetune(script, training, SegmentationTask)


if __name__ == "__main__":
    main()
