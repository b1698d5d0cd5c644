"""OTLP over gRPC: headers, TLS, and what the statuses mean."""

import os
from pathlib import Path
from typing import Any

import pytest

from lighttrace import config
from lighttrace.export.grpc import GrpcExporter
from lighttrace.tracing.pipeline import Pipeline
from lighttrace.tracing.provider import TracerProvider
from tests.faults.backend import HANG, OK, Answer, GrpcBackend, partial, status
from tests.faults.certificates import Certificates, make


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def batch() -> list[Any]:
    spans: list[Any] = []
    tracer = TracerProvider(Pipeline({"service.name": "s"}, put=spans.append)).get_tracer("t")
    for number in range(3):
        tracer.start_span(f"{number}").end()
    return spans


def send(endpoint: str, batch: list[Any], timeout: float = 10, **options: Any) -> Any:
    exporter = GrpcExporter(config.load(environ={}, endpoint=endpoint, protocol="grpc", **options).otlp)
    try:
        return exporter.send(exporter.prepare(batch, None), timeout)
    finally:
        exporter.close()


@pytest.mark.parametrize(
    ("answer", "reason", "retry", "unanswered"),
    [
        (OK, "", False, False),
        (status(400), "grpc_invalid_argument", False, False),
        (status(401), "grpc_unauthenticated", False, False),
        (status(429), "grpc_resource_exhausted", False, False),
        (status(429, retry_after=2), "grpc_resource_exhausted", True, False),
        (status(503, retry_after=2), "grpc_unavailable", True, False),
        (HANG, "grpc_deadline_exceeded", True, True),
    ],
)
def test_statuses_mean_what_the_specification_says(
    answer: Answer, reason: str, retry: bool, unanswered: bool, batch: list[Any]
) -> None:
    with GrpcBackend(answer) as backend:
        outcome = send(backend.endpoint, batch, 1.0)
        assert outcome.reason.partition(":")[0] == reason
        assert (outcome.retry, outcome.unanswered) == (retry, unanswered)
        assert outcome.retry_after == answer.retry_after


def test_a_backend_that_takes_less_at_once_is_given_less(batch: list[Any]) -> None:
    with GrpcBackend(most_bytes=200) as backend:
        outcome = send(backend.endpoint, batch)
        assert outcome.reason.startswith("grpc_resource_exhausted")
        assert (outcome.too_large, outcome.retry) == (True, False)
        assert send(backend.endpoint, batch[:1]).reason == ""


def test_nobody_there_is_worth_another_try_and_nothing_was_sent(batch: list[Any]) -> None:
    with GrpcBackend() as backend:
        endpoint = backend.endpoint
    outcome = send(endpoint, batch, 3)
    assert outcome.reason.startswith("grpc_unavailable")
    assert (outcome.retry, outcome.unanswered) == (True, False)


def test_partial_success_is_counted(batch: list[Any]) -> None:
    with GrpcBackend(partial(2)) as backend:
        outcome = send(backend.endpoint, batch, headers={"Api-Key": "secret"}, compression="gzip")
        assert (outcome.reason, outcome.rejected) == ("", 2)
        assert backend.requests[0].headers["api-key"] == "secret"


def test_tls_with_a_client_s_certificate(certificates: Certificates, batch: list[Any]) -> None:
    with GrpcBackend(credentials=certificates.grpc(demand_client=True)) as backend:
        outcome = send(
            backend.endpoint,
            batch,
            certificate=certificates.authority,
            client_certificate=certificates.client,
            client_key=certificates.client_key,
        )
        assert outcome.reason == ""
        assert backend.requests[0].peer == ("client.example",)


def test_a_certificate_that_is_not_good_is_refused(certificates: Certificates, batch: list[Any]) -> None:
    with GrpcBackend(credentials=certificates.grpc(kind="expired")) as backend:
        outcome = send(backend.endpoint, batch, 3, certificate=certificates.authority)
        assert outcome.reason
        assert not backend.requests


def test_a_file_of_certificates_that_is_not_there_is_named(batch: list[Any], tmp_path: Path) -> None:
    outcome = send("https://localhost:1", batch, certificate=str(tmp_path / "missing.pem"))
    assert outcome.reason.startswith("tls:")
    assert os.strerror(2) in outcome.reason
    assert not outcome.retry
