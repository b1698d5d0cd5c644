"""How one setting is written and found: converters from text and TOML to values, and the order of the places asked.

Every converter takes what the user wrote and gives the value, or raises ValueError whose text completes the sentence
"X=... is not ..." so that the warning says what to write instead.
"""

from collections.abc import Callable, Mapping
from typing import Any

Converter = Callable[[Any], Any]

FOREVER_S = 2147483.647
"""What the specification lets a timeout of 0 ("no limit") be: the most milliseconds that 32 bits hold, in seconds."""


class Partly(ValueError):
    """Part of a value could not be understood; `value` is the rest, which is used."""

    def __init__(self, value: Any, complaint: str) -> None:
        super().__init__(complaint)
        self.value = value


class Setting:
    """One setting: its field, how it is read, its default, its other name, and the OpenTelemetry variables that give it.

    `alias` is a second name for arguments and for the file, and the one that the `LIGHTTRACE_` variable is made from.
    `otel` are tried in order, read by `otel_convert` where their unit or their grammar is not ours.
    """

    __slots__ = ("alias", "convert", "default", "field", "otel", "otel_convert", "secret", "variable")

    def __init__(
        self,
        field: str,
        convert: Converter,
        default: Any,
        *,
        alias: str | None = None,
        otel: tuple[str, ...] = (),
        otel_convert: Converter | None = None,
        secret: bool = False,
        variable: bool = True,
    ) -> None:
        self.field = field
        self.convert = convert
        self.default = default
        self.alias = alias or field
        self.otel = otel
        self.otel_convert = otel_convert or convert
        self.secret = secret
        self.variable = "LIGHTTRACE_" + self.alias.upper() if variable else None


