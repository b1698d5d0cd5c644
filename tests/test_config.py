"""The configuration: who wins, what each variable means, and that nothing a user writes raises."""

import copy
import os
import pickle
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lighttrace import project_file
from lighttrace.config import OTLP_SETTINGS, SETTINGS, Config, load
from lighttrace.settings import FOREVER_S, globs_from_patterns


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()  # the search ends here
    return tmp_path


def config(project: Path, environ: dict[str, str] | None = None, **arguments: object) -> Config:
    return load(environ=environ or {}, directory=str(project), **arguments)


def test_defaults_are_those_of_the_specification(project: Path) -> None:
    made = config(project)
    assert made.service.startswith("unknown_service:python")
    assert (made.enabled, made.exporters, made.propagators) == (True, ("otlp",), ("tracecontext", "baggage"))
    assert (made.sampler, made.sampler_arg) == ("parentbased_always_on", None)
    assert (made.queue_size, made.batch_size, made.schedule_delay_s, made.export_timeout_s) == (2048, 2048, 5.0, 30.0)
    assert (made.attribute_count_limit, made.attribute_length_limit, made.event_count_limit, made.link_count_limit) == (
        128,
        None,
        128,
        128,
    )
    assert (made.otlp.protocol, made.otlp.endpoint, made.otlp.timeout_s) == (
        "http/protobuf",
        "http://localhost:4318/v1/traces",
        10.0,
    )
    assert (made.otlp.compression, made.otlp.headers, made.otlp.insecure) == ("none", {}, True)
    assert made.exit_timeout_s == 5.0
    assert made.queue_bytes == 64 * 1024 * 1024
    assert made.warnings == ()
    assert {source for field, source in made.sources.items()} == {"default"}
    assert made.project_dir is None


def test_argument_beats_ours_beats_opentelemetrys_beats_file_beats_default(project: Path) -> None:
    (project / "lighttrace.toml").write_text('service = "file"\n')
    layers = [
        ({}, {"service": "argument"}, "argument", "argument"),
        ({"LIGHTTRACE_SERVICE": "ours"}, {}, "ours", "LIGHTTRACE_SERVICE"),
        ({"OTEL_SERVICE_NAME": "otel"}, {}, "otel", "OTEL_SERVICE_NAME"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=resource"}, {}, "resource", "OTEL_RESOURCE_ATTRIBUTES"),
    ]
    for start in range(len(layers)):
        environ: dict[str, str] = {}
        arguments: dict[str, object] = {}
        for given_environ, given_arguments, _, _ in layers[start:]:
            environ |= given_environ
            arguments |= given_arguments
        made = config(project, environ, **arguments)
        assert (made.service, made.sources["service"]) == layers[start][2:]
        assert made.resource["service.name"] == made.service
    made = config(project)
    assert (made.service, made.sources["service"]) == ("file", "lighttrace.toml")


def test_team_comes_from_the_resource_attributes_and_leaves_them(project: Path) -> None:
    made = config(
        project, {"OTEL_RESOURCE_ATTRIBUTES": "team=payments,service.owner.name=other,deployment.environment.name=prod"}
    )
    assert (made.team, made.sources["team"]) == ("payments", "OTEL_RESOURCE_ATTRIBUTES")
    assert "team" not in made.resource
    assert "service.owner.name" not in made.resource
    assert made.resource["deployment.environment.name"] == "prod"
    assert config(project, {"OTEL_RESOURCE_ATTRIBUTES": "service.owner.name=fraud"}).team == "fraud"
    made = config(project, {"OTEL_RESOURCE_ATTRIBUTES": "team=payments", "LIGHTTRACE_TEAM": "web"})
    assert (made.team, made.sources["team"]) == ("web", "LIGHTTRACE_TEAM")


def test_resource_attributes_are_percent_decoded_and_a_broken_pair_is_told(project: Path) -> None:
    made = config(project, {"OTEL_RESOURCE_ATTRIBUTES": " a.b = x%2Cy%3Dz ,broken, c=1=2,=v,"})
    assert made.resource["a.b"] == "x,y=z"
    assert made.resource["c"] == "1=2"
    assert len(made.warnings) == 1
    assert "2 of its pairs" in made.warnings[0]


def test_resource_describes_the_service_and_this_library(project: Path) -> None:
    made = config(project, {"LIGHTTRACE_VERSION": "1.2"}, environment="prod", resource={"k8s.pod.name": "p"})
    assert made.resource["service.version"] == "1.2"
    assert made.resource["deployment.environment.name"] == "prod"
    assert made.resource["k8s.pod.name"] == "p"
    assert made.resource["telemetry.sdk.language"] == "python"
    assert made.resource["telemetry.sdk.name"] == "lighttrace"
    assert made.resource["telemetry.sdk.version"]


def test_empty_variable_is_an_unset_one(project: Path) -> None:
    made = config(
        project, {"OTEL_SERVICE_NAME": "", "OTEL_SDK_DISABLED": "", "OTEL_BSP_MAX_QUEUE_SIZE": " ", "LIGHTTRACE_TEAM": ""}
    )
    assert made == config(project)
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.example/otlp/"}, "https://api.example/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/custom"}, "http://collector:4318/custom"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318"}, "http://collector:4318/"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/v1/traces"},
            "http://b/v1/traces",
        ),
        ({"LIGHTTRACE_ENDPOINT": "http://c/v1/traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"}, "http://c/v1/traces"),
        ({"LIGHTTRACE_ENDPOINT": "http://c"}, "http://c/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://localhost:4317"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4317"},
            "https://collector:4317",
        ),
    ],
)
def test_endpoint_is_built_by_the_specifications_rule(project: Path, environ: dict[str, str], endpoint: str) -> None:
    made = config(project, environ)
    assert made.otlp.endpoint == endpoint
    assert made.warnings == ()


