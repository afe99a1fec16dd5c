#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/proc is what it says: maps against real mappings, meminfo, stat, status, mounts, cpuinfo, uptime, fd, limits."""
import mmap
import os
import re
import resource
import time


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        return f.read()


def check(condition, *what):
    if not condition:
        raise SystemExit("FAILED: " + " ".join(str(w) for w in what))


LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) ([0-9a-f]{8,}) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)")


def maps():
    text, areas, last = read("/proc/self/maps"), [], 0
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        check(match, "a line of maps:", line)
        start, end, offset = int(match[1], 16), int(match[2], 16), int(match[4], 16)
        check(last <= start < end, "maps is ordered:", line)
        check(start % 4096 == 0 == end % 4096 == offset % 4096, "maps is aligned:", line)
        last = end
        areas.append((start, end, match[3], offset, int(match[5]), match[6]))
    return areas


def check_maps():
    areas = maps()
    names = {a[5] for a in areas}
    check("[heap]" in names and "[stack]" in names and "[vdso]" in names, "names in maps:", names)
    exe = os.readlink("/proc/self/exe")
    check(exe in names, exe, "in maps:", names)
    for start, _, perms, offset, inode, name in areas:
        if name == exe:
            check(os.stat(exe).st_ino == inode, "the inode of", exe, inode)
            check("w" not in perms or "p" in perms, "a private mapping:", perms)
    local = id(areas)
    check(any(a[0] <= local < a[1] and a[2].startswith("rw") for a in areas), "a Python object isn't in rw memory")

    with open("/tmp/mapped", "wb+") as file:
        file.truncate(16 * 4096)
        area = mmap.mmap(file.fileno(), 8 * 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=4 * 4096)
        found = [a for a in maps() if a[5] == "/tmp/mapped"]
        check(len(found) == 1, "the mapping of /tmp/mapped:", found)
        start, end, perms, offset, inode, _ = found[0]
        check((end - start, perms, offset) == (8 * 4096, "rw-s", 4 * 4096), "its line:", found)
        check(inode == os.fstat(file.fileno()).st_ino, "its inode")
        with open("/proc/self/mem", "rb") as memory:
            area[4096:4101] = b"hello"
            memory.seek(start + 4096)
            check(memory.read(5) == b"hello", "/proc/self/mem")
        area.close()
    check(not [a for a in maps() if a[5] == "/tmp/mapped"], "the mapping is still shown")


def fields(path):
    return {key: value.strip() for key, _, value in (line.partition(":") for line in read(path).splitlines())}


def kilobytes(text):
    number, unit = text.split()
    check(unit == "kB", "a unit:", text)
    return int(number)


def check_memory():
    info = {key: kilobytes(value) for key, value in fields("/proc/meminfo").items() if value.endswith("kB")}
    for name in ("MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapTotal", "SwapFree", "Shmem"):
        check(name in info, name, "is not in meminfo")
    total = info["MemTotal"]
    check(16 << 10 <= total <= 1 << 34, "MemTotal:", total)
    for name in ("MemFree", "MemAvailable", "Cached", "Buffers", "Shmem"):
        check(0 <= info[name] <= total, name, info[name], "of", total)
    check(info["MemFree"] + info["Cached"] <= total * 1.05, "free and cached:", info)
    check(info["SwapFree"] <= info["SwapTotal"], "swap:", info)

    before = kilobytes(fields("/proc/self/status")["VmRSS"])
    area = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, 64 << 20, 4096):
        area[at] = 1
    status = fields("/proc/self/status")
    grown = kilobytes(status["VmRSS"]) - before
    check(60 << 10 <= grown <= 80 << 10, "VmRSS has grown by", grown, "kB after 64 MiB were touched")
    check(kilobytes(status["VmSize"]) >= kilobytes(status["VmRSS"]), "VmSize", status)
    pages = int(read("/proc/self/statm").split()[1])
    check(abs(pages * 4 - kilobytes(status["VmRSS"])) < 4096, "statm:", pages)
    area.close()
    after = kilobytes(fields("/proc/self/status")["VmRSS"])
    check(after < before + (16 << 10), "VmRSS after munmap:", after)


