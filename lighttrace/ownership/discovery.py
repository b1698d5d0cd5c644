"""The service's owner in files that repositories already have: Backstage, Datadog, OpsLevel and Cortex catalogs.

A YAML parser is imported only where there is such a file. Nothing here raises; what cannot be read is told in `problems`.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

NAMES = (
    "catalog-info.yaml",
    "catalog-info.yml",
    "service.datadog.yaml",
    "service.datadog.yml",
    "entity.datadog.yaml",
    "entity.datadog.yml",
    "opslevel.yml",
    "cortex.yaml",
    "cortex.yml",
)
"""In the order in which they are asked; the first that names an owner counts."""

_MOST_BYTES = 1 << 20


class Found(NamedTuple):
    """An owner, the file that names it, and how to reach them where the file says so."""

    team: str
    path: str
    contact: str | None = None
    url: str | None = None


def find(folders: Iterable[str], service: str | None, problems: list[str]) -> Found | None:
    """The owner in the first catalog file that names one. Of several entries in a file, the one called `service` is meant."""
    for folder in folders:
        for name in NAMES:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                found = read(path, service, problems)
                if found is not None:
                    return found
    return None


def read(path: str, service: str | None, problems: list[str]) -> Found | None:
    """The owner in one file; None if it names none, is broken, or cannot be read for want of a parser."""
    name = os.path.basename(path)
    try:
        import yaml
    except ImportError:
        problems.append(f"{path} is ignored, it takes a YAML parser: pip install 'lighttrace[yaml]' (or PyYAML)")
        return None
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            problems.append(f"{path} is ignored, it is larger than a megabyte")
            return None
        # With libyaml where it is there: ten times as fast, and as safe.
        documents = list(yaml.load_all(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(f"{path} is ignored, it is not valid YAML: {' '.join(str(error).split())[:200]}")
        return None
    reader = next(reader for prefix, reader in _READERS if name.startswith(prefix))
    entries = [entry for document in documents if isinstance(document, Mapping) for entry in reader(document)]
    owned = [entry for entry in entries if entry.team]
    if not owned:
        problems.append(f"{path} names no owner")
        return None
    # The service's own entry, else the first of the most telling kind.
    best = min(owned, key=lambda entry: (entry.name != service if service else False, entry.rank))
    return Found(best.team, path, best.contact, best.url)


class _Entry(NamedTuple):
    team: str
    name: str | None
    rank: int
    contact: str | None = None
    url: str | None = None


def _backstage(document: Mapping[str, Any]) -> list[_Entry]:
    """`spec.owner`: `payments`, `group:default/payments`, or an object with kind, namespace and name."""
    spec, metadata = _mapping(document, "spec"), _mapping(document, "metadata")
    owner = spec.get("owner")
    if isinstance(owner, Mapping):
        owner = owner.get("name") or owner.get("ref")
    kind = str(document.get("kind", "")).lower()
    rank = ("component", "api", "system").index(kind) if kind in ("component", "api", "system") else 3
    return [_Entry(_reference(owner), _text(metadata.get("name")), rank)]


def _datadog(document: Mapping[str, Any]) -> list[_Entry]:
    """v2 to v2.2: `team` (`dd-team` in v2); v3: `metadata.owner`, else the first of `metadata.additionalOwners`."""
    if "metadata" in document or str(document.get("apiVersion", "")).startswith("v3"):
        metadata = _mapping(document, "metadata")
        others = [_text(_get(other, "name")) for other in _list(metadata.get("additionalOwners"))]
        owner = _text(metadata.get("owner")) or next((other for other in others if other), None)
        name, rank = _text(metadata.get("name")), 0 if document.get("kind") == "service" else 1
        details: Mapping[str, Any] = metadata
    else:
        owner = _text(document.get("team")) or _text(document.get("dd-team"))
        name, rank = _text(document.get("dd-service")), 0
        details = document
    contacts = {str(_get(entry, "type")): _text(_get(entry, "contact")) for entry in _list(details.get("contacts"))[::-1]}
    links = [entry for entry in _list(details.get("links")) if _get(entry, "type") == "runbook"]
    return [
        _Entry(
            owner or "",
            name,
            rank,
            contacts.get("slack") or contacts.get("email") or next(iter(contacts.values()), None),
            _text(_get(links[0], "url")) if links else None,
        )
    ]


def _opslevel(document: Mapping[str, Any]) -> list[_Entry]:
    """`service.owner` or `component.owner`, else `repository.owner`: a team's alias."""
    found = []
    for rank, key in enumerate(("service", "component", "repository")):
        value = document.get(key)
        entries = value if isinstance(value, list) else [value]
        found += [_Entry(_text(_get(entry, "owner")) or "", _text(_get(entry, "name")), rank) for entry in entries]
    return found


def _cortex(document: Mapping[str, Any]) -> list[_Entry]:
    """`x-cortex-owners`: the first group, else the first mail address; an OpenAPI document that has them under `info`."""
    found = []
    for place in (_mapping(document, "info"), document):
        owners = _list(place.get("x-cortex-owners"))
        groups = [_text(_get(owner, "name")) for owner in owners if str(_get(owner, "type")).lower() in ("group", "team")]
        mails = [_text(_get(owner, "email")) for owner in owners]
        name = next((entry for entry in [*groups, *mails] if entry), None)
        tag = _text(place.get("x-cortex-tag"))
        slack = _list(_mapping(place, "x-cortex-slack").get("channels"))
        channel = next((_text(_get(entry, "name")) for entry in slack), None)
        found.append(_Entry(name or "", tag, 0, f"#{channel.lstrip('#')}" if channel else None))
    return found


_READERS = (("catalog-info", _backstage), ("service.datadog", _datadog), ("entity.datadog", _datadog), ("opslevel", _opslevel), ("cortex", _cortex))  # fmt: skip


def _reference(value: Any) -> str:
    """The name in `[kind:][namespace/]name`."""
    text = _text(value) or ""
    return text.partition(":")[2].rpartition("/")[2] if ":" in text else text.rpartition("/")[2]


def _text(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else str(value) if type(value) is int else None


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
