// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/debug_registers.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"

namespace platform::systrap {
namespace {

// A thread that can't stop sleeps in the host's kernel, on a disk that doesn't answer perhaps.
constexpr int64_t kStopTimeoutNs = 5 * base::kNsPerSecond;
constexpr size_t kResultArgument = 5;  // used by none of our calls: room for what the kernel writes

Order Ptrace(long request, pid_t tid, uint64_t address = 0, uint64_t data = 0) {
  return {.number = SYS_ptrace,
          .arguments = {static_cast<uint64_t>(request), static_cast<uint64_t>(tid), address, data, 0, 0},
          .result = 0};
}
Order Poke(pid_t tid, size_t index, uint64_t value) {
  return Ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg) + index * sizeof(uint64_t), value);
}
bool Failed(const Order& order) { return static_cast<int64_t>(order.result) < 0; }

}  // namespace

base::Result<void> DebugRegisters::Call(std::span<Order> orders) {
  return zygote_.Exchange({reinterpret_cast<uint8_t*>(orders.data()), orders.size_bytes()});
}

base::Result<void> DebugRegisters::WhileStopped(pid_t tid, std::vector<Order>& orders) {
  auto room = [&](size_t index) {
    return zygote_.layout().page + STUB_SCRATCH + index * sizeof(Order) + offsetof(Order, arguments) +
           kResultArgument * sizeof(uint64_t);
  };
  Order stop[] = {Ptrace(PTRACE_SEIZE, tid), Ptrace(PTRACE_INTERRUPT, tid)};
  TRY(Call(stop));
  // Somebody outside traces it, or may forbid this.
  if (Failed(stop[0])) return base::Errno(EIO);
  const int64_t deadline = base::MonotonicNs() + kStopTimeoutNs;
  int status;
  for (;;) {
    Order wait = {.number = SYS_wait4,
                  .arguments = {static_cast<uint64_t>(tid), room(0), __WALL | WNOHANG, 0, 0, 0},
                  .result = 0};
    TRY(Call({&wait, 1}));
    if (Failed(wait)) return base::Errno(ESRCH);
    status = static_cast<int>(wait.arguments[kResultArgument]);
    if (wait.result != 0) break;
    if (base::MonotonicNs() > deadline) return base::Errno(ETIMEDOUT);
    sched_yield();
  }
  if (!WIFSTOPPED(status)) return base::Errno(ESRCH);
  for (size_t i = 0; i < orders.size(); ++i) {
    if (orders[i].arguments[0] == PTRACE_PEEKUSER) orders[i].arguments[3] = room(i);
  }
  // A signal that came first is not lost.
  const bool is_event = status >> 16 != 0;
  orders.push_back(Ptrace(PTRACE_DETACH, tid, 0, is_event ? 0 : static_cast<uint64_t>(WSTOPSIG(status))));
  base::Result<void> called = Call(orders);
  const bool detached = !Failed(orders.back());
  orders.pop_back();
  if (called.ok() && !detached) return base::Errno(ESRCH);
  return called;
}

base::Result<void> DebugRegisters::Set(pid_t tid, std::span<const uint64_t, 8> values) {
  if (!used_ && values[7] == 0) return base::OkResult();
  std::vector<Order> orders;
  // Off while addresses change: the kernel checks each against the kind and length that DR7 has for it then. An address
  // that was never set stays so, because setting one takes one of the CPU's registers.
  if (values_[7] != 0) orders.push_back(Poke(tid, 7, 0));
  for (size_t i = 0; i < 4; ++i) {
    if (values[i] != values_[i]) orders.push_back(Poke(tid, i, values[i]));
  }
  // The CPU has changed DR6 since.
  orders.push_back(Poke(tid, 6, values[6]));
  if (values[7] != 0) orders.push_back(Poke(tid, 7, values[7]));
  used_ = true;
  TRY(WhileStopped(tid, orders));
  for (const Order& order : orders) {
    if (Failed(order)) {
      LOG_WARNING("systrap platform: the host refuses debug registers (DR7 %#lx): %s", values[7],
                  base::Errno(static_cast<int>(-static_cast<int64_t>(order.result))).Name());
      return base::Errno(EIO);
    }
    values_[(order.arguments[2] - offsetof(struct user, u_debugreg)) / sizeof(uint64_t)] = order.arguments[3];
  }
  return base::OkResult();
}

base::Result<void> DebugRegisters::Clear(pid_t tid) {
  const uint64_t none[8] = {0, 0, 0, 0, 0, 0, kDebugStatusInitial, 0};
  if (!used_) return base::OkResult();
  TRY(Set(tid, none));
  used_ = false;
  return base::OkResult();
}

uint64_t DebugRegisters::Status(pid_t tid) {
  if (!used_) return kDebugStatusInitial;
  std::vector<Order> orders = {Ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, u_debugreg[6]))};
  if (!WhileStopped(tid, orders).ok() || Failed(orders[0])) return kDebugStatusInitial;
  return orders[0].arguments[kResultArgument];
}

}  // namespace platform::systrap
