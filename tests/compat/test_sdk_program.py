"""A program that was written for opentelemetry-sdk runs unchanged on our provider, and sees what it saw before."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("sdk_program.py")
OURS = ("error.type", "team", "lighttrace.", "code.")  # attributes that LightTrace adds
INIT = "import sys, runpy, lighttrace; lighttrace.init(exporter='none'); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
AFTER = """
import sys, runpy, lighttrace
from opentelemetry import trace
set_provider = trace.set_tracer_provider
def set_and_init(provider):
    set_provider(provider)
    lighttrace.init(exporter="none")
trace.set_tracer_provider = set_and_init
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
WAYS = {
    "stock": [],
    "lighttrace run": ["-m", "lighttrace", "run", "--", sys.executable],
    "init before": ["-c", INIT],
    "init after the provider is set": ["-c", AFTER],
}


def run(way: str, **environment: str) -> tuple[dict[str, Any], str]:
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, *WAYS[way], str(PROGRAM)],
        env={**os.environ, "PYTHONPATH": root, "LIGHTTRACE_EXPORTER": "none", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told, done.stderr


@pytest.fixture(scope="module")
def stock() -> dict[str, Any]:
    return run("stock")[0]


def comparable(told: dict[str, Any]) -> dict[str, Any]:
    """Without ports and without what LightTrace adds."""
    spans = []
    for span in told["spans"]:
        attributes = {key: value for key, value in span["attributes"].items() if not key.startswith(OURS)}
        for key in ("http.url", "url.full", "server.port", "net.peer.port"):
            attributes.pop(key, None)
        spans.append({**span, "attributes": attributes, "class": None})
    return {**told, "spans": spans}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "stock"])
def test_it_sees_what_it_saw_before(way: str, stock: dict[str, Any]) -> None:
    told, errors = run(way)
    assert comparable(told) == comparable(stock)
    assert {span["class"] for span in told["spans"]} == {"lighttrace.tracing.span.Span"}
    assert errors == ""


def test_the_stock_run_is_what_the_test_believes(stock: dict[str, Any]) -> None:
    assert {span["class"] for span in stock["spans"]} == {"opentelemetry.sdk.trace.ReadableSpan"}
    assert sorted(span["name"] for span in stock["spans"]) == [
        "GET",
        "aside",
        "decorated",
        "early child",
        "failing",
        "handed out",
        "root",
    ]
    assert stock["problems"] == []
    assert stock["same provider"]


def test_a_contrib_instrumentation_makes_the_only_client_span(stock: dict[str, Any]) -> None:
    told, _ = run("lighttrace run")
    (client,) = [span for span in told["spans"] if span["kind"] == "CLIENT"]
    assert client["scope"][0] == "opentelemetry.instrumentation.requests"
    ((parent, _),) = told["headers"]
    assert parent == f"00-{client['trace']:032x}-{client['span']:016x}-{client['flags']:02x}"
