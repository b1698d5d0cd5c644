"""The bank: another company's service, which sends no spans. The peer table in lighttrace.toml says who calls them."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Bank(BaseHTTPRequestHandler):
    """Charges every card; the one called "slow" takes its time, and of the one called "stuck" nobody hears again."""

    def do_POST(self) -> None:
        """POST /charges"""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep({"slow": 1.8, "stuck": 30}.get(order["card"], 0))
        body = json.dumps({"charged": order["amount"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "7005"))), Bank).serve_forever()
