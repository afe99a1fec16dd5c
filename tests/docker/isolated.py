# SPDX-License-Identifier: Apache-2.0
"""Runs a test script in network, mount and pid namespaces of its own, and looks at what it leaves behind.

The script calls enter() first. The caller's process stays outside: it makes the work directory, waits, kills the whole
namespace when its time is up, and afterwards fails the test for each cgroup that is left. Inside, the script runs below
an init that reaps orphans; when the script ends, the kernel ends whatever it started, and its mounts and interfaces go
with the namespaces.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

_INSIDE = "RUNSC_DOCKER_TEST_DIR"


def _cgroups(name):
    found = []
    for base in ["/sys/fs/cgroup"] + [entry.path for entry in os.scandir("/sys/fs/cgroup") if entry.is_dir()]:
        path = os.path.join(base, name)
        if os.path.isdir(path):
            found.append(path)
    return found


def container_cgroups(work):
    """The cgroups of containers that are there now."""
    return [e.path for path in _cgroups(os.path.basename(work)) for e in os.scandir(path) if e.is_dir()]


def _remove_cgroup(path):
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except OSError as error:
            print(f"cgroup {directory}: {error.strerror}", file=sys.stderr)


def _outside(limit, argv):
    if os.geteuid() != 0:
        sys.exit(f"{argv[0]}: needs root")
    subprocess.run([os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tools/deps"), "docker"], check=True)
    work = tempfile.mkdtemp(prefix="runsc-docker-")
    environment = dict(os.environ)
    environment[_INSIDE] = work
    # Daemons would take a proxy of the caller for theirs.
    for name in list(environment):
        if name.lower().endswith("_proxy") or name.startswith("DOCKER_"):
            del environment[name]
    namespaces = "--net --mount --propagation private --pid --fork --kill-child --mount-proc".split()
    child = subprocess.Popen(["unshare", *namespaces, sys.executable, *argv], env=environment)
    signal.signal(signal.SIGTERM, lambda *_: child.kill())
    try:
        status = child.wait(limit)
    except subprocess.TimeoutExpired:
        print(f"{argv[0]}: did not end within {limit} s", file=sys.stderr)
        child.kill()
        child.wait()
        status = 124
    # Cgroups are the host's. Each container's own must have been removed by the runtime; the parent is ours.
    # podman's monitor has one of its own.
    left = [path for path in container_cgroups(work) if not path.endswith("/conmon")]
    if left:
        print(f"FAILED: cgroups are left: {left}", file=sys.stderr)
        status = status or 1
    for path in _cgroups(os.path.basename(work)):
        _remove_cgroup(path)
    shutil.rmtree(work, ignore_errors=True)
    sys.exit(status)


def enter(limit):
    """Returns inside the namespaces with the path of an empty work directory. `limit`: seconds for the whole script."""
    work = os.environ.pop(_INSIDE, None)
    if work is None:
        _outside(limit, sys.argv)
    pid = os.fork()
    if pid != 0:
        while True:
            ended, status = os.wait()
            if ended == pid:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Where shims have sockets and states whatever their engine's directories are.
    os.makedirs("/run/containerd", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/containerd"], check=True)
    return work
