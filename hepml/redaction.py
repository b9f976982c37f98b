"""Secrets: taken out of a config when it is read, so that nothing that is written or shown can hold them.

What is hidden here is user information in addresses (`https://user:password@host`), and what follows
`token=`, `key=`, `password=` and their like. The real value is kept in the memory of the process (and, for
processes that it starts, in an environment variable), and whoever opens a store or a file asks for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_VARIABLE = "HEPML_HIDDEN"
_STRONG = r"pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?"
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")
_USER = re.compile(r"^([A-Za-z][\w+.-]*://)[^/?#\s'\"]*@")
_IN_ADDRESS = re.compile(rf"(?i)\b([\w-]*(?:{_STRONG}|key|signature|sig|auth)=)([^\s&;,'\"#]+)")
_ANYWHERE = re.compile(
    rf"(?i)\b([\w-]*(?:{_STRONG})\s?=\s?['\"]?)(?!(?:true|false|null|none)\b|[\d.]+\b)([^\s&;,'\"#()\[\]{{}}]+)"
)
_HEADER = re.compile(r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}")
_NAME = re.compile(rf"(?i)^(?:.*[_-])?(?:{_STRONG})$")
_real: dict[str, str] = {}


def redact(text: str) -> str:
    """The text without secrets."""
    if "=" not in text and "@" not in text and "earer" not in text and "asic" not in text:
        return text
    text = _ADDRESS.sub(lambda match: _address(match[0]), text)
    text = _ANYWHERE.sub(lambda match: match[1] + HIDDEN, text)
    return _HEADER.sub(lambda match: f"{match[1]} {HIDDEN}", text)


def redacted(value: Any) -> Any:
    """The value with all texts in it, and all entries that are named like a secret, without secrets."""
    return _walk(value, redact)


def hide(value: Any) -> Any:
    """The same, and the real texts are remembered for `reveal`."""
    return _walk(value, _hide)


def reveal(text: str) -> str:
    """The real text of one that `hide` gave; the text itself where there is none."""
    return _real.get(text) or _inherited().get(text) or text


def lacks_secret(text: str) -> bool:
    """Whether a secret was taken out of this text and is not known here, as in the config of a run folder."""
    return any(f"{mark}{HIDDEN}" in text for mark in ("//", "=")) and reveal(text) == text


def _hide(text: str) -> str:
    shown = redact(text)
    if shown != text:
        _real[shown] = text
        os.environ[_VARIABLE] = json.dumps({**_inherited(), shown: text})
    return shown


def _inherited() -> dict[str, str]:
    try:
        secrets = json.loads(os.environ.get(_VARIABLE, "{}"))
    except ValueError:
        return {}
    return secrets if isinstance(secrets, dict) else {}


def _address(text: str) -> str:
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    return _IN_ADDRESS.sub(lambda match: match[1] + HIDDEN, text)


def _walk(value: Any, change: Any, name: str = "") -> Any:
    if isinstance(value, str):
        if value and _NAME.match(name):
            return HIDDEN
        return change(value)
    if isinstance(value, Mapping):
        return {key: _walk(below, change, str(key)) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_walk(below, change) for below in value) if type(value) in (list, tuple) else value
    return value
