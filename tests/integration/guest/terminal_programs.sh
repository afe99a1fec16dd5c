#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vi, tmux, htop, top and more on a pty.
. /suite/check.sh
python3 /suite/terminal_programs.py || die "a program on a terminal"
passed
