"""`lighttrace demo`: the shop, broken in known ways, and for each trace the sentence that says who can fix it.

The verdicts come from the spans that arrive over OTLP and from nothing else: the services are processes of their own, and
what is known about the culprit is only compared with afterwards.
"""

import argparse
import http.client
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from lighttrace import semconv
from lighttrace.analysis.encode import to_json_line
from lighttrace.analysis.model import SpanRecord
from lighttrace.analysis.verdict import Verdict, verdict
from lighttrace.backend import Receiver
from lighttrace.cli import shop as shops
from lighttrace.cli.why import columns, render
from lighttrace.terminal import wants_color

TRACE_DEADLINE_S = 10.0
QUIET_S = 0.3  # three times the services' export delay without a new span: nothing more is coming
ANSWER_DEADLINE_S = 15.0
USER_AGENT = "lighttrace-demo"


class Scenario(NamedTuple):
    """One request, what is out of order meanwhile, and what is known about the culprit."""

    name: str
    title: str
    request: dict[str, Any]
    status: int
    services: list[str]
    verdict: dict[str, Any]
    stopped: list[str] = []  # noqa: RUF012 - never changed
    teams: list[str] = []  # noqa: RUF012 - never changed; where given, the owners of the trace's spans are exactly these

    def mistakes(self, verdict: dict[str, Any]) -> list[str]:
        """How a verdict differs from what is known. `code` need only begin so; `queries` is how often one was repeated.

        >>> Scenario("n", "t", {}, 200, [], {"kind": "none", "team": None}).mistakes({"kind": "error", "team": "web"})
        ["kind is 'error' and should be 'none'", "team is 'web' and should be None"]
        """
        found = {**verdict, "queries": (verdict.get("n_plus_one") or {}).get("count")}
        return [
            f"{key} is {found.get(key)!r} and should be {known!r}"
            for key, known in self.verdict.items()
            if (not str(found.get(key)).startswith(known) if key == "code" else found.get(key) != known)
        ]


class Result(NamedTuple):
    """What came of one scenario."""

    scenario: Scenario
    trace_id: str | None
    spans: list[SpanRecord]
    verdict: Verdict | None
    problems: list[str]

    def to_json(self) -> dict[str, Any]:
        """The line that `--json` prints."""
        verdict = self.verdict.to_json() if self.verdict is not None else {}
        keys = ("kind", "team", "service", "span", "code", "confidence", "why")
        return {
            "scenario": self.scenario.name,
            "trace_id": self.trace_id,
            "spans": len(self.spans),
            "services": sorted({span.service for span in self.spans if span.service}),
            "verdict": {key: verdict.get(key) for key in keys},
        }


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "demo",
        help="start a small shop of five services, break it in known ways and explain each trace",
        description="Start a shop of five services of four teams, send requests that fail or are slow in known ways, and print "
        "each trace with the verdict. Exits 1 if a verdict is not the known one.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per scenario instead")
    parser.add_argument("--keep", metavar="FILE", help="write the traces to FILE as OTLP JSON lines, for `lighttrace why FILE`")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="run only this scenario (may be repeated)")
    parser.add_argument(
        "--database",
        default="auto",
        metavar="auto|sqlite|URL",
        help="what the inventory keeps its stock in: a private PostgreSQL where its programs are installed, else sqlite3 "
        "(the default); sqlite; or the URL of a PostgreSQL in which the tables stock and bundle may be replaced",
    )


def run(options: argparse.Namespace) -> int:
    """Run the scenarios, print what came of them, and give 0 if every verdict was right."""
    missing = shops.missing()
    if missing:
        print(f"The demo's services need {', '.join(missing)}: pip install 'lighttrace[demo]'", file=sys.stderr)
        return 2
    try:
        scenarios = load_scenarios(options.only)
        with _StoppedBySigterm():
            return _run(options, scenarios)
    except shops.ShopError as error:
        print(f"lighttrace demo: {error}", file=sys.stderr)
        return 1


def load_scenarios(only: "list[str] | tuple[str, ...]" = ()) -> list[Scenario]:
    """The shop's scenarios, or those of them that are named. Raises ShopError for a name that none has."""
    scenarios = [Scenario(**entry) for entry in json.loads((shops.locate() / "scenarios.json").read_text("utf-8"))]
    names = [scenario.name for scenario in scenarios]
    for name in only:
        if name not in names:
            raise shops.ShopError(f"there is no scenario {name}; there are {', '.join(names)}")
    return [scenario for scenario in scenarios if not only or scenario.name in only]


def _run(options: argparse.Namespace, scenarios: list[Scenario]) -> int:
    tell = _progress(options.json)
    begun = time.monotonic()
    tell("Starting five services and a backend ...")
    results = []
    with Receiver() as receiver, shops.Shop(receiver.endpoint, options.database) as shop:
        tell(f"They are up after {time.monotonic() - begun:.1f} s; the inventory uses {shop.database_name}.\n")
        _warm_up(shop)
        for number, scenario in enumerate(scenarios, 1):
            result = play(scenario, shop, receiver)
            results.append(result)
            if options.json:
                print(json.dumps(result.to_json()), flush=True)
            else:
                _print(result, f"{number}/{len(scenarios)}")
        if options.keep:
            _keep(options.keep, results)
    wrong = [result for result in results if result.problems]
    if options.json:
        for result in wrong:
            print(f"{result.scenario.name}: {'; '.join(result.problems)}", file=sys.stderr)
    else:
        right = len(results) - len(wrong)
        print(f"{right} of {len(results)} verdicts are right, in {time.monotonic() - begun:.1f} s.")
        if options.keep:
            print(f"The traces are in {options.keep}: lighttrace why {options.keep}")
    return 1 if wrong else 0


