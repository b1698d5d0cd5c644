"""`lighttrace doctor`: why there is a trace, or why there is none.

It switches tracing on as the program would, in the same directory and environment, imports each library that we know
and that is installed, and looks at what became of it. Nothing is exported but one empty request.
"""

import argparse
import json
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import lighttrace
from lighttrace import guard

_NOT_CODE = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__", "build", "dist"})
_MOST_FILES = 2000  # somebody waits at a terminal
_MARKS = {True: "ok ", False: "BAD"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what is traced, what is not and why, and whether the backend answers",
        description="Say what is traced in this environment, what is not and why, what the configuration is and where each "
        "value came from, whether the backend answers, and who owns the spans. Exits 1 if something is broken.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--no-network", action="store_true", help="do not try the backend")


def run(options: argparse.Namespace) -> int:
    """Look at everything, print it, and give 1 if something is broken, else 0."""
    # Standing in for the program, so what is looked for starts in the current directory and not at this command's file.
    vars(sys.modules["__main__"]).pop("__file__", None)
    try:
        findings = examine(network=not options.no_network)
    except ImportError as error:
        print(f"BROKEN: {error}. This installation is not complete: pip install --force-reinstall lighttrace", file=sys.stderr)
        return 1
    if options.json:
        json.dump(findings, sys.stdout, indent=2, default=str)
        print()
    else:
        print(render(findings))
    return 1 if findings["problems"] else 0


def examine(*, network: bool = True) -> dict[str, Any]:
    """Everything that there is to know, as plain data; `problems` are what is broken, `notes` what is only worth knowing."""
    from lighttrace import config as configuration
    from lighttrace import runtime

    config = configuration.load()
    problems: list[str] = []
    notes: list[str] = []
    lighttrace.init(exporter="none")
    if runtime.active() is None and config.enabled:
        site = guard.sites.get("init")
        problems.append(f"tracing could not be switched on: {site.last_error if site else 'nobody said why'}")
    integrations = _integrations(problems)
    attempt = _endpoint(config, problems) if network else None
    owners = _owners(config, notes)
    _causes(config, notes)
    drops = _drops(config, notes)
    return {
        "lighttrace": lighttrace.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in ("opentelemetry-api", "opentelemetry-sdk", "wrapt")},
        "project": config.project_dir,
        "integrations": integrations,
        "config": _settings(config),
        "warnings": list(config.warnings),
        "endpoint": attempt,
        "owners": owners,
        "counters": dict(sorted(guard.counters.items())),
        "drops": drops,
        "failures": {name: site.last_error for name, site in sorted(guard.sites.items()) if site.failures},
        "problems": problems,
        "notes": notes,
    }


def _integrations(problems: list[str]) -> list[dict[str, Any]]:
    from lighttrace.instrument.registry import registry

    entries = registry.report()
    errors: dict[str, str] = {}
    for entry in entries:
        library = entry["library"]
        if entry["state"] == "disabled":
            continue
        if find_spec(library.partition(".")[0]) is None:
            errors[entry["name"]] = f"{library.partition('.')[0]} is not installed"
            continue
        try:
            import_module(library)
        except Exception as error:  # a library that does not import is a finding
            errors[entry["name"]] = f"it cannot be imported: {type(error).__name__}: {error}"
            problems.append(f"{library} cannot be imported: {type(error).__name__}: {error}")
    entries = registry.report()
    for entry in entries:
        if entry["name"] in errors:
            entry.update(state="skipped", reason=errors[entry["name"]])
        elif entry["state"] == "patched" and (entry["reason"] or entry.get("failures")):
            problems.append(f"{entry['name']}: {entry['reason'] or 'a patch of it failed and was contained'}")
        elif entry["state"] == "skipped" and "could not be loaded" in (entry["reason"] or ""):
            problems.append(f"{entry['name']}: {entry['reason']}")
    return entries


