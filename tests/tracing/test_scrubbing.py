"""Secrets in messages of exceptions: on the event, in the stack trace and in the status."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lighttrace
from lighttrace.testing import capture
from lighttrace.tracing import scrubbing


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
        ("secret : hunter2", "secret : REDACTED"),
    ],
)
def test_secret_is_taken_out(text: str, expected: str) -> None:
    assert scrubbing.message(text) == expected


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


@pytest.mark.parametrize("piece", ["a.", "token", "key-", "://", "password=", "a://b", "'", "=:", "secret:'"])
def test_long_text_takes_time_in_proportion(piece: str) -> None:
    begun = time.monotonic()
    scrubbing.message(piece * (200_000 // len(piece)))
    assert time.monotonic() - begun < 20, "this takes less than a second, unless each character is looked at from each other"
