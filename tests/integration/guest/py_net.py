#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3: HTTP, echo servers, asyncio and UDP over the loopback, IPv4 and IPv6."""
import asyncio
import hashlib
import http.server
import os
import socket
import socketserver
import tempfile
import threading
import urllib.error
import urllib.request


def http_files():
    with tempfile.TemporaryDirectory() as root:
        data = os.urandom(3_000_000)
        with open(os.path.join(root, "big"), "wb") as f:
            f.write(data)

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args):
                super().__init__(*args, directory=root)

            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/"

            def fetch():
                for _ in range(5):
                    with urllib.request.urlopen(url + "big", timeout=20) as r:
                        assert hashlib.sha256(r.read()).digest() == hashlib.sha256(data).digest()

            threads = [threading.Thread(target=fetch) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            try:
                urllib.request.urlopen(url + "none", timeout=20)
                raise AssertionError("404 expected")
            except urllib.error.HTTPError as e:
                assert e.code == 404
            server.shutdown()
    try:
        urllib.request.urlopen(url, timeout=20)
        raise AssertionError("refusal expected")
    except urllib.error.URLError as e:
        assert isinstance(e.reason, ConnectionRefusedError), e.reason


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


def echo(family, address):
    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        allow_reuse_address = True
        daemon_threads = True

    with Server((address, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for _ in range(50):
            with socket.create_connection(server.server_address[:2], timeout=20) as s:
                s.sendall(b"one line\n")
                s.shutdown(socket.SHUT_WR)
                assert s.makefile("rb").read() == b"one line\n"
        server.shutdown()


async def streams():
    async def serve(reader, writer):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=100)
    port = server.sockets[0].getsockname()[1]

    async def client(n):
        reader, writer = await asyncio.open_connection(server.sockets[0].getsockname()[0], port)
        data = bytes([n]) * 200_000

        async def send():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        task = asyncio.create_task(send())
        assert await reader.read(-1) == data
        await task
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(n) for n in range(40)))
    server.close()
    await server.wait_closed()


def datagrams():
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as a, socket.socket(family, socket.SOCK_DGRAM) as b:
            b.bind((address, 0))
            b.settimeout(20)
            for size in (0, 1, 1000, 20_000):
                a.sendto(b"d" * size, b.getsockname())
                data, _ = b.recvfrom(65536)
                assert data == b"d" * size


http_files()
echo(socket.AF_INET, "127.0.0.1")
echo(socket.AF_INET6, "::1")
asyncio.run(asyncio.wait_for(streams(), 60))
datagrams()
assert "lo" in dict((n, i) for i, n in socket.if_nameindex())
assert socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)
print("PASSED")
