// SPDX-License-Identifier: Apache-2.0
// /proc/sysvipc, the System V limits of /proc/sys/kernel and those of message queues in /proc/sys/fs/mqueue, all of the
// reader's IPC namespace (proc(5)).
#include <limits.h>

#include <charconv>

#include "sentry/fs/proc/system.h"
#include "sentry/kernel/kernel.h"

namespace sentry::fs {

using kernel::Task;

namespace {

RefPtr<kernel::IpcNamespace> Ipc() {
  Task* task = Task::CurrentOrNull();
  // The sandbox's boot, which sets what config.json says before there is a process.
  if (!task) return kernel::Kernel::Get().NewNamespaces(nullptr)->ipc;
  RefPtr<kernel::Namespaces> namespaces = task->namespaces_ref();
  return namespaces ? namespaces->ipc : nullptr;
}

Result<std::string> SemTable(const Context& context) {
  std::string text(context.entry.text);
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return text;
  for (const ipc::SemaphoreSetStatus& s : ns->semaphores().List()) {
    const ipc::Permissions& p = s.permissions;
    Append(text, "%10d %10d  %4o %10u %5u %5u %5u %5u %10lld %10lld\n", p.key, s.id, p.mode, s.count, p.uid, p.gid,
           p.cuid, p.cgid, static_cast<long long>(s.otime), static_cast<long long>(s.ctime));
  }
  return text;
}

Result<std::string> ShmTable(const Context& context) {
  std::string text(context.entry.text);
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return text;
  for (const ipc::SegmentStatus& s : ns->shared_memory().List()) {
    const ipc::Permissions& p = s.permissions;
    Append(text, "%10d %10d  %4o %21lu %5u %5u  %5lu %5u %5u %5u %5u %10lld %10lld %10lld %21lu %21lu\n", p.key, s.id,
           p.mode, s.size, static_cast<unsigned>(s.creator), static_cast<unsigned>(s.last), s.attached, p.uid, p.gid,
           p.cuid, p.cgid, static_cast<long long>(s.atime), static_cast<long long>(s.dtime),
           static_cast<long long>(s.ctime), s.resident, 0ul);
  }
  return text;
}

Result<std::string> MsgTable(const Context& context) {
  std::string text(context.entry.text);
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return text;
  for (const ipc::QueueStatus& s : ns->messages().List()) {
    const ipc::Permissions& p = s.permissions;
    Append(text, "%10d %10d  %4o  %10lu %10lu %5u %5u %5u %5u %5u %5u %10lld %10lld %10lld\n", p.key, s.id, p.mode,
           s.bytes, s.messages, static_cast<unsigned>(s.last_send), static_cast<unsigned>(s.last_receive), p.uid, p.gid,
           p.cuid, p.cgid, static_cast<long long>(s.stime), static_cast<long long>(s.rtime),
           static_cast<long long>(s.ctime));
  }
  return text;
}

// Unsigned numbers with blanks between them, as many as `values` has places for; EINVAL. What is not given stays.
Result<void> ParseNumbers(std::string_view data, std::span<uint64_t> values, uint64_t highest) {
  size_t count = 0;
  for (const char *at = data.data(), *end = at + data.size(); at != end;) {
    if (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\0') {
      ++at;
      continue;
    }
    uint64_t value;
    auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || count == values.size() || value > highest) return Errno(EINVAL);
    values[count++] = value;
    at = next;
  }
  return count ? OkResult() : Result<void>(Errno(EINVAL));
}

enum class Limit { kMsgMax, kMsgMnb, kMsgMni, kShmAll, kShmMax, kShmMni, kRmidForced };

// Reads (`value` null) or changes one limit.
template <Limit kLimit>
uint64_t Access(kernel::IpcNamespace& ns, const uint64_t* value) {
  auto exchange = [&](auto& place) {
    if (value) place = static_cast<std::remove_reference_t<decltype(place)>>(*value);
    return static_cast<uint64_t>(place);
  };
  if constexpr (kLimit == Limit::kMsgMax || kLimit == Limit::kMsgMnb || kLimit == Limit::kMsgMni) {
    ipc::MessageLimits limits = ns.messages().limits();
    uint64_t now = exchange(kLimit == Limit::kMsgMax   ? limits.message_bytes
                            : kLimit == Limit::kMsgMnb ? limits.queue_bytes
                                                       : limits.queues);
    if (value) ns.messages().set_limits(limits);
    return now;
  } else {
    ipc::SharedMemoryLimits limits = ns.shared_memory().limits();
    uint64_t now;
    if constexpr (kLimit == Limit::kShmMni) {
      now = exchange(limits.segments);
    } else if constexpr (kLimit == Limit::kRmidForced) {
      now = exchange(limits.rmid_forced);
    } else {
      now = exchange(kLimit == Limit::kShmAll ? limits.total_pages : limits.segment_bytes);
    }
    if (value) ns.shared_memory().set_limits(limits);
    return now;
  }
}

template <Limit kLimit>
Result<std::string> ReadLimit(const Context&) {
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return Errno(EPERM);
  return std::to_string(Access<kLimit>(*ns, nullptr)) + "\n";
}

template <Limit kLimit>
Result<size_t> WriteLimit(const Context&, std::string_view data) {
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return Errno(EPERM);
  constexpr bool kWide = kLimit == Limit::kShmAll || kLimit == Limit::kShmMax;
  constexpr bool kCount = kLimit == Limit::kMsgMni || kLimit == Limit::kShmMni;
  uint64_t value = 0;
  TRY(ParseNumbers(data, {&value, 1},
                   kWide                          ? UINT64_MAX
                   : kCount                       ? ipc::kMaxObjects
                   : kLimit == Limit::kRmidForced ? 1
                                                  : INT_MAX));
  Access<kLimit>(*ns, &value);
  return data.size();
}

Result<std::string> ReadSem(const Context&) {
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return Errno(EPERM);
  const ipc::SemaphoreLimits limits = ns->semaphores().limits();
  std::string text;
  Append(text, "%d\t%d\t%d\t%d\n", limits.per_set, limits.total, limits.per_call, limits.sets);
  return text;
}

Result<size_t> WriteSem(const Context&, std::string_view data) {
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return Errno(EPERM);
  const ipc::SemaphoreLimits old = ns->semaphores().limits();
  uint64_t values[] = {static_cast<uint64_t>(old.per_set), static_cast<uint64_t>(old.total),
                       static_cast<uint64_t>(old.per_call), static_cast<uint64_t>(old.sets)};
  TRY(ParseNumbers(data, values, INT_MAX));
  if (values[3] > ipc::kMaxObjects) return Errno(ERANGE);
  ns->semaphores().set_limits({static_cast<int>(values[0]), static_cast<int>(values[1]), static_cast<int>(values[2]),
                               static_cast<int>(values[3])});
  return data.size();
}

template <int kernel::MqueueLimits::*kField>
Result<std::string> ReadMqueue(const Context&) {
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return Errno(EPERM);
  return std::to_string(ns->mqueue_limits().*kField) + "\n";
}

template <int kernel::MqueueLimits::*kField, int kLowest, int kHighest>
Result<size_t> WriteMqueue(const Context&, std::string_view data) {
  RefPtr<kernel::IpcNamespace> ns = Ipc();
  if (!ns) return Errno(EPERM);
  uint64_t value = 0;
  TRY(ParseNumbers(data, {&value, 1}, kHighest));
  if (value < kLowest) return Errno(EINVAL);
  kernel::MqueueLimits limits = ns->mqueue_limits();
  limits.*kField = static_cast<int>(value);
  ns->set_mqueue_limits(limits);
  return data.size();
}

using kernel::MqueueLimits;
constexpr TextEntry kMqueue[] = {
    {"msg_default", 0644, &ReadMqueue<&MqueueLimits::default_messages>,
     &WriteMqueue<&MqueueLimits::default_messages, 1, 65536>},
    {"msg_max", 0644, &ReadMqueue<&MqueueLimits::messages>, &WriteMqueue<&MqueueLimits::messages, 1, 65536>},
    {"msgsize_default", 0644, &ReadMqueue<&MqueueLimits::default_message_size>,
     &WriteMqueue<&MqueueLimits::default_message_size, 128, 16777216>},
    {"msgsize_max", 0644, &ReadMqueue<&MqueueLimits::message_size>,
     &WriteMqueue<&MqueueLimits::message_size, 128, 16777216>},
    {"queues_max", 0644, &ReadMqueue<&MqueueLimits::queues>, &WriteMqueue<&MqueueLimits::queues, 0, INT_MAX>},
};

constexpr TextEntry kTables[] = {
    {"msg", 0444, &MsgTable, nullptr, nullptr,
     "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime     "
     " ctime\n"},
    {"sem", 0444, &SemTable, nullptr, nullptr,
     "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"},
    {"shm", 0444, &ShmTable, nullptr, nullptr,
     "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      "
     "dtime      ctime                   rss                  swap\n"},
};

constexpr TextEntry kLimits[] = {
    {"msgmax", 0644, &ReadLimit<Limit::kMsgMax>, &WriteLimit<Limit::kMsgMax>},
    {"msgmnb", 0644, &ReadLimit<Limit::kMsgMnb>, &WriteLimit<Limit::kMsgMnb>},
    {"msgmni", 0644, &ReadLimit<Limit::kMsgMni>, &WriteLimit<Limit::kMsgMni>},
    {"sem", 0644, &ReadSem, &WriteSem},
    {"shm_rmid_forced", 0644, &ReadLimit<Limit::kRmidForced>, &WriteLimit<Limit::kRmidForced>},
    {"shmall", 0644, &ReadLimit<Limit::kShmAll>, &WriteLimit<Limit::kShmAll>},
    {"shmmax", 0644, &ReadLimit<Limit::kShmMax>, &WriteLimit<Limit::kShmMax>},
    {"shmmni", 0644, &ReadLimit<Limit::kShmMni>, &WriteLimit<Limit::kShmMni>},
};

}  // namespace

void AddSysvIpc(ProcFs& fs, StaticDirectory& directory) { AddTexts(fs, directory, kTables); }
void AddMqueueLimits(ProcFs& fs, StaticDirectory& directory) { AddTexts(fs, directory, kMqueue); }
void AddSysvLimits(ProcFs& fs, StaticDirectory& directory) { AddTexts(fs, directory, kLimits); }

}  // namespace sentry::fs
