#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3: asyncio over AF_UNIX (path and abstract), with subprocesses, signals, timers and executor threads."""
import asyncio
import os
import signal
import socket


async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def client(path, n):
    reader, writer = await asyncio.open_unix_connection(path)
    for i in range(50):
        writer.write(f"client {n} line {i}\n".encode())
        assert await reader.readline() == f"CLIENT {n} LINE {i}\n".encode()
    # 1 MB in one piece: more than the socket holds.
    big = b"x" * (1 << 20)
    writer.write(big + b"\n")
    assert await reader.readexactly(len(big) + 1) == b"X" * len(big) + b"\n"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return n


async def main():
    loop = asyncio.get_running_loop()
    for path in ("/tmp/asyncio.sock", "\0integration"):
        server = await asyncio.start_unix_server(serve, path, limit=4 << 20, backlog=100)
        results = await asyncio.gather(*(client(path, n) for n in range(20)))
        assert results == list(range(20))
        server.close()
        await server.wait_closed()
    os.unlink("/tmp/asyncio.sock")

    # A descriptor sent over a socket pair, and the credentials of its other end.
    a, b = socket.socketpair()
    r, w = os.pipe()
    socket.send_fds(a, [b"fd"], [w])
    message, fds, _, _ = socket.recv_fds(b, 10, 1)
    assert message == b"fd" and len(fds) == 1
    os.write(fds[0], b"through")
    assert os.read(r, 100) == b"through"
    pid, uid, gid = (int.from_bytes(a.getsockopt(1, socket.SO_PEERCRED, 12)[i : i + 4], "little") for i in (0, 4, 8))
    assert (pid, uid, gid) == (os.getpid(), os.getuid(), os.getgid())

    process = await asyncio.create_subprocess_exec("sh", "-c", "cat; exit 6", stdin=-1, stdout=-1)
    out, _ = await asyncio.wait_for(process.communicate(b"input"), 60)
    assert (out, process.returncode) == (b"input", 6)

    got = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, got.set)
    os.kill(os.getpid(), signal.SIGUSR2)
    await asyncio.wait_for(got.wait(), 20)

    start = loop.time()
    await asyncio.gather(*(asyncio.sleep(0.2) for _ in range(100)))
    assert 0.19 < loop.time() - start < 10
    try:
        await asyncio.wait_for(asyncio.sleep(100), 0.1)
        raise AssertionError("no timeout")
    except asyncio.TimeoutError:
        pass
    assert await loop.run_in_executor(None, sum, range(1000)) == 499500


asyncio.run(asyncio.wait_for(main(), 120))
print("PASSED")
