"""Catalog files: what each says, on samples as they are found in repositories."""

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from lighttrace.config import load
from lighttrace.ownership import Resolver, discovery

yaml = pytest.importorskip("yaml")

BACKSTAGE = """\
# yaml-language-server: $schema=https://json.schemastore.org/catalog-info.json
apiVersion: backstage.io/v1alpha1
kind: API
metadata:
  name: checkout-api
spec:
  type: openapi
  owner: api-guild
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: checkout
  description: Takes the money.
  annotations:
    github.com/project-slug: shop/checkout
  tags: [python]
spec:
  type: service
  lifecycle: production
  owner: group:default/payments
  system: shop
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: fraud
spec:
  type: service
  owner:
    kind: Group
    namespace: default
    name: risk
"""

DATADOG_V2 = """\
schema-version: v2
dd-service: checkout
team: payments
dd-team: payments-handle
contacts:
  - type: email
    contact: payments@example.com
  - name: Support
    type: slack
    contact: https://example.slack.com/archives/C01
links:
  - name: Runbook
    type: runbook
    url: https://wiki.example.com/checkout
"""

DATADOG_V2_2 = """\
schema-version: v2.2
dd-service: storefront
team: web
tier: high
---
schema-version: v2.2
dd-service: checkout
team: payments
languages: [python]
ci-pipeline-fingerprints: [abc]
"""

DATADOG_V3 = """\
apiVersion: v3
kind: system
metadata:
  name: shop
  owner: platform
---
apiVersion: v3
kind: service
metadata:
  name: checkout
  displayName: Checkout
  owner: payments
  additionalOwners:
    - name: risk
      type: operator
  contacts:
    - name: Support
      type: email
      contact: payments@example.com
  links:
    - name: Runbook
      type: runbook
      url: https://wiki.example.com/checkout
    - name: Source
      type: repo
      url: https://git.example.com/checkout
spec:
  lifecycle: production
  languages: [python]
"""

DATADOG_V3_ADDITIONAL = """\
apiVersion: v3
kind: service
metadata:
  name: checkout
  additionalOwners:
    - name: payments
"""

OPSLEVEL = """\
version: 1
service:
  name: Checkout
  owner: payments
  lifecycle: generally_available
  tier: tier_1
  tags:
    - key: language
      value: python
"""

OPSLEVEL_COMPONENT = "version: 1\ncomponent:\n  name: Checkout\n  type: service\n  owner: payments\n"
OPSLEVEL_REPOSITORY = "version: 1\nrepository:\n  owner: payments\n  tags: []\n"

CORTEX = """\
openapi: 3.0.1
info:
  title: Checkout
  description: Takes the money.
  x-cortex-tag: checkout
  x-cortex-type: service
  x-cortex-owners:
    - type: email
      email: jane@example.com
    - type: group
      name: payments
      provider: OKTA
      description: who wrote it
  x-cortex-slack:
    channels:
      - name: payments-oncall
        notificationsEnabled: true
"""

CORTEX_MAIL = (
    "openapi: 3.0.1\ninfo:\n  title: C\n  x-cortex-tag: c\n  x-cortex-owners:\n    - type: email\n      email: j@example.com\n"
)


