// SPDX-License-Identifier: Apache-2.0
// The C++ side of SafeCopy and the signal handler that resumes a faulting copy behind its instruction.
#include "platform/safe_copy.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include <initializer_list>

#include "base/log.h"

extern "C" {
size_t PlatformSafeCopy(void* to, const void* from, size_t length);
size_t PlatformSafeZero(void* to, size_t length);
int PlatformSafeLoad32(const uint32_t* from, uint32_t* value);
int PlatformSafeCompareExchange32(uint32_t* at, uint32_t* expected, uint32_t desired);
struct PlatformSafeCopyEntry {
  uint64_t begin;
  uint64_t end;
  uint64_t fixup;
};
extern const PlatformSafeCopyEntry kPlatformSafeCopyTable[];
extern const PlatformSafeCopyEntry kPlatformSafeCopyTableEnd[];
}

namespace platform {
namespace {

void OnFault(int signal, siginfo_t* info, void* context) {
  greg_t& rip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  // si_code <= 0: sent by someone, not raised by the instruction.
  if (info->si_code > 0) {
    for (const auto* entry = kPlatformSafeCopyTable; entry < kPlatformSafeCopyTableEnd; ++entry) {
      if (static_cast<uint64_t>(rip) >= entry->begin && static_cast<uint64_t>(rip) < entry->end) {
        rip = static_cast<greg_t>(entry->fixup);
        return;
      }
    }
  }
  char line[128];
  int n = snprintf(line, sizeof(line), "fatal signal %d (code %d) at address %p, instruction %#llx\n", signal,
                   info->si_code, info->si_addr, rip);
  // The log may be what crashed: only write(2) is safe here.
  if (n > 0 && write(STDERR_FILENO, line, static_cast<size_t>(n)) < 0) _exit(128 + signal);
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  // A hardware fault happens again on return; a sent signal has to be repeated.
  if (info->si_code <= 0) raise(signal);
}

}  // namespace

void InstallSafeCopyHandler() {
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGSEGV, SIGBUS}) {
    if (sigaction(signal, &action, nullptr) != 0) FATAL("sigaction(%d): errno %d", signal, errno);
  }
}

size_t SafeCopy(void* to, const void* from, size_t length) { return length - PlatformSafeCopy(to, from, length); }

size_t SafeZero(void* to, size_t length) { return length - PlatformSafeZero(to, length); }

bool SafeLoad32(const uint32_t* from, uint32_t* value) { return PlatformSafeLoad32(from, value) != 0; }

bool SafeCompareExchange32(uint32_t* at, uint32_t* expected, uint32_t desired, bool* exchanged) {
  int result = PlatformSafeCompareExchange32(at, expected, desired);
  *exchanged = result == 1;
  return result != 0;
}

}  // namespace platform
