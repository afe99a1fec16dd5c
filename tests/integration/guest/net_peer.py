#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Both ends of a network test: net_peer.py serve ADDRESS | talk ADDRESS | unreachable ADDRESS.

serve: TCP and UDP on port 8000; prints "ready", serves until its stdin ends. talk: bulk data both ways over TCP with many small
and some large writes, datagrams of many sizes with fragments, a hundred short connections, errors; prints "PASSED".
"""
import errno
import hashlib
import os
import select
import socket
import sys
import threading

PORT = 8000
BULK = 8 << 20
LIMIT = 60


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def receive(conn, count):
    parts = []
    while count:
        part = conn.recv(min(count, 1 << 16))
        if not part:
            raise EOFError(f"{count} bytes are missing")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def pattern(seed, count):
    block = hashlib.sha256(seed.encode()).digest() * 64
    return (block * (count // len(block) + 1))[:count]


def serve_connection(conn):
    """The first byte says what: e(cho until the end), b(ulk both ways)."""
    with conn:
        conn.settimeout(LIMIT)
        what = conn.recv(1)
        if what == b"e":
            while data := conn.recv(1 << 16):
                conn.sendall(data)
        elif what == b"b":
            sender = threading.Thread(target=conn.sendall, args=(pattern("server", BULK),))
            sender.start()
            got = receive(conn, BULK)
            sender.join()
            conn.sendall(hashlib.sha256(got).digest())


def serve(address):
    tcp = socket.socket(family(address), socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((address, PORT))
    tcp.listen(128)
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    udp.bind((address, PORT))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([tcp, udp, sys.stdin], [], [], 120)
        if not ready:
            raise TimeoutError("nobody came")
        if sys.stdin in ready and not os.read(0, 100):
            return
        if udp in ready:
            data, peer = udp.recvfrom(65536)
            udp.sendto(data, peer)
        if tcp in ready:
            threading.Thread(target=serve_connection, args=(tcp.accept()[0],), daemon=True).start()


def connect(address):
    conn = socket.socket(family(address), socket.SOCK_STREAM)
    conn.settimeout(LIMIT)
    conn.connect((address, PORT))
    return conn


def talk(address):
    with connect(address) as conn:
        conn.sendall(b"b")
        sent = pattern("client", BULK)

        def send():
            for at in range(0, 1 << 16, 100):
                conn.sendall(sent[at:at + 100])
            conn.sendall(sent[(at + 100):])

        sender = threading.Thread(target=send)
        sender.start()
        assert receive(conn, BULK) == pattern("server", BULK), "bulk data from the server"
        sender.join()
        assert receive(conn, 32) == hashlib.sha256(sent).digest(), "bulk data to the server"
    for i in range(100):
        with connect(address) as conn:
            conn.sendall(b"e" + b"%d" % i)
            assert receive(conn, len(b"%d" % i)) == b"%d" % i
            conn.shutdown(socket.SHUT_WR)
            assert conn.recv(10) == b"", "the end"
    with socket.socket(family(address), socket.SOCK_DGRAM) as udp:
        udp.connect((address, PORT))
        udp.settimeout(5)
        # The last two come in fragments.
        for size in (0, 1, 100, 1400, 1472, 5000, 20000):
            for attempt in range(5):
                udp.send(pattern("udp", size))
                try:
                    assert udp.recv(65536) == pattern("udp", size), f"datagram of {size}"
                    break
                except socket.timeout:
                    pass
            else:
                raise TimeoutError(f"no answer to a datagram of {size} bytes")
    with socket.socket(family(address), socket.SOCK_STREAM) as closed:
        closed.settimeout(LIMIT)
        assert closed.connect_ex((address, PORT + 1)) == errno.ECONNREFUSED, "a closed port"
    with socket.socket(family(address), socket.SOCK_DGRAM) as closed:
        closed.settimeout(LIMIT)
        closed.connect((address, PORT + 1))
        closed.send(b"x")
        try:
            closed.recv(10)
            raise AssertionError("an answer from a closed port")
        except ConnectionRefusedError:
            pass
    print("PASSED", flush=True)


def unreachable(address):
    """Nobody has the address: told within the time that three questions take, not a time-out of TCP."""
    with socket.socket(family(address), socket.SOCK_STREAM) as conn:
        conn.settimeout(LIMIT)
        error = conn.connect_ex((address, PORT))
        assert error == errno.EHOSTUNREACH, os.strerror(error)
    print("PASSED", flush=True)


{"serve": serve, "talk": talk, "unreachable": unreachable}[sys.argv[1]](sys.argv[2])
