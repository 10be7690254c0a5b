"""Building blocks for the options of a channel type."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr

from assistance.settings import read_secret


def _resolve(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a secret is written env:NAME or file:PATH")
    return read_secret(value)


def _resolve_url(value: Any) -> str:
    if isinstance(value, str) and "://" in value:
        if urlsplit(value).password:
            raise ValueError("a URL with a password in it is a secret: write env:NAME or file:PATH")
        return value
    return _resolve(value)


#: A secret: written `env:NAME` or `file:PATH` in the TOML, never literally.
Secret = Annotated[SecretStr, BeforeValidator(_resolve)]

#: A URL that may hold credentials: then it is written like a secret, else it may stand in the file.
SecretUrl = Annotated[SecretStr, BeforeValidator(_resolve_url)]


class ChannelOptions(BaseModel):
    """Base of every options model: unknown keys are refused, values never echoed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
