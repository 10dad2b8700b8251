"""A web process that answers health checks, and echoes one frame of a websocket."""

import base64
import hashlib
import os
import socket
import threading

PATH = "/run/web/http.sock"


def serve(client):
    """Answer one connection."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
    if headers.get("upgrade", "").lower() != "websocket":
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        client.close()
        return
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    frame = client.recv(4096)
    length, mask, data = frame[1] & 127, frame[2:6], frame[6:]
    text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[:length]))
    client.sendall(bytes([0x81, length]) + text)
    client.close()


server = socket.socket(socket.AF_UNIX)
if os.path.exists(PATH):
    os.unlink(PATH)
server.bind(PATH)
os.chmod(PATH, 0o770)
server.listen(16)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