def _endpoint(config: Any, problems: list[str]) -> dict[str, Any] | None:
    if not config.enabled:
        return None
    if "file" in config.exporters and config.file_path:
        directory = os.path.dirname(os.path.abspath(config.file_path))
        if not os.access(directory, os.W_OK):
            problems.append(
                f"the exporter's file {config.file_path} cannot be written: {directory} is not there or is not writable"
            )
    if "otlp" not in config.exporters:
        return None
    from lighttrace.cli.endpoint import try_endpoint

    attempt = try_endpoint(config.otlp)
    if not attempt.ok:
        problems.append(f"{attempt.endpoint} ({attempt.protocol}): {attempt.detail}")
    return attempt._asdict()


def _owners(config: Any, notes: list[str]) -> dict[str, Any]:
    from lighttrace.ownership import Resolver

    resolver = Resolver(config)
    team = config.team or resolver.default_team
    if team is None:
        notes.append("no team owns this service: pass team= to init, set LIGHTTRACE_TEAM, or write a CODEOWNERS with a * rule")
    source = config.sources.get("team") if config.team else "CODEOWNERS or a catalog file" if team else None
    found = {
        "team": team,
        "source": source,
        "peers": config.peers,
        "rules": list(config.rules),
    }
    found["code"] = _code_by_team(config, resolver)
    contact = resolver.contact(team) if team else None
    found["contact"], found["url"] = contact or (None, None)
    return found


def _code_by_team(config: Any, resolver: Any) -> dict[str, int]:
    """How many of the project's Python files belong to each team by rule or CODEOWNERS; `unowned` have only the service's."""
    counts: dict[str, int] = {}
    seen = 0
    for directory, names, files in os.walk(config.project_dir or os.getcwd()):
        names[:] = [
            name
            for name in names
            if not name.startswith(".")
            and name not in _NOT_CODE
            and not os.path.exists(os.path.join(directory, name, "pyvenv.cfg"))
        ]
        for name in files:
            if name.endswith(".py"):
                owner = resolver.team_for_code(os.path.join(directory, name), None)
                key = owner[0] if owner is not None else "unowned"
                counts[key] = counts.get(key, 0) + 1
                seen += 1
        if seen > _MOST_FILES:
            break
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _drops(config: Any, notes: list[str]) -> list[dict[str, Any]]:
    """What other processes of the service said about spans that they dropped."""
    import time

    from lighttrace.export import report

    found = report.read(config.service)
    not_kept = told = 0
    for entry in found:
        for reason in [reason for reason in entry["dropped"] if reason.startswith("not_kept_")]:
            count = entry["dropped"].pop(reason)
            not_kept += count if isinstance(count, int) else 0
        if not entry["dropped"] or told == 5:
            continue
        told += 1
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["at"]))
        reasons = ", ".join(f"{count} {reason}" for reason, count in entry["dropped"].items())
        notes.append(
            f"process {entry['pid']} of this service dropped spans, until {when}: {reasons}; it exported {entry['exported']}"
        )
    if not_kept:
        notes.append(
            f"processes of this service that ended within a day let {not_kept} spans go, as keep_ratio and [[keep]] told them"
        )
    return [entry for entry in found if entry["dropped"]]


def _kept(config: Any) -> str:
    """Which traces are kept, in words."""
    rules = [
        (config.keep_errors, "those that failed"),
        (config.keep_slower_than_s is not None, f"those of {config.keep_slower_than_s} s and more"),
        *[(True, f"{rule['per_second']} a second of {rule['route']}") for rule in config.keep],
        (config.keep_ratio, f"{config.keep_ratio} of the rest"),
    ]
    return ", ".join(words for given, words in rules if given) or "none"


def _causes(config: Any, notes: list[str]) -> None:
    """The usual reasons for a trace that is not there."""
    sources = config.sources
    if not config.enabled:
        notes.append(f"tracing is switched off by {sources.get('enabled')}")
    if "none" in config.exporters:
        notes.append(f"no span leaves this process: the exporter is none, by {sources.get('exporters')}")
    if config.sampler in ("always_off", "parentbased_always_off"):
        notes.append(f"nothing is sampled: the sampler is {config.sampler}, by {sources.get('sampler')}")
    elif config.sampler in ("traceidratio", "parentbased_traceidratio"):
        notes.append(f"{config.sampler_arg or 1} of the traces are kept, by {sources.get('sampler')}")
    if config.keep or config.keep_ratio < 1:
        notes.append(f"when they have ended, only some traces are kept: {_kept(config)}")
    if config.service.startswith("unknown_service"):
        notes.append("the service has no name: pass service= to init, use lighttrace run --service, or set OTEL_SERVICE_NAME")
    if any(glob in ("*", "/*") for glob in config.exclude):
        notes.append(f"every route is excluded, by {sources.get('exclude')}")
    for module, name in (("ddtrace", "ddtrace"), ("elasticapm", "Elastic APM"), ("newrelic", "New Relic")):
        if module in sys.modules:
            notes.append(f"{name} is loaded in this process too, and traces the same libraries")
    if sys.flags.isolated or sys.flags.ignore_environment or sys.flags.no_site:
        notes.append("Python runs with -I, -E or -S: `lighttrace run` cannot reach such a process; call lighttrace.init in it")


