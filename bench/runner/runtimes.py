# SPDX-License-Identifier: Apache-2.0
"""Ways to run a program: natively in a chroot, or in a container of an OCI runtime."""

import itertools
import json
import os
import subprocess
import tempfile

# What Docker gives to root in a container, by number (linux/capability.h).
DOCKER_CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
                       "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31}
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def capabilities():
    """Of those, what may be given here: runc refuses what its caller doesn't have."""
    with open("/proc/self/status") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    return ["CAP_" + name for name, number in DOCKER_CAPABILITIES.items() if bounding >> number & 1]


class Failed(Exception):
    """A program did not do its work, or a runtime did not run it."""


def tail(text, lines=4):
    return " | ".join(text.strip().splitlines()[-lines:]) or "no output"


def finish(process, what, timeout):
    """Its standard output, after it ended with status 0."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: no end within {timeout} s") from None
    if process.returncode != 0:
        raise Failed(f"{what}: status {process.returncode}: {tail(err + out)}")
    return out


def start(argv):
    # A session of its own: a terminal's Ctrl-C reaches the runner only, which then ends everything in order.
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            errors="replace", env=ENVIRONMENT, start_new_session=True)


class Native:
    name = "native"
    is_native = True

    def __init__(self, stage):
        self.stage = stage

    def command(self, argv):
        """For `guest time`: the whole command line and the root it is to be run in."""
        return argv, self.stage.rootfs

    def run(self, argv, timeout=300):
        return finish(start(["chroot", self.stage.rootfs, *argv]), self.name, timeout)

    def launch(self, argv):
        """Starts it and returns at once. Its output is a pipe."""
        return start(["chroot", self.stage.rootfs, *argv])

    def clean_up(self):
        # A fresh /tmp for each program, as containers have.
        self.stage.renew_tmp()


class Oci:
    is_native = False
    _numbers = itertools.count()

    def __init__(self, stage, name, path, flags=()):
        self.stage, self.name, self.path, self.flags = stage, name, path, list(flags)
        self.state = os.path.join(stage.state, name)
        self.bundle = tempfile.mkdtemp(prefix="bundle.", dir=stage.state)
        os.mkdir(self.state)
        self.ids = []

    def _spec(self, argv):
        mounts = [
            ("/proc", "proc", "proc", []),
            ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777"]),
            ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
            ("/tmp", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777"]),
            (self.stage.bind, "bind", self.stage.bind_source, ["rbind", "rw"]),
        ]
        caps = {kind: capabilities() for kind in ("bounding", "effective", "permitted")}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": argv,
                "env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
                "cwd": "/",
                "capabilities": caps,
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}],
            },
            "root": {"path": self.stage.rootfs, "readonly": False},
            "hostname": "bench",
            "mounts": [{"destination": d, "type": t, "source": s, "options": o} for d, t, s, o in mounts],
            "linux": {
                "cgroupsPath": f"/{self.stage.cgroup}/{self.name}",
                "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")],
            },
        }

    def _prepare(self, argv, detach):
        container = f"b{os.getpid()}-{next(self._numbers)}"
        self.ids.append(container)
        spec = self._spec(argv)
        spec["linux"]["cgroupsPath"] += f"-{container}"
        # One at a time may start from a bundle; detached containers have read theirs when `run` returns.
        with open(os.path.join(self.bundle, "config.json"), "w") as file:
            json.dump(spec, file)
        return [self.path, "--root", self.state, *self.flags, "run", *(["--detach"] if detach else []), "--bundle", self.bundle,
                container]

    def command(self, argv):
        return self._prepare(argv, detach=False), None

    def run(self, argv, timeout=300):
        return finish(start(self._prepare(argv, detach=False)), self.name, timeout)

    def launch(self, argv):
        """Detached: only the sandbox's own processes are left when it runs."""
        return start(self._prepare(argv, detach=True))

    def delete(self, container):
        subprocess.run([self.path, "--root", self.state, *self.flags, "delete", "--force", container], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, timeout=30, check=False,
                       start_new_session=True)

    def clean_up(self):
        """Deletes what still has a state directory: foreground runs deleted themselves."""
        known = [c for c in self.ids if os.path.isdir(os.path.join(self.state, c)) or self.path_has(c)]
        self.ids = []
        for container in known:
            try:
                self.delete(container)
            except subprocess.TimeoutExpired:
                pass  # its processes are ended by the runner

    def path_has(self, container):
        # gVisor names its state files ID_sandbox:ID.state.
        return any(container in name for name in os.listdir(self.state))
