"""Images of any mode as models read them."""

import numpy as np
from PIL import Image

__all__ = ["to_rgb"]


def to_rgb(image: Image.Image) -> Image.Image:
    """
    An image in mode RGB, of what is seen of it: what is transparent is white, and 16 bits of grey are scaled to 8.

    Args:
        image (`PIL.Image.Image`): of any mode but `I` and `F`.

    Returns:
        `PIL.Image.Image`: of the same size; of 8 bits without transparency as `convert("RGB")` makes it.

    Raises:
        ValueError: the image has pixels of 32 bits, of which nothing says what is white.
    """
    if image.mode in ("I", "F"):
        raise ValueError(
            f"an image of the mode {image.mode} has pixels of 32 bits, and nothing says which of them is white: save it with 8 bits "
            "a channel"
        )
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