def check_processes():
    status = fields("/proc/self/status")
    check(int(status["Pid"]) == os.getpid() and int(status["PPid"]) == os.getppid(), "status' pids")
    check(status["Uid"].split() == ["0"] * 4, "status' Uid")
    check(int(status["Threads"]) == len(os.listdir("/proc/self/task")), "status' Threads")
    stat = read("/proc/self/stat")
    head, _, rest = stat.rpartition(")")
    rest = rest.split()
    check(head.startswith(f"{os.getpid()} (") and rest[0] == "R", "stat:", stat)
    check(len(rest) == 50, "stat has", len(rest) + 2, "fields")
    check(int(rest[1]) == os.getppid() and int(rest[2]) == os.getpgrp() and int(rest[3]) == os.getsid(0), "stat's ids")
    used = int(rest[11]) + int(rest[12])
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    rest = read("/proc/self/stat").rpartition(")")[2].split()
    more = int(rest[11]) + int(rest[12]) - used
    check(20 <= more <= 100, "stat: utime+stime has grown by", more, "ticks in 0.3 s of work")
    check(read("/proc/self/cmdline").split("\0")[0].endswith("python3"), "cmdline")
    check(b"LC_ALL=C.UTF-8" in open("/proc/self/environ", "rb").read().split(b"\0"), "environ")
    check(os.readlink("/proc/self/cwd") == os.getcwd(), "cwd")
    check(os.readlink("/proc/self/root") == "/", "root")
    with open("/tmp/opened", "w+", encoding="utf-8") as file:
        fd = file.fileno()
        file.write("contents")
        file.flush()
        check(os.readlink(f"/proc/self/fd/{fd}") == "/tmp/opened", "fd's link")
        check(read(f"/proc/self/fd/{fd}") == "contents", "an open file opened again")
        check(int(fields(f"/proc/self/fdinfo/{fd}")["pos"]) == 8, "fdinfo")
        os.unlink("/tmp/opened")
        check(os.readlink(f"/proc/self/fd/{fd}") == "/tmp/opened (deleted)", "a deleted file's link")
    limits = read("/proc/self/limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    check(re.search(rf"^Max open files +{soft} +{hard} +files", limits, re.M), "limits:", limits)

    pids = {int(p) for p in os.listdir("/proc") if p.isdigit()}
    check({1, os.getpid()} <= pids and len(pids) < 50, "processes:", pids)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    check(fields(f"/proc/{child}/status")["State"].startswith("Z"), "a zombie's state")
    os.waitpid(child, 0)
    check(not os.path.exists(f"/proc/{child}"), "a reaped child")
    try:
        os.listdir("/proc/2147483647")
        check(False, "a process that never was")
    except FileNotFoundError:
        pass


def check_system():
    cpus = len(re.findall(r"^processor\s*:", read("/proc/cpuinfo"), re.M))
    check(cpus == os.sysconf("SC_NPROCESSORS_ONLN") >= len(os.sched_getaffinity(0)) >= 1, "cpus:", cpus)
    stat = read("/proc/stat")
    check(len(re.findall(r"^cpu\d+ ", stat, re.M)) == cpus, "cpus of /proc/stat")
    boot = int(re.search(r"^btime (\d+)", stat, re.M)[1])
    up, idle = (float(x) for x in read("/proc/uptime").split())
    check(abs(boot + up - time.time()) < 3, "btime and uptime:", boot, up, time.time())
    check(0 <= idle, "idle", idle)
    check(abs(up - time.clock_gettime(time.CLOCK_BOOTTIME)) < 3, "uptime and CLOCK_BOOTTIME")
    check(len(read("/proc/loadavg").split()) == 5, "loadavg")
    check(read("/proc/version").startswith("Linux version " + os.uname().release), "version")
    check(read("/proc/sys/kernel/ostype") == "Linux\n", "ostype")
    check(read("/proc/sys/kernel/hostname") == os.uname().nodename + "\n" == "box\n", "hostname")
    check(int(read("/proc/sys/kernel/pid_max")) > 300, "pid_max")
    check("tmpfs" in read("/proc/filesystems"), "filesystems")
    mounts = {line.split()[1]: line.split()[2] for line in read("/proc/self/mounts").splitlines()}
    for point, kind in {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/tmp": "tmpfs", "/sys": "sysfs"}.items():
        check(mounts.get(point) == kind, point, "in mounts:", mounts)
    check("/" in mounts, "the root in mounts")
    points = [line.split()[4] for line in read("/proc/self/mountinfo").splitlines()]
    check(sorted(set(points)) == sorted(mounts), "mountinfo and mounts:", points)
    one, two = read("/proc/sys/kernel/random/uuid"), read("/proc/sys/kernel/random/uuid")
    check(one != two and re.fullmatch(r"[0-9a-f-]{36}\n", one), "uuid:", one)


check_maps()
check_memory()
check_processes()
check_system()
print("PASSED")
