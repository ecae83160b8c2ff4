"""What the Hub's client says while it tries again."""

import logging

__all__ = ["silence_retries"]

_CLIENT = "huggingface_hub.utils._http"
# A long wait because of too many requests is another matter: that is still logged.
_SAID_EACH_TIME = ("thrown while requesting", "Retrying in")


def silence_retries() -> None:
    """
    Make the Hub's client retry silently: where there is no network it says so two dozen times, before the error that says
    it again. For commands, whose process has no other user of the client.
    """
    client = logging.getLogger(_CLIENT)
    if _is_worth_saying not in client.filters:
        client.addFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _SAID_EACH_TIME)
