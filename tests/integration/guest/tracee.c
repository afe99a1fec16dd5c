// SPDX-License-Identifier: Apache-2.0
// What strace and gdb are tried on.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int counter;

__attribute__((noinline)) int Step(int n) {
  counter += n;
  return counter;
}

int main(int argc, char** argv) {
  int last = 0;
  for (int i = 1; i <= 5; ++i) last = Step(i);
  pid_t child = fork();
  if (child == 0) {
    write(1, "child\n", 6);
    _exit(4);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("last %d child %d\n", last, WEXITSTATUS(status));
  fflush(stdout);
  if (argc > 1) *(volatile int*)NULL = 1;
  return 7;
}
