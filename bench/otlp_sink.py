"""A collector that only counts: takes OTLP over HTTP and says how many spans came.

    python -m bench.otlp_sink --port 0

prints `listening 127.0.0.1:PORT`; `GET /spans` answers with the number.
"""

import argparse
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sink(ThreadingHTTPServer):
    """The server. A thread a connection: exporters keep theirs."""

    daemon_threads = True

    spans = 0


class _Handler(BaseHTTPRequestHandler):
    server: Sink
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request = ExportTraceServiceRequest.FromString(body)
        self.server.spans += sum(
            len(scope.spans) for one in request.resource_spans for scope in one.scope_spans
        )
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(str(self.server.spans).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until killed."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    with Sink(("127.0.0.1", arguments.parse_args().port), _Handler) as server:
        sys.stdout.write(f"listening 127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
