// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/namespaces.h"

#include <atomic>

#include "sentry/arch/vdso.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry::kernel {
namespace {
constexpr uint64_t kFirstTimeInode = 0xEFFFFFFA;  // PROC_TIME_INIT_INO
}  // namespace

UtsNamespace::UtsNamespace(std::string host_name, std::string domain_name, RefPtr<UserNamespace> owner,
                           UserCharge charge)
    : host_name_(std::move(host_name)),
      domain_name_(std::move(domain_name)),
      owner_(std::move(owner)),
      charge_(std::move(charge)),
      inode_number_(NextNamespaceInode()) {}

std::string UtsNamespace::host_name() const {
  MutexLock lock(mu_);
  return host_name_;
}
std::string UtsNamespace::domain_name() const {
  MutexLock lock(mu_);
  return domain_name_;
}
void UtsNamespace::set_host_name(std::string name) {
  MutexLock lock(mu_);
  host_name_ = std::move(name);
}
void UtsNamespace::set_domain_name(std::string name) {
  MutexLock lock(mu_);
  domain_name_ = std::move(name);
}
RefPtr<UtsNamespace> UtsNamespace::Clone(RefPtr<UserNamespace> owner, UserCharge charge) const {
  return MakeRef<UtsNamespace>(host_name(), domain_name(), std::move(owner), std::move(charge));
}

namespace {
std::atomic<void (*)(uint64_t)> net_end_hook{nullptr};
}  // namespace

NetNamespace::NetNamespace(RefPtr<UserNamespace> owner, UserCharge charge, bool is_first)
    : owner_(std::move(owner)), charge_(std::move(charge)), inode_number_(NextNamespaceInode()), is_first_(is_first) {}
NetNamespace::~NetNamespace() {
  if (auto hook = net_end_hook.load(std::memory_order_relaxed)) hook(inode_number_);
}
void NetNamespace::SetEndHook(void (*hook)(uint64_t)) { net_end_hook = hook; }

IpcNamespace::IpcNamespace(platform::MemoryFile& memory, RefPtr<UserNamespace> owner, UserCharge charge)
    : owner_(std::move(owner)),
      charge_(std::move(charge)),
      inode_number_(NextNamespaceInode()),
      semaphores_(MakeRef<ipc::Semaphores>()),
      shared_memory_(MakeRef<ipc::SharedMemory>(memory)),
      messages_(MakeRef<ipc::MessageQueues>()) {}
MqueueLimits IpcNamespace::mqueue_limits() const {
  MutexLock lock(mu_);
  return mqueue_limits_;
}

void IpcNamespace::set_mqueue_limits(const MqueueLimits& limits) {
  MutexLock lock(mu_);
  mqueue_limits_ = limits;
}

RefPtr<IpcAttachment> IpcNamespace::Attachment(MakeAttachment make) {
  {
    MutexLock lock(mu_);
    if (attachment_) return attachment_;
  }
  // Without the lock: it takes others. Of two at once, one is for nothing.
  RefPtr<IpcAttachment> made = make(*this);
  MutexLock lock(mu_);
  if (!attachment_) attachment_ = made;
  return attachment_;
}

IpcNamespace::~IpcNamespace() {
  {
    RefPtr<IpcAttachment> attachment;
    MutexLock lock(mu_);
    attachment = std::move(attachment_);
  }
  semaphores_->Shutdown();
  shared_memory_->Shutdown();
  messages_->Shutdown();
}

CgroupNamespace::CgroupNamespace(std::vector<RefPtr<Cgroup>> roots, RefPtr<UserNamespace> owner, UserCharge charge,
                                 bool is_initial)
    : roots_(std::move(roots)),
      owner_(std::move(owner)),
      charge_(std::move(charge)),
      inode_number_(NextNamespaceInode()),
      is_initial_(is_initial) {}
CgroupNamespace::~CgroupNamespace() = default;

