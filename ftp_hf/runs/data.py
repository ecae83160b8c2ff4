"""The facts of a data set, as far as it has them."""

import dataclasses
import re
from contextlib import suppress
from typing import Any

from ftp_hf.common.privacy import public_name

from .facts import DataFacts

__all__ = ["data_facts"]

_HUB_FILE = re.compile(r"hf://datasets/(?P<name>[^@/]+(?:/[^@/]+)?)@(?P<revision>[0-9a-f]{40})")


def data_facts(dataset: Any, name: str, kind: str, source: str | None = None, **facts: Any) -> DataFacts:
    """
    The facts of a data set, as far as it has them.

    Args:
        dataset (`Dataset`): of any kind; size, columns, and what `datasets` knows of its origin are read where it has them.
        name (`str`): what the results call it.
        kind (`str`): `"train"`, `"validation"`, `"id"` or `"ood"`.
        source (`str`, *optional*): its name on the Hub, or a local path, of which the last part is kept. By default the
            name on the Hub that `datasets` loaded it from.
        **facts: fields of [`DataFacts`] that are known better.
    """
    known = DataFacts(name, kind)
    with suppress(TypeError, NotImplementedError):  # a stream has no length, or says so when asked
        known.size = len(dataset)
    known.columns = list(getattr(dataset, "column_names", None) or [])
    info = getattr(dataset, "info", None)
    found = next(filter(None, map(_HUB_FILE.match, getattr(info, "download_checksums", None) or {})), None)
    if found:
        known.source, known.on_hub, known.revision = found["name"], True, found["revision"]
        known.config = getattr(info, "config_name", None)
        known.split = str(dataset.split) if getattr(dataset, "split", None) is not None else None
    elif source is not None:
        known.source, known.on_hub = public_name(source)
    return dataclasses.replace(known, **facts)
