"""What finding an owner costs once the answer is known: nanoseconds per look-up, beside a dictionary's.

    python benchmarks/ownership.py

For a decorated function, a handler behind a route, a peer, and a span under fifty explicit rules. CODEOWNERS has 1,000 lines.
"""

import os
import sys
import tempfile
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lighttrace.config import load
from lighttrace.ownership import Resolver

MODULE = "def handler():\n    pass\n"


def cost(statement: str, names: dict[str, object]) -> float:
    """Nanoseconds, the fastest of seven rounds."""
    return min(timeit.repeat(statement, globals=names, number=100_000, repeat=7)) * 1e4


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, ".git"))
        lines = "".join(f"/service{number}/ @org/team{number}\n" for number in range(999))
        Path(folder, "CODEOWNERS").write_text(f"{lines}/app.py @org/payments\n")
        path = Path(folder, "app.py")
        path.write_text(MODULE)
        names: dict[str, object] = {"__name__": "app", "__file__": str(path)}
        exec(compile(MODULE, str(path), "exec"), names)  # a function that says it stands in that file
        rules = [{"route": f"/pay/{number}/*", "team": "payments"} for number in range(50)]
        resolver = Resolver(load(environ={}, directory=folder, rules=rules, peers={"*.stripe.com": {"team": "payments"}}))
        names |= {"resolver": resolver, "known": {("app", "handler"): 1}}
        for label, statement in (
            ("a dictionary, for comparison", 'known["app", "handler"]'),
            ("the owner of a function", "resolver.team_for_function(handler)"),
            ("the owner of a span, fifty rules", 'resolver.team_for_span("GET /pay/7/x", "/pay/7/x", "app", None)'),
            ("the team behind a peer", 'resolver.peer("api.stripe.com", 443)'),
        ):
            print(f"{label:34} {cost(statement, names):6.0f} ns")


if __name__ == "__main__":
    main()
