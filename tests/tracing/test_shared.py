"""What spans have in common, and what they have in common beyond that."""

from typing import Any

from lighttrace.tracing.shared import MIXED, NOTHING, Shared


def status(code: int) -> dict[str, Any]:
    return {"http.response.status_code": code}


def test_more_is_remembered_from_the_second_time_on() -> None:
    target = Shared({"server.address": "a"})
    assert target.with_more(200, status(200)) is None
    more = target.with_more(200, status(200))
    assert more is not None and more is target.further[200]
    assert more.attributes == {"server.address": "a", "http.response.status_code": 200}
    assert target.attributes == {"server.address": "a"}
    assert (more.encoded, more.plain) == (None, True)


def test_only_a_few_are_remembered() -> None:
    target = Shared({"server.address": "a"})
    made = [target.with_more(code, status(code)) for code in range(100, 600)]
    assert len(target.further) == sum(more is not None for more in made) == 8


def test_where_nothing_is_shared_nothing_more_is() -> None:
    for empty in (NOTHING, MIXED):
        assert [empty.with_more(200, status(200)) for _ in range(3)] == [None] * 3
        assert not empty.further
    target = Shared({"server.address": "a"})
    target.with_more(200, status(200))
    assert not Shared({"server.address": "b"}).further
