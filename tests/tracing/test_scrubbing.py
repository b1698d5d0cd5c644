"""Secrets in messages of exceptions: on the event, in the stack trace and in the status."""

import builtins
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lighttrace
from lighttrace import secret_names
from lighttrace.instrument import redaction
from lighttrace.testing import capture
from lighttrace.tracing import errors, scrubbing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bad password=hunter2", "bad password=REDACTED"),
        ("DB_PASSWORD='hunter2', user=bob", "DB_PASSWORD=REDACTED, user=bob"),
        ('{"api_key": "hunter2", "page": 2}', '{"api_key": REDACTED, "page": 2}'),
        ("{'access_token': 'hunter2'}", "{'access_token': REDACTED}"),
        ("Authorization: Bearer hunter2", "Authorization: REDACTED"),
        ("postgresql://bob:hunter2@db/shop is down", "postgresql://REDACTED:REDACTED@db/shop is down"),
        ("https://h/?token=hunter2&page=2", "https://h/?token=REDACTED&page=2"),
        ("https://h/?X-Amz-Signature=hunter2", "https://h/?X-Amz-Signature=REDACTED"),
        ("https://h/?%74oken=hunter2&p%61ge=2'", "https://h/?%74oken=REDACTED&p%61ge=2'"),
        ("/a?%74oken=hunter2", "/a?%74oken=REDACTED"),
        ("secret : hunter2", "secret : REDACTED"),
        ("Set-Cookie: hunter2; Path=/", "Set-Cookie: REDACTED; Path=/"),
    ],
)
def test_secret_is_taken_out(text: str, expected: str) -> None:
    assert scrubbing.message(text) == expected


@pytest.mark.parametrize("name", [*secret_names.PARTS, *secret_names.WHOLE, *secret_names.IN_QUERIES])
def test_urls_and_prose_know_the_same_secrets(name: str) -> None:
    word = {"key": "api_key", "passw": "password"}.get(name, name)
    assert redaction.query(f"{word}=hunter2") == f"{word}=REDACTED"
    assert scrubbing.message(f"cannot get /a?{word}=hunter2") == f"cannot get /a?{word}=REDACTED"
    if name not in secret_names.IN_QUERIES:
        assert scrubbing.message(f"{word}=hunter2") == f"{word}=REDACTED"


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'country'",
        "itsdangerous.exc.BadSignature: No b'.' found in value",
        "TokenError: unexpected end of input",
        "monkey=banana",
        "the session is over",
        "no such key: name",
        "see https://example.com/a@b",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrubbing.message(text) == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("raise RuntimeError('password=hunter2')", "raise RuntimeError('password=REDACTED')"),
        ("connect(password='hunter2', port=1)", "connect(password='REDACTED', port=1)"),
        ("""headers = {"Authorization": "Bearer hunter2"}""", """headers = {"Authorization": 'REDACTED'}"""),
        ("password = b'hunter2'", "password = 'REDACTED'"),
        ("get(f'https://{host}/?token=hunter2&page={page}')", "get(f'https://{host}/?token=REDACTED&page={page}')"),
        ("raise E(f'password={password}, {token=}')", "raise E(f'password={password}, {token=}')"),
        ("login(password=password, token=os.environ['TOKEN'])", "login(password=password, token=os.environ['TOKEN'])"),
    ],
)
def test_code_loses_what_is_written_out_in_it_and_keeps_its_names(line: str, expected: str) -> None:
    assert scrubbing.code(line) == expected
    stack = f'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    {line}\nValueError: no\n'
    assert scrubbing.stack(stack) == stack.replace(line, expected)


def test_nothing_of_it_is_on_the_span() -> None:
    with capture() as spans:
        with pytest.raises(ValueError, match="hunter2"), lighttrace.span("login"):
            password = "hunter"
            raise ValueError(f"bad password={password}2 at https://bob:{password}2@h/?token={password}2")
        span = spans.expect(name="login", status="error")
    (event,) = span.events
    assert "hunter2" not in repr((event, span.message, span.attributes))
    assert "password=REDACTED" in str(event)
    assert 'password = "hunter"' not in str(event.attributes["exception.message"])


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    scrubbing.stack(scrubbing.message(text))
    scrubbing.code(text)


@pytest.mark.parametrize(
    "piece", ["a.", "token", "key-", "://", "password=", "a://b", "'", "=:", "secret:'", "?%", "&a%61=", "?%74oken=x"]
)
def test_long_text_takes_time_in_proportion(piece: str) -> None:
    begun = time.monotonic()
    scrubbing.message(piece * (200_000 // len(piece)))
    scrubbing.code(piece * (200_000 // len(piece)))
    assert time.monotonic() - begun < 20, "this takes less than a second, unless each character is looked at from each other"


@pytest.mark.parametrize("text", ["cannot log in:\n  password=hunter2", "first\n\n    password=hunter2\n"])
def test_message_of_many_lines_is_scrubbed_in_the_stack_too(text: str) -> None:
    with capture() as spans:
        with pytest.raises(ValueError, match="hunter2"), lighttrace.span("login"):
            raise ValueError(text)
        span = spans.expect(name="login", status="error")
    (event,) = span.events
    assert "hunter2" not in repr((event, span.message))
    assert "raise ValueError(text)" in event.attributes["exception.stacktrace"], "the code stays"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has groups of exceptions from 3.11 on")
def test_group_of_exceptions_says_nothing_that_its_members_may_not() -> None:
    group: Any = getattr(builtins, "ExceptionGroup", None)
    secret = "duplicate key value\nDETAIL:  Key (mail)=(hunter2) already exists."
    members: list[Exception] = []
    plain = ValueError("password=hunter2")
    with capture() as spans:
        with pytest.raises(group), lighttrace.span("all"):
            for _ in range(20):
                error = LookupError(secret)
                with lighttrace.span("query") as span:  # as the engine does for a database's exception
                    errors.fail(span, error, "duplicate key value\nDETAIL:  Key (mail)=(?) already exists.")  # type: ignore[arg-type]  # it is ours
                members.append(error)
            raise group("some failed", [group("inner", members[:18]), *members[18:], plain])
        found = spans.take(21)
    for each in found:
        assert "hunter2" not in repr((each.events, each.message))
    stack = found[-1].events[0].attributes["exception.stacktrace"]
    assert "LookupError: duplicate key value" in stack
    assert "password=REDACTED" in stack
