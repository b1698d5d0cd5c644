"""Fuzzing guided by coverage, for as long as one likes: `nox -s fuzz`, or

    python tests/fuzz/run_atheris.py TARGET [SECONDS]

Prints the input that broke a target and exits with 77, as libFuzzer does.
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["lighttrace"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.seeds import SEEDS


def main() -> None:
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "60"
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            Path(corpus, f"seed{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048"], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
