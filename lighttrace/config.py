"""What the program, its environment and its project's file ask for, as one frozen `Config`.

The first that says something wins: arguments, `LIGHTTRACE_*`, `OTEL_*`, `lighttrace.toml` or `[tool.lighttrace]` in
`pyproject.toml`, defaults. Nothing here raises: what cannot be understood is ignored and told in `Config.warnings`,
and `Config.sources` says for each field who decided, for `lighttrace doctor`.

`OTEL_*` variables mean what the OpenTelemetry specification says. In particular their timeouts are milliseconds, also
`OTEL_EXPORTER_OTLP_TIMEOUT`, which opentelemetry-python reads as seconds; a value that looks like seconds is obeyed
and warned about. A timeout of 0 is no limit. Ours (`LIGHTTRACE_TIMEOUT`, `LIGHTTRACE_EXIT_TIMEOUT`) are seconds.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from lighttrace import project_file, semconv
from lighttrace import settings as s
from lighttrace._version import __version__
from lighttrace.settings import Reader, Setting

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})

_CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
_SAMPLERS_WITH_RATIO = ("traceidratio", "parentbased_traceidratio")

SETTINGS: tuple[Setting, ...] = (
    Setting("service", s.text, None, otel=("OTEL_SERVICE_NAME",)),
    Setting("team", s.text, None),
    Setting("enabled", s.boolean, True, otel=("OTEL_SDK_DISABLED",), otel_convert=s.negated),
    Setting("version", s.text, None),
    Setting("environment", s.text, None),
    Setting("namespace", s.text, None),
    Setting("repository", s.text, None),
    Setting("revision", s.text, None),
    Setting("resource", s.pairs, {}),
    Setting("exporters", s.words, ("otlp",), alias="exporter", otel=("OTEL_TRACES_EXPORTER",)),
    Setting("file_path", s.text, None, alias="file"),
    Setting("sampler", s.anything, "parentbased_always_on", otel=("OTEL_TRACES_SAMPLER",), otel_convert=s.text),
    Setting("sampler_arg", lambda value: str(value).strip(), None, otel=("OTEL_TRACES_SAMPLER_ARG",)),
    Setting("keep_ratio", s.ratio, 1.0),
    Setting("keep_errors", s.boolean, True),
    Setting("keep_slower_than_s", s.seconds, None, alias="keep_slower_than"),
    Setting("keep", s.rates, (), variable=False),
    Setting("keep_held_spans", s.positive, 8192),
    Setting("propagators", s.names, ("tracecontext", "baggage"), otel=("OTEL_PROPAGATORS",)),
    Setting("attribute_count_limit", s.count, 128, otel=("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),
    Setting(
        "attribute_length_limit",
        s.count,
        None,
        otel=("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    ),
    Setting("event_count_limit", s.count, 128, otel=("OTEL_SPAN_EVENT_COUNT_LIMIT",)),
    Setting("link_count_limit", s.count, 128, otel=("OTEL_SPAN_LINK_COUNT_LIMIT",)),
    Setting("event_attribute_count_limit", s.count, 128, otel=("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),
    Setting("link_attribute_count_limit", s.count, 128, otel=("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),
    Setting("queue_size", s.positive, 2048, otel=("OTEL_BSP_MAX_QUEUE_SIZE",)),
    Setting("queue_bytes", s.size, 64 << 20),
    Setting("batch_size", s.positive, 2048, otel=("OTEL_BSP_MAX_EXPORT_BATCH_SIZE",)),
    Setting(
        "schedule_delay_s", s.seconds, 5.0, alias="schedule_delay", otel=("OTEL_BSP_SCHEDULE_DELAY",), otel_convert=s.milliseconds
    ),
    Setting(
        "export_timeout_s",
        s.timeout_seconds,
        30.0,
        alias="export_timeout",
        otel=("OTEL_BSP_EXPORT_TIMEOUT",),
        otel_convert=s.timeout_milliseconds,
    ),
    Setting("exit_timeout_s", s.seconds, 5.0, alias="exit_timeout"),
    Setting("integrations_disabled", s.word_set, frozenset(), alias="disable", otel=("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",)),
    Setting("exclude", s.words, (), otel=("OTEL_PYTHON_EXCLUDED_URLS",), otel_convert=s.globs_from_patterns),
    Setting("http_known_methods", s.word_set, KNOWN_METHODS, otel=("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",)),
    Setting("capture_request_headers", s.names, ()),
    Setting("capture_response_headers", s.names, ()),
    Setting("client_request_headers", s.names, None, otel=(_CAPTURE + "CLIENT_REQUEST",)),
    Setting("client_response_headers", s.names, None, otel=(_CAPTURE + "CLIENT_RESPONSE",)),
    Setting("server_request_headers", s.names, None, otel=(_CAPTURE + "SERVER_REQUEST",)),
    Setting("server_response_headers", s.names, None, otel=(_CAPTURE + "SERVER_RESPONSE",)),
    Setting("redacted_parameters", s.words, None, alias="redact"),
    Setting("capture_literals", s.boolean, False),
    Setting("peers", s.peers, {}, variable=False),
    Setting("rules", s.rules, (), variable=False),
    Setting("team_aliases", s.string_table, {}, variable=False),
    Setting("teams", s.teams, {}, variable=False),
    Setting("team_source_paths", s.words, (), alias="team_sources"),
    Setting("edge", s.boolean, False),
    Setting("baggage_hosts", s.words, ()),
    Setting("customer_salt", s.text, "", secret=True),
    Setting("logs", s.logs, "logging", otel=("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",), otel_convert=s.logs_otel),
    Setting("exceptions", s.one_of("events", "logs", "logs/dup"), "events", otel=("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN",)),
)


def _otlp(
    field: str,
    convert: s.Converter,
    default: Any,
    alias: str | None = None,
    otel: s.Converter | None = None,
    secret: bool = False,
) -> Setting:
    key = (alias or field).upper()
    variables = (f"OTEL_EXPORTER_OTLP_TRACES_{key}", f"OTEL_EXPORTER_OTLP_{key}")
    return Setting(field, convert, default, alias=alias, otel=variables, otel_convert=otel, secret=secret)


OTLP_SETTINGS: tuple[Setting, ...] = (
    _otlp("protocol", s.one_of("http/protobuf", "grpc", "http/json"), "http/protobuf"),
    _otlp("endpoint", s.text, None),
    _otlp("headers", s.headers, {}, secret=True),
    _otlp("timeout_s", s.timeout_seconds, 10.0, "timeout", s.timeout_milliseconds),
    _otlp("compression", s.one_of("none", "gzip"), "none"),
    _otlp("certificate", s.text, None),
    _otlp("client_key", s.text, None),
    _otlp("client_certificate", s.text, None),
    _otlp("insecure", s.boolean, False, otel=s.strict_boolean),
)


class _Frozen:
    """A value object: fields are given once, by name, and never change."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; call lighttrace.init again instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # holds dicts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.__dict__.items())})"