def _settings(config: Any) -> dict[str, dict[str, Any]]:
    """Every field with its value and who decided."""
    entries = {}
    for field, value in vars(config).items():
        if field in ("otlp", "sources", "warnings", "project_dir"):
            continue
        secret = field == "customer_salt" and value
        entries[field] = {"value": "REDACTED" if secret else _plain(value), "source": config.sources.get(field, "default")}
    for field, value in vars(config.otlp).items():
        shown = dict.fromkeys(value, "REDACTED") if field == "headers" else _plain(value)
        if field == "endpoint":
            from lighttrace.cli.endpoint import without_password

            shown = without_password(value)
        entries[f"otlp.{field}"] = {"value": shown, "source": config.sources.get(f"otlp.{field}", "default")}
    return entries


def _plain(value: Any) -> Any:
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def render(findings: dict[str, Any]) -> str:
    """The findings for a person: what is broken last, where the eye is."""
    lines = [f"lighttrace {findings['lighttrace']} on Python {findings['python']} ({findings['executable']})"]
    lines.append("  " + ", ".join(f"{name} {found or 'MISSING'}" for name, found in findings["versions"].items()))
    lines += ["", "Libraries"]
    for entry in findings["integrations"]:
        release = entry["installed_version"] or ""
        lines.append(f"  {entry['state']:9}{entry['name']:14}{release:10}{entry['reason'] or ''}".rstrip())
    lines += ["", f"Configuration (project: {findings['project'] or 'none found'}; what stands at its default is left out)"]
    lines += [f"  {field} = {_short(entry['value'])}  [{entry['source']}]" for field, entry in _chosen(findings["config"])]
    lines += [f"  warning: {warning}" for warning in findings["warnings"]]
    lines += ["", "Backend"]
    attempt = findings["endpoint"]
    if attempt is None:
        lines.append("  not tried")
    else:
        told = f"{attempt['endpoint']} ({attempt['protocol']}, {attempt['duration_ms']:.0f} ms)"
        lines.append(f"  {_MARKS[attempt['ok']]} {told}: {attempt['detail']}")
    owners = findings["owners"]
    lines += ["", "Owners"]
    lines.append(f"  service: {owners['team'] or 'nobody'}" + (f"  [{owners['source']}]" if owners["source"] else ""))
    if owners["contact"] or owners["url"]:
        lines.append(f"  reached by: {' '.join(filter(None, (owners['contact'], owners['url'])))}")
    if owners["code"]:
        lines.append("  files: " + ", ".join(f"{team} {count}" for team, count in owners["code"].items()))
    lines += [f"  peer {glob}: {_short(entry)}" for glob, entry in owners["peers"].items()]
    if findings["counters"] or findings["failures"]:
        lines += ["", "Counters"]
        lines += [f"  {name}: {amount}" for name, amount in findings["counters"].items()]
        lines += [f"  {name} failed: {error}" for name, error in findings["failures"].items()]
    lines.append("")
    lines += [f"note: {note}" for note in findings["notes"]]
    lines += [f"BROKEN: {problem}" for problem in findings["problems"]]
    if not findings["problems"]:
        lines.append("Nothing is broken.")
    return "\n".join(lines)


def _chosen(settings: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    always = ("service", "team", "exporters", "otlp.endpoint", "otlp.protocol")
    return [(field, entry) for field, entry in settings.items() if entry["source"] != "default" or field in always]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 120 else text[:117] + "..."
