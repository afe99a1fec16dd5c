#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3: sqlite3: transactions, locks between processes (fcntl), WAL (a shared mapping), rollback after a kill."""
import os
import signal
import sqlite3
import sys

PATH = "/root/integration.db"


def child(work):
    """Runs `work` in a child; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def busy():
    try:
        sqlite3.connect(PATH, timeout=0.1).execute("INSERT INTO t VALUES(-1, '')")
    except sqlite3.OperationalError as e:
        return 7 if "locked" in str(e) else 8
    return 9


def insert_many(base):
    db = sqlite3.connect(PATH, timeout=60)
    for i in range(20):
        with db:
            db.execute("INSERT INTO t VALUES(?, 'child')", (base + i,))
    return 0


def die_in_a_transaction():
    db = sqlite3.connect(PATH, timeout=60, isolation_level=None)
    db.execute("PRAGMA cache_size=2")
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO t VALUES(?, ?)", ((i, "lost" * 200) for i in range(50000, 52000)))
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    for mode in ("delete", "wal"):
        for name in (PATH, PATH + "-wal", PATH + "-shm", PATH + "-journal"):
            if os.path.exists(name):
                os.unlink(name)
        db = sqlite3.connect(PATH, timeout=60, isolation_level=None)
        got = db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
        assert got == mode, f"journal mode {got}, not {mode}"
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO t VALUES(?, ?)", ((i, f"row {i}") for i in range(5000)))
        assert child(busy) == 7, f"{mode}: a second writer isn't kept out"
        db.execute("COMMIT")
        assert db.execute("SELECT count(*), sum(id) FROM t").fetchone() == (5000, 12497500)

        pids = []
        for base in (10000, 20000, 30000):
            pid = os.fork()
            if pid == 0:
                status = 99
                try:
                    status = insert_many(base)
                finally:
                    os._exit(status)
            pids.append(pid)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0, f"{mode}: a concurrent writer failed"
        assert db.execute("SELECT count(*) FROM t WHERE text='child'").fetchone() == (60,)

        assert child(die_in_a_transaction) == -signal.SIGKILL
        assert db.execute("SELECT count(*) FROM t WHERE id >= 50000").fetchone() == (0,), f"{mode}: no rollback"
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("VACUUM")
        db.close()
    print("PASSED")


sys.exit(main())
