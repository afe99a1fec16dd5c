// SPDX-License-Identifier: Apache-2.0
// 200 threads at once: a barrier, a contended lock, thread-local data, a pipe ring that passes a token through all of
// them, signals to each, and a second round to see that ended threads' resources come back.
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kThreads = 200, kAdds = 100, kLaps = 5 };

static pthread_barrier_t barrier;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long total;
static __thread int self;
static int rings[kThreads][2];
static volatile sig_atomic_t signalled[kThreads];

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      fprintf(stderr, "FAILED: line %d: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
      exit(1);                                                                        \
    }                                                                                 \
  } while (0)

static void OnSignal(int number) { signalled[self] = number; }

static int Tasks(void) {
  DIR* dir = opendir("/proc/self/task");
  CHECK(dir != NULL);
  int count = 0;
  for (struct dirent* e; (e = readdir(dir)) != NULL;) count += e->d_name[0] != '.';
  closedir(dir);
  return count;
}

static void* Run(void* argument) {
  self = (int)(long)argument;
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < kAdds; ++i) {
    pthread_mutex_lock(&mutex);
    total += 1;
    pthread_mutex_unlock(&mutex);
  }
  CHECK(self == (int)(long)argument);
  for (int lap = 0; lap < kLaps; ++lap) {
    int token = 0;
    CHECK(read(rings[self][0], &token, sizeof token) == sizeof token);
    ++token;
    if (self == kThreads - 1 && lap == kLaps - 1) CHECK(token == kThreads * kLaps);
    if (self == kThreads - 1 && lap == kLaps - 1) break;
    CHECK(write(rings[(self + 1) % kThreads][1], &token, sizeof token) == sizeof token);
  }
  // All are alive here, and the main thread counts and signals them.
  pthread_barrier_wait(&barrier);
  while (!signalled[self]) usleep(1000);
  return (void*)(long)(self * 2);
}

int main(void) {
  struct sigaction action = {.sa_handler = OnSignal, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  alarm(100);
  for (int round = 0; round < 2; ++round) {
    total = 0;
    memset((void*)signalled, 0, sizeof signalled);
    CHECK(pthread_barrier_init(&barrier, NULL, kThreads + 1) == 0);
    pthread_t threads[kThreads];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (long i = 0; i < kThreads; ++i) {
      CHECK(pipe(rings[i]) == 0);
      errno = pthread_create(&threads[i], &attributes, Run, (void*)i);
      CHECK(errno == 0);
    }
    pthread_barrier_wait(&barrier);
    int token = 0;
    CHECK(write(rings[0][1], &token, sizeof token) == sizeof token);
    pthread_barrier_wait(&barrier);
    CHECK(total == (long)kThreads * kAdds);
    CHECK(Tasks() == kThreads + 1);
    for (int i = 0; i < kThreads; ++i) {
      errno = pthread_kill(threads[i], SIGUSR1);
      CHECK(errno == 0);
    }
    for (long i = 0; i < kThreads; ++i) {
      void* result;
      CHECK(pthread_join(threads[i], &result) == 0);
      CHECK((long)result == i * 2);
      close(rings[i][0]);
      close(rings[i][1]);
    }
    // The kernel wakes a joiner just before the thread leaves its group.
    for (int i = 0; i < 1000 && Tasks() != 1; ++i) usleep(1000);
    CHECK(Tasks() == 1);
    pthread_barrier_destroy(&barrier);
  }
  puts("PASSED");
  return 0;
}
