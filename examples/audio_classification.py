"""
Fine-tune a pre-trained audio encoder to tell sounds apart, plainly or with Fast Trainable Projection, and measure its
accuracy on ID and OOD data.

    python examples/audio_classification.py --config examples/configs/spoken_digits_classes.yaml --method ftp
    python examples/audio_classification.py --config examples/configs/spoken_digits_classes.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.audio import AudioTask
from ftp_hf.tasks.sounds import SoundOptions


@dataclass
class AudioArguments(SoundOptions, ScriptArguments):
    """The options of all examples, and those of sounds."""


def main() -> None:
    script, training = parse_arguments(AudioArguments, AudioTask)
    finetune(script, training, AudioTask)


if __name__ == "__main__":
    main()
