#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the config.json of an integration test: bundle.py BUNDLE --root DIR [options] -- COMMAND [ARG...].

The same file serves runsc and runc, so that a difference is the runtime's.
"""
import argparse
import json
import os
import sys

# In the order of their numbers.
ALL_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN"
    " SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
).split()


def parse(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("--root", required=True)
    parser.add_argument("--suite", default="", help="directory to show read-only as /suite")
    parser.add_argument("--terminal", action="store_true")
    parser.add_argument("--pids", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0, help="bytes")
    parser.add_argument("--cgroup", default="")
    parser.add_argument("--cgroup-mount", action="store_true", help="/sys/fs/cgroup, and a cgroup namespace")
    parser.add_argument("--netns", default="", help="path of the network namespace to join")
    parser.add_argument("--host-network", action="store_true", help="no network namespace, as docker --network host")
    parser.add_argument("--tmpfs", action="append", default=[], metavar="PATH=OPTIONS")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


def mount(destination, kind, *options, source=None):
    entry = {"destination": destination, "type": kind, "source": source or kind}
    if options:
        entry["options"] = list(options)
    return entry


def host_bounding_set():
    """runc refuses a capability that it doesn't have itself."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd:"))


def config(args):
    bounding = host_bounding_set()
    capabilities = ["CAP_" + name for i, name in enumerate(ALL_CAPABILITIES) if bounding >> i & 1]
    mounts = [
        mount("/proc", "proc"),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        mount("/tmp", "tmpfs", "mode=1777"),
    ]
    if args.suite:
        mounts.append(mount("/suite", "bind", "bind", "ro", source=args.suite))
    if args.cgroup_mount:
        mounts.append(mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"))
    for one in args.tmpfs:
        path, _, options = one.partition("=")
        mounts.append(mount(path, "tmpfs", *[o for o in options.split(",") if o]))
    resources = {"devices": [{"allow": True, "access": "rwm"}]}
    if args.pids:
        resources["pids"] = {"limit": args.pids}
    if args.memory:
        resources["memory"] = {"limit": args.memory}
    linux = {
        "resources": resources,
        "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")],
    }
    if args.host_network:
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
    if args.cgroup_mount:
        linux["namespaces"].append({"type": "cgroup"})
    if args.netns:
        next(n for n in linux["namespaces"] if n["type"] == "network")["path"] = args.netns
    if args.cgroup:
        linux["cgroupsPath"] = args.cgroup
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": args.terminal,
            "user": {"uid": 0, "gid": 0},
            "args": args.command,
            "env": args.env,
            "cwd": "/",
            "capabilities": {name: capabilities for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
            "noNewPrivileges": False,
        },
        "root": {"path": args.root, "readonly": False},
        "hostname": "box",
        "mounts": mounts,
        "linux": linux,
    }


def main():
    args = parse(sys.argv[1:])
    with open(os.path.join(args.bundle, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config(args), out, indent=1)


main()