class ExporterSettings(_Frozen):
    """Where and how OTLP leaves. `endpoint` is final: for HTTP with `/v1/traces` where the specification appends it."""

    protocol: str
    endpoint: str
    headers: dict[str, str]
    timeout_s: float
    compression: str
    certificate: str | None
    client_key: str | None
    client_certificate: str | None
    insecure: bool

    def __repr__(self) -> str:
        hidden = {**self.__dict__, "headers": dict.fromkeys(self.headers, "REDACTED")}  # they hold the backend's keys
        return f"ExporterSettings({', '.join(f'{key}={value!r}' for key, value in hidden.items())})"


class Config(_Frozen):
    """Everything that can be set. Durations are in seconds, sizes in bytes; see `load` for how it is made."""

    service: str
    team: str | None
    enabled: bool
    resource: dict[str, Any]  # complete but for service.instance.id and the owner, which start-up adds
    exporters: tuple[str, ...]
    file_path: str | None
    otlp: ExporterSettings
    sampler: Any  # a name, or a sampler object given as an argument
    sampler_arg: str | None
    keep_ratio: float
    keep_errors: bool
    keep_slower_than_s: float | None
    keep: tuple[dict[str, Any], ...]  # route (a glob) and per_second
    keep_held_spans: int
    propagators: tuple[str, ...]
    attribute_count_limit: int
    attribute_length_limit: int | None
    event_count_limit: int
    link_count_limit: int
    event_attribute_count_limit: int
    link_attribute_count_limit: int
    queue_size: int
    queue_bytes: int
    batch_size: int
    schedule_delay_s: float
    export_timeout_s: float
    exit_timeout_s: float
    integrations_disabled: frozenset[str]
    exclude: tuple[str, ...]  # globs of paths and routes
    http_known_methods: frozenset[str]
    capture_request_headers: tuple[str, ...]  # for clients and servers alike; the next four are what results
    capture_response_headers: tuple[str, ...]
    client_request_headers: tuple[str, ...]
    client_response_headers: tuple[str, ...]
    server_request_headers: tuple[str, ...]
    server_response_headers: tuple[str, ...]
    redacted_parameters: tuple[str, ...] | None  # None: the usual ones
    capture_literals: bool
    peers: dict[str, dict[str, str]]
    rules: tuple[dict[str, str], ...]
    team_aliases: dict[str, str]
    teams: dict[str, dict[str, str]]
    team_source_paths: tuple[str, ...]
    edge: bool
    baggage_hosts: tuple[str, ...]
    customer_salt: str
    logs: str  # off, logging, all or otlp
    exceptions: str  # events, logs or logs/dup
    sources: dict[str, str]  # field, or "otlp.<field>": who decided
    warnings: tuple[str, ...]
    project_dir: str | None

    def __repr__(self) -> str:
        hidden = {**self.__dict__, "customer_salt": "REDACTED"} if self.customer_salt else self.__dict__
        return f"Config({', '.join(f'{key}={value!r}' for key, value in hidden.items())})"


