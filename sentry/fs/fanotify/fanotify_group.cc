// SPDX-License-Identifier: Apache-2.0
// The queue: what of an event is kept for the group's flags, merging, and questions.
#include <string.h>

#include <algorithm>
#include <map>

#include "sentry/fs/fanotify/fanotify.h"
#include "sentry/kernel/core/tunables.h"
#include "sentry/kernel/task.h"

namespace sentry::fs {
namespace {

constexpr size_t kMergeDepth = 128;

FanotifyGroup::Place PlaceOf(vfs::Inode& inode, const vfs::Dentry* dentry) {
  FanotifyGroup::Place place{{}, inode.filesystem().device()};
  if (dentry) {
    // So that open_by_handle_at(2) finds it.
    auto known = vfs::FileHandles::Get().Remember(RefPtr<vfs::Dentry>(const_cast<vfs::Dentry*>(dentry)));
    if (known.ok()) place.handle = *known;
  } else if (auto stat = inode.GetStat(); stat.ok()) {
    place.handle = {stat->dev, stat->ino};
  }
  return place;
}

constexpr int kHandleType = 0x81;  // FILEID_INO64_GEN

struct [[gnu::packed]] FidHeader {  // struct fanotify_event_info_fid and its struct file_handle
  uint8_t type, pad;
  uint16_t length;
  uint8_t fsid[8];
  uint32_t handle_bytes;
  int32_t handle_type;
  uint64_t device, inode;  // the handle's bytes
};

void AppendFid(std::string* out, uint8_t type, const FanotifyGroup::Place& place, const std::string* name) {
  const size_t size = (sizeof(FidHeader) + (name ? name->size() + 1 : 0) + 3) / 4 * 4;
  FidHeader header = {.type = type,
                      .length = static_cast<uint16_t>(size),
                      .handle_bytes = sizeof place.handle,
                      .handle_type = kHandleType,
                      .device = place.handle.device,
                      .inode = place.handle.inode};
  memcpy(header.fsid, &place.fsid, sizeof header.fsid);
  const size_t at = out->size();
  out->resize(at + size);
  memcpy(out->data() + at, &header, sizeof header);
  if (name) memcpy(out->data() + at + sizeof header, name->data(), name->size());
}

struct UserGroups {
  Mutex mu{LockRank::kLeaf};
  std::map<uid_t, int64_t> counts ABSL_GUARDED_BY(mu);
};
UserGroups& TheUserGroups() {
  static UserGroups* groups = new UserGroups;
  return *groups;
}

}  // namespace

bool TakeFanotifyGroup(uid_t user) {
  UserGroups& groups = TheUserGroups();
  MutexLock lock(groups.mu);
  int64_t& count = groups.counts[user];
  if (count >= tunables::fanotify_max_user_groups) return false;
  ++count;
  return true;
}

FanotifyGroup::FanotifyGroup(unsigned flags, bool unprivileged, uid_t user)
    : flags_(flags),
      unprivileged_(unprivileged),
      user_(user),
      max_queued_(flags & FAN_UNLIMITED_QUEUE ? SIZE_MAX
                                              : static_cast<size_t>(tunables::fanotify_max_queued_events.Get())) {}

FanotifyGroup::~FanotifyGroup() {
  UserGroups& groups = TheUserGroups();
  MutexLock lock(groups.mu);
  if (--groups.counts[user_] == 0) groups.counts.erase(user_);
}

// What the group is told of the places (copy_info_records_to_user of the kernel). False: nothing that it could be told.
bool FanotifyGroup::FillHandles(const vfs::FanotifyEvent& event, Event* out) const {
  const bool wants_fid = flags_ & FAN_REPORT_FID, wants_directory = flags_ & FAN_REPORT_DIR_FID,
             wants_name = flags_ & FAN_REPORT_NAME;
  auto directory_place = [](const vfs::Dentry& dentry) { return PlaceOf(*dentry.inode(), &dentry); };
  if (event.changes_names) {
    if (!wants_directory) {
      out->object = directory_place(*event.directory);
      return true;
    }
    out->directory = directory_place(*event.directory);
    out->has_name = wants_name;
    if (wants_name) out->name = event.name;
    if (event.new_directory) {
      out->new_directory = directory_place(*event.new_directory);
      out->new_name = event.new_name;
    }
    if ((flags_ & FAN_REPORT_TARGET_FID) && event.object) out->object = PlaceOf(*event.object, event.object_dentry);
    return true;
  }
  const bool of_directory = event.object->IsDirectory();
  if (wants_directory && of_directory) {
    out->directory = PlaceOf(*event.object, event.object_dentry);
    out->has_name = wants_name;
    if (wants_name) out->name = ".";
    return true;
  }
  if (wants_directory && event.directory) {
    out->directory = directory_place(*event.directory);
    out->has_name = wants_name;
    if (wants_name) out->name = event.name;
  } else if (wants_directory && !wants_fid) {
    return false;
  }
  if (wants_fid) out->object = PlaceOf(*event.object, event.object_dentry);
  return true;
}

void FanotifyGroup::OnEvent(const vfs::FanotifyEvent& event, uint64_t mask) {
  Event out;
  const bool fid_mode = this->fid_mode() != 0;
  out.mask = fid_mode ? mask : mask & ~uint64_t{FAN_ONDIR};
  if (auto* task = kernel::Task::CurrentOrNull()) {
    out.pid = flags_ & FAN_REPORT_TID ? task->tid() : task->group().tgid();
  }
  if (fid_mode) {
    if (!FillHandles(event, &out)) return;
  } else {
    // A descriptor can be had of files and directories that somebody has open.
    if (!event.path || !(event.object->IsRegular() || event.object->IsDirectory())) return;
    out.path = *event.path;
  }
  Enqueue(std::move(out));
}

bool FanotifyGroup::CanMerge(const Event& a, const Event& b) {
  if (a.question || b.question || a.pid != b.pid || ((a.mask ^ b.mask) & (FAN_ONDIR | FAN_RENAME)) ||
      (a.mask & (FAN_RENAME | FAN_Q_OVERFLOW)))
    return false;
  return a.path == b.path && a.directory == b.directory && a.object == b.object && a.has_name == b.has_name &&
         a.name == b.name;
}

void FanotifyGroup::Enqueue(Event event) {
  std::optional<Event> dropped;  // its place may be the last reference
  {
    MutexLock lock(mu_);
    if (closed_) {
      dropped = std::move(event);
      return;
    }
    size_t looked = 0;
    for (auto it = events_.rbegin(); it != events_.rend() && looked < kMergeDepth; ++it, ++looked) {
      if (!CanMerge(*it, event)) continue;
      it->mask |= event.mask;
      dropped = std::move(event);
      return;
    }
    if (events_.size() >= max_queued_) {
      dropped = std::move(event);
      if (std::ranges::any_of(events_, [](const Event& queued) { return queued.mask == FAN_Q_OVERFLOW; })) return;
      event = Event();
      event.mask = FAN_Q_OVERFLOW;
    }
    events_.push_back(std::move(event));
  }
  queue_.Notify(kEventIn);
}

Result<void> FanotifyGroup::AskPermission(const vfs::Path& path, uint64_t mask) {
  auto* task = kernel::Task::CurrentOrNull();
  if (!task) return OkResult();
  auto question = MakeRef<Question>();
  Event event;
  event.mask = mask & ~uint64_t{FAN_ONDIR};
  event.pid = flags_ & FAN_REPORT_TID ? task->tid() : task->group().tgid();
  event.path = path;
  event.question = question;
  BlockerEntry entry(task->blocker());
  answer_queue_.Add(entry, kAllEvents);
  {
    MutexLock lock(mu_);
    if (closed_ || events_.size() >= max_queued_) return OkResult();
    events_.push_back(std::move(event));
  }
  queue_.Notify(kEventIn);
  for (Result<void> slept;;) {
    {
      MutexLock lock(mu_);
      if (question->answer) return question->answer == FAN_ALLOW ? OkResult() : Result<void>(Errno(EPERM));
      if (closed_) return OkResult();
      if (!slept.ok()) question->abandoned = true;
    }
    if (!slept.ok()) break;
    slept = task->BlockKillable();
  }
  // It dies: what nobody has read yet is taken back.
  std::deque<Event> dropped;
  MutexLock lock(mu_);
  std::erase(asked_, question);
  for (auto it = events_.begin(); it != events_.end(); ++it) {
    if (!(it->question == question)) continue;
    dropped.push_back(std::move(*it));
    events_.erase(it);
    break;
  }
  return base::kErestartsys;
}

size_t FanotifyGroup::RecordSize(const Event& event) const {
  return sizeof(fanotify_event_metadata) + InfoOf(event).size();
}

std::string FanotifyGroup::InfoOf(const Event& event) const {
  std::string out;
  if (event.directory) {
    const uint8_t type = event.mask & FAN_RENAME ? FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
                         : event.has_name        ? FAN_EVENT_INFO_TYPE_DFID_NAME
                                                 : FAN_EVENT_INFO_TYPE_DFID;
    AppendFid(&out, type, *event.directory, event.has_name ? &event.name : nullptr);
  }
  if (event.new_directory) AppendFid(&out, FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, *event.new_directory, &event.new_name);
  if (event.object) AppendFid(&out, FAN_EVENT_INFO_TYPE_FID, *event.object, nullptr);
  return out;
}

Result<FanotifyGroup::Event> FanotifyGroup::Take(size_t room) {
  MutexLock lock(mu_);
  if (events_.empty()) return Errno(EAGAIN);
  if (RecordSize(events_.front()) > room) return Errno(EINVAL);
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

size_t FanotifyGroup::QueuedBytes() const {
  MutexLock lock(mu_);
  size_t total = 0;
  for (const Event& event : events_) total += RecordSize(event);
  return total;
}

bool FanotifyGroup::HasEvents() const {
  MutexLock lock(mu_);
  return !events_.empty();
}

void FanotifyGroup::AwaitAnswer(RefPtr<Question> question, int fd) {
  MutexLock lock(mu_);
  question->fd = fd;
  if (!question->abandoned) asked_.push_back(std::move(question));
}

void FanotifyGroup::AnswerTo(Question& question, int answer) {
  {
    MutexLock lock(mu_);
    question.answer = answer;
  }
  answer_queue_.Notify(kAllEvents);
}

Result<void> FanotifyGroup::Answer(int fd, int answer) {
  {
    MutexLock lock(mu_);
    auto it = std::ranges::find_if(asked_, [&](const RefPtr<Question>& question) { return question->fd == fd; });
    if (it == asked_.end()) return Errno(ENOENT);
    (*it)->answer = answer;
    asked_.erase(it);
  }
  answer_queue_.Notify(kAllEvents);
  return OkResult();
}

void FanotifyGroup::Close() {
  std::deque<Event> events;
  std::deque<RefPtr<Question>> asked;
  {
    MutexLock lock(mu_);
    closed_ = true;
    events.swap(events_);
    asked.swap(asked_);
  }
  answer_queue_.Notify(kAllEvents);
}

}  // namespace sentry::fs