def test_endpoint_without_scheme_or_with_a_strange_one_is_told(project: Path) -> None:
    made = config(project, {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})
    assert made.otlp.endpoint == "http://collector:4318/v1/traces"
    assert "no scheme" in made.warnings[0]
    made = config(project, {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://user:secret@collector"})
    assert made.otlp.endpoint == "http://localhost:4318/v1/traces"
    assert "not an http or https URL" in made.warnings[0]
    assert "secret" not in made.warnings[0]


@pytest.mark.parametrize(
    ("endpoint", "variable", "insecure"),
    [
        ("https://c:4317", "true", False),
        ("http://c:4317", "false", True),
        ("c:4317", "true", True),
        ("c:4317", "", False),
        ("dns:///c:4317", "true", True),
    ],
)
def test_scheme_decides_over_insecure_for_grpc(project: Path, endpoint: str, variable: str, insecure: bool) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_INSECURE": variable,
    }
    made = config(project, environ)
    assert (made.otlp.endpoint, made.otlp.insecure) == (endpoint, insecure)


def test_signal_specific_exporter_variables_win_over_general_ones(project: Path) -> None:
    general = {
        "PROTOCOL": "grpc", "HEADERS": "a=1", "TIMEOUT": "1000", "COMPRESSION": "none", "CERTIFICATE": "/g/ca", "CLIENT_KEY": "/g/key",
        "CLIENT_CERTIFICATE": "/g/crt",
    }  # fmt: skip
    traces = {
        "PROTOCOL": "http/json", "HEADERS": "B=2", "TIMEOUT": "2500", "COMPRESSION": "gzip", "CERTIFICATE": "/t/ca", "CLIENT_KEY": "/t/key",
        "CLIENT_CERTIFICATE": "/t/crt",
    }  # fmt: skip
    environ = {f"OTEL_EXPORTER_OTLP_{key}": value for key, value in general.items()}
    otlp = config(project, environ).otlp
    assert (otlp.protocol, otlp.headers, otlp.timeout_s, otlp.certificate) == ("grpc", {"a": "1"}, 1.0, "/g/ca")
    environ |= {f"OTEL_EXPORTER_OTLP_TRACES_{key}": value for key, value in traces.items()}
    otlp = config(project, environ).otlp
    assert (otlp.protocol, otlp.headers, otlp.timeout_s, otlp.compression) == ("http/json", {"b": "2"}, 2.5, "gzip")
    assert (otlp.certificate, otlp.client_key, otlp.client_certificate) == ("/t/ca", "/t/key", "/t/crt")


def test_headers_are_percent_decoded_and_never_shown(project: Path) -> None:
    made = config(project, {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret==, x-tenant = a%2Cb "})
    assert made.otlp.headers == {"authorization": "Bearer s3cret==", "x-tenant": "a,b"}
    assert "s3cret" not in repr(made)
    made = config(project, {"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"})
    assert made.otlp.headers == {}
    assert "s3cret" not in str(made.warnings)


def test_timeouts_of_opentelemetry_are_milliseconds_and_ours_are_seconds(project: Path) -> None:
    made = config(
        project, {"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_BSP_EXPORT_TIMEOUT": "1500", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    )
    assert (made.otlp.timeout_s, made.export_timeout_s, made.schedule_delay_s) == (2.5, 1.5, 0.1)
    assert made.warnings == ()
    made = config(project, {"LIGHTTRACE_TIMEOUT": "2.5", "LIGHTTRACE_EXIT_TIMEOUT": "1"}, export_timeout=7)
    assert (made.otlp.timeout_s, made.exit_timeout_s, made.export_timeout_s) == (2.5, 1.0, 7.0)


def test_timeout_that_looks_like_seconds_is_obeyed_and_told(project: Path) -> None:
    made = config(project, {"OTEL_EXPORTER_OTLP_TIMEOUT": "10"})
    assert made.otlp.timeout_s == 0.01
    assert "10 milliseconds" in made.warnings[0]
    assert "10000" in made.warnings[0]


def test_timeout_of_zero_is_no_limit(project: Path) -> None:
    made = config(project, {"OTEL_EXPORTER_OTLP_TIMEOUT": "0", "OTEL_BSP_EXPORT_TIMEOUT": "0"})
    assert made.otlp.timeout_s == made.export_timeout_s == FOREVER_S


@pytest.mark.parametrize("word", ["true", "TRUE", "True"])
def test_sdk_disabled_only_by_true(project: Path, word: str) -> None:
    made = config(project, {"OTEL_SDK_DISABLED": word})
    assert (made.enabled, made.sources["enabled"]) == (False, "OTEL_SDK_DISABLED")


@pytest.mark.parametrize(("word", "warned"), [("false", False), ("False", False), ("1", True), ("yes", True), ("on", True)])
def test_sdk_not_disabled_by_any_other_word(project: Path, word: str, warned: bool) -> None:
    made = config(project, {"OTEL_SDK_DISABLED": word})
    assert made.enabled
    assert bool(made.warnings) is warned


def test_limits_of_spans_win_over_general_ones(project: Path) -> None:
    made = config(project, {"OTEL_ATTRIBUTE_COUNT_LIMIT": "7", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9"})
    assert (made.attribute_count_limit, made.event_attribute_count_limit, made.link_attribute_count_limit) == (7, 7, 7)
    assert made.attribute_length_limit == 9
    environ = {
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "7",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "2",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "3",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "0",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "5",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8",
    }
    made = config(project, environ)
    assert (made.attribute_count_limit, made.event_attribute_count_limit, made.link_attribute_count_limit) == (1, 2, 3)
    assert (made.event_count_limit, made.link_count_limit, made.attribute_length_limit) == (0, 5, 8)


def test_batch_is_never_larger_than_the_queue(project: Path) -> None:
    made = config(project, {"OTEL_BSP_MAX_QUEUE_SIZE": "100"})
    assert (made.batch_size, len(made.warnings)) == (100, 0)
    made = config(project, {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "101"})
    assert made.batch_size == 100
    assert "batch_size" in made.warnings[0]


@pytest.mark.parametrize(
    ("variable", "value", "field", "kept"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "queue_size", 2048),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "queue_size", 2048),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1_000", "queue_size", 2048),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "٣", "queue_size", 2048),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "9" * 5000, "queue_size", 2048),
        ("OTEL_BSP_SCHEDULE_DELAY", "fast", "schedule_delay_s", 5.0),
        ("OTEL_BSP_SCHEDULE_DELAY", "1.5", "schedule_delay_s", 5.0),
        ("LIGHTTRACE_EXIT_TIMEOUT", "nan", "exit_timeout_s", 5.0),
        ("LIGHTTRACE_EXIT_TIMEOUT", "inf", "exit_timeout_s", 5.0),
        ("LIGHTTRACE_QUEUE_BYTES", "lots", "queue_bytes", 64 << 20),
        ("LIGHTTRACE_EDGE", "maybe", "edge", False),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "none", "event_count_limit", 128),
    ],
)
def test_bad_value_is_a_warning_and_the_default(project: Path, variable: str, value: str, field: str, kept: object) -> None:
    made = config(project, {variable: value})
    assert getattr(made, field) == kept
    assert made.sources[field] == "default"
    assert len(made.warnings) == 1
    assert variable in made.warnings[0]


def test_bad_value_lets_the_next_source_speak(project: Path) -> None:
    made = config(project, {"LIGHTTRACE_QUEUE_SIZE": "many", "OTEL_BSP_MAX_QUEUE_SIZE": "4096"})
    assert (made.queue_size, made.sources["queue_size"]) == (4096, "OTEL_BSP_MAX_QUEUE_SIZE")


@pytest.mark.parametrize(("written", "meant"), [("64MiB", 64 << 20), ("1k", 1024), ("2 GB", 2 << 30), ("500", 500)])
def test_sizes_have_units(project: Path, written: str, meant: int) -> None:
    assert config(project, {"LIGHTTRACE_QUEUE_BYTES": written}).queue_bytes == meant


def test_sampler_and_its_argument(project: Path) -> None:
    made = config(project, {"OTEL_TRACES_SAMPLER": "TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert (made.sampler, made.sampler_arg) == ("traceidratio", "0.25")
    made = config(project, {"OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert (made.sampler_arg, made.warnings) == (None, ())
    made = config(project, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "25%"})
    assert made.sampler_arg is None
    assert "0 to 1" in made.warnings[0]
    made = config(project, sampler="traceidratio", sampler_arg=0.5)
    assert made.sampler_arg == "0.5"


def test_sampler_object_is_taken_as_it_is(project: Path) -> None:
    sampler = object()
    assert config(project, sampler=sampler).sampler is sampler


def test_propagators_are_each_used_once_and_none_is_none(project: Path) -> None:
    assert config(project, {"OTEL_PROPAGATORS": "b3, tracecontext,B3"}).propagators == ("b3", "tracecontext")
    assert config(project, {"OTEL_PROPAGATORS": "none"}).propagators == ()


def test_exporters(project: Path) -> None:
    assert config(project, {"OTEL_TRACES_EXPORTER": "console,otlp"}).exporters == ("console", "otlp")
    assert config(project, {"OTEL_TRACES_EXPORTER": "none"}).exporters == ("none",)
    assert config(project, {"OTEL_TRACES_EXPORTER": "console,none"}).exporters == ("console",)
    assert config(project, {"OTEL_TRACES_EXPORTER": "console", "LIGHTTRACE_EXPORTER": "memory"}).exporters == ("memory",)
    made = config(project, {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"})
    assert (made.exporters, made.otlp.protocol) == (("otlp",), "grpc")


def test_a_file_asked_for_is_where_the_spans_go(project: Path) -> None:
    made = config(project, {"LIGHTTRACE_FILE": "/tmp/spans.jsonl"})
    assert (made.exporters, made.file_path, made.sources["exporters"]) == (("file",), "/tmp/spans.jsonl", "LIGHTTRACE_FILE")
    made = config(project, {"LIGHTTRACE_FILE": "/tmp/spans.jsonl", "OTEL_TRACES_EXPORTER": "otlp,file"})
    assert made.exporters == ("otlp", "file")


def test_captured_headers_for_clients_and_servers(project: Path) -> None:
    environ = {
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "X-Tenant,Accept",
        "LIGHTTRACE_CAPTURE_RESPONSE_HEADERS": "X-Cache",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE": "Age",
    }
    made = config(project, environ)
    assert (made.client_request_headers, made.server_request_headers) == ((), ("x-tenant", "accept"))
    assert (made.client_response_headers, made.server_response_headers) == (("age",), ("x-cache",))
    assert made.sources["server_response_headers"] == "LIGHTTRACE_CAPTURE_RESPONSE_HEADERS"


def test_disabled_integrations_and_excluded_routes(project: Path) -> None:
    made = config(
        project,
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests, flask", "OTEL_PYTHON_EXCLUDED_URLS": "health,client/.*/info"},
    )
    assert made.integrations_disabled == {"requests", "flask"}
    assert made.exclude == ("*health*", "*client/*/info*")
    made = config(project, {"LIGHTTRACE_EXCLUDE": "/health*,/metrics", "LIGHTTRACE_DISABLE": "sqlite3"})
    assert made.exclude == ("/health*", "/metrics")
    assert made.integrations_disabled == {"sqlite3"}


def test_pattern_that_no_glob_can_say_is_refused() -> None:
    for pattern in ("a|b", "v[0-9]", "x{2}", "(a)", "a+", "\\d"):
        with pytest.raises(ValueError, match="LIGHTTRACE_EXCLUDE"):
            globs_from_patterns(pattern)


def test_everything_a_file_can_say(project: Path) -> None:
    (project / "pyproject.toml").write_text("""
[project]
name = "shop"

[tool.lighttrace]
service = "checkout"
team = "payments"
exclude = ["/health"]
redact = ["pin"]
queue-size = 1000
edge = true

[tool.lighttrace.otlp]
endpoint = "http://collector:4318"
headers = { Authorization = "x" }
timeout = 3

[tool.lighttrace.resource]
"deployment.environment.name" = "prod"

[tool.lighttrace.peers]
"*.stripe.com" = { service = "stripe", team = "payments" }
"orders-db*" = { team = "orders" }

[[tool.lighttrace.rules]]
route = "/fraud/*"
team = "risk"
[[tool.lighttrace.rules]]
span = "nightly*"
team = "batch"

[tool.lighttrace.team_aliases]
"payments-backend" = "payments"

[tool.lighttrace.teams.payments]
contact = "#payments"
url = "https://runbook"
""")
    inside = project / "src" / "shop"
    inside.mkdir(parents=True)
    made = load(environ={}, directory=str(inside))
    assert made.warnings == ()
    assert made.project_dir == str(project)
    assert (made.service, made.team, made.sources["service"]) == ("checkout", "payments", "pyproject.toml")
    assert (made.exclude, made.redacted_parameters, made.queue_size, made.edge) == (("/health",), ("pin",), 1000, True)
    assert (made.otlp.endpoint, made.otlp.headers, made.otlp.timeout_s) == (
        "http://collector:4318/v1/traces",
        {"authorization": "x"},
        3.0,
    )
    assert made.resource["deployment.environment.name"] == "prod"
    assert made.peers == {"*.stripe.com": {"service": "stripe", "team": "payments"}, "orders-db*": {"team": "orders"}}
    assert made.rules == ({"route": "/fraud/*", "team": "risk"}, {"name": "nightly*", "team": "batch"})
    assert made.team_aliases == {"payments-backend": "payments"}
    assert made.teams == {"payments": {"contact": "#payments", "url": "https://runbook"}}


def test_nearest_file_with_settings_wins(project: Path) -> None:
    inside = project / "service"
    inside.mkdir()
    (project / "lighttrace.toml").write_text('service = "outer"\n')
    (inside / "pyproject.toml").write_text('[project]\nname = "x"\n')
    made = load(environ={}, directory=str(inside))
    assert (made.service, made.project_dir) == ("outer", str(project))
    (inside / "pyproject.toml").write_text('[tool.lighttrace]\nservice = "inner"\n')
    made = load(environ={}, directory=str(inside))
    assert (made.service, made.project_dir) == ("inner", str(inside))
    (inside / "lighttrace.toml").write_text('service = "own file"\n')
    assert load(environ={}, directory=str(inside)).service == "own file"


def test_project_without_settings_is_still_the_project(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "x"\n')
    made = config(project)
    assert (made.project_dir, made.warnings) == (str(project), ())


def test_search_ends_at_the_repositorys_root(project: Path) -> None:
    repository = project / "repository"
    (repository / ".git").mkdir(parents=True)
    (project / "lighttrace.toml").write_text('service = "not ours"\n')
    made = load(environ={}, directory=str(repository))
    assert made.project_dir is None
    assert made.service.startswith("unknown_service")


@pytest.mark.skipif(os.name == "nt", reason="no sticky directories")
def test_file_in_a_directory_that_anybody_writes_to_is_not_trusted(project: Path) -> None:
    shared = project / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "lighttrace.toml").write_text('endpoint = "http://attacker"\n')
    inside = shared / "work"
    inside.mkdir()
    assert load(environ={}, directory=str(inside)).otlp.endpoint == "http://localhost:4318/v1/traces"


def test_configuration_file_named_by_a_variable(project: Path) -> None:
    (project / "other.toml").write_text('service = "named"\n')
    made = load(environ={"LIGHTTRACE_CONFIG": str(project / "other.toml")}, directory=str(project))
    assert (made.service, made.sources["service"], made.project_dir) == ("named", "other.toml", str(project))
    made = load(environ={"LIGHTTRACE_CONFIG": str(project / "missing.toml")}, directory=str(project))
    assert "there is no file" in made.warnings[0]


@pytest.mark.parametrize(
    "content", [b"service = ", b"\xff\xfe", b"[" * 3000, b"tool = 3 # lighttrace", b"[tool]\nlighttrace = 3", b"\0lighttrace"]
)
@pytest.mark.parametrize("name", ["lighttrace.toml", "pyproject.toml"])
def test_broken_file_is_told_and_ignored(project: Path, name: str, content: bytes) -> None:
    (project / name).write_bytes(content + b"\n# lighttrace")
    made = config(project)
    assert made.service.startswith("unknown_service")
    assert len(made.warnings) <= 1


def test_unknown_names_are_told_with_what_was_probably_meant(project: Path) -> None:
    (project / "lighttrace.toml").write_text('sevrice = "x"\n[otlp]\nendpiont = "http://x"\n')
    made = config(project, {"LIGHTTRACE_TAEM": "x", "LIGHTTRACE_SOMETHING_ELSE_ENTIRELY": "1"}, exlude=["/health"])
    text = "\n".join(made.warnings)
    assert "did you mean service?" in text
    assert "did you mean endpoint?" in text
    assert "did you mean LIGHTTRACE_TEAM?" in text
    assert "did you mean exclude?" in text
    assert "SOMETHING_ELSE" not in text
    assert len(made.warnings) == 4


@pytest.mark.parametrize(
    "content",
    ['rules = [{route = "/x"}]', 'rules = [{team = "x"}]', 'rules = [{team = "x", rout = "/x"}]', "rules = 3", 'peers = {"a" = {tem = "x"}}', 'teams = {a = {phone = "1"}}', "peers = 1", "team_aliases = {a = 1}"],
)  # fmt: skip
def test_badly_written_table_is_told(project: Path, content: str) -> None:
    (project / "lighttrace.toml").write_text(content)
    made = config(project)
    assert len(made.warnings) == 1
    assert (made.rules, made.peers, made.teams, made.team_aliases) == ((), {}, {}, {})


def test_one_bad_entry_does_not_cost_the_others(project: Path) -> None:
    (project / "lighttrace.toml").write_text("""
rules = [{team = "risk", route = "/fraud"}, {team = "x"}]
peers = {"good" = {team = "a"}, "bad" = 3}
headers = "a=1,broken,b=x%0d%0aevil"
""")
    made = config(project)
    assert made.rules == ({"team": "risk", "route": "/fraud"},)
    assert made.peers == {"good": {"team": "a"}}
    assert made.otlp.headers == {"a": "1"}
    assert len(made.warnings) == 3


def test_configuration_is_frozen_equal_by_value_and_can_be_copied(project: Path) -> None:
    made = config(project)
    with pytest.raises(AttributeError, match="frozen"):
        made.service = "other"
    with pytest.raises(AttributeError, match="frozen"):
        del made.otlp.endpoint
    assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
    made.peers["x"] = {"team": "y"}
    assert config(project).peers == {}


def test_every_field_is_declared_and_filled(project: Path) -> None:
    made = config(project)
    assert set(vars(made)) == set(Config.__annotations__)
    assert set(vars(made.otlp)) == {setting.field for setting in OTLP_SETTINGS}


def test_program_that_is_run_by_path_is_where_the_search_begins(project: Path) -> None:
    (project / "lighttrace.toml").write_text('service = "found"\n')
    (project / "app.py").write_text("from lighttrace.config import load\nprint(load().service, load().project_dir)\n")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LIGHTTRACE_"))}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, str(project / "app.py")], cwd="/", env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["found", str(project)]


def test_no_heavy_module_is_imported(project: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import lighttrace.config as c; c.load(directory='/');"
        "print([m for m in ('re', 'inspect', 'dataclasses', 'logging', 'urllib.parse', 'tomllib', 'json') if m in set(sys.modules) - before])"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LIGHTTRACE_"))}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['re']"), done.stdout  # `typing` brings `re` where `site` has not


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


_NAMES = sorted(
    {name for setting in SETTINGS + OTLP_SETTINGS for name in (*setting.otel, setting.variable) if name}
    | {"OTEL_RESOURCE_ATTRIBUTES"}
)
_text = st.text(st.characters(codec=None), max_size=60) | st.text(string.printable, max_size=60)


@given(st.dictionaries(st.sampled_from(_NAMES), _text, max_size=8))
def test_no_environment_makes_it_raise(environ: dict[str, str]) -> None:
    made = load(environ=environ, directory="/")
    assert isinstance(made.service, str)
    assert made.queue_size >= made.batch_size >= 1


@given(st.dictionaries(st.sampled_from(sorted({s.field for s in SETTINGS + OTLP_SETTINGS})), st.none() | st.booleans() | st.integers() | st.floats() | _text | st.lists(_text, max_size=3) | st.dictionaries(_text, _text, max_size=3) | st.builds(Hostile) | st.binary(max_size=9), max_size=8))  # fmt: skip
def test_no_argument_makes_it_raise(arguments: dict[str, object]) -> None:
    assert isinstance(load(environ={}, directory="/", **arguments), Config)


@given(st.binary(max_size=300))
def test_no_file_makes_it_raise(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        Path(directory, ".git").mkdir()
        Path(directory, "lighttrace.toml").write_bytes(content)
        assert isinstance(load(environ={}, directory=directory), Config)


def test_the_file_is_only_parsed_when_it_speaks_of_us(project: Path) -> None:
    (project / "pyproject.toml").write_text("this is not TOML at all [[")
    problems: list[str] = []
    assert project_file.find(str(project), problems) == (str(project), None, {})
    assert problems == []
