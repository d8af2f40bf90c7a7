"""A server that takes webhooks of Meshwright: verifies them, and drops what came before.

pip install standardwebhooks
WEBHOOK_SECRET=whsec_… python webhook_receiver.py 8443
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

verifier = Webhook(os.environ["WEBHOOK_SECRET"])
seen: set[str] = set()
"""Of messages that were handled. A real server keeps these in its database, with what it does."""


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 when a message was taken, or had been taken before."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        try:
            # Over the bytes as they came: JSON that was read and written again may differ.
            message = verifier.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self._answer(401)
            return
        message_id = self.headers["webhook-id"]
        if message_id not in seen:
            print(message["type"], message["data"].get("resource", ""), flush=True)
            seen.add(message_id)
        # Work that takes longer belongs behind this answer: it is waited for 15 s.
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
