# SPDX-License-Identifier: Apache-2.0
"""The client's side of the CRI's streams (exec, attach): a WebSocket (RFC 6455) of the protocol v4.channel.k8s.io, as
kubectl speaks it: each message begins with a byte for its channel."""
import base64
import json
import os
import select
import socket
import time
import urllib.parse

from engine import require

STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)


class Stream:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), 20)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
        )
        self.input = b""
        while b"\r\n\r\n" not in self.input:
            self.fill(20)
        head, self.input = self.input.split(b"\r\n\r\n", 1)
        require(head.startswith(b"HTTP/1.1 101"), f"no stream: {head.decode()}")
        self.text = {channel: b"" for channel in range(5)}
        self.ended = False

    def fill(self, limit):
        require(select.select([self.socket], [], [], limit)[0], "nothing comes over the stream")
        data = self.socket.recv(65536)
        require(data, "the stream was cut off")
        self.input += data

    def send(self, channel, data, opcode=2):
        payload = bytes([channel]) + data
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x80 | opcode])
        head += bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + length.to_bytes(2, "big")
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def type(self, text):
        self.send(STDIN, text.encode())

    def resize(self, rows, columns):
        self.send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def receive(self, limit=30):
        """Takes one frame in."""

        def need(count):
            while len(self.input) < count:
                self.fill(limit)

        need(2)
        opcode, length, at = self.input[0] & 15, self.input[1] & 127, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            need(2 + size)
            length, at = int.from_bytes(self.input[2 : 2 + size], "big"), 2 + size
        need(at + length)
        payload, self.input = self.input[at : at + length], self.input[at + length :]
        if opcode == 8:
            self.ended = True
        elif opcode in (0, 1, 2) and payload:
            self.text[payload[0]] += payload[1:]

    def until(self, wanted, channel=STDOUT, again="", limit=30):
        """Reads until the channel has shown it, and drops all up to it. Types `again` when nothing comes."""
        end = time.monotonic() + limit
        while wanted.encode() not in self.text[channel].replace(b"\r", b""):
            require(time.monotonic() < end and not self.ended, f"no {wanted!r} but {self.text}")
            if again and not self.input and not select.select([self.socket], [], [], 0.5)[0]:
                self.type(again)
                continue
            self.receive(limit)
        self.text[channel] = self.text[channel].replace(b"\r", b"").split(wanted.encode(), 1)[1]

    def finish(self):
        """Reads to the end: (stdout, stderr, exit status)."""
        while not self.text[STATUS] and not self.ended:
            self.receive()
        status = json.loads(self.text[STATUS] or b"{}")
        code = 0 if status.get("status") == "Success" else None
        for cause in (status.get("details") or {}).get("causes", []):
            if cause["reason"] == "ExitCode":
                code = int(cause["message"])
        require(code is not None, f"no exit status: {status}")
        return self.text[STDOUT].decode(), self.text[STDERR].decode(), code

    def close(self):
        self.socket.close()
