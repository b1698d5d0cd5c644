"""`lighttrace why`, as it is called."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lighttrace
from lighttrace.analysis.encode import to_json_line
from lighttrace.cli.main import main
from tests.analysis.traces import Trace, to_protobuf

PACKAGE_ROOT = str(Path(lighttrace.__file__).resolve().parent.parent)


def failing(number: int = 1) -> Trace:
    trace = Trace(number)
    root = trace.server("storefront", "POST /orders", 0, 50, status=500)
    server = trace.call("storefront", "checkout", 5, 40, root, 500, name="POST /payments")
    where = {"code__file__path": "fraud.py", "code__function__name": "score", "code__line__number": 7}
    trace.add("checkout", "score", 10, 5, server, error=("KeyError", "'BE'"), **where)
    return trace


def slow(number: int = 2) -> Trace:
    trace = Trace(number)
    root = trace.server("inventory", "GET /bundles", 0, 1000)
    for query in range(20):
        trace.query("inventory", "SELECT stock", 5 + query * 45, 40, root)
    return trace


def fine(number: int = 3) -> Trace:
    trace = Trace(number)
    trace.server("storefront", "GET /", 0, 5)
    return trace


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def why(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["why", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json_has_a_line_per_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "traces.jsonl", *(to_json_line(trace.spans) for trace in (failing(), slow(), fine())))
    code, out, err = why(capsys, file, "--json")
    assert (code, err) == (0, "")
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [line["verdict"]["kind"] for line in lines] == ["error", "latency", "none"]
    first = lines[0]
    verdict = first.pop("verdict")
    assert first == {
        "trace_id": f"{1:032x}", "root": "POST /orders", "spans": 4, "services": ["checkout", "storefront"], "duration_ms": 50.0,
    }  # fmt: skip
    assert {key: verdict[key] for key in ("team", "service", "span", "code", "confidence", "contact")} == {
        "team": "payments", "service": "checkout", "span": "score", "code": "fraud.py:7 in score", "confidence": "high",
        "contact": "#payments-oncall",
    }  # fmt: skip
    assert "KeyError: 'BE' began in score" in verdict["why"]
    assert lines[1]["verdict"]["n_plus_one"] == {"query": "SELECT stock", "count": 20, "total_ms": 800.0}


def test_person_sees_the_tree_the_sentence_the_contact_and_the_next_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    code, out, _ = why(capsys, write(tmp_path / "t.jsonl", to_json_line(failing().spans)))
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"trace {1:032x}"
    (culprit,) = [line for line in lines if "◀ here" in line]
    assert culprit.lstrip(" └─").startswith("▶ score")
    assert lines[lines.index(culprit) + 2].strip() == "fraud.py:7 in score"
    assert "Team payments can fix this (error, high confidence): KeyError: 'BE' began in score" in out
    assert "Reach them:   #payments-oncall, https://runbooks/payments" in out
    assert "Next:         ask #payments-oncall: why does score() in fraud.py:7 raise KeyError: 'BE'?" in out
    assert "\x1b" not in out


def test_missing_evidence_and_handled_errors_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = Trace()
    root = trace.server("storefront", "GET /", 0, 900)
    trace.call("storefront", "recommendations", 5, 20, root, 503)
    trace.client("storefront", 30, 800, root, server__address="bank")
    _, out, _ = why(capsys, write(tmp_path / "t.jsonl", to_json_line(trace.spans)))
    assert out.count("(handled)") == 2
    assert "Missing:      no span of bank itself" in out
    assert "Team web can fix this (latency, medium confidence): bank kept storefront (team web) waiting" in out


def test_request_that_went_well_is_nobodys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = why(capsys, write(tmp_path / "t.jsonl", to_json_line(fine().spans)))
    assert "Nobody needs to do anything: GET / succeeded in 5.0 ms." in out
    assert "◀" not in out
    assert "Next:" not in out


def test_broken_lines_are_named_with_their_number_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.jsonl"
    lines = [b"{", b"", to_json_line(fine().spans).encode(), b"\xff\xfe", b'{"resourceLogs": []}', b"\x1b[2J"]
    file.write_bytes(b"\r\n".join(lines))
    code, out, err = why(capsys, str(file), "--json")
    assert code == 0
    assert len(out.splitlines()) == 1
    told = err.splitlines()
    assert [line.split(": ")[2] for line in told] == [f"line {number} is skipped" for number in (1, 4, 5, 6)]
    assert "no resourceSpans in it" in told[2]
    assert "\x1b" not in err


def test_trace_may_come_in_many_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spans = failing().spans
    file = write(tmp_path / "t.jsonl", *(to_json_line([span]) for span in reversed(spans)))
    _, out, _ = why(capsys, file, "--json")
    assert json.loads(out)["spans"] == len(spans)
    assert json.loads(out)["verdict"]["team"] == "payments"


def test_trace_is_chosen_by_the_begin_of_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = [fine(0xABC << 116), fine(0xABD << 116), fine(0xB << 124)]
    file = write(tmp_path / "t.jsonl", *(to_json_line(trace.spans) for trace in traces))
    assert len(why(capsys, file, "--json", "--trace", "AB")[1].splitlines()) == 2
    assert json.loads(why(capsys, file, "--json", "--trace", "abd")[1])["trace_id"] == traces[1].trace_id
    code, out, err = why(capsys, file, "--trace", "abf")
    assert (code, out) == (1, "")
    assert err == f"lighttrace why: there is no trace whose id begins with abf in {file}\n"


def test_no_trace_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", "\n\n", '{"resourceSpans": []}'):
        file = write(tmp_path / "t.jsonl", text)
        assert why(capsys, file) == (1, "", f"lighttrace why: there is no trace in {file}\n")
    code, out, err = why(capsys, str(tmp_path / "absent"))
    assert (code, out) == (1, "")
    assert "absent: No such file or directory" in err
    assert why(capsys, str(tmp_path))[0] == 1


def test_protobuf_is_read_whatever_its_length_looks_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.pb"
    file.write_bytes(to_protobuf(failing().spans))
    assert json.loads(why(capsys, str(file), "--json")[1])["verdict"]["team"] == "payments"
    trace = fine()
    trace.spans[0].resource, trace.spans[0].attributes = {}, {}
    while (body := to_protobuf(trace.spans))[1] != ord("{"):  # a group of 123 bytes: as if a JSON object followed an empty line
        trace.spans[0].resource = {"service.name": "s" * (len(str(trace.spans[0].resource.get("service.name", ""))) + 1)}
        assert len(body) < 200
    file.write_bytes(body)
    assert json.loads(why(capsys, str(file), "--json")[1])["spans"] == 1


def test_broken_protobuf_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.pb"
    file.write_bytes(to_protobuf(failing().spans)[:100])
    code, out, err = why(capsys, str(file))
    assert (code, out) == (1, "")
    assert "not an OTLP trace in protobuf" in err


def test_gzip_pretty_json_and_a_byte_order_mark_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = to_json_line(fine().spans)
    forms = [
        gzip.compress(line.encode()),
        json.dumps(json.loads(line), indent=2).encode(),
        b"\xef\xbb\xbf" + line.encode(),
        b"\n" + line.encode(),
    ]
    for data in forms:
        file = tmp_path / "t"
        file.write_bytes(data)
        code, out, err = why(capsys, str(file), "--json")
        assert (code, err, len(out.splitlines())) == (0, "", 1)


def test_gzip_that_was_cut_off_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.gz"
    file.write_bytes(gzip.compress(to_json_line(failing().spans).encode())[:-20])
    code, _, err = why(capsys, str(file))
    assert code == 1
    assert "t.gz" in err


def test_standard_input_is_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(to_json_line(fine().spans).encode())))
    assert why(capsys, "-", "--json")[0] == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert why(capsys, "-")[2] == "lighttrace why: there is no trace in standard input\n"


def test_what_is_slow_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "t.jsonl", to_json_line(fine().spans))
    assert json.loads(why(capsys, file, "--json", "--slow-ms", "5")[1])["verdict"]["kind"] == "latency"


def unreachable(number: int = 4) -> Trace:
    """A failure of a team of which the trace tells no contact."""
    trace = Trace(number)
    root = trace.server("storefront", "POST /orders", 0, 50, status=500)
    where = {"code__file__path": "fraud.py", "code__function__name": "Scores.country", "code__line__number": 7}
    trace.add("storefront", "score", 10, 5, root, error=("KeyError", "'BE'"), lighttrace__error__team="risk", **where)
    return trace


@pytest.mark.parametrize("name", ["pyproject.toml", "lighttrace.toml"])
def test_contact_comes_from_the_repository_in_which_it_is_asked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    file = write(tmp_path / "t.jsonl", to_json_line(unreachable().spans), to_json_line(failing(5).spans))
    table = "tool.lighttrace.teams" if name == "pyproject.toml" else "teams"
    (tmp_path / name).write_text(
        f'[{table}.risk]\ncontact = "#risk-oncall"\nurl = "https://wiki/risk"\n[{table}.payments]\ncontact = "#another"\n'
    )
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    _, out, _ = why(capsys, file)
    assert "Reach them:   #risk-oncall, https://wiki/risk" in out
    assert "Next:         ask #risk-oncall: why does country() in fraud.py:7 raise KeyError: 'BE'?" in out
    assert "Reach them:   #payments-oncall, https://runbooks/payments" in out  # what the trace says is nearer to it
    found = [json.loads(line)["verdict"] for line in why(capsys, file, "--json")[1].splitlines()]
    assert (found[0]["team"], found[0]["contact"], found[0]["url"]) == ("risk", "#risk-oncall", "https://wiki/risk")
    assert found[0]["question"] == "why does country() in fraud.py:7 raise KeyError: 'BE'?"


def test_team_that_nobody_tells_how_to_reach_is_asked_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, out, _ = why(capsys, write(tmp_path / "t.jsonl", to_json_line(unreachable().spans)))
    assert "Reach them" not in out
    assert "Next:         ask team risk: why does country() in fraud.py:7 raise KeyError: 'BE'?" in out


def big(number: int = 6) -> Trace:
    """Hundreds of spans with long names, ten levels deep, of which one fails."""
    trace = Trace(number)
    parent = trace.server(
        "storefront-behind-the-european-edge", "POST /customers/{customer}/orders/{order}/returns", 0, 900, status=500
    )
    for depth in range(10):
        for sibling in range(40):
            trace.query("storefront-behind-the-european-edge", f"SELECT table_{sibling % 7}", depth * 80 + sibling, 0.5, parent)
        name = f"repackage everything that was returned by {depth}"
        parent = trace.add("storefront-behind-the-european-edge", name, depth * 80 + 50, 800 - depth * 80, parent, error=True)
    trace.add("storefront-behind-the-european-edge", "weigh", 880, 5, parent, error=("ValueError", "no weight " * 40))
    return trace


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 120])
def test_terminal_is_given_colors_and_lines_that_fit(columns: int, tmp_path: Path) -> None:
    import pty

    lines = [to_json_line(trace.spans) for trace in (failing(), slow(), fine(), unreachable(), big())]
    file = write(tmp_path / "t.jsonl", *lines)
    environ = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": PACKAGE_ROOT}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        environ.pop(name, None)
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "lighttrace", "why", file]
    with subprocess.Popen(command, stdout=slave, stderr=slave, cwd=tmp_path, env=environ) as process:
        os.close(slave)
        told = b""
        try:
            while part := os.read(master, 65536):
                told += part
        except OSError:  # how Linux tells that nobody writes any more
            pass
        os.close(master)
        assert process.wait(30) == 0
    assert b"\x1b[1m" in told
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told.decode()).replace("\r\n", "\n")
    assert max(map(len, plain.splitlines())) <= columns
    assert len(plain.splitlines()) < 250  # of 465 spans
    assert plain.count("◀ here") == 4
    assert plain.count("\n  Next:") == 4


def test_nothing_in_a_trace_can_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b[2Jy\x07\n\u202e"
    trace = Trace()
    root = trace.server("storefront", evil, 0, 50, status=500)
    trace.add("storefront", evil, 1, 5, root, error=(evil, evil), code__file__path=evil, code__function__name=evil, team=evil)
    trace.spans[1].resource = {**trace.spans[1].resource, "team": evil, "service.owner.contact": evil}
    _, out, _ = why(capsys, write(tmp_path / "t.jsonl", to_json_line(trace.spans)))
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