RefPtr<Cgroup> CgroupNamespace::RootOf(const CgroupHierarchy& hierarchy) const {
  for (const RefPtr<Cgroup>& root : roots_) {
    if (&root->hierarchy() == &hierarchy) return root;
  }
  RefPtr<Cgroup> at(hierarchy.root);
  if (!is_initial_) return at;
  std::vector<const Cgroup*> down;
  for (const Cgroup* group = roots_[0].get(); !group->IsRoot(); group = group->parent()) down.push_back(group);
  for (; !down.empty(); down.pop_back()) {
    auto it = at->children.find(down.back()->name());
    if (it == at->children.end()) break;
    at = RefPtr<Cgroup>(it->second);
  }
  return at;
}

TimeNamespace::TimeNamespace(ClockOffsets offsets, RefPtr<UserNamespace> owner, UserCharge charge, bool is_first)
    : owner_(std::move(owner)),
      charge_(std::move(charge)),
      inode_number_(is_first ? kFirstTimeInode : NextNamespaceInode()),
      monotonic_ns_(offsets.monotonic_ns),
      boottime_ns_(offsets.boottime_ns),
      frozen_(is_first),
      is_first_(is_first) {}
TimeNamespace::~TimeNamespace() = default;

Result<void> TimeNamespace::SetOffsets(ClockOffsets offsets) {
  MutexLock lock(mu_);
  if (frozen_) return Errno(EACCES);
  monotonic_ns_.store(offsets.monotonic_ns, std::memory_order_relaxed);
  boottime_ns_.store(offsets.boottime_ns, std::memory_order_relaxed);
  return OkResult();
}

Result<RefPtr<mm::MappedObject>> TimeNamespace::Enter() {
  int64_t monotonic_ns;
  {
    MutexLock lock(mu_);
    frozen_ = true;
    if (is_first_ || page_) return page_;
    monotonic_ns = offsets().monotonic_ns;
  }
  arch::Vdso* vdso = Kernel::Get().vdso();
  if (!vdso) return RefPtr<mm::MappedObject>();
  RefPtr<mm::MappedObject> made = TRY(vdso->NewOffsets(monotonic_ns));
  MutexLock lock(mu_);
  if (!page_) page_ = made;
  return page_;
}

int64_t TimeNamespace::OffsetOf(clockid_t clock) const {
  switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
      return monotonic_ns_.load(std::memory_order_relaxed);
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
      return boottime_ns_.load(std::memory_order_relaxed);
    default:
      return 0;
  }
}

PidNamespace::PidNamespace(RefPtr<PidNamespace> parent, RefPtr<UserNamespace> owner, UserCharge charge)
    : parent_(std::move(parent)),
      owner_(std::move(owner)),
      charge_(std::move(charge)),
      inode_number_(NextNamespaceInode()),
      level_(parent_ ? parent_->level_ + 1 : 0) {}
PidNamespace::~PidNamespace() = default;

bool PidNamespace::IsSameOrDescendantOf(const PidNamespace& other) const {
  const PidNamespace* ns = this;
  while (ns && ns->level_ > other.level_) ns = ns->parent_.get();
  return ns == &other;
}

Result<pid_t> PidNamespace::PickIdLocked() const {
  // Numbers wrap to 300, so that daemons' low ids aren't reused at once (RESERVED_PIDS).
  pid_t candidate = last_pid_;
  for (pid_t tries = 0; tries < kPidMax; ++tries) {
    candidate = candidate + 1 >= kPidMax ? kReservedPids : candidate + 1;
    if (IsFreeLocked(candidate)) return candidate;
  }
  return Errno(EAGAIN);
}

bool PidNamespace::IsFreeLocked(pid_t id) const {
  return !tasks_.contains(id) && !groups_.contains(id) && !sessions_.contains(id);
}

RefPtr<Namespaces> Namespaces::Clone() const {
  auto copy = MakeRef<Namespaces>();
  copy->uts = uts;
  copy->ipc = ipc;
  copy->net = net;
  copy->mounts = mounts;
  copy->pid_for_children = pid_for_children;
  copy->cgroup = cgroup;
  copy->time = time;
  copy->time_for_children = time_for_children;
  return copy;
}

}  // namespace sentry::kernel
