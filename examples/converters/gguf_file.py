"""
A language model from a GGUF file, quantised, to a folder of transformers that can be trained.

transformers reads the file and gives every weight its value in float32 (needs the package `gguf`). But the model stays
marked as quantised, and would be neither trained nor saved. So the weights move to a model of the same architecture
without the mark. They are not exact in 16 bits (a 4-bit number times a scale, plus an offset), and are saved in 32.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

__all__ = ["convert_gguf"]

# What the file says of itself, and not of the model.
_OF_THE_FILE = {"_model_name_or_path", "_name_or_path", "dtype", "quantization_config"}


def convert_gguf(source: Path, target: Path) -> None:
    """
    Write model, tokenizer and generation config.

    Args:
        source (`Path`): a folder with one file `*.gguf`.
        target (`Path`): is made if it is not there.

    Raises:
        ImportError: the package `gguf` is not installed.
    """
    (file,) = source.glob("*.gguf")
    marked = AutoModelForCausalLM.from_pretrained(source, gguf_file=file.name, dtype=torch.float32)
    config = type(marked.config).from_dict(
        {key: value for key, value in marked.config.to_dict().items() if key not in _OF_THE_FILE}
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(marked.state_dict())
    model.generation_config = marked.generation_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=file.name).save_pretrained(target)
