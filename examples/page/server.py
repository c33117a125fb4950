"""The backend of a page: serves it, and gives it tickets.

    server.py [PORT]

Needs nothing but Python. USHER_URL names the gateway's `grpc.listen`, where tickets are issued.
Your own backend first checks who asks; this one lets everybody be user 42.
"""

import http.server
import json
import os
import pathlib
import sys
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
FILES = {
    "/": (HERE / "index.html", "text/html"),
    "/usher.js": (HERE.parents[1] / "clients/usher.js", "text/javascript"),
}
USHER = os.environ.get("USHER_URL", "http://127.0.0.1:9090")


def ticket() -> bytes:
    """A ticket of user 42, as JSON: {"ticket":"…","expires_in":60}."""
    body = json.dumps({"user_id": "42"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{USHER}/v1/tickets", body, headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


class Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path not in FILES:
            return self.send_error(404)
        file, kind = FILES[self.path]
        self.answer(200, kind, file.read_bytes())

    def do_POST(self):
        if self.path != "/ticket":
            return self.send_error(404)
        try:
            self.answer(200, "application/json", ticket())
        except (urllib.error.URLError, TimeoutError) as error:
            self.log_error("no ticket: %s", error)
            self.answer(503, "application/json", b'{"error":"no ticket"}')

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser has left


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Backend)
print(f"open http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
