"""`lighttrace owners`: whose a file is, what nobody owns or never decides, and the manifest."""

import json
from pathlib import Path

import pytest

from lighttrace.cli.main import main

APP = """
from flask import Flask

app = Flask(__name__)

@app.get("/pay/<int:order>")
def pay(order):
    return "ok"
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one package, in which the test stands."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "app.py").write_text(APP)
    (tmp_path / "shop" / "fraud.py").write_text("")
    (tmp_path / "CODEOWNERS").write_text("/shop/ @acme/payments\n/shop/fraud.py @acme/risk @jane\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_gives_the_file_and_the_line_that_decided(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "lighttrace.toml").write_text('[teams]\nrisk = { contact = "#risk", url = "https://risk.example" }\n')
    assert main(["owners", "--json", "shop/fraud.py"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": "shop/fraud.py",
        "team": "risk",
        "source": "codeowners",
        "file": "CODEOWNERS",
        "line": 2,
        "rule": "/shop/fraud.py @acme/risk @jane",
        "owners": ["@acme/risk", "@jane"],
        "also": [],
        "contact": "#risk",
        "url": "https://risk.example",
    }


def test_file_that_is_not_there_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["owners", "shop/none.py", "shop/app.py"]) == 1
    printed = capsys.readouterr()
    assert "shop/none.py: there is no such file" in printed.err
    assert printed.out.startswith("shop/app.py: payments")


def test_nothing_asked_says_how_to_ask(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["owners"]) == 2
    assert "Name files or directories" in capsys.readouterr().err


def test_check_is_content_where_everything_has_an_owner(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["owners", "check"]) == 0
    assert capsys.readouterr().out == "3 modules: payments 2, risk 1. Nothing to complain of.\n"


def test_check_names_modules_that_nobody_owns_and_the_routes_they_serve(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "CODEOWNERS").write_text("/shop/fraud.py @acme/risk\n/shop/__init__.py @acme/payments\n")
    assert main(["owners", "check"]) == 1
    assert "shop/app.py: nobody owns it (no line, rule or default); it serves /pay/<int:order>" in capsys.readouterr().out


def test_check_tells_a_line_without_owners_from_no_line_at_all(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "CODEOWNERS").write_text("/shop/ @acme/payments\n/shop/app.py\n")
    assert main(["owners", "check", "--json"]) == 1
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(finding["kind"], finding["where"]) for finding in findings] == [("unowned", "shop/app.py")]
    assert "CODEOWNERS:2 says so" in findings[0]["message"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/nowhere/ @acme/x", "CODEOWNERS:3: no file matches"),
        ("!/shop/ @acme/x", "CODEOWNERS:3"),
        ("/shop/[ab].py @acme/x", "CODEOWNERS:3"),
    ],
)
def test_check_names_lines_that_never_decide_or_cannot_be_read(
    repository: Path, capsys: pytest.CaptureFixture[str], line: str, complaint: str
) -> None:
    with open(repository / "CODEOWNERS", "a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert main(["owners", "check"]) == 1
    assert complaint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ('[[rules]]\nmodule = "store.*"\nteam = "x"\n', "rule 1: no module matches"),
        ('[[rules]]\nroute = "/refund"\nteam = "x"\n', "rule 1: no route that the code declares matches"),
        (
            '[[rules]]\nroute = "/pay/*"\nteam = "x"\n[[rules]]\nroute = "/pay/*"\nteam = "y"\n',
            "rule 1: rule 2 decides all that it matches",
        ),
    ],
)
def test_check_names_rules_that_can_never_match(
    repository: Path, capsys: pytest.CaptureFixture[str], rules: str, complaint: str
) -> None:
    (repository / "lighttrace.toml").write_text(rules)
    assert main(["owners", "check"]) == 1
    assert complaint in capsys.readouterr().out


def test_check_complains_of_a_manifest_that_is_out_of_date(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["owners", "build"]) == 0
    assert main(["owners", "check"]) == 0
    (repository / "CODEOWNERS").write_text("/shop/ @acme/payments\n")
    capsys.readouterr()
    assert main(["owners", "check"]) == 1
    assert "run `lighttrace owners build` again" in capsys.readouterr().out


def test_one_manifest_may_stand_above_several_packages(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "stock").mkdir()
    (repository / "stock" / "__init__.py").write_text("")
    assert main(["owners", "build", "--output", "lighttrace-owners.json"]) == 0
    modules = json.loads((repository / "lighttrace-owners.json").read_text())["modules"]
    assert {name: entry["team"] for name, entry in modules.items()} == {
        "shop": "payments",
        "shop.app": "payments",
        "shop.fraud": "risk",
        "stock": None,
    }
    assert "1 without an owner" in capsys.readouterr().out


def test_building_nothing_says_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["owners", "build"]) == 1
    assert "there is no package here" in capsys.readouterr().err
