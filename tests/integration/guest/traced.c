// SPDX-License-Identifier: Apache-2.0
// Makes known system calls between two marks (getppid), so that what a tracer shows of them can be told beforehand:
// traced.expected. Ends with status 7.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CALL(name, ...) syscall(SYS_##name __VA_OPT__(, ) __VA_ARGS__)

int main(void) {
  static char buffer[64];
  static int pair[2];
  static struct timespec pause = {0, 1000};
  static struct iovec vectors[2] = {{"ab", 2}, {"cde", 3}};
  CALL(umask, 022);
  CALL(getppid);
  int fd = CALL(openat, AT_FDCWD, "/tmp/traced", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  CALL(write, fd, "one\ntwo\t\"3\"\001", 12);
  CALL(lseek, fd, 4, SEEK_SET);
  CALL(read, fd, buffer, 3);
  CALL(pread64, fd, buffer, 64, 0);
  CALL(writev, fd, vectors, 2);
  CALL(openat, AT_FDCWD, "/no/such/file", O_RDONLY);
  CALL(read, 99, 8, 1);
  CALL(write, fd, 8, 4);
  CALL(pipe2, pair, O_CLOEXEC | O_NONBLOCK);
  CALL(read, pair[0], 8, 8);
  CALL(fcntl, pair[0], F_GETFD);
  CALL(fcntl, pair[0], F_GETFL);
  CALL(fcntl, pair[0], F_SETFD, 0);
  CALL(fcntl, pair[0], F_SETFL, O_NONBLOCK);
  CALL(dup2, fd, 20);
  CALL(dup3, fd, 21, O_CLOEXEC);
  CALL(mkdir, "/tmp/traced.d", 0755);
  CALL(rmdir, "/tmp/traced.d");
  CALL(rename, "/tmp/none", "/tmp/nowhere");
  CALL(access, "/tmp/traced", R_OK | W_OK);
  CALL(chmod, "/tmp/traced", 0600);
  CALL(ftruncate, fd, 5);
  CALL(munmap, CALL(mmap, 0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 8192);
  CALL(mmap, 0, 0, PROT_READ, MAP_SHARED, -1, 0);
  CALL(nanosleep, &pause, 0);
  CALL(socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
  CALL(kill, 1, 0);
  CALL(kill, 0x3ffffff0, SIGUSR1);
  CALL(getuid);
  CALL(umask, 027);
  syscall(1112, 1, 2, 3, 4, 5, 6);
  CALL(unlinkat, AT_FDCWD, "/tmp/traced", 0);
  CALL(close, fd);
  CALL(getppid);
  CALL(exit_group, 7);
}
