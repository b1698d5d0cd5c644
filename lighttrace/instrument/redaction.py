"""What must not leave the process: user names and passwords in URLs, and the values of secret parameters."""

import re

from lighttrace.instrument.engine import state

REDACTED = "REDACTED"

_SIGNATURES = (
    "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature",
)  # fmt: skip
_SECRETS = r"[^=&;#]*(?:token|key|secret|passw|pwd|credential|session|signature)[^=&;#]*|code|auth|authorization|jwt|sig|sid"

_DEFAULT = re.compile(rf"(?i)(?<=[?&;#])((?:{'|'.join(map(re.escape, _SIGNATURES))}|{_SECRETS})=)[^&;#]+")
_QUICK = re.compile(r"(?i)token|key|secret|passw|pwd|credential|session|signature|code|auth|jwt|sig|sid|%")
_patterns: dict[tuple[str, ...] | None, re.Pattern[str]] = {None: _DEFAULT}


def _pattern() -> re.Pattern[str]:
    names = state.redacted_parameters
    pattern = _patterns.get(names)
    if pattern is None:
        assert names is not None
        joined = "|".join(map(re.escape, names)) or r"(?!)"
        pattern = _patterns[names] = re.compile(rf"(?i)(?<=[?&;#])((?:{joined})=)[^&;#]+")
    return pattern


def query(text: str) -> str:
    """A query string without its secrets.

    >>> query("page=2&api_key=abc&X-Amz-Signature=f00")
    'page=2&api_key=REDACTED&X-Amz-Signature=REDACTED'
    """
    if state.redacted_parameters is None and not _QUICK.search(text):
        return text
    if "%" in text:
        return _encoded(text)
    return _pattern().sub(rf"\1{REDACTED}", "?" + text)[1:]


def _encoded(text: str) -> str:
    """A query some of whose names may be percent-encoded: `%74oken=` is a token too."""
    from urllib.parse import unquote

    parts = re.split(r"([&;])", text)
    for index in range(0, len(parts), 2):
        name, equals, value = parts[index].partition("=")
        if equals and value and _pattern().search(f"?{unquote(name)}=x"):
            parts[index] = f"{name}={REDACTED}"
    return "".join(parts)


def url(text: str) -> str:
    """A URL without credentials and secrets.

    >>> url("https://bob:hunter2@example.com/a?sig=abc")
    'https://REDACTED:REDACTED@example.com/a?sig=REDACTED'
    """
    head, mark, rest = text.partition("?")
    scheme, separator, after = head.partition("://")
    if separator:
        authority, slash, path = after.partition("/")
        if "@" in authority:
            head = f"{scheme}://{REDACTED}:{REDACTED}@{authority.rpartition('@')[2]}{slash}{path}"
    if mark:
        before, hash_mark, fragment = rest.partition("#")
        rest = query(before) + (hash_mark + query(fragment) if hash_mark else "")
        return f"{head}?{rest}"
    if "#" in head:
        before, _, fragment = head.partition("#")
        return f"{before}#{query(fragment)}"
    return head
