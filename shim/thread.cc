// SPDX-License-Identifier: Apache-2.0
#include "shim/thread.h"

#include <poll.h>
#include <pthread.h>

#include <memory>
#include <utility>

namespace shim {
namespace {

constexpr size_t kStackSize = 256 << 10;

void* Main(void* argument) {
  std::unique_ptr<std::function<void()>> run(static_cast<std::function<void()>*>(argument));
  (*run)();
  return nullptr;
}

}  // namespace

bool StartThread(std::function<void()> run) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackSize);
  auto* argument = new std::function<void()>(std::move(run));
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, Main, argument);
  pthread_attr_destroy(&attributes);
  if (error != 0) delete argument;
  return error == 0;
}

void Pause(int milliseconds) { poll(nullptr, 0, milliseconds); }

}  // namespace shim
