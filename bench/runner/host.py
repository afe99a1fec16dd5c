# SPDX-License-Identifier: Apache-2.0
"""What the runner does to the host and takes back: mounts, processes, cgroups, directories.

Everything lives in a mount namespace of the runner's own, so that no mount outlives it; every process that a runtime leaves behind becomes a
child of the runner (it is a subreaper), so that all can be found, measured and ended.
"""

import ctypes
import errno
import glob
import os
import shutil
import signal
import tempfile
import time

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    if getattr(_libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def mount(source, target, kind=None, flags=0, data=None):
    encode = lambda text: None if text is None else os.fsencode(text)
    _call("mount", encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data))


def unmount(target):
    _call("umount2", os.fsencode(target), MNT_DETACH)


def own_mounts():
    _call("unshare", CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def become_subreaper():
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path) as file:
                found += map(int, file.read().split())
        except OSError:
            pass  # it ended meanwhile
    return found


def descendants(pid=None):
    """Process ids below `pid` (default: this process)."""
    found, queue = [], children(pid or os.getpid())
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children(pid)
    return found


def reap():
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def end_descendants(timeout=10.0):
    """Kills and reaps all; False when some are left after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        reap()
        left = descendants()
        if not left:
            return True
        if time.monotonic() > deadline:
            return False
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # They become ours one by one: there is no event for "a grandchild became a zombie of mine".
        time.sleep(0.005)


def pss_kib(pid):
    """Proportional set size; None when the process has ended or is a zombie."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        return None
    return None


def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "?"


def switches(pid):
    """Times that the threads of a process were switched to, so far."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        try:
            with open(path) as file:
                total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        except OSError:
            pass
    return total


def load():
    """Running processes and the last minute's load."""
    with open("/proc/loadavg") as file:
        one, _, _, running, _ = file.read().split()
    return float(one), int(running.split("/")[0])


class Stage:
    """The directory of one run of the runner, in a root file system made of the host's own.

    `data` is on the root of the containers and of the native runs; `bind` is a bind mount below it; /tmp is a tmpfs.
    """

    def __init__(self):
        self._came_from = None
        self.base = tempfile.mkdtemp(prefix="runsc-bench.", dir="/var/tmp")
        self.rootfs = os.path.join(self.base, "rootfs")
        self.data = os.path.join(self.base, "data")
        self.bind = os.path.join(self.data, "bind")
        self.bind_source = os.path.join(self.base, "bind")
        self.state = os.path.join(self.base, "state")
        self.cgroup = os.path.basename(self.base)
        for path in (self.rootfs, self.data, self.bind, self.bind_source, self.state):
            os.mkdir(path)
        os.chmod(self.base, 0o755)

    def mount(self):
        # Not recursive: only the root file system itself. The mounts on it are for the native runs; runtimes make their own.
        mount("/", self.rootfs, None, MS_BIND)
        mount("proc", self.rootfs + "/proc", "proc")
        mount("/dev", self.rootfs + "/dev", None, MS_BIND | MS_REC)
        mount("tmpfs", self.rootfs + "/tmp", "tmpfs")
        mount(self.bind_source, self.rootfs + self.bind, None, MS_BIND)
        # Where runtimes keep their state is a tmpfs on most hosts (/run).
        mount("tmpfs", self.state, "tmpfs")

    def enter_cgroup(self, share):
        """Moves the runner, and so the native runs, below the cgroup in which the containers are, and gives that `share` times the usual
        weight: all that is measured competes alike with what else the machine does. False where that cannot be done."""
        for directory, weight, value in (("/sys/fs/cgroup/cpu", "cpu.shares", 1024 * share), ("/sys/fs/cgroup", "cpu.weight", 100 * share)):
            top = os.path.join(directory, self.cgroup)
            try:
                os.makedirs(top + "/runner")
                if not os.path.exists(f"{top}/{weight}"):
                    continue
                came_from = directory + _own_cgroup(directory == "/sys/fs/cgroup/cpu")
                _write(f"{top}/{weight}", value)
                _write(f"{top}/runner/cgroup.procs", os.getpid())
                self._came_from = came_from
                return True
            except OSError:
                continue
        return False

    def renew_tmp(self):
        unmount(self.rootfs + "/tmp")
        mount("tmpfs", self.rootfs + "/tmp", "tmpfs")

    def remove(self):
        """Takes everything back; the processes must have ended."""
        for path in (self.rootfs, self.state):
            try:
                unmount(path)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it was not mounted
                    raise
        if self._came_from:
            _write(self._came_from + "/cgroup.procs", os.getpid())
        for path in glob.glob(f"/sys/fs/cgroup/*/{self.cgroup}") + glob.glob(f"/sys/fs/cgroup/{self.cgroup}"):
            _remove_cgroup(path)
        # Never recursively: were it still mounted, it would be the host's root.
        os.rmdir(self.rootfs)
        shutil.rmtree(self.base)


def _write(path, value):
    with open(path, "w") as file:
        file.write(str(value))


def _own_cgroup(cpu_v1):
    """This process's place below the mount point of the cpu controller, or of cgroup v2."""
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.strip().split(":", 2)
            if "cpu" in controllers.split(",") if cpu_v1 else not controllers:
                return path
    raise OSError(errno.ENOENT, "no cpu cgroup")


def _remove_cgroup(path):
    for directory, _, _ in os.walk(path, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:  # EBUSY until the last process is gone for the kernel, too
                time.sleep(0.01)
