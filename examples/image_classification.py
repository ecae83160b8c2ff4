"""
Fine-tune a pre-trained vision model on a classification task, plainly or with Fast Trainable Projection, and measure
its accuracy on ID and OOD data.

    python examples/image_classification.py --config examples/configs/pacs_mobilenet.yaml --method ftp
    accelerate launch examples/image_classification.py --config examples/configs/pacs_mobilenet.yaml --method plain
"""

import random
from dataclasses import dataclass, field

import torch
from finetuning import Data, ScriptArguments, finetune, parse_arguments
from PIL import ImageOps
from transformers import AutoImageProcessor, AutoModelForImageClassification, default_data_collator, set_seed


@dataclass
class ImageArguments(ScriptArguments):
    """
    Args:
        image_column (`str`, *optional*, defaults to `"image"`): the column of images.
        image_size (`int`, *optional*): side of the square that images are resized to, in pixels. By default the image
            processor decides.
        random_flip (`bool`, *optional*, defaults to `False`): mirror half of the training images.
        classifier_dropout (`float`, *optional*): dropout before the classifier, for configs that have
            `classifier_dropout_prob`.
    """

    image_column: str = field(default="image", metadata={"help": "The column of images."})
    image_size: int | None = field(
        default=None, metadata={"help": "Side of the square that images are resized to, in pixels."}
    )
    random_flip: bool = field(default=False, metadata={"help": "Mirror half of the training images."})
    classifier_dropout: float | None = field(
        default=None, metadata={"help": "Dropout before the classifier (classifier_dropout_prob of the config)."}
    )


def main() -> None:
    script, training = parse_arguments(ImageArguments)
    training.remove_unused_columns = False
    data = Data.load(script)
    set_seed(training.seed)
    # In the processor itself, which is saved with the model: whoever loads both sees what the model was trained on.
    side = script.image_size
    size = {} if side is None else {"size": {"height": side, "width": side}, "do_center_crop": False}
    processor = AutoImageProcessor.from_pretrained(script.model, **size)
    options = {} if script.classifier_dropout is None else {"classifier_dropout_prob": script.classifier_dropout}
    model = AutoModelForImageClassification.from_pretrained(script.model, **data.model_options(), **options)

    def pixels(image: object) -> torch.Tensor:
        return processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    def evaluation(batch: dict) -> dict:
        return {
            "pixel_values": [pixels(image) for image in batch[script.image_column]],
            "label": batch[script.label_column],
        }

    def augmented(batch: dict) -> dict:
        images = [
            ImageOps.mirror(image) if script.random_flip and random.random() < 0.5 else image
            for image in batch[script.image_column]
        ]
        return evaluation({**batch, script.image_column: images})

    train = data.train.with_transform(augmented)
    data = data.map(lambda dataset: dataset.with_transform(evaluation))
    data.train = train
    finetune(script, training, model, processor, default_data_collator, data)


if __name__ == "__main__":
    main()
