#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A name server for tests: every name has one IPv4 and one IPv6 address. name_server.py ADDRESS (UDP and TCP port 53)."""
import select
import socket
import struct
import sys

RECORDS = {1: socket.inet_pton(socket.AF_INET, "192.0.2.1"), 28: socket.inet_pton(socket.AF_INET6, "2001:db8::1")}


def answer(query):
    """RFC 1035: the question again, and its record if there is one."""
    end = query.index(b"\0", 12) + 5
    question = query[12:end]
    data = RECORDS.get(struct.unpack("!H", question[-4:-2])[0])
    head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, 1 if data else 0, 0, 0)
    record = b"\xc0\x0c" + question[-4:] + struct.pack("!IH", 60, len(data)) + data if data else b""
    return head + question + record


def main():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((sys.argv[1], 53))
    tcp = socket.create_server((sys.argv[1], 53))
    while True:
        for ready in select.select([udp, tcp], [], [])[0]:
            if ready is udp:
                query, peer = udp.recvfrom(4096)
                udp.sendto(answer(query), peer)
                continue
            with tcp.accept()[0] as conn:
                conn.settimeout(10)
                head = conn.recv(2)
                if len(head) == 2:
                    reply = answer(conn.recv(struct.unpack("!H", head)[0]))
                    conn.sendall(struct.pack("!H", len(reply)) + reply)


main()
