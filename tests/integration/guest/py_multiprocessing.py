#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3: multiprocessing by fork and spawn: pools, queues, locks, shared memory, managers (AF_UNIX), semaphores."""
import multiprocessing
import os
from multiprocessing import shared_memory


def square(n):
    return n * n, os.getpid()


def add(value, lock, times):
    for _ in range(times):
        with lock:
            value.value += 1


def fill(name):
    block = shared_memory.SharedMemory(name=name)
    block.buf[:5] = b"child"
    block.close()


def produce(q, n):
    for i in range(n):
        q.put(i)


def die():
    os._exit(23)


def check(method):
    mp = multiprocessing.get_context(method)
    with mp.Pool(4) as pool:
        results = pool.map_async(square, range(200), chunksize=5).get(100)
    assert [r for r, _ in results] == [n * n for n in range(200)]
    assert os.getpid() not in {p for _, p in results}

    value, lock = mp.Value("i", 0), mp.Lock()
    processes = [mp.Process(target=add, args=(value, lock, 300)) for _ in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
        assert p.exitcode == 0, p.exitcode
    assert value.value == 1200, value.value

    p = mp.Process(target=die)
    p.start()
    p.join(60)
    assert p.exitcode == 23, p.exitcode


def main():
    check("fork")
    check("spawn")
    q = multiprocessing.Queue()
    p = multiprocessing.Process(target=produce, args=(q, 1000))
    p.start()
    assert sorted(q.get(timeout=60) for _ in range(1000)) == list(range(1000))
    p.join(60)

    block = shared_memory.SharedMemory(create=True, size=8192)
    p = multiprocessing.Process(target=fill, args=(block.name,))
    p.start()
    p.join(60)
    assert bytes(block.buf[:5]) == b"child"
    block.close()
    block.unlink()

    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        p = multiprocessing.Process(target=shared.update, args=({"key": os.getpid()},))
        p.start()
        p.join(60)
        assert shared["key"] == os.getpid()
    print("PASSED")


if __name__ == "__main__":
    main()
