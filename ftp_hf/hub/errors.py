"""What went wrong between this machine and the Hub, said in one line with what to do, and tried again where that helps."""

import itertools
import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RevisionNotFoundError

__all__ = ["HubError", "calling_hub"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# httpx's errors, of which those of a connection are no OSError: httpx.HTTPError with huggingface_hub 1, httpx2's with 2.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]

_RETRIES = 3
_LONGEST_WAIT = 300.0
_LOGIN_REMEDY = "Log in with `hf auth login`, or set HF_TOKEN to a token with write access from https://huggingface.co/settings/tokens"
_AGAIN_REMEDY = "Try again later: files that have arrived are not sent twice"
_OTHERS_REMEDY = "Someone else is changing the repository: wait until they are done, then try again"
_REMEDIES = {
    401: f"The token is missing, expired or wrong, or the repository is not there for it. {_LOGIN_REMEDY}",
    403: f"The token may not write there: take a namespace of your own, or another token. {_LOGIN_REMEDY}",
    404: "The repository does not exist, was deleted meanwhile, or the token cannot see it: check its name; pushing again "
    "creates it",
    408: _AGAIN_REMEDY,
    409: _OTHERS_REMEDY,
    412: _OTHERS_REMEDY,
    429: _AGAIN_REMEDY,
}


class HubError(OSError):
    """The Hub did not do what it was asked for. Names the repository, the cause and the remedy; the run is as it was."""


def calling_hub(repo_id: str, doing: str, function: Callable[[], Result], *, retries: int = _RETRIES) -> Result:
    """
    Call `function`, and again a few times if the server is overloaded, fails, or the connection breaks. It may be called
    although an earlier call took effect. The error says what it was `doing`: `"creating the repository"`. `retries` is 0 for
    calls that `huggingface_hub` repeats by itself.

    Raises:
        HubError: with the cause and the remedy.
    """
    attempts = itertools.count()
    while True:
        try:
            return function()
        # An upload that fails is a RuntimeError, metadata that the Hub refuses a ValueError, a download that fails the third.
        except (_HTTP_ERROR, OfflineModeIsEnabled, RuntimeError, ValueError, LocalEntryNotFoundError) as error:  # noqa: PERF203
            cause, attempt = _find_cause(error), next(attempts)
            wait = _seconds_to_wait(cause, attempt)
            if wait is None or attempt == retries:
                raise HubError(f"{repo_id}: {doing} failed: {_explain(error, cause)}") from error
            logger.warning("%s: %s failed (%s). Trying again in %g s.", repo_id, doing, _name(cause), wait)
            time.sleep(wait)


def _find_cause(error: BaseException) -> BaseException:
    """The error of the network or the server from which `huggingface_hub` made its own."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, _HTTP_ERROR):
            return link
        link = link.__cause__
    return error


def _status(cause: BaseException) -> int | None:
    return cause.response.status_code if isinstance(cause, HfHubHTTPError) else None


def _retry_after(cause: BaseException) -> float | None:
    value = cause.response.headers.get("Retry-After", "") if isinstance(cause, HfHubHTTPError) else ""
    return float(value) if re.fullmatch(r"\d+", value) else None


def _seconds_to_wait(cause: BaseException, attempt: int) -> float | None:
    status = _status(cause)
    # 409 and 412: somebody else was first; `function` looks at the repository again.
    passes = isinstance(cause, _HTTP_ERROR) if status is None else status in (408, 409, 412, 429) or status >= 500
    asked = _retry_after(cause)
    wait = float(2**attempt) if asked is None else asked
    return wait if passes and wait <= _LONGEST_WAIT else None


def _name(cause: BaseException) -> str:
    status = _status(cause)
    return _one_line(f"{type(cause).__name__}: {cause}") if status is None else str(status)


def _explain(error: BaseException, cause: BaseException) -> str:
    if isinstance(cause, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set. Unset it to reach the Hub"
    if isinstance(cause, HfHubHTTPError):
        if cause.response.status_code == 400 and not isinstance(error, HfHubHTTPError):
            return _one_line(str(error))  # what is wrong with the card's metadata
        said = _one_line(cause.server_message or "")
        answer = f"the Hub answers {cause.response.status_code}" + (f", {said!r}" if said else "")
        return f"{answer}. {_remedy(cause.response.status_code, cause)}"
    if isinstance(cause, _HTTP_ERROR):
        happened = (
            "no answer in time" if "Timeout" in type(cause).__name__ else f"the connection broke ({_name(cause)})"
        )
        return f"{happened}. {_AGAIN_REMEDY}"
    return _one_line(str(error))


def _remedy(status: int, cause: HfHubHTTPError) -> str:
    wait = _retry_after(cause)
    if isinstance(cause, RevisionNotFoundError):
        return "There is no such branch, tag or commit: `ftp-hf history` lists the versions"
    if status == 429 and wait is not None:
        return f"Too many requests: try again in {wait:g} s"
    return _REMEDIES.get(status) or (_AGAIN_REMEDY if status >= 500 else "Nothing was committed")


def _one_line(text: str) -> str:
    return " ".join(text.split())
