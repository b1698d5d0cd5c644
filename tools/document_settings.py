#!/usr/bin/env python3
"""Write docs/configuration.md from the settings themselves: `python tools/document_settings.py`, in the checkout."""

from pathlib import Path

from lighttrace.config import OTLP_SETTINGS, SETTINGS

HEAD = """# Configuration

Everything can be given as an argument of `lighttrace.init()`, as an environment variable, or in `lighttrace.toml` (or
`[tool.lighttrace]` of `pyproject.toml`). The first that says something wins: arguments, `LIGHTTRACE_*`, `OTEL_*`, the
file, the default. What cannot be understood is told in one log line and in `lighttrace doctor`, and the next source speaks.

`OTEL_*` variables mean what the OpenTelemetry specification says; its timeouts are milliseconds, ours are seconds.

| setting | variable | OpenTelemetry's variable | default |
|---|---|---|---|
"""


def main() -> None:
    """Write the file."""
    rows = []
    for setting in (*SETTINGS, *OTLP_SETTINGS):
        variables = " ".join(f"`{name}`" for name in setting.otel)
        default = "" if setting.default in (None, {}, (), frozenset()) else f"`{_shown(setting.default)}`"
        own = f"`{setting.variable}`" if setting.variable else "in the file"
        rows.append(f"| `{setting.alias}` | {own} | {variables} | {default} |")
    path = Path(__file__).parent.parent / "docs" / "configuration.md"
    path.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


def _shown(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        return ",".join(sorted(map(str, value)) if isinstance(value, frozenset) else map(str, value))
    return str(value)


if __name__ == "__main__":
    main()
