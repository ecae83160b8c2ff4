"""
Draw docs/corruptions.png: a photograph that comes with scikit-learn, under every corruption and severity.

(flower.jpg, by vultilion on Flickr, CC BY 2.0.)

    python docs/corruptions.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from sklearn.datasets import load_sample_images

from ftp_hf.corruptions import IMAGE_CORRUPTIONS, SEVERITIES, corrupt_image

SIDE, GAP, LABEL, HEAD = 80, 2, 120, 22


def sheet(image: Image.Image) -> Image.Image:
    """
    A row for each kind: the image, and severities 1 to 5, under a head that says so.

    Args:
        image (`PIL.Image.Image`): in the size in which it is corrupted and shown.

    Returns:
        `PIL.Image.Image`
    """
    width, height = image.width + GAP, image.height + GAP
    heads = ["original", *map(str, SEVERITIES)]
    drawn = Image.new("RGB", (LABEL + len(heads) * width, HEAD + height * len(IMAGE_CORRUPTIONS)), "white")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(14)
    for column, head in enumerate(heads):
        pen.text((LABEL + column * width + image.width // 2, HEAD // 2), head, "black", font, anchor="mm")
    for row, kind in enumerate(IMAGE_CORRUPTIONS):
        top = HEAD + row * height
        pen.text((4, top + image.height // 2 - 8), kind.replace("_", " "), "black", font)
        tiles = [image, *(corrupt_image(image, kind, severity) for severity in SEVERITIES)]
        for column, tile in enumerate(tiles):
            drawn.paste(tile, (LABEL + column * width, top))
    return drawn


def main() -> None:
    flower = Image.fromarray(load_sample_images().images[1])
    small = sheet(ImageOps.fit(flower, (SIDE, SIDE))).quantize(256, dither=Image.Dither.NONE)
    small.save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