def text(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a string that is not empty")
    return value.strip()


def anything(value: Any) -> Any:
    """A name, or an object made by the program, such as a sampler."""
    return text(value) if isinstance(value, str) else value


def name(value: Any) -> str:
    """A name whose case does not matter."""
    return text(value).lower()


def boolean(value: Any) -> bool:
    """True or false, as people write it."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def strict_boolean(value: Any) -> bool:
    """The specification's Boolean: only `true`, in any case, is true."""
    word = str(value).strip().lower()
    if word not in ("true", "false"):
        raise ValueError("true or false (the specification knows no other word)")
    return word == "true"


def negated(value: Any) -> bool:
    """For variables that say the opposite of our field."""
    return not strict_boolean(value)


def count(value: Any) -> int:
    """A whole number from 0 up."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    word = value.strip() if isinstance(value, str) else ""
    if not (word.isascii() and word.isdigit() and len(word) < 20):
        raise ValueError("a whole number from 0 up")
    return int(word)


def positive(value: Any) -> int:
    """A whole number from 1 up."""
    number = count(value)
    if not number:
        raise ValueError("a whole number from 1 up")
    return number


_UNITS = {
    "k": 1 << 10,
    "kb": 1 << 10,
    "kib": 1 << 10,
    "m": 1 << 20,
    "mb": 1 << 20,
    "mib": 1 << 20,
    "g": 1 << 30,
    "gb": 1 << 30,
    "gib": 1 << 30,
}


def size(value: Any) -> int:
    """Bytes: a whole number, or one with a unit.

    >>> size("64MiB") == 64 * 2 ** 20
    True
    """
    if isinstance(value, str):
        digits = value.strip().rstrip("bBiIkKmMgG ")
        unit = value.strip()[len(digits) :].strip().lower()
        if unit in _UNITS:
            return positive(digits) * _UNITS[unit]
    try:
        return positive(value)
    except ValueError:
        raise ValueError("a number of bytes such as 67108864 or 64MiB") from None


def seconds(value: Any) -> float:
    """A duration in seconds, from 0 up."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < float("inf"):
        raise ValueError("a number of seconds from 0 up")
    return number


def ratio(value: Any) -> float:
    """A share, from 0 to 1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0.0 <= number <= 1.0:
        raise ValueError("a number from 0 to 1")
    return number


def milliseconds(value: Any) -> float:
    """The specification's Duration, whole milliseconds; gives seconds."""
    try:
        return count(value) / 1000
    except ValueError:
        raise ValueError("a whole number of milliseconds from 0 up") from None


def timeout_seconds(value: Any) -> float:
    """A timeout in seconds; 0 is no limit."""
    return seconds(value) or FOREVER_S


def timeout_milliseconds(value: Any) -> float:
    """The specification's Timeout, whole milliseconds; 0 is no limit. Gives seconds."""
    return milliseconds(value) or FOREVER_S


def logs(value: Any) -> str:
    """Which log records get our fields: those of `logging`, those of every library, or none; `otlp` also sends them.

    >>> logs(True), logs("false"), logs("otlp")
    ('all', 'off', 'otlp')
    """
    if str(value).strip().lower() in ("off", "logging", "all", "otlp"):
        return str(value).strip().lower()
    try:
        return "all" if boolean(value) else "off"
    except ValueError:
        raise ValueError("true, false, logging or otlp") from None


def logs_otel(value: Any) -> str:
    """OpenTelemetry's handler on the root logger, which exports: `otlp`."""
    return "otlp" if strict_boolean(value) else "logging"


def one_of(*allowed: str) -> Converter:
    """A word out of a set."""

    def convert(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return word

    return convert


def words(value: Any) -> tuple[str, ...]:
    """Several words: separated by commas, or a list. Each once, in order."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of strings, or strings separated by commas")
    return tuple(dict.fromkeys(item.strip() for item in value if item.strip()))


def word_set(value: Any) -> frozenset[str]:
    """Several words whose order says nothing."""
    return frozenset(words(value))


def names(value: Any) -> tuple[str, ...]:
    """Several names whose case does not matter."""
    return tuple(dict.fromkeys(word.lower() for word in words(value)))


def pairs(value: Any) -> dict[str, str]:
    """`key=value,key=value` with percent-encoded values, as W3C baggage writes it; or a mapping.

    >>> pairs("a=1, b=two%20words")
    {'a': '1', 'b': 'two words'}
    """
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    if not isinstance(value, str):
        raise ValueError("a list such as key=value,other=value")  # noqa: TRY004 - the reader tells ValueError by its text
    made: dict[str, str] = {}
    broken = 0
    for part in value.split(","):
        key, equals, item = part.partition("=")
        key, item = key.strip(), item.strip()
        if equals and key:
            made[percent_decoded(key)] = percent_decoded(item)
        elif part.strip():
            broken += 1
    if broken:
        raise Partly(made, f"{broken} of its pairs are not key=value with percent-encoded values")
    return made


def percent_decoded(value: str) -> str:
    """Text with `%xx` resolved as UTF-8; broken UTF-8 becomes the replacement character, a lone `%` stays."""
    if "%" not in value:
        return value
    from urllib.parse import unquote  # costs milliseconds, and only encoded values need it

    return unquote(value)


def headers(value: Any) -> dict[str, str]:
    """Headers for the exporter; names in lower case."""
    complaint = None
    try:
        given = pairs(value)
    except Partly as error:
        given, complaint = error.value, str(error)
    made = {key.lower(): item for key, item in given.items() if (key + item).isprintable()}
    if len(made) < len(given):  # a line break would end the header and begin another
        complaint = "some of its headers hold control characters or come twice"
    if complaint:
        raise Partly(made, complaint)
    return made


def table(value: Any) -> dict[str, Any]:
    """A TOML table, or a mapping."""
    if not isinstance(value, Mapping):
        raise ValueError("a table")  # noqa: TRY004 - the reader tells ValueError by its text
    return {str(key): item for key, item in value.items()}


def string_table(value: Any) -> dict[str, str]:
    """A table from strings to strings."""
    made = table(value)
    if not all(isinstance(item, str) for item in made.values()):
        raise ValueError("a table of strings")
    return made


def _entries(value: Any, keys: tuple[str, ...], example: str) -> dict[str, dict[str, str]]:
    """A table of tables with these keys; a plain string stands for the first of them."""
    made: dict[str, dict[str, str]] = {}
    broken = []
    for label, entry in table(value).items():
        if isinstance(entry, str):
            entry = {keys[0]: entry}
        if isinstance(entry, Mapping) and entry and all(key in keys and isinstance(item, str) for key, item in entry.items()):
            made[label] = dict(entry)
        else:
            broken.append(label)
    if broken:
        raise Partly(made, f"{shown(broken)} cannot be read; write entries such as {example}")
    return made


def peers(value: Any) -> dict[str, dict[str, str]]:
    """Globs of hosts, each with a service, a team or both; a plain string is the service."""
    return _entries(value, ("service", "team"), '"*.stripe.com" = {service = "stripe", team = "payments"}')


def teams(value: Any) -> dict[str, dict[str, str]]:
    """Teams by name, each with a contact, a url or both; a plain string is the contact."""
    return _entries(value, ("contact", "url"), 'payments = {contact = "#payments", url = "https://runbook"}')


MATCHERS = ("route", "module", "peer", "name", "span")
"""What an ownership rule can look at; `span` is another word for `name`."""


def rules(value: Any) -> tuple[dict[str, str], ...]:
    """Ownership rules: tables with a team and one or more globs to match."""
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list of tables, [[tool.lighttrace.rules]]")  # noqa: TRY004 - the reader tells ValueError by its text
    made = []
    broken = []
    for rule in value:
        good = isinstance(rule, Mapping) and all(isinstance(item, str) for item in rule.values())
        if not good or "team" not in rule or len(rule) < 2 or not set(rule) <= {"team", *MATCHERS}:
            broken.append(rule)
            continue
        entry = dict(rule)
        if "span" in entry:
            entry["name"] = entry.pop("span")
        made.append(entry)
    if broken:
        raise Partly(tuple(made), f"{shown(broken)} cannot be read; a rule has team and one or more of {', '.join(MATCHERS)}")
    return tuple(made)


def rates(value: Any) -> tuple[dict[str, Any], ...]:
    """How many traces of a route are kept: tables with a route, which is a glob, and per_second."""
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list of tables, [[tool.lighttrace.keep]]")  # noqa: TRY004 - the reader tells ValueError by its text
    made = []
    broken = []
    for rule in value:
        try:
            if set(rule) != {"route", "per_second"} or not isinstance(rule["route"], str):
                raise ValueError
            made.append({"route": rule["route"], "per_second": seconds(rule["per_second"])})
        except (TypeError, ValueError):
            broken.append(rule)
    if broken:
        raise Partly(tuple(made), f"{shown(broken)} cannot be read; a rule has route, a glob, and per_second, a number")
    return tuple(made)


def globs_from_patterns(value: Any) -> tuple[str, ...]:
    """`OTEL_PYTHON_EXCLUDED_URLS`, regular expressions searched for in the URL, as globs.

    Those that say no more than a glob can are understood; any other is refused, which the warning tells.

    >>> globs_from_patterns("healthz,^/static/.*,/users/.+/photo$")
    ('*healthz*', '/static/*', '*/users/?*/photo')
    """
    made = []
    for pattern in words(value):
        start, end = ("", "*") if pattern.startswith("^") else ("*", "*")
        body = pattern.removeprefix("^")
        if body.endswith("$") and not body.endswith("\\$"):
            body, end = body[:-1], ""
        glob = (
            body.replace(".*", "\0")
            .replace(".+", "\1")
            .replace("\\.", "\2")
            .replace("\\/", "/")
            .replace("\\-", "-")
            .replace(".", "?")
        )
        if any(character in glob for character in "\\()[]{}|+*^$") or "?" in body:
            raise ValueError(
                f"a list of simple patterns ({pattern!r} has no glob; write LIGHTTRACE_EXCLUDE with globs such as /health*)"
            )
        glob = start + glob.replace("\0", "*").replace("\1", "?*").replace("\2", ".") + end
        while "**" in glob:
            glob = glob.replace("**", "*")
        made.append(glob)
    return tuple(made)


def shown(value: Any) -> str:
    """A value as a warning shows it: short, and never raising."""
    try:
        return repr(value)[:120]
    except Exception:
        return f"<{type(value).__name__}>"


def did_you_mean(word: str, known: Any) -> str:
    """The end of a warning about an unknown word."""
    import difflib  # only for a mistake

    close = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f"; did you mean {close[0]}?" if close else ""


class Reader:
    """The places where a setting can be given, asked in their order."""

    def __init__(
        self, arguments: Mapping[str, Any], environ: Mapping[str, str], table: Mapping[str, Any], file: str | None
    ) -> None:
        self.arguments = arguments
        self.environ = environ
        self.table = table
        self.file = file or "file"
        self.sources: dict[str, str] = {}
        self.warnings: list[str] = []

    def read(self, setting: Setting, prefix: str = "", table: Mapping[str, Any] | None = None) -> Any:
        """The first value that is given and can be understood, else the default."""
        table = self.table if table is None else table
        keys = (setting.field,) if setting.alias == setting.field else (setting.field, setting.alias)
        places: list[tuple[Mapping[str, Any], str | None, Converter, str]] = [
            (self.arguments, key, setting.convert, "argument") for key in keys
        ]
        if self.environ:
            places.append((self.environ, setting.variable, setting.convert, ""))
            places += [(self.environ, name, setting.otel_convert, "") for name in setting.otel]
        if table:
            places += [(table, key, setting.convert, self.file) for key in keys]
        for place, key, convert, source in places:
            if key is not None and (raw := place.get(key)) is not None:
                found, value = self._try(setting, convert, raw, source, key)
                if found:
                    self.sources[prefix + setting.field] = source or key
                    return value
        self.sources[prefix + setting.field] = "default"
        default = setting.default
        return dict(default) if isinstance(default, dict) else default  # nobody may change what is shared

    def _try(self, setting: Setting, convert: Converter, raw: Any, source: str, key: str) -> tuple[bool, Any]:
        where = f"{key} ({source})" if source else key
        try:
            return True, convert(raw)
        except Partly as error:
            self.warnings.append(f"{where}: {error}; the rest is used")
            return True, error.value
        except Exception as error:
            what = "the value given" if setting.secret else shown(raw)
            expected = str(error) if isinstance(error, ValueError) else f"usable ({type(error).__name__})"
            self.warnings.append(f"{where}: {what} is not {expected}; it is ignored")
            return False, None
