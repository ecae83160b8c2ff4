"""
Draw docs/corruptions.png: a photograph that comes with scikit-learn, under every corruption and severity.

(flower.jpg, by vultilion on Flickr, CC BY 2.0.)

    python docs/corruptions.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from sklearn.datasets import load_sample_images

from ftp_hf.corruptions import IMAGE_CORRUPTIONS, SEVERITIES, corrupt_image

SIDE, GAP, LABEL = 80, 2, 120


def sheet(image: Image.Image) -> Image.Image:
    """
    A row for each kind: the image, and severities 1 to 5.

    Args:
        image (`PIL.Image.Image`): in the size in which it is corrupted and shown.

    Returns:
        `PIL.Image.Image`
    """
    width, height = image.width + GAP, image.height + GAP
    drawn = Image.new("RGB", (LABEL + (1 + len(SEVERITIES)) * width, height * len(IMAGE_CORRUPTIONS)), "white")
    pen = ImageDraw.Draw(drawn)
    for row, kind in enumerate(IMAGE_CORRUPTIONS):
        pen.text((4, row * height + image.height // 2 - 8), kind.replace("_", " "), "black", ImageFont.load_default(14))
        tiles = [image, *(corrupt_image(image, kind, severity) for severity in SEVERITIES)]
        for column, tile in enumerate(tiles):
            drawn.paste(tile, (LABEL + column * width, row * height))
    return drawn


def main() -> None:
    flower = Image.fromarray(load_sample_images().images[1])
    small = sheet(ImageOps.fit(flower, (SIDE, SIDE))).quantize(256, dither=Image.Dither.NONE)
    small.save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
