// SPDX-License-Identifier: Apache-2.0
// Forks until it can't, says how many and why, and takes them all down again.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  static pid_t children[5000];
  int count = 0;
  errno = 0;
  while (count < 5000) {
    pid_t pid = fork();
    if (pid < 0) break;
    if (pid == 0) {
      for (;;) pause();
    }
    children[count++] = pid;
  }
  printf("forked %d %s\n", count, errno == EAGAIN ? "EAGAIN" : errno == 0 ? "without end" : "another error");
  for (int i = 0; i < count; ++i) kill(children[i], SIGKILL);
  while (wait(NULL) > 0) {
  }
  return 0;
}