@pytest.mark.parametrize(
    ("name", "content", "service", "team", "contact", "url"),
    [
        ("catalog-info.yaml", BACKSTAGE, "checkout", "payments", None, None),
        ("catalog-info.yml", BACKSTAGE, "fraud", "risk", None, None),
        ("catalog-info.yaml", BACKSTAGE, "checkout-api", "api-guild", None, None),
        ("catalog-info.yaml", BACKSTAGE, "unknown", "payments", None, None),  # the first component
        ("catalog-info.yaml", "kind: System\nmetadata: {name: s}\nspec: {owner: team-a}\n", None, "team-a", None, None),
        ("catalog-info.yaml", "kind: Component\nmetadata: {name: s}\nspec: {owner: 'infra/team-a'}\n", None, "team-a", None, None),
        ("service.datadog.yaml", DATADOG_V2, "checkout", "payments", "https://example.slack.com/archives/C01", "https://wiki.example.com/checkout"),
        ("service.datadog.yaml", "schema-version: v2\ndd-service: c\ndd-team: payments\n", "c", "payments", None, None),
        ("service.datadog.yaml", DATADOG_V2_2, "checkout", "payments", None, None),
        ("service.datadog.yaml", DATADOG_V2_2.replace("v2.2", "v2.1"), "other", "web", None, None),
        ("entity.datadog.yaml", DATADOG_V3, "checkout", "payments", "payments@example.com", "https://wiki.example.com/checkout"),
        ("entity.datadog.yaml", DATADOG_V3, "other", "payments", "payments@example.com", "https://wiki.example.com/checkout"),
        ("entity.datadog.yaml", DATADOG_V3_ADDITIONAL, "checkout", "payments", None, None),
        ("service.datadog.yaml", DATADOG_V3, "checkout", "payments", "payments@example.com", "https://wiki.example.com/checkout"),
        ("opslevel.yml", OPSLEVEL, "checkout", "payments", None, None),
        ("opslevel.yml", OPSLEVEL_COMPONENT, "checkout", "payments", None, None),
        ("opslevel.yml", OPSLEVEL_REPOSITORY, "checkout", "payments", None, None),
        ("opslevel.yml", OPSLEVEL_REPOSITORY.replace("payments", "x") + OPSLEVEL.removeprefix("version: 1\n"), None, "payments", None, None),
        ("cortex.yaml", CORTEX, "checkout", "payments", "#payments-oncall", None),
        ("cortex.yaml", CORTEX_MAIL, "c", "j@example.com", None, None),
    ],
)  # fmt: skip
def test_file_names_the_owner(
    tmp_path: Path, name: str, content: str, service: str | None, team: str, contact: str | None, url: str | None
) -> None:
    path = tmp_path / name
    path.write_text(content)
    problems: list[str] = []
    assert discovery.read(str(path), service, problems) == (team, str(path), contact, url)
    assert problems == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "just text\n",
        "- a\n- list\n",
        "kind: Component\n",
        "kind: Component\nspec: {owner: [1, 2]}\n",
        "spec: {owner: ''}\n",
        "spec:\n",
    ],
)
@pytest.mark.parametrize(
    "name", ["catalog-info.yaml", "service.datadog.yaml", "entity.datadog.yaml", "opslevel.yml", "cortex.yaml"]
)
def test_file_without_an_owner_is_told(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    problems: list[str] = []
    assert discovery.read(str(path), None, problems) is None
    assert problems == [f"{path} names no owner"]


@pytest.mark.parametrize("content", ["a: [1\n", "\t- x", "!!python/object/apply:os.system ['true']", "a: *nowhere", "\x00"])
def test_broken_file_is_told_and_runs_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "catalog-info.yaml"
    path.write_text(content)
    problems: list[str] = []
    assert discovery.read(str(path), None, problems) is None
    assert len(problems) == 1
    assert "not valid YAML" in problems[0]
    assert "\n" not in problems[0]


def test_file_of_megabytes_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "opslevel.yml"
    path.write_text("a: b\n" * 300_000)
    problems: list[str] = []
    assert discovery.read(str(path), None, problems) is None
    assert "megabyte" in problems[0]


def resolver(folder: Path, **arguments: Any) -> Resolver:
    return Resolver(load(environ={}, directory=str(folder), **arguments), start=str(folder))


def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    service = tmp_path / "services" / "checkout"
    service.mkdir(parents=True)
    return service


def test_nearest_folder_wins_and_in_a_folder_the_order_of_names(tmp_path: Path) -> None:
    service = repository(tmp_path)
    (tmp_path / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: far}\n")
    assert resolver(service).default_team == "far"
    (service / "opslevel.yml").write_text(OPSLEVEL.replace("payments", "near"))
    assert resolver(service).default_team == "near"
    (service / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: nearest}\n")
    assert resolver(service).default_team == "nearest"


def test_catalog_wins_over_the_star_of_codeowners_which_is_the_last_resort(tmp_path: Path) -> None:
    service = repository(tmp_path)
    (tmp_path / "CODEOWNERS").write_text("* @shop/web\n/services/ @shop/backend\n")
    assert resolver(service).default_team == "web"
    default = resolver(service).default
    assert default is not None
    assert default.path == f"{tmp_path}/CODEOWNERS:1"
    (tmp_path / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: far}\n")
    assert resolver(service).default_team == "far"


def test_search_ends_at_the_root_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: outside}\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    assert resolver(repository(inner)).default_team is None


def test_aliases_rename_what_is_found(tmp_path: Path) -> None:
    service = repository(tmp_path)
    (service / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: 'group:default/pay-ments'}\n")
    assert resolver(service, team_aliases={"pay-ments": "payments"}).default_team == "payments"


def test_contact_comes_from_the_file_that_named_the_team(tmp_path: Path) -> None:
    service = repository(tmp_path)
    (service / "service.datadog.yaml").write_text(DATADOG_V2)
    made = resolver(service)
    assert made.default_team == "payments"
    assert made.contact("payments")[1] == "https://wiki.example.com/checkout"
    assert made.contact("risk") == (None, None)
    said = resolver(service, teams={"payments": {"contact": "#pay"}})
    assert said.default_team == "payments"
    assert said.contact("payments") == ("#pay", None)


def test_files_named_by_the_configuration(tmp_path: Path) -> None:
    service = repository(tmp_path)
    elsewhere = tmp_path / "meta"
    elsewhere.mkdir()
    (elsewhere / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: meta}\n")
    (service / "lighttrace.toml").write_text('team_sources = ["../../meta/catalog-info.yaml", "../../absent", "../../.git"]\n')
    assert resolver(service).default_team == "meta"


def test_without_a_parser_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = repository(tmp_path)
    (service / "catalog-info.yaml").write_text("kind: Component\nspec: {owner: far}\n")
    (tmp_path / "CODEOWNERS").write_text("* @shop/web\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    made = resolver(service)
    assert made.default_team == "web"
    assert made.default_team == "web"
    assert [record.message for record in caplog.records] == [
        f"{service}/catalog-info.yaml is ignored, it takes a YAML parser: pip install 'lighttrace[yaml]' (or PyYAML)"
    ]


def test_parser_is_imported_only_where_there_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = repository(tmp_path)
    imported = []
    real = builtins.__import__

    def watched(name: str, *rest: Any) -> Any:
        imported.append(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", watched)
    assert resolver(service).default_team is None
    assert "yaml" not in imported
    (service / "opslevel.yml").write_text(OPSLEVEL)
    assert resolver(service).default_team == "payments"
    assert "yaml" in imported