def load(*, environ: Mapping[str, str] | None = None, directory: str | None = None, **arguments: Any) -> Config:
    """The configuration. `directory` is where the search for the project's file starts; arguments that are None say nothing.

    >>> config = load(environ={"OTEL_SERVICE_NAME": "checkout", "OTEL_BSP_SCHEDULE_DELAY": "250"}, team="payments")
    >>> config.service, config.team, config.schedule_delay_s, config.sources["schedule_delay_s"]
    ('checkout', 'payments', 0.25, 'OTEL_BSP_SCHEDULE_DELAY')
    """
    source = os.environ if environ is None else environ
    # An empty variable is an unset one (specification, "Parsing empty value").
    ours = {
        key: value for key, value in source.items() if key.startswith(("OTEL_", "LIGHTTRACE_")) and value and not value.isspace()
    }
    problems: list[str] = []
    project, file, table = _find(ours.get("LIGHTTRACE_CONFIG"), directory, problems)
    reader = Reader(arguments, ours, {str(key).replace("-", "_"): value for key, value in table.items()}, file)
    reader.warnings = problems
    values = {setting.field: reader.read(setting) for setting in SETTINGS}
    _resource(values, reader)
    _finish(values, reader)
    values["otlp"] = _exporter(values, reader)
    _unknown(reader)
    return Config(**values, sources=reader.sources, warnings=tuple(reader.warnings), project_dir=project)


def _find(path: str | None, directory: str | None, problems: list[str]) -> tuple[str | None, str | None, dict[str, Any]]:
    try:
        if path is None:
            return project_file.find(directory, problems)
        path = os.path.abspath(path)
        if not os.path.isfile(path):
            problems.append(f"LIGHTTRACE_CONFIG: there is no file {path}; it is ignored")
            return project_file.find(directory, problems)
        return os.path.dirname(path), os.path.basename(path), project_file.read(path, problems) or {}
    except Exception as error:
        problems.append(f"the project's file could not be looked for ({type(error).__name__}: {error})")
        return None, None, {}


