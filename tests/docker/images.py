# SPDX-License-Identifier: Apache-2.0
"""Image archives made of the roots of tests/integration, for engines that load files: no registry is asked."""
import hashlib
import io
import json
import subprocess
import tarfile

from engine import ROOTFS


def root_of(name):
    return subprocess.run([ROOTFS, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def make_archive(root, image, path, command=("sh",), all_of_root=False):
    """Writes a docker-archive (as `docker save` makes them) with one layer, the directory `root`. `all_of_root`: whoever
    owns a file there, for who has but one id."""

    def entry_of(entry):
        if all_of_root:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
        return entry

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".", filter=entry_of)
    data = layer.getvalue()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]},
    }).encode()  # fmt: skip
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, mode="w") as tar:
        for name, content in [("layer.tar", data), ("config.json", config), ("manifest.json", manifest)]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
