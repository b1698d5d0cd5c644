"""Row 3: the backend down, hanging, slow or refusing. The program never waits for it."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from lighttrace import config, export
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.faults.backend import (
    DRIP,
    GARBAGE,
    GARBAGE_BODY,
    HANG,
    LOST,
    LOST_IN_SILENCE,
    OK,
    RESET,
    WEB_PAGE,
    Answer,
    Backend,
    GrpcBackend,
    partial,
    redirect,
    slow,
    status,
)  # fmt: skip
from tests.faults.certificates import Certificates
from tests.faults.conftest import Record
from tests.faults.programs import Done, loaded

SLOWEST_S = 1.0  # of a request: whoever waits for the backend waits longer than this, and a busy machine does not
EXIT_S = 5.0
PATIENCE_S = 8.0  # how long the other tracer may take to exit before it is killed

DOWN = "spans cannot be delivered"
BACK = "spans are delivered again"


def traced(backend: Backend | GrpcBackend, **options: Any) -> tuple[Any, Any]:
    """A queue that sends to the backend, and a tracer whose spans go there."""
    if isinstance(backend, GrpcBackend):
        options["protocol"] = "grpc"
    settings = {"schedule_delay": 0.02, **options}
    queue = export.build(config.load(environ={}, endpoint=backend.endpoint, **settings))
    return queue, TracerProvider(Pipeline({"service.name": "s"}, put=queue.put)).get_tracer("t")


def balance(done: Done) -> dict[str, Any]:
    """The books of a program that has ended, after a look whether they balance to the span."""
    before, _, after = done.said
    assert after["exported"] + sum(after["dropped"].values()) + after["queued"] == before["ended"]
    assert after["queued"] == 0
    return after


def describe(done: Done) -> str:
    """What was seen of a program, in words that do not change."""
    slowest = f"slowest request {done.said[0]['slowest'] * 1000:.0f} ms"
    lines = f"log lines: {len([line for line in done.log if line and not line.startswith((' ', 'Traceback'))])}"
    if len(done.said) == 1:
        return f"{slowest}; a flush of 0.5 s had not come back after {PATIENCE_S:.0f} s, when the program was killed; {lines}"
    flush = f"a flush of 0.5 s came back after {done.said[1]['flush']:.1f} s"
    ended = f"still there {PATIENCE_S:.0f} s later, when it was killed" if done.killed else f"exit took {done.exit_s:.1f} s"
    return f"{slowest}; {flush}; {ended}; {lines}"


REFUSES = "refuses"
FAULTS: dict[str, tuple[str, Any, str | None]] = {
    # what: in a reader's words, the answer (or what makes one), the reason that spans are dropped for
    "refuses": ("connections are refused", REFUSES, "connection"),
    "hangs": ("connections are accepted, and nothing is ever answered", HANG, "shutdown"),
    "drips": ("an answer comes a byte at a time, and never ends", DRIP, "shutdown"),
    "resets": ("every connection is reset", RESET, "connection"),
    "429": ("429 with Retry-After: 30", status(429, retry_after=30), "shutdown"),
    "503": ("503 with Retry-After, a date in 30 s", lambda: status(503, retry_after=30, as_date=True), "shutdown"),
    "503 alone": ("503", status(503), "status_503"),
    "400": ("400", status(400), "status_400"),
    "garbage": ("what is no HTTP", GARBAGE, "connection"),
    "web page": ("200 and a web page", WEB_PAGE, "not_otlp"),
    "moved": ("301", redirect("http://127.0.0.1:1/v1/traces"), "redirected"),
    "slow": ("every answer takes 0.3 s", slow(0.3), None),
    "silent": ("it takes the spans and never says so", LOST_IN_SILENCE, "shutdown"),
}  # fmt: skip
COMPARED = ("refuses", "hangs", "drips", "429", "moved")


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_program_under_load_never_waits_for_its_backend(fault: str, backend: Backend, record: Record) -> None:
    words, answer, reason = FAULTS[fault]
    if answer is REFUSES:
        backend.down()
    else:
        backend.answer = answer() if callable(answer) else answer
    ours = loaded("lighttrace", backend.endpoint)
    theirs = loaded("opentelemetry", backend.endpoint) if fault in COMPARED else None
    done = ours.wait()
    other = theirs.wait(PATIENCE_S) if theirs else None
    before = done.said[0]
    assert done.code == 0
    assert before["slowest"] < SLOWEST_S
    assert done.said[1]["flush"] < 1.0
    assert done.exit_s < EXIT_S
    books = balance(done)
    down = [line for line in done.log if DOWN in line]
    if reason is None:
        assert (books["dropped"], done.log) == ({}, [])
    else:
        assert reason in books["dropped"]
        assert books["exported"] == 0
        assert len(down) == (0 if reason == "shutdown" and fault not in ("429", "503") else 1), done.log
        assert len(done.log) <= 2, done.log  # and one at the end, for what is lost with the program
    record(3, f"the backend, under load: {words}", describe(done), describe(other) if other else "")


@pytest.mark.slow
def test_one_line_when_it_goes_down_and_one_when_it_is_back(backend: Backend, record: Record) -> None:
    # The last pause may have begun just before the backend came back and take three seconds: the queue holds that, and so does
    # the time that the programs run.
    programs = {
        name: loaded(name, backend.endpoint, 6, OTEL_BSP_MAX_QUEUE_SIZE="8192") for name in ("lighttrace", "opentelemetry")
    }
    assert backend.wait_for(lambda: len(backend.requests) >= 6)
    backend.down()
    at = time.monotonic()
    backend.wait_for(lambda: time.monotonic() - at > 1.2)
    backend.up()
    done, other = (programs[name].wait() for name in programs)
    books = balance(done)
    assert [line.split(":")[1].strip().partition(" (")[0] for line in done.log] == [DOWN, BACK], done.log
    assert books["dropped"] == {}
    ours = [span for request in backend.requests if "lighttrace" in request.headers["user-agent"] for span, _ in request.spans]
    assert len(set(ours)) == books["exported"]
    assert len(ours) - len(set(ours)) <= books["repeated"]
    lines = len([line for line in other.log if line and not line.startswith((" ", "Traceback"))])
    record(
        3,
        "the backend is killed under load, and comes back 1.2 s later",
        f"log lines: {len(done.log)}, one when it went, one when it was back; no span was dropped",
        f"log lines: {lines}",
    )


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(as_date: bool, backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    queue, tracer = traced(backend)
    asked = 2.0 if as_date else 1.0  # a date has whole seconds only
    backend.script(status(503, retry_after=asked, as_date=as_date))
    tracer.start_span("s").end()
    assert queue.flush(10)
    first, second = backend.requests
    assert second.at - first.at >= (asked - 1 if as_date else asked)
    assert first.spans == second.spans
    assert list(backend.arrived.values()) == [1]
    assert queue.shutdown(5)
    assert queue.stats() == {"exported": 1, "dropped": {}, "queued": 0}
    assert queue.repeated == 0  # a refusal is an answer
    assert len(caplog.records) == 2


@pytest.mark.parametrize("answer", [HANG, DRIP, RESET, LOST, GARBAGE, status(503), status(429, retry_after=0.1)])
def test_one_deadline_covers_all_tries_of_a_batch(answer: Answer, backend: Backend) -> None:
    backend.answer = answer
    queue, tracer = traced(backend, export_timeout=0.8)
    begun = time.monotonic()
    tracer.start_span("s").end()
    assert queue.flush(10)
    took = time.monotonic() - begun
    assert took < 2.0
    assert sum(queue.stats()["dropped"].values()) == 1
    pauses = [later.at - earlier.at for earlier, later in zip(backend.requests, backend.requests[1:], strict=False)]
    if answer in (RESET, LOST, GARBAGE) or answer.status == 503:
        assert all(pause >= 0.1 for pause in pauses)
        assert 2 <= len(backend.requests) <= 6
    assert queue.doubtful == (1 if answer.act not in ("answer",) else 0)
    assert queue.shutdown(5)


def test_pauses_between_tries_grow_and_are_never_the_same() -> None:
    def pauses() -> list[float]:
        with Backend(status(503)) as backend:
            queue, tracer = traced(backend, export_timeout=2.5)
            tracer.start_span("s").end()
            assert queue.flush(10)
            assert queue.shutdown(5)
            return [later.at - earlier.at for earlier, later in zip(backend.requests, backend.requests[1:], strict=False)]

    found = pauses()
    assert found[0] < 0.5
    assert max(found) > 0.5
    assert [round(pause, 3) for pause in found] != [round(pause, 3) for pause in pauses()]


@pytest.mark.parametrize("answer", [HANG, RESET, DRIP, status(503), status(503, retry_after=20), status(429, retry_after=0.2)])
def test_flush_and_shutdown_keep_their_time(answer: Answer, backend: Backend) -> None:
    backend.answer = answer
    queue, tracer = traced(backend)
    for _ in range(600):
        tracer.start_span("s").end()
    begun = time.monotonic()
    assert not queue.flush(0.3)
    assert time.monotonic() - begun < 3
    begun = time.monotonic()
    assert not queue.shutdown(1.0) or not queue.stats()["exported"]
    assert time.monotonic() - begun < 4
    stats = queue.stats()
    assert stats["exported"] + sum(stats["dropped"].values()) == 600
    assert stats["queued"] == 0


def test_what_a_partial_success_refuses_is_counted_and_not_sent_again(backend: Backend) -> None:
    backend.script(partial(2))
    queue, tracer = traced(backend)
    for _ in range(5):
        tracer.start_span("s").end()
    assert queue.shutdown(5)
    assert len(backend.requests) == 1
    assert queue.stats() == {"exported": 3, "dropped": {"rejected": 2}, "queued": 0}


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_backend_that_takes_less_at_once_gets_everything_once(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    with GrpcBackend(most_bytes=30_000) if protocol == "grpc" else Backend() as backend:
        backend.most_bytes = 30_000  # some 200 spans
        queue, tracer = traced(backend, queue_size=5000, protocol=protocol)
        for number in range(4000):
            tracer.start_span(f"span {number}", attributes={"number": number}).end()
        tracer.start_span("too large", attributes={"text": "x" * 40_000}).end()
        assert queue.shutdown(20)
        assert queue.stats()["exported"] == 4000
        assert sum(queue.stats()["dropped"].values()) == 1
        names = backend.names()
        assert (len(names), max(names.values())) == (4000, 1)
        assert len(caplog.messages) == 1  # of the one that is too large by itself
        assert len(backend.requests) < 200


def test_an_answer_that_cannot_be_read_is_still_an_answer(backend: Backend) -> None:
    backend.answer = GARBAGE_BODY
    queue, tracer = traced(backend)
    tracer.start_span("s").end()
    assert queue.shutdown(5)
    assert queue.stats() == {"exported": 1, "dropped": {}, "queued": 0}


def test_a_redirect_is_not_followed_and_its_aim_is_told(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    with Backend() as elsewhere:
        backend.answer = redirect(elsewhere.endpoint + "/v1/traces")
        queue, tracer = traced(backend, headers={"api-key": "secret"})
        tracer.start_span("s").end()
        assert not queue.shutdown(5) or queue.stats()["dropped"] == {"redirected": 1}
        assert not elsewhere.requests  # credentials go where they were told to go
        assert elsewhere.endpoint in caplog.text


TLS: dict[str, tuple[str, Callable[[Certificates], dict[str, Any]], Callable[[Certificates], dict[str, Any]], str]] = {
    "authority": ("the certificate is by an unknown authority", lambda c: {}, lambda c: {"certificate": c.another_authority}, "CERTIFICATE"),
    "expired": ("the certificate has expired", lambda c: {"kind": "expired"}, lambda c: {"certificate": c.authority}, "CERTIFICATE"),
    "host": ("the certificate is for another host", lambda c: {"kind": "host"}, lambda c: {"certificate": c.authority}, "CERTIFICATE"),
    "mtls": ("a client's certificate is demanded, and there is none", lambda c: {"demand_client": True},
             lambda c: {"certificate": c.authority}, "certificate"),
    "stranger": ("a client's certificate is demanded, and ours is a stranger's", lambda c: {"demand_client": True},
                 lambda c: {"certificate": c.authority, "client_certificate": c.strangers, "client_key": c.strangers_key}, ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", list(TLS))
def test_tls_that_fails_is_told_in_one_line(
    fault: str, certificates: Certificates, caplog: pytest.LogCaptureFixture, record: Record
) -> None:
    words, server, client, _ = TLS[fault]
    with Backend(tls=certificates.server(**server(certificates))) as backend:
        queue, tracer = traced(backend, **client(certificates))
        for _ in range(3):
            tracer.start_span("s").end()
            queue.flush(0.5)
        queue.shutdown(1)
        assert not backend.requests
        assert sum(queue.stats()["dropped"].values()) == 3
        (line,) = [entry.message for entry in caplog.records]
        assert DOWN in line
        assert re.search("certificate|CERTIFICATE|tls", line), line
    record(3, f"TLS: {words}", "told in one log line that names the setting; spans are dropped and counted", "")


def test_tls_with_a_client_s_certificate_works(certificates: Certificates) -> None:
    with Backend(tls=certificates.server(demand_client=True)) as backend:
        queue, tracer = traced(
            backend,
            certificate=certificates.authority,
            client_certificate=certificates.client,
            client_key=certificates.client_key,
        )
        tracer.start_span("s").end()
        assert queue.shutdown(5)
        assert queue.exported == 1
        assert backend.requests[0].peer == ("client.example",)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(503), "grpc_unavailable"),
        (status(429), "grpc_resource_exhausted"),
        (status(400), "grpc_invalid_argument"),
        (HANG, "grpc_deadline_exceeded"),
    ],
)
def test_grpc_backends_that_fail_are_tried_again_where_that_may_help(answer: Answer, reason: str) -> None:
    with GrpcBackend() as backend:
        backend.answer = answer
        queue, tracer = traced(backend, export_timeout=1.0)
        tracer.start_span("s").end()
        begun = time.monotonic()
        assert queue.flush(10)
        assert time.monotonic() - begun < 8
        assert queue.stats()["dropped"] == {reason: 1}
        assert (len(backend.requests) > 1) == (reason == "grpc_unavailable")
        assert queue.shutdown(5)


def test_grpc_backends_are_left_alone_for_as_long_as_they_ask() -> None:
    with GrpcBackend() as backend:
        backend.script(status(429, retry_after=0.5), status(503, retry_after=0.3), OK)
        queue, tracer = traced(backend)
        tracer.start_span("s").end()
        assert queue.shutdown(10)
        one, two, three = (request.at for request in backend.requests)
        assert two - one >= 0.5
        assert three - two >= 0.3
        assert queue.stats() == {"exported": 1, "dropped": {}, "queued": 0}
        assert queue.repeated == 0
