"""Open a websocket through the proxy, send a frame, print the one that comes back."""

import os
import socket

words = b"hello through the proxy"
with socket.create_connection(("127.0.0.1", 8080), timeout=10) as connection:
    connection.sendall(
        b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = connection.recv(4096)
    assert b" 101 " in head, head
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(words))
    connection.sendall(bytes([0x81, 0x80 | len(words)]) + mask + hidden)
    print(connection.recv(4096)[2:].decode())
