"""
Fine-tune a pre-trained speech recogniser, plainly or with Fast Trainable Projection, and measure its word errors on ID and
OOD data, and on the speech that it understood before.

    python examples/speech_recognition.py --config examples/configs/spoken_digits.yaml --method ftp
    python examples/speech_recognition.py --config examples/configs/spoken_digits.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.speech import SpeechOptions, SpeechTask


@dataclass
class SpeechArguments(SpeechOptions, ScriptArguments):
    """The options of all examples, and those of speech."""


def main() -> None:
    script, training = parse_arguments(SpeechArguments, SpeechTask)
    finetune(script, training, SpeechTask)


if __name__ == "__main__":
    main()
