// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ipc/semaphore.h"

#include <algorithm>

namespace sentry::ipc {

// A sleeper in semop(2), on its own stack. It is in its set's list until somebody does its operations or gives up for
// it.
struct Semaphores::Waiting {
  const std::vector<sembuf>& operations;
  SemaphoreUndo* undo;
  PidStamp pid;
  Blocker& blocker;
  size_t blocking = 0;  // the operation that can't be done
  bool finished = false;
  Errno error{0};  // of a finished one; 0: done
};

SemaphoreLimits Semaphores::limits() const {
  MutexLock lock(mu_);
  return limits_;
}

void Semaphores::set_limits(const SemaphoreLimits& limits) {
  MutexLock lock(mu_);
  limits_ = limits;
}

Result<int> Semaphores::Get(key_t key, int count, int flags, const Credentials& creds) {
  MutexLock lock(mu_);
  if (count < 0 || count > limits_.per_set) return Errno(EINVAL);
  auto check = [&](const Set& set) -> Result<void> {
    if (static_cast<size_t>(count) > set.semaphores.size()) return Errno(EINVAL);
    return OkResult();
  };
  auto make = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS -> Result<RefPtr<Set>> {
    if (count == 0) return Errno(EINVAL);
    if (count > limits_.total - used_) return Errno(ENOSPC);
    Charge charge = TRY(Charge::Take(sizeof(Set) + count * sizeof(Semaphore)));
    auto set = MakeRef<Set>(RefPtr<Semaphores>(this));
    set->charge = std::move(charge);
    set->semaphores.resize(count);
    set->ctime = NowSeconds();
    return set;
  };
  const size_t before = sets_.size();
  int id = TRY(sets_.Get(key, flags, limits_.sets, creds, check, make));
  if (sets_.size() > before) used_ += count;
  return id;
}

Result<RefPtr<Semaphores::Set>> Semaphores::FindLocked(int id, uint32_t access, const Credentials& creds) const {
  mu_.AssertHeld();
  RefPtr<Set> set = TRY(sets_.Find(id));
  TRY(CheckAccess(set->permissions, access, creds));
  return set;
}

Result<RefPtr<Semaphores::Set>> Semaphores::FindOwnedLocked(int id, const Credentials& creds) const {
  mu_.AssertHeld();
  RefPtr<Set> set = TRY(sets_.Find(id));
  TRY(CheckOwner(set->permissions, creds));
  return set;
}

// All or nothing. A failed one leaves the set as it was.
Semaphores::Outcome Semaphores::TryLocked(Set& set, const std::vector<sembuf>& operations, SemaphoreUndo* undo,
                                          const PidStamp& pid, size_t* blocking, Errno* error) {
  Set::Undo* undone = nullptr;
  if (undo) {
    auto it = set.undo.find(undo);
    if (it != set.undo.end()) undone = &it->second;
  }
  size_t done = 0;
  Outcome outcome = Outcome::kDone;
  for (; done < operations.size(); ++done) {
    const sembuf& op = operations[done];
    Semaphore& semaphore = set.semaphores[op.sem_num];
    const int value = semaphore.value + op.sem_op;
    if ((op.sem_op == 0 && semaphore.value != 0) || value < 0) {
      outcome = (op.sem_flg & IPC_NOWAIT) ? Outcome::kFailed : Outcome::kWait;
      *error = Errno(EAGAIN);
      break;
    }
    if (value > kSemValueMax) {
      outcome = Outcome::kFailed;
      *error = Errno(ERANGE);
      break;
    }
    if ((op.sem_flg & SEM_UNDO) && undone) {
      const int back = undone->values[op.sem_num] - op.sem_op;
      if (back < -kSemValueMax - 1 || back > kSemValueMax) {
        outcome = Outcome::kFailed;
        *error = Errno(ERANGE);
        break;
      }
      undone->values[op.sem_num] = static_cast<int16_t>(back);
    }
    semaphore.value = value;
  }
  if (outcome == Outcome::kDone) {
    for (const sembuf& op : operations) set.semaphores[op.sem_num].pid = pid;
    set.otime = NowSeconds();
    return outcome;
  }
  *blocking = done;
  while (done-- > 0) {
    const sembuf& op = operations[done];
    set.semaphores[op.sem_num].value -= op.sem_op;
    if ((op.sem_flg & SEM_UNDO) && undone) {
      undone->values[op.sem_num] = static_cast<int16_t>(undone->values[op.sem_num] + op.sem_op);
    }
  }
  return outcome;
}

// After a change: does for the sleepers, first come first, what has become possible.
void Semaphores::WakeLocked(Set& set) {
  for (auto it = set.waiting.begin(); it != set.waiting.end();) {
    Waiting& waiting = **it;
    Outcome outcome = TryLocked(set, waiting.operations, waiting.undo, waiting.pid, &waiting.blocking, &waiting.error);
    if (outcome == Outcome::kWait) {
      ++it;
      continue;
    }
    if (outcome == Outcome::kDone) waiting.error = Errno(0);
    waiting.finished = true;
    const bool changed = outcome == Outcome::kDone && std::any_of(waiting.operations.begin(), waiting.operations.end(),
                                                                  [](const sembuf& op) { return op.sem_op != 0; });
    it = set.waiting.erase(it);
    waiting.blocker.Wake();
    if (changed) it = set.waiting.begin();
  }
}

Result<void> Semaphores::Operate(Caller& caller, int id, const std::vector<sembuf>& operations,
                                 const RefPtr<SemaphoreUndo>& undo, int64_t deadline_ns) {
  bool alters = false, undoes = false;
  size_t highest = 0;
  for (const sembuf& op : operations) {
    alters |= op.sem_op != 0;
    undoes |= (op.sem_flg & SEM_UNDO) != 0;
    highest = std::max<size_t>(highest, op.sem_num);
  }
  Waiting waiting{.operations = operations,
                  .undo = undoes ? undo.get() : nullptr,
                  .pid = PidStamp::OfCaller(),
                  .blocker = caller.blocker()};
  RefPtr<Set> set;
  {
    MutexLock lock(mu_);
    set = TRY(sets_.Find(id));
    if (highest >= set->semaphores.size()) return Errno(EFBIG);
    TRY(CheckAccess(set->permissions, alters ? 0222 : 0444, *caller.creds()));
    if (waiting.undo && !set->undo.contains(waiting.undo)) {
      const size_t count = set->semaphores.size();
      Charge charge = TRY(Charge::Take(sizeof(Set::Undo) + count * sizeof(int16_t)));
      set->undo[waiting.undo] = {.values = std::vector<int16_t>(count), .charge = std::move(charge)};
      waiting.undo->Add(*set);
    }
    Outcome outcome = TryLocked(*set, operations, waiting.undo, waiting.pid, &waiting.blocking, &waiting.error);
    if (outcome == Outcome::kFailed) return waiting.error;
    if (outcome == Outcome::kDone) {
      if (alters) WakeLocked(*set);
      return OkResult();
    }
    set->waiting.push_back(&waiting);
  }
  for (;;) {
    Result<void> slept = caller.Block(deadline_ns);
    MutexLock lock(mu_);
    if (waiting.finished) return waiting.error == Errno(0) ? OkResult() : Result<void>(waiting.error);
    if (slept.ok()) continue;
    set->waiting.remove(&waiting);
    // Never restarted, whatever SA_RESTART says (signal(7)).
    return slept.error() == Errno(ETIMEDOUT) ? Errno(EAGAIN) : Errno(EINTR);
  }
}

Result<SemaphoreSetStatus> Semaphores::Status(int id, IdKind kind, bool check, const Credentials& creds) const {
  MutexLock lock(mu_);
  RefPtr<Set> set = TRY(sets_.Find(id, kind));
  if (check) TRY(CheckAccess(set->permissions, 0444, creds));
  return SemaphoreSetStatus{set->permissions, set->id, static_cast<unsigned>(set->semaphores.size()), set->otime,
                            set->ctime};
}

Result<std::vector<uint16_t>> Semaphores::GetAll(int id, const Credentials& creds) const {
  MutexLock lock(mu_);
  RefPtr<Set> set = TRY(FindLocked(id, 0444, creds));
  std::vector<uint16_t> values;
  for (const Semaphore& semaphore : set->semaphores) values.push_back(static_cast<uint16_t>(semaphore.value));
  return values;
}

Result<unsigned> Semaphores::CountForWrite(int id, const Credentials& creds) const {
  MutexLock lock(mu_);
  return static_cast<unsigned>(TRY(FindLocked(id, 0222, creds))->semaphores.size());
}

Result<void> Semaphores::SetAll(int id, const std::vector<uint16_t>& values, const Credentials& creds) {
  if (std::any_of(values.begin(), values.end(), [](uint16_t value) { return value > kSemValueMax; }))
    return Errno(ERANGE);
  MutexLock lock(mu_);
  RefPtr<Set> set = TRY(FindLocked(id, 0222, creds));
  if (values.size() != set->semaphores.size()) return Errno(EIDRM);  // another set by now
  for (size_t i = 0; i < values.size(); ++i) {
    set->semaphores[i].value = values[i];
    set->semaphores[i].pid = PidStamp::OfCaller();
  }
  for (auto& [list, undo] : set->undo) std::fill(undo.values.begin(), undo.values.end(), 0);
  set->ctime = NowSeconds();
  WakeLocked(*set);
  return OkResult();
}

Result<void> Semaphores::SetValue(int id, int number, int value, const Credentials& creds) {
  if (value < 0 || value > kSemValueMax) return Errno(ERANGE);
  MutexLock lock(mu_);
  RefPtr<Set> set = TRY(sets_.Find(id));
  if (number < 0 || static_cast<size_t>(number) >= set->semaphores.size()) return Errno(EINVAL);
  TRY(CheckAccess(set->permissions, 0222, creds));
  set->semaphores[number].value = value;
  set->semaphores[number].pid = PidStamp::OfCaller();
  for (auto& [list, undo] : set->undo) undo.values[number] = 0;
  set->ctime = NowSeconds();
  WakeLocked(*set);
  return OkResult();
}

Result<const Semaphores::Semaphore*> Semaphores::SemaphoreLocked(int id, int number, const Credentials& creds) const {
  RefPtr<Set> set = TRY(FindLocked(id, 0444, creds));
  if (number < 0 || static_cast<size_t>(number) >= set->semaphores.size()) return Errno(EINVAL);
  return &set->semaphores[number];  // the registry holds the set
}

Result<int> Semaphores::GetValue(int id, int number, const Credentials& creds) const {
  MutexLock lock(mu_);
  return TRY(SemaphoreLocked(id, number, creds))->value;
}

Result<pid_t> Semaphores::GetPid(int id, int number, const Credentials& creds) const {
  MutexLock lock(mu_);
  return TRY(SemaphoreLocked(id, number, creds))->pid.Seen();
}

Result<int> Semaphores::CountWaiters(int id, int number, bool for_zero, const Credentials& creds) const {
  MutexLock lock(mu_);
  TRY(SemaphoreLocked(id, number, creds));
  RefPtr<Set> set = TRY(sets_.Find(id));
  int count = 0;
  for (const Waiting* waiting : set->waiting) {
    const sembuf& op = waiting->operations[waiting->blocking];
    count += op.sem_num == number && (op.sem_op == 0) == for_zero;
  }
  return count;
}

Result<void> Semaphores::SetOwner(int id, const OwnerChange& change, const Credentials& creds) {
  MutexLock lock(mu_);
  RefPtr<Set> set = TRY(FindOwnedLocked(id, creds));
  TRY(ChangeOwner(set->permissions, change));
  set->ctime = NowSeconds();
  return OkResult();
}

void Semaphores::RemoveLocked(Set& set) {
  mu_.AssertHeld();
  sets_.Remove(set);
  used_ -= static_cast<int>(set.semaphores.size());
  for (Waiting* waiting : set.waiting) {
    waiting->finished = true;
    waiting->error = Errno(EIDRM);
    waiting->blocker.Wake();
  }
  set.waiting.clear();
  for (auto& [list, undo] : set.undo) list->Forget(set);
  set.undo.clear();
}

Result<void> Semaphores::Remove(int id, const Credentials& creds) {
  RefPtr<Set> set;  // outlives the lock
  MutexLock lock(mu_);
  set = TRY(FindOwnedLocked(id, creds));
  RemoveLocked(*set);
  return OkResult();
}

Semaphores::Totals Semaphores::totals() const {
  MutexLock lock(mu_);
  return {static_cast<int>(sets_.size()), used_, sets_.max_index()};
}

std::vector<SemaphoreSetStatus> Semaphores::List() const {
  MutexLock lock(mu_);
  std::vector<SemaphoreSetStatus> list;
  for (const auto& [index, set] : sets_.objects()) {
    list.push_back({set->permissions, set->id, static_cast<unsigned>(set->semaphores.size()), set->otime, set->ctime});
  }
  return list;
}

void Semaphores::Shutdown() {
  std::vector<RefPtr<Set>> sets;  // outlive the lock
  MutexLock lock(mu_);
  for (const auto& [index, set] : sets_.objects()) sets.push_back(set);
  for (const RefPtr<Set>& set : sets) RemoveLocked(*set);
}

}  // namespace sentry::ipc
