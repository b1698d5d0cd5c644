"""Secrets in text that a program wrote for people, such as the message of an exception: what looks like one is taken out.

Each value goes that stands behind the name of a secret: `password=hunter2`, `"token": "abc"`, `https://bob:hunter2@example.com`.
Source code in stack traces keeps its names, `password=password`, and loses what is written out in it. It stands here and not
beside the redaction of URLs because exceptions are recorded on spans made by hand, too.
"""

import re

from lighttrace.secret_names import IN_QUERIES, PARTS, REDACTED, WHOLE

_IN_QUERIES = "|".join(IN_QUERIES)

# Before anything is looked for: most texts have none of it. For casefolded text: ignoring case takes seven times as long.
_PERHAPS = re.compile(rf"{'|'.join((*PARTS, *WHOLE))}|cookie|(?:{_IN_QUERIES})=|%|://")
_NAMES = rf"(?:[\w.-]{{0,48}}[_.-])?(?:{'|'.join((*PARTS.values(), *WHOLE))})(?:[_-][\w-]{{1,32}})?"
_VALUE = r"(?P<value>\"[^\"\n]{1,4096}\"?|'[^'\n]{1,4096}'?|(?:(?:Bearer|Basic|bearer|basic)\s+)?[^\s,;&)\]}'\"]{1,4096})"
# `=` in any spelling; `:` only behind names as code and data have them: "BadSignature: no dot found" is an exception.
_ASSIGNED = re.compile(rf"(?i:(?<![\w])(?P<name>{_NAMES})(?P<mark>[\"']?\s{{0,4}}=\s{{0,4}})){_VALUE}")
_TOLD = re.compile(
    rf"(?<![\w.])(?P<name>(?:{_NAMES}|Authorization|Cookie|Set-Cookie|X-Api-Key))(?P<mark>[\"']?\s{{0,4}}:\s{{0,4}}){_VALUE}"
)
_USER = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^/\s@\"'<>]{1,1024}@")

_SHORT = re.compile(rf"(?i)(?P<mark>[?&;](?:{_IN_QUERIES})=)[^\s&;#'\"]{{1,4096}}")  # secrets in the query of a URL only

_ENCODED = re.compile(
    r"(?P<mark>[?&;](?P<name>[^\s=&;#'\"%]{0,64}%[^\s=&;#'\"]{2,64})=)[^\s&;#'\"]{1,4096}"
)  # `%74oken=` is a token too
_NAME = re.compile(rf"(?i:{_NAMES}|{_IN_QUERIES})")


def _decoded(match: "re.Match[str]") -> str:
    from urllib.parse import unquote

    return match["mark"] + REDACTED if _NAME.fullmatch(unquote(match["name"])) else match[0]


def message(text: str) -> str:
    """A text without what looks like a secret.

    >>> message("cannot log in: password='hunter2' at https://bob:hunter2@example.com/?token=abc&page=2")
    'cannot log in: password=REDACTED at https://REDACTED:REDACTED@example.com/?token=REDACTED&page=2'
    >>> message("KeyError: 'country'")
    "KeyError: 'country'"
    """
    if _PERHAPS.search(text.casefold()) is None:
        return text
    text = _USER.sub(rf"\g<scheme>{REDACTED}:{REDACTED}@", text)
    text = _SHORT.sub(rf"\g<mark>{REDACTED}", text)
    if "%" in text:
        text = _ENCODED.sub(_decoded, text)
    text = _ASSIGNED.sub(rf"\g<name>\g<mark>{REDACTED}", text)
    return _TOLD.sub(rf"\g<name>\g<mark>{REDACTED}", text)


_LITERAL = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?")
_GIVEN = re.compile(
    rf"(?i:(?<![\w.])(?P<name>(?:{_NAMES}|Authorization|Cookie|Set-Cookie|X-Api-Key))(?P<mark>[\"']?\s{{0,4}}[=:]\s{{0,4}}))"
    rf"[rbuRBU]{{0,2}}(?:{_LITERAL.pattern})"
)
_FIELD = re.compile(r"(\{[^{}\n]*\})")  # of a format string: a name


def code(line: str) -> str:
    """A line of source code without the secrets that are written out in it.

    >>> code("connect(user, password=password, token='abc', url=f'db://bob:hunter2@{host}/')")
    "connect(user, password=password, token='REDACTED', url=f'db://REDACTED:REDACTED@{host}/')"
    """
    line = _GIVEN.sub(rf"\g<name>\g<mark>'{REDACTED}'", line)
    return _LITERAL.sub(lambda found: "".join(map(message, _FIELD.split(found[0]))), line)


_MARGIN = re.compile(r" *[|+] ?")


def stack(text: str) -> str:
    """A stack trace without the secrets in its messages, which may have many lines, notes, and a group's margin, and in its code."""
    if _PERHAPS.search(text.casefold()) is None:
        return text
    made = []
    in_frame = False
    for line in text.split("\n"):
        margin = _MARGIN.match(line)
        bare = line[margin.end() :] if margin is not None else line
        # Below the place of a frame stands its code, further in.
        in_frame = bare.startswith('  File "') or (in_frame and bare.startswith("    "))
        made.append(code(line) if in_frame else message(line))
    return "\n".join(made)