def _resource(values: dict[str, Any], reader: Reader) -> None:
    """`service`, `team` and the complete resource; the owner's keys leave the resource, because they are `team`."""
    given: dict[str, Any] = {}
    variable = "OTEL_RESOURCE_ATTRIBUTES"
    if variable in reader.environ:
        try:
            given = s.pairs(reader.environ[variable])
        except s.Partly as error:
            given = error.value
            reader.warnings.append(f"{variable}: {error}; the rest is used")
    explicit: dict[str, Any] = values.pop("resource")
    stronger = reader.sources.pop("resource") in ("argument", "LIGHTTRACE_RESOURCE")
    attributes = {**given, **explicit} if stronger else {**explicit, **given}
    owner = attributes.pop(semconv.SERVICE_OWNER_NAME, None)
    for field, found in (
        ("service", attributes.get(semconv.SERVICE_NAME)),
        ("team", attributes.pop(semconv.TEAM, None) or owner),
    ):
        if found and reader.sources[field] not in ("argument", "LIGHTTRACE_" + field.upper(), "OTEL_SERVICE_NAME"):
            values[field] = found
            reader.sources[field] = variable
    if values["service"] is None:
        process = os.path.basename(sys.executable or "")
        values["service"] = f"unknown_service:{process}" if process else "unknown_service"
    attributes[semconv.SERVICE_NAME] = values["service"]
    for field, key in (
        ("version", semconv.SERVICE_VERSION),
        ("environment", semconv.DEPLOYMENT_ENVIRONMENT_NAME),
        ("namespace", semconv.SERVICE_NAMESPACE),
        ("repository", semconv.VCS_REPOSITORY_URL_FULL),
        ("revision", semconv.VCS_REF_HEAD_REVISION),
    ):
        value = values.pop(field)
        decided = reader.sources.pop(field)
        if value is not None and (decided == "argument" or decided.startswith("LIGHTTRACE_") or key not in attributes):
            attributes[key] = value
    attributes[semconv.TELEMETRY_SDK_NAME] = "lighttrace"
    attributes[semconv.TELEMETRY_SDK_LANGUAGE] = "python"
    attributes[semconv.TELEMETRY_SDK_VERSION] = __version__
    values["resource"] = attributes
    reader.sources["resource"] = "argument" if stronger else variable if given else "default"


def _finish(values: dict[str, Any], reader: Reader) -> None:
    """What one setting means for another."""
    warn, sources = reader.warnings.append, reader.sources
    if values["file_path"] is not None and sources["exporters"] == "default":
        values["exporters"], sources["exporters"] = ("file",), sources["file_path"]
    values["exporters"] = exporters = tuple(dict.fromkeys(_EXPORTER_NAMES.get(name, name) for name in values["exporters"]))
    if "none" in exporters and len(exporters) > 1:
        values["exporters"] = tuple(name for name in exporters if name != "none")
        warn(f"exporters: none beside {', '.join(values['exporters'])} says nothing; it is ignored")
    if "none" in values["propagators"]:
        values["propagators"] = ()
    if isinstance(values["sampler"], str):
        values["sampler"] = sampler = values["sampler"].lower() if values["sampler"].isascii() else values["sampler"]
        if sources["sampler"] == "default" and sources["sampler_arg"].startswith("OTEL_"):
            values["sampler_arg"], sources["sampler_arg"] = None, "default"  # the specification: only beside a sampler
        if sampler in _SAMPLERS_WITH_RATIO and values["sampler_arg"] is not None:
            try:
                if not 0.0 <= float(values["sampler_arg"]) <= 1.0:
                    raise ValueError
            except ValueError:
                warn(
                    f"sampler_arg ({sources['sampler_arg']}): {s.shown(values['sampler_arg'])} is not a number from 0 to 1; it is ignored"
                )
                values["sampler_arg"], sources["sampler_arg"] = None, "default"
    if values["batch_size"] > values["queue_size"]:
        if sources["batch_size"] != "default":
            warn(f"batch_size {values['batch_size']} is more than queue_size; {values['queue_size']} is used")
        values["batch_size"] = values["queue_size"]
    for side in ("client", "server"):
        for kind in ("request", "response"):
            field, both = f"{side}_{kind}_headers", f"capture_{kind}_headers"
            if values[field] is None:
                values[field], sources[field] = values[both], sources[both]
    if values["exceptions"] != "events" and values["logs"] != "otlp":
        warn(
            f"exceptions ({sources['exceptions']}): {values['exceptions']} is ignored, because no log records are exported; "
            "that is logs=otlp"
        )
        values["exceptions"], sources["exceptions"] = "events", "default"
    if values["redacted_parameters"] == ("none",):
        values["redacted_parameters"] = ()


