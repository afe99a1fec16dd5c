// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet/stacks.h"

#include <sys/random.h>

#include <map>
#include <vector>

#include "base/log.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/net/links.h"
#include "sentry/socket/environment.h"

namespace sentry::socket {
namespace {

class StackEnvironment;

// All stacks' timers go through one sentry timer, which never ends.
class Driver {
 public:
  static Driver& Get() {
    static Driver* const driver = new Driver;
    return *driver;
  }
  void WakeAt(StackEnvironment& environment, int64_t deadline_ns);
  void Attach(StackEnvironment& environment, net::Stack& stack);
  void Detach(StackEnvironment& environment);

 private:
  Driver() : timer_([this](uint64_t) { Run(); }) {}
  void Run();

  // Within a stack's timer lock (kNetTimer).
  Mutex mu_{LockRank::kNetDevice};
  struct Entry {
    net::Stack* stack = nullptr;
    int64_t deadline_ns = kNoDeadline;
  };
  std::map<StackEnvironment*, Entry> entries_ ABSL_GUARDED_BY(mu_);
  int64_t armed_ns_ ABSL_GUARDED_BY(mu_) = kNoDeadline;
  Timer timer_;
};

class StackEnvironment final : public net::Environment {
 public:
  ~StackEnvironment() override { Driver::Get().Detach(*this); }
  int64_t NowNs() override { return base::MonotonicNs(); }
  int64_t RealtimeNs() override { return base::RealtimeNs(); }
  uint64_t Random() override {
    // A pool, as ports and sequence numbers are asked for often.
    static thread_local uint64_t pool[32];
    static thread_local size_t left = 0;
    if (left == 0) {
      CHECK_THAT(getrandom(pool, sizeof pool, 0) == sizeof pool);
      left = std::size(pool);
    }
    return pool[--left];
  }
  void WakeAt(int64_t deadline_ns) override { Driver::Get().WakeAt(*this, deadline_ns); }
};

void Driver::Attach(StackEnvironment& environment, net::Stack& stack) {
  MutexLock lock(mu_);
  entries_[&environment].stack = &stack;
}

void Driver::Detach(StackEnvironment& environment) {
  MutexLock lock(mu_);
  entries_.erase(&environment);
}

void Driver::WakeAt(StackEnvironment& environment, int64_t deadline_ns) {
  MutexLock lock(mu_);
  auto it = entries_.find(&environment);
  if (it == entries_.end()) return;
  it->second.deadline_ns = deadline_ns;
  if (deadline_ns >= armed_ns_) return;
  armed_ns_ = deadline_ns;
  timer_.Arm(deadline_ns, 0);
}

void Driver::Run() {
  std::vector<RefPtr<net::Stack>> due;
  {
    MutexLock lock(mu_);
    armed_ns_ = kNoDeadline;
    const int64_t now = base::MonotonicNs();
    for (auto& [environment, entry] : entries_) {
      if (entry.deadline_ns > now || !entry.stack) continue;
      entry.deadline_ns = kNoDeadline;
      if (entry.stack->TryIncRef()) due.push_back(RefPtr<net::Stack>::Adopt(entry.stack));
    }
  }
  for (const auto& stack : due) stack->RunTimers();
  due.clear();
  MutexLock lock(mu_);
  for (const auto& [environment, entry] : entries_) {
    if (entry.deadline_ns >= armed_ns_) continue;
    armed_ns_ = entry.deadline_ns;
    timer_.Arm(armed_ns_, 0);
  }
}

Mutex stacks_mu{LockRank::kNamespace};
std::map<uint64_t, RefPtr<net::Stack>>& Stacks() {
  static auto* const stacks = new std::map<uint64_t, RefPtr<net::Stack>>;
  return *stacks;
}

}  // namespace

RefPtr<net::Stack> StackOf(uint64_t net_namespace, bool first) {
  {
    MutexLock lock(stacks_mu);
    auto it = Stacks().find(net_namespace);
    if (it != Stacks().end()) return it->second;
  }
  auto environment = MakeRef<StackEnvironment>();
  auto stack = MakeRef<net::Stack>(RefPtr<net::Environment>(environment));
  Driver::Get().Attach(*environment, *stack);
  if (first) (void)stack->Change([](net::Config& config) { return config.SetUp(1, true); }).ok();
  MutexLock lock(stacks_mu);
  return Stacks().try_emplace(net_namespace, std::move(stack)).first->second;
}

RefPtr<net::Stack> CallersStack() {
  const Environment& environment = GetEnvironment();
  return StackOf(environment.net_namespace(),
                 !environment.in_first_net_namespace || environment.in_first_net_namespace());
}

void ForgetStack(uint64_t net_namespace) {
  RefPtr<net::Stack> gone;
  {
    MutexLock lock(stacks_mu);
    auto it = Stacks().find(net_namespace);
    if (it == Stacks().end()) return;
    gone = std::move(it->second);
    Stacks().erase(it);
  }
  net::RemoveAllLinks(*gone);
}

}  // namespace sentry::socket
