"""Models of a few thousand weights in the place of published ones, for the snippets of their cards."""

import transformers
from transformers import BertTokenizerFast, MobileNetV2ImageProcessor, ViTImageProcessor, WhisperConfig

from tests.support.models import save_bert, tiny_bert_config, tiny_mobilenet_config, tiny_vit_config
from tests.support.tiny_language import save_llama

__all__ = ["TOLD", "stand_in"]

TOLD = {
    "automatic-speech-recognition": "'text'",
    "audio-classification": "'score'",
    "image-classification": "'score'",
    "image-segmentation": "'mask'",
    "sentence-similarity": "tensor([[",
    "text-classification": "'score'",
    "text-generation": "'generated_text'",
    "token-classification": "'entity'",
}
"""What the snippet of each task prints, among other things."""

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", "like", "those", "it", "was", "trained", "on"]


def stand_in(summary, folder):
    """An untrained model of the published one's architecture in `folder`, with its labels and what prepares its input."""
    head = {"id2label": dict(enumerate(summary.labels)), "problem_type": summary.problem_type} if summary.labels else {}
    model_class = getattr(transformers, summary.architecture, None)
    if summary.task in ("automatic-speech-recognition", "audio-classification"):
        from tests.support.speech import save_whisper  # noqa: PLC0415 - soundfile may be missing

        save_whisper(folder)
        if head:
            model_class(WhisperConfig.from_pretrained(folder, **head)).save_pretrained(folder)
    elif summary.task == "text-generation":
        save_llama(folder)
    elif summary.task == "sentence-similarity":
        save_bert(folder, words=_WORDS)
    elif summary.task in ("text-classification", "token-classification"):
        (folder / "vocab.txt").write_text("\n".join(_WORDS))
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        model_class(tiny_bert_config(vocab_size=len(_WORDS), max_position_embeddings=64, **head)).save_pretrained(
            folder
        )
    else:
        is_vit = summary.architecture.startswith("ViT")
        config = tiny_vit_config(image_size=32, **head) if is_vit else tiny_mobilenet_config(**head)
        model_class(config).save_pretrained(folder)
        processor = ViTImageProcessor if is_vit else MobileNetV2ImageProcessor
        processor(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder)