_EXPORTER_NAMES = {"otlp_proto_http": "otlp", "otlp_proto_grpc": "otlp", "logging": "console"}
"""Names that opentelemetry-python knows and the specification does not, or no longer does."""


def _exporter(values: dict[str, Any], reader: Reader) -> ExporterSettings:
    nested = reader.table.get("otlp")
    table = {**reader.table, **nested} if isinstance(nested, Mapping) else reader.table
    otlp = {setting.field: reader.read(setting, "otlp.", table) for setting in OTLP_SETTINGS}
    sources, warn = reader.sources, reader.warnings.append
    if sources["otlp.protocol"] == "default" and "otlp_proto_grpc" in reader.environ.get("OTEL_TRACES_EXPORTER", ""):
        otlp["protocol"], sources["otlp.protocol"] = "grpc", "OTEL_TRACES_EXPORTER"
    timeout = otlp["timeout_s"]
    if timeout <= 0.1 and sources["otlp.timeout_s"].startswith("OTEL_"):
        milliseconds = round(timeout * 1000)
        warn(
            f"{sources['otlp.timeout_s']}={milliseconds} is {milliseconds} milliseconds, as the OpenTelemetry specification has it;"
            f" for {milliseconds} seconds write {milliseconds}000"
        )
    grpc = otlp["protocol"] == "grpc"
    given, source = otlp["endpoint"], sources["otlp.endpoint"]
    if given is None:
        given = "http://localhost:4317" if grpc else "http://localhost:4318"
    scheme, separator, rest = given.partition("://")
    if not separator and not grpc:
        warn(f"endpoint ({source}): {s.shown(_without_user(given))} has no scheme; http:// is used")
        scheme, rest, given = "http", given, "http://" + given
    if not grpc and scheme.lower() not in ("http", "https"):
        warn(f"endpoint ({source}): {s.shown(_without_user(given))} is not an http or https URL; http://localhost:4318 is used")
        given, source, sources["otlp.endpoint"] = "http://localhost:4318", "default", "default"
        scheme, rest = "http", "localhost:4318"
    if not grpc:
        if source == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  # as it is; without a path, the root
            given = given if "/" in rest else given + "/"
        else:
            already = given.rstrip("/").endswith("/v1/traces")
            if already and source == "OTEL_EXPORTER_OTLP_ENDPOINT":
                warn(f"{source} is a base that /v1/traces is added to; for a complete URL use OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
                already = False
            given = given if already else given.rstrip("/") + "/v1/traces"
    # A scheme decides; `insecure` is for targets without one.
    otlp["insecure"] = scheme.lower() != "https" if separator or not grpc else otlp["insecure"]
    otlp["endpoint"] = given
    return ExporterSettings(**otlp)


def _without_user(url: str) -> str:
    return url.rpartition("@")[2]


def _unknown(reader: Reader) -> None:
    """A warning for each argument, key and variable that nothing reads: most are slips of the pen."""
    everything = SETTINGS + OTLP_SETTINGS
    known = {setting.field for setting in everything} | {setting.alias for setting in everything}
    for key in reader.arguments:
        if key not in known:
            reader.warnings.append(f"init has no argument {key}{s.did_you_mean(key, known)}; it is ignored")
    nested = reader.table.get("otlp")
    inside = {setting.field for setting in OTLP_SETTINGS} | {setting.alias for setting in OTLP_SETTINGS}
    for key in reader.table:
        if key not in known and not (key == "otlp" and isinstance(nested, Mapping)):
            reader.warnings.append(
                f"{reader.file}: nothing is called {key}{s.did_you_mean(key, known | {'otlp'})}; it is ignored"
            )
    for key in nested if isinstance(nested, Mapping) else ():
        if key not in inside:
            reader.warnings.append(f"{reader.file}: nothing is called otlp.{key}{s.did_you_mean(key, inside)}; it is ignored")
    variables = {setting.variable for setting in everything if setting.variable} | {"LIGHTTRACE_CONFIG"}
    for key in reader.environ:
        # Other parts of LightTrace have variables of their own: only what looks like one of these is told.
        if key.startswith("LIGHTTRACE_") and key not in variables:
            hint = s.did_you_mean(key, variables)
            if hint:
                reader.warnings.append(f"{key} is not known{hint}")
