// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sentry/kernel/ipc/semaphore.h"

namespace sentry::ipc {

void SemaphoreUndo::Add(Semaphores::Set& set) {
  MutexLock lock(mu_);
  sets_.emplace(&set, RefPtr<Semaphores::Set>(&set));
}

void SemaphoreUndo::Forget(Semaphores::Set& set) {
  RefPtr<Semaphores::Set> dropped;
  MutexLock lock(mu_);
  auto it = sets_.find(&set);
  if (it == sets_.end()) return;
  dropped = std::move(it->second);
  sets_.erase(it);
}

void SemaphoreUndo::Apply() {
  std::map<Semaphores::Set*, RefPtr<Semaphores::Set>> sets;
  {
    MutexLock lock(mu_);
    sets.swap(sets_);
  }
  for (auto& [key, set] : sets) {
    MutexLock lock(set->owner->mu_);
    auto it = set->undo.find(this);
    if (it == set->undo.end()) continue;
    for (size_t i = 0; i < set->semaphores.size(); ++i) {
      if (it->second.values[i] == 0) continue;
      // Neither below zero nor above the limit, whatever others did meanwhile (semop(2), BUGS).
      Semaphores::Semaphore& semaphore = set->semaphores[i];
      semaphore.value = std::clamp(semaphore.value + it->second.values[i], 0, kSemValueMax);
      semaphore.pid = PidStamp::OfCaller();
    }
    set->undo.erase(it);
    set->otime = NowSeconds();
    Semaphores::WakeLocked(*set);
  }
}

}  // namespace sentry::ipc
