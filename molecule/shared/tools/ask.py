"""Ask for one page and print, as JSON, what came: python3 - HOST PORT [OPTIONS], the body base64."""

import argparse
import base64
import contextlib
import http.client
import json
import ssl
import sys

parser = argparse.ArgumentParser()
parser.add_argument("path")
parser.add_argument("--port", type=int, default=8080)
parser.add_argument("--name", default="", help="with TLS, and as this site")
parser.add_argument("--method", default="GET")
parser.add_argument("--send", type=int, default=0, help="bytes to send")
parser.add_argument("--chunked", action="store_true", help="say nothing of their number")
parser.add_argument("--form", action="store_true", help="as a file of a form")
parser.add_argument("--header", action="append", default=[])
parser.add_argument(
    "--trust", default="", help="certificates that are trusted; none is checked otherwise"
)
asked = parser.parse_args()


class Connection(http.client.HTTPConnection):
    """Reaches a site of any name on this host."""

    certificate = {}

    def connect(self):
        super().connect()
        if asked.name:
            context = ssl.create_default_context(cafile=asked.trust or None)
            if not asked.trust:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=asked.name)
            self.certificate = self.sock.getpeercert()


headers = dict(header.split(": ", 1) for header in asked.header)
if asked.name:
    headers["Host"] = asked.name
connection = Connection("127.0.0.1", asked.port, timeout=30)
piece = b"x" * 65536
body = None
if asked.send:
    rest = asked.send % len(piece)
    pieces = [piece] * (asked.send // len(piece)) + ([piece[:rest]] if rest else [])
    if asked.form:
        start = b'--B\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
        pieces = [start, *pieces, b"\r\n--B--\r\n"]
        headers["Content-Type"] = "multipart/form-data; boundary=B"
    body = iter(pieces)
    if not asked.chunked:
        headers["Content-Length"] = str(sum(map(len, pieces)))
# The answer may come before everything was sent.
with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
    connection.request(asked.method, asked.path, body, headers)
response = connection.getresponse()
content = response.read()
print(
    json.dumps(
        {
            "status": response.status,
            "headers": dict(response.getheaders()),
            "body": base64.b64encode(content).decode(),
            "certificate": connection.certificate,
        }
    )
)
sys.exit(0)