def _warm_up(shop: shops.Shop) -> None:
    """One request through everything, so that what a process does only once is in no trace that is judged."""
    request = {"method": "POST", "path": "/orders", "body": {"sku": "lamp", "card": "4242", "suggest": True}}
    send(Scenario("warm-up", "", request, 200, [], {}), shop.ports["storefront"])


def play(scenario: Scenario, shop: shops.Shop, receiver: Receiver) -> Result:
    """Send one request, wait for its whole trace and judge it."""
    for name in scenario.stopped:
        shop.stop(name)
    try:
        status = send(scenario, shop.ports["storefront"])
    finally:
        if scenario.stopped:
            shop.start(*scenario.stopped)
    problems = []
    if status != scenario.status:
        problems.append(f"the storefront answered {status} and should have answered {scenario.status}")
    spans, lacking = _collect(receiver, scenario)
    if lacking:
        problems.append(f"after {TRACE_DEADLINE_S:.0f} s {lacking}")
        problems += [f"{name} said:\n{shop.log_tail(name, 15)}" for name in scenario.services]
    if not spans:
        return Result(scenario, None, [], None, problems)
    found = verdict(spans)
    problems += scenario.mistakes(found.to_json())
    owners = sorted({span.team or "" for span in spans})
    if scenario.teams and owners != scenario.teams:
        problems.append(f"the spans belong to {', '.join(owners)} and should belong to {', '.join(scenario.teams)}")
    return Result(scenario, spans[0].trace_id, spans, found, problems)


def send(scenario: Scenario, port: int) -> int:
    """Send a scenario's request to the storefront and give the status of the answer."""
    request = scenario.request
    body = json.dumps(request["body"]) if "body" in request else None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_DEADLINE_S)
    try:
        headers = {
            "User-Agent": f"{USER_AGENT}/{scenario.name}",
            "Content-Type": "application/json",
            **request.get("headers", {}),
        }
        connection.request(request["method"], request["path"], body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _collect(receiver: Receiver, scenario: Scenario) -> tuple[list[SpanRecord], str]:
    """The scenario's trace once it is whole and has been quiet for a while; else what arrived, and what it lacks."""
    deadline = time.monotonic() + TRACE_DEADLINE_S
    size, quiet_since = -1, time.monotonic()
    while True:
        spans = _find(receiver, scenario)
        lacking = lacks(spans, scenario.services)
        now = time.monotonic()
        if len(spans) != size:
            size, quiet_since = len(spans), now
        if (not lacking and now - quiet_since >= QUIET_S) or now >= deadline:
            return spans, lacking
        time.sleep(0.02)


def _find(receiver: Receiver, scenario: Scenario) -> list[SpanRecord]:
    """Every span of the trace whose first request said that it came from this scenario."""
    agent = f"{USER_AGENT}/{scenario.name}"
    for spans in receiver.traces().values():
        if any(span.attributes.get(semconv.USER_AGENT_ORIGINAL) == agent for span in spans):
            return list(spans)
    return []


def lacks(spans: list[SpanRecord], services: list[str]) -> str:
    """What a trace still lacks to be whole, or nothing."""
    if not spans:
        return "no span of it has arrived"
    ids = {span.span_id for span in spans}
    if all(span.parent_id for span in spans):
        return "its root has not arrived"
    if any(span.parent_id and span.parent_id not in ids for span in spans):
        return "the parent of some span has not arrived"
    absent = sorted(set(services) - {span.service for span in spans})
    return f"no span of {', '.join(absent)} has arrived" if absent else ""


def _print(result: Result, number: str) -> None:
    color = wants_color(sys.stdout)
    bold, red, green, plain = ("\033[1m", "\033[31m", "\033[32m", "\033[0m") if color else ("",) * 4
    request = result.scenario.request
    print(f"{bold}[{number}] {result.scenario.title}{plain}   {request['method']} {request['path']}")
    if result.verdict is not None:
        print(render(result.spans, result.verdict, color=color, width=columns(), wrap=sys.stdout.isatty()))
    for problem in result.problems:
        print(f"{red}✗ {problem}{plain}")
    if not result.problems:
        print(f"{green}✓ as it should be{plain}")
    print(flush=True)


def _keep(file: str, results: list[Result]) -> None:
    with Path(file).open("w", encoding="utf-8") as output:
        for result in results:
            if result.spans:
                output.write(to_json_line(result.spans) + "\n")


def _progress(quiet: bool) -> Callable[[str], None]:
    stream: IO[str] = sys.stderr if quiet else sys.stdout
    return lambda text: print(text, file=stream, flush=True)


class _StoppedBySigterm:
    """SIGTERM ends the demo the way an interrupt does, so that no service is left behind."""

    def __enter__(self) -> None:
        self._before: Any = None
        try:
            self._before = signal.signal(signal.SIGTERM, self._interrupt)
        except ValueError:
            pass  # not the main thread: whoever runs us there stops us in another way

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _interrupt(*_: object) -> None:
        raise KeyboardInterrupt
