#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# openssl: a known digest, a key made and used, a short benchmark (vector instructions, itimers, times).
. /suite/check.sh
cd /tmp || die cd
check ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad \
  "$(printf abc | openssl dgst -sha256 -r | cut -d ' ' -f 1)" "SHA-256 of abc"
openssl speed -seconds 1 -evp sha256 -bytes 16384 >speed 2>err || die "openssl speed: $(cat err)"
grep -E '^sha256 +[0-9.]+k$' speed | grep -qv ' 0\.00k' || die "speed's table: $(tail -n 2 speed) $(tail -n 2 err)"
grep -qE 'in [01]\.[0-9]+s' err || die "speed ran for: $(cat err)"
openssl genpkey -algorithm ed25519 -out key || die genpkey
openssl pkey -in key -pubout -out public || die pubout
echo text >text
openssl pkeyutl -sign -rawin -inkey key -in text -out signature || die sign
openssl pkeyutl -verify -rawin -pubin -inkey public -in text -sigfile signature >/dev/null || die verify
echo other >text
openssl pkeyutl -verify -rawin -pubin -inkey public -in text -sigfile signature >/dev/null 2>&1 && die "verifies another text"
head -c 1000000 /dev/urandom >plain
openssl enc -aes-256-cbc -pbkdf2 -k secret -in plain -out cipher && openssl enc -d -aes-256-cbc -pbkdf2 -k secret -in cipher -out back || die enc
cmp plain back || die "decryption"
passed
