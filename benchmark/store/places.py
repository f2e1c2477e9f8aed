"""Where a store is: a folder of this machine or a URL, and how either is named without a secret."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from oodbench.errors import StoreError

#: ``scheme://``, also after the ``simplecache::`` of a chain.
_USER = re.compile(r"(?<=://)[^/?#]*@")
_QUERY = re.compile(r"[?#].*$")


def is_url(location: str) -> bool:
    """Whether it is no folder of this machine."""
    return "://" in location and not location.startswith("file://")


def local_folder(location: str) -> Path:
    """The folder that a path or a ``file://`` URL names; StoreError on one of another machine."""
    if not location.startswith("file://"):
        return Path(location).expanduser().absolute()
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise StoreError(
            f"{location.replace(parts.netloc, parts.hostname or '…', 1)} is a folder of another"
            " machine; one of this machine is file:///… or its path"
        )
    return Path(unquote(parts.path)).absolute()


def shown(location: str) -> str:
    """A location as lines name it: of a URL without who logs in, password and signature."""
    if not is_url(location):
        return location
    return _QUERY.sub("?…", _USER.sub("…@", location))


def without_secrets(text: str, location: str) -> str:
    """What a library says of a URL, with every secret of the URL left out."""
    if not is_url(location):
        return text
    text = text.replace(location, shown(location))
    found = {match.removesuffix("@") for match in _USER.findall(location)}
    found |= {part for user in found for part in user.split(":", 1)[1:]}
    query = location.partition("?")[2]
    found |= {query, *query.split("&"), *(value for _, value in parse_qsl(query))}
    found |= {unquote(secret) for secret in found}
    for secret in sorted(found, key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, "…")
    return " ".join(text.split())
