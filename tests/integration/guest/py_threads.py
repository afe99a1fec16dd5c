#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3: threads with locks, conditions, queues, barriers and signals."""
import queue
import signal
import threading
import time


def main():
    # A counter under a lock.
    lock, total = threading.Lock(), [0]

    def count():
        for _ in range(2000):
            with lock:
                total[0] += 1

    threads = [threading.Thread(target=count) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert total[0] == 32000, total

    # A producer and consumers.
    jobs, results = queue.Queue(maxsize=8), queue.Queue()

    def consume():
        while (job := jobs.get(timeout=30)) is not None:
            results.put(job * job)

    threads = [threading.Thread(target=consume) for _ in range(8)]
    for t in threads:
        t.start()
    for i in range(500):
        jobs.put(i, timeout=30)
    for _ in threads:
        jobs.put(None, timeout=30)
    for t in threads:
        t.join(30)
        assert not t.is_alive()
    assert sum(results.get_nowait() for _ in range(500)) == sum(i * i for i in range(500))

    # All reach the barrier before one leaves it.
    barrier, before, after = threading.Barrier(20, timeout=30), [], []

    def meet(i):
        before.append(i)
        barrier.wait()
        assert len(before) == 20
        after.append(i)

    threads = [threading.Thread(target=meet, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert sorted(after) == list(range(20)), after

    # A timed wait ends in time; sleeping in one thread doesn't stop another.
    event, start = threading.Event(), time.monotonic()
    assert not event.wait(0.2)
    assert 0.19 <= time.monotonic() - start < 5
    timer = threading.Timer(0.05, event.set)
    timer.start()
    assert event.wait(20)

    # A signal is handled in the main thread while others run.
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append(threading.current_thread()))
    sender = threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1))
    sender.start()
    deadline = time.monotonic() + 20
    while not got and time.monotonic() < deadline:
        time.sleep(0.01)
    assert got == [threading.main_thread()], got
    sender.join(20)

    # Native identities are those of /proc.
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", encoding="ascii") as comm:
        assert comm.read().startswith("python3"), "comm"
    print("PASSED")


main()
