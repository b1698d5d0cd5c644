"""Requests per second that a FastAPI service under uvicorn keeps at full load, one worker, export on.

    python benchmarks/throughput.py [--tracers none,lighttrace,otel,bare] [--rounds 20] [--seconds 2]

The load comes from another process over kept-alive connections (`wrk` where it is installed, else a client of our
own, which needs so much of the second core that slow tracers look better: 54% instead of 33%); the backend is a third.
Tracers take turns within a round; the share is the median of each round's own ratio.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def serve(tracer: str, port: int) -> None:
    """The service, in this process."""
    sys.path.insert(0, HERE)
    import tracers

    tracers.start(tracer, os.environ["SINK_PORT"], "fastapi")
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/users/{id}")
    async def user(id: int) -> dict[str, int]:
        return {"id": id}

    uvicorn.run(app, port=port, log_level="critical", access_log=False)


def load(port: int, seconds: float) -> float:
    """Requests per second that were answered."""
    if shutil.which("wrk"):
        done = subprocess.run(
            ["wrk", "-t1", "-c16", f"-d{seconds:.0f}s", f"http://127.0.0.1:{port}/users/7?a=1"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))  # type: ignore[union-attr]  # wrk always prints it
    done = subprocess.run(
        [sys.executable, os.path.abspath(__file__), "--load", str(port), str(seconds)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def own_load(port: int, seconds: float) -> None:
    """A client for machines without `wrk`: raw sockets, one request each in turn."""
    request = b"GET /users/7?a=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n"
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    answered, until = 0, time.monotonic() + seconds
    begun = time.monotonic()
    while time.monotonic() < until:
        for connection in sockets:
            connection.sendall(request)
        for connection in sockets:
            if connection.recv(65536):
                answered += 1
    print(answered / (time.monotonic() - begun))


def started(tracer: str, sink: str, seed: int) -> tuple["subprocess.Popen[bytes]", int]:
    """A service that answers, and its port. `seed` is that of the hashes of strings."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--serve", tracer, str(port)],
        env={**os.environ, "SINK_PORT": sink, "OTEL_BSP_MAX_QUEUE_SIZE": "200000", "PYTHONHASHSEED": str(seed)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                process.kill()
                raise
            time.sleep(0.05)
    return process, port


def measure(names: list[str], rounds: int, seconds: float) -> dict[str, tuple[float, float, float]]:
    """Requests per second, the share of the untraced service's in the same round, and the share's error; medians by tracer.

    Each round has services of its own: where things lie in a process's memory alone makes 3% of difference. They take turns,
    forth and back, and are idle when it is not theirs.
    """
    sys.path.insert(0, HERE)
    from overhead import deviation, sink

    rates: dict[str, list[float]] = {name: [] for name in names}
    with sink() as port:
        for number in range(rounds):
            order = names if number % 2 else names[::-1]
            services: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
            slices: dict[str, list[float]] = {name: [] for name in names}
            try:
                for name in order:
                    services[name] = started(name, port, number + 1)
                    load(services[name][1], 1)
                for name in (*order, *reversed(order)):
                    slices[name].append(load(services[name][1], seconds))
            finally:
                for process, _ in services.values():
                    process.kill()
                    process.wait()
            for name in names:
                rates[name].append(statistics.mean(slices[name]))
    shares = {name: [a / b for a, b in zip(values, rates["none"], strict=True)] for name, values in rates.items()}
    return {
        name: (statistics.median(values), statistics.median(shares[name]), 1.25 * deviation(shares[name]) / rounds**0.5)
        for name, values in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracers", default="none,lighttrace,otel,bare")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    print(f"{'FastAPI under uvicorn':24}{'requests/s':>12}{'kept':>10}")
    for name, (rate, share, error) in measure(options.tracers.split(","), options.rounds, options.seconds).items():
        print(f"{name:24}{rate:12.0f}{share:10.1%} ±{error:.1%}")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(sys.argv[2], int(sys.argv[3]))
    elif "--load" in sys.argv:
        own_load(int(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
