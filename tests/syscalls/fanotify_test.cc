// SPDX-License-Identifier: Apache-2.0
// fanotify(7): marks and what they see, ignore masks, reports by file handle, permission events.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

std::string Link(int fd) {
  char buffer[4096];
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  ssize_t n = readlink(self.c_str(), buffer, sizeof buffer);
  return n < 0 ? "?" : std::string(buffer, n);
}

struct Seen {
  uint64_t mask;
  int32_t pid;
  Fd fd;
  std::string name;  // of the open file, below the test's directory
  std::vector<int> infos;
  std::string info_name;
  std::string handles;  // of all records, as bytes
};

class FanotifyTest : public testing::Test {
 protected:
  void SetUp() override {
    // A filesystem of its own: marks on mounts and filesystems see nothing of others.
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      GTEST_SKIP() << "needs CAP_SYS_ADMIN";
    ASSERT_OK(mount("t", dir_.path().c_str(), "tmpfs", 0, nullptr));
    ASSERT_TRUE(WriteFile(dir_ / "f", "content"));
    ASSERT_OK(mkdir((dir_ / "d").c_str(), 0755));
    ASSERT_TRUE(WriteFile(dir_ / "d/g", "other"));
  }
  void TearDown() override {
    fd_.reset();
    umount2(dir_.path().c_str(), MNT_DETACH);
  }
  void Init(unsigned flags, unsigned event_flags = O_RDONLY) {
    fd_.reset(fanotify_init(flags | FAN_NONBLOCK | FAN_CLOEXEC, event_flags));
    ASSERT_TRUE(fd_.ok()) << strerror(errno);
  }
  int Mark(unsigned flags, uint64_t mask, const std::string& path) {
    return fanotify_mark(fd_.get(), flags, mask, AT_FDCWD, path.c_str());
  }
  std::vector<Seen> Events() {
    std::vector<Seen> seen;
    alignas(8) char buffer[8192];
    for (ssize_t n; (n = read(fd_.get(), buffer, sizeof buffer)) > 0;) {
      auto* meta = reinterpret_cast<fanotify_event_metadata*>(buffer);
      for (; FAN_EVENT_OK(meta, n); meta = FAN_EVENT_NEXT(meta, n)) {
        EXPECT_EQ(meta->vers, FANOTIFY_METADATA_VERSION);
        Seen one{.mask = meta->mask, .pid = meta->pid, .fd = Fd(meta->fd)};
        if (meta->fd >= 0) {
          one.name = Link(meta->fd);
          if (one.name.starts_with(dir_.path() + "/")) one.name.erase(0, dir_.path().size() + 1);
        }
        auto* end = reinterpret_cast<char*>(meta) + meta->event_len;
        for (auto* at = reinterpret_cast<char*>(meta) + meta->metadata_len; at < end;) {
          auto* info = reinterpret_cast<fanotify_event_info_fid*>(at);
          auto* handle = reinterpret_cast<file_handle*>(info->handle);
          one.infos.push_back(info->hdr.info_type);
          const char* name = reinterpret_cast<char*>(handle->f_handle) + handle->handle_bytes;
          one.handles.append(reinterpret_cast<char*>(&info->fsid), sizeof info->fsid);
          one.handles.append(reinterpret_cast<char*>(handle), sizeof *handle + handle->handle_bytes);
          if (info->hdr.info_type != FAN_EVENT_INFO_TYPE_FID && info->hdr.info_type != FAN_EVENT_INFO_TYPE_DFID)
            one.info_name += (one.info_name.empty() ? "" : ">") + std::string(name);
          at += info->hdr.len;
        }
        seen.push_back(std::move(one));
      }
    }
    return seen;
  }
  // "mask:name mask:name"
  std::string Text() {
    std::string out;
    for (const Seen& one : Events()) {
      char buffer[32];
      snprintf(buffer, sizeof buffer, "%llx:", static_cast<unsigned long long>(one.mask));
      out += (out.empty() ? "" : " ") + std::string(buffer) + (one.info_name.empty() ? one.name : one.info_name);
    }
    return out;
  }
  static std::string Want(std::initializer_list<std::pair<uint64_t, const char*>> list) {
    std::string out;
    for (auto& [mask, name] : list) {
      char buffer[64];
      snprintf(buffer, sizeof buffer, "%s%llx:%s", out.empty() ? "" : " ", static_cast<unsigned long long>(mask), name);
      out += buffer;
    }
    return out;
  }
  // fsid and handle, as an event has them.
  std::string HandleOf(const std::string& path) {
    struct statfs fs;
    EXPECT_OK(statfs(path.c_str(), &fs));
    alignas(file_handle) char buffer[sizeof(file_handle) + MAX_HANDLE_SZ];
    auto* handle = reinterpret_cast<file_handle*>(buffer);
    handle->handle_bytes = MAX_HANDLE_SZ;
    int mount_id;
    EXPECT_OK(name_to_handle_at(AT_FDCWD, path.c_str(), handle, &mount_id, 0));
    return std::string(reinterpret_cast<char*>(&fs.f_fsid), sizeof fs.f_fsid) +
           std::string(buffer, sizeof *handle + handle->handle_bytes);
  }
  void ReadF() {
    Fd f(open((dir_ / "f").c_str(), O_RDONLY));
    char c;
    ASSERT_EQ(read(f.get(), &c, 1), 1);
  }
  TempDir dir_;
  Fd fd_;
};

TEST_F(FanotifyTest, InitChecksItsArguments) {
  EXPECT_FAILS(EINVAL, fanotify_init(1u << 30, O_RDONLY));
  EXPECT_FAILS(EINVAL, fanotify_init(0, O_ACCMODE));
  EXPECT_FAILS(EINVAL, fanotify_init(0, O_CREAT));
  EXPECT_FAILS(EINVAL, fanotify_init(FAN_CLASS_CONTENT | FAN_REPORT_FID, O_RDONLY));
  EXPECT_FAILS(EINVAL, fanotify_init(FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT, O_RDONLY));
  EXPECT_FAILS(EINVAL, fanotify_init(FAN_REPORT_NAME, O_RDONLY));
  EXPECT_FAILS(EINVAL, fanotify_init(FAN_REPORT_TARGET_FID, O_RDONLY));
  Fd fd(fanotify_init(FAN_CLOEXEC, O_RDONLY));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(Link(fd.get()), "anon_inode:[fanotify]");
}

TEST_F(FanotifyTest, MarkChecksItsArguments) {
  Init(FAN_CLASS_NOTIF);
  const std::string f = dir_ / "f";
  EXPECT_FAILS(EINVAL, Mark(0, FAN_OPEN, f));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD | FAN_MARK_REMOVE, FAN_OPEN, f));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD, 0, f));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD, uint64_t{1} << 40, f));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD | 1u << 30, FAN_OPEN, f));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_FLUSH | FAN_MARK_ONLYDIR, 0, f));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD, FAN_CREATE, dir_.path()));  // needs handles
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD, FAN_OPEN_PERM, f));         // needs another class
  EXPECT_FAILS(ENOTDIR, Mark(FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN, f));
  EXPECT_FAILS(ENOENT, Mark(FAN_MARK_ADD, FAN_OPEN, dir_ / "none"));
  EXPECT_FAILS(ENOENT, Mark(FAN_MARK_REMOVE, FAN_OPEN, f));
  EXPECT_FAILS(EBADF, fanotify_mark(-1, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, f.c_str()));
  Fd other(open(f.c_str(), O_RDONLY));
  EXPECT_FAILS(EINVAL, fanotify_mark(other.get(), FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, f.c_str()));
  EXPECT_OK(fanotify_mark(fd_.get(), FAN_MARK_ADD, FAN_OPEN, other.get(), nullptr));
  EXPECT_OK(Mark(FAN_MARK_REMOVE, FAN_OPEN, f));
  EXPECT_FAILS(ENOENT, Mark(FAN_MARK_REMOVE, FAN_OPEN, f));
}

TEST_F(FanotifyTest, EventsOfAFile) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN, dir_ / "f"));
  ReadF();
  std::vector<Seen> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].mask, FAN_OPEN);
  EXPECT_EQ(events[0].pid, getpid());
  EXPECT_EQ(events[0].name, "f");
  // The descriptor works, and using it makes no events.
  char c;
  EXPECT_EQ(pread(events[0].fd.get(), &c, 1, 0), 1);
  EXPECT_EQ(c, 'c');
  EXPECT_FAILS(EBADF, pwrite(events[0].fd.get(), &c, 1, 0));
  events.clear();
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_ALL_EVENTS, dir_ / "f"));
  // Events of one file by one process become one.
  ReadF();
  EXPECT_EQ(Text(), Want({{FAN_OPEN | FAN_ACCESS | FAN_CLOSE_NOWRITE, "f"}}));
  ASSERT_TRUE(WriteFile(dir_ / "f", "new"));
  EXPECT_EQ(Text(), Want({{FAN_OPEN | FAN_MODIFY | FAN_CLOSE_WRITE, "f"}}));
  EXPECT_EQ(Text(), "");
  ASSERT_OK(Mark(FAN_MARK_REMOVE, FAN_OPEN | FAN_CLOSE, dir_ / "f"));
  ReadF();
  EXPECT_EQ(Text(), Want({{FAN_ACCESS, "f"}}));
  ASSERT_OK(Mark(FAN_MARK_FLUSH, 0, dir_ / "f"));
  ReadF();
  EXPECT_EQ(Text(), "");
}

TEST_F(FanotifyTest, DirectoriesAndTheirChildren) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN, dir_ / "d"));
  Fd(open((dir_ / "d").c_str(), O_RDONLY)).reset();
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), "");
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN | FAN_ONDIR | FAN_EVENT_ON_CHILD, dir_ / "d"));
  Fd(open((dir_ / "d").c_str(), O_RDONLY)).reset();
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_OPEN, "d"}, {FAN_OPEN, "d/g"}}));
}

TEST_F(FanotifyTest, MountsAndFilesystems) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_OK(mkdir((dir_ / "bind").c_str(), 0755));
  ASSERT_OK(mount((dir_ / "d").c_str(), (dir_ / "bind").c_str(), nullptr, MS_BIND, nullptr));
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, dir_ / "bind"));
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), "");
  Fd(open((dir_ / "bind/g").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_OPEN, "bind/g"}}));
  ASSERT_OK(Mark(FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, dir_ / "bind"));
  Fd(open((dir_ / "bind/g").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), "");
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, dir_ / "f"));
  Fd(open((dir_ / "bind/g").c_str(), O_RDONLY)).reset();
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_OPEN, "bind/g"}, {FAN_OPEN, "d/g"}}));
  ASSERT_OK(umount2((dir_ / "bind").c_str(), MNT_DETACH));
}

TEST_F(FanotifyTest, IgnoreMasks) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN | FAN_MODIFY, dir_.path()));
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, dir_ / "f"));
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_OPEN, "d/g"}}));
  // Until the file is changed.
  Fd f(open((dir_ / "f").c_str(), O_WRONLY));
  EXPECT_EQ(Text(), "");
  ASSERT_EQ(write(f.get(), "x", 1), 1);
  EXPECT_EQ(Text(), Want({{FAN_MODIFY, "f"}}));
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_OPEN, "f"}}));
  f.reset();
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN, dir_ / "f"));
  f.reset(open((dir_ / "f").c_str(), O_WRONLY));
  ASSERT_EQ(write(f.get(), "x", 1), 1);
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_MODIFY, "f"}}));
}

TEST_F(FanotifyTest, ReportsByHandle) {
  Init(FAN_REPORT_FID);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN | FAN_ATTRIB | FAN_DELETE_SELF, dir_ / "f"));
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_CREATE | FAN_DELETE | FAN_ONDIR, dir_ / "d"));
  const std::string f = HandleOf(dir_ / "f"), d = HandleOf(dir_ / "d");
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  std::vector<Seen> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].fd.get(), FAN_NOFD);
  EXPECT_EQ(events[0].infos, std::vector<int>{FAN_EVENT_INFO_TYPE_FID});
  EXPECT_EQ(events[0].handles, f);
  ASSERT_TRUE(WriteFile(dir_ / "d/new", ""));
  ASSERT_OK(mkdir((dir_ / "d/sub").c_str(), 0755));
  events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, FAN_CREATE);
  EXPECT_EQ(events[1].mask, uint64_t{FAN_CREATE | FAN_ONDIR});
  EXPECT_EQ(events[0].handles, d);  // the directory's
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(Text(), Want({{FAN_ATTRIB | FAN_DELETE_SELF, ""}}));
  EXPECT_FAILS(EINVAL, Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CREATE, dir_.path()));
}

TEST_F(FanotifyTest, AHandleOpensTheFile) {
  Init(FAN_REPORT_FID);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN, dir_ / "f"));
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  std::vector<Seen> events = Events();
  ASSERT_EQ(events.size(), 1u);
  ASSERT_GT(events[0].handles.size(), sizeof(file_handle));
  Fd where(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  Fd fd(open_by_handle_at(where.get(), reinterpret_cast<file_handle*>(events[0].handles.data() + 8), O_RDONLY));
  ASSERT_TRUE(fd.ok()) << strerror(errno);
  EXPECT_EQ(Link(fd.get()), dir_ / "f");
}

TEST_F(FanotifyTest, ReportsNames) {
  Init(FAN_REPORT_DFID_NAME);
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
                 FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_OPEN | FAN_CLOSE_WRITE | FAN_ONDIR, dir_.path()));
  const std::string top = HandleOf(dir_.path());
  ASSERT_TRUE(WriteFile(dir_ / "new", ""));
  std::vector<Seen> events = Events();
  ASSERT_EQ(events.size(), 1u);  // all of one name
  EXPECT_EQ(events[0].mask, uint64_t{FAN_CREATE | FAN_OPEN | FAN_CLOSE_WRITE});
  EXPECT_EQ(events[0].infos, std::vector<int>{FAN_EVENT_INFO_TYPE_DFID_NAME});
  EXPECT_EQ(events[0].info_name, "new");
  EXPECT_EQ(events[0].handles, top);
  Fd(open((dir_ / "d").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), Want({{FAN_OPEN | FAN_ONDIR, "."}}));
  ASSERT_OK(rename((dir_ / "new").c_str(), (dir_ / "d/moved").c_str()));
  EXPECT_EQ(Text(), Want({{FAN_MOVED_FROM, "new"}, {FAN_MOVED_TO, "moved"}}));
  ASSERT_OK(unlink((dir_ / "d/moved").c_str()));
  ASSERT_OK(unlink((dir_ / "d/g").c_str()));
  ASSERT_OK(rmdir((dir_ / "d").c_str()));
  EXPECT_EQ(Text(), Want({{FAN_DELETE, "moved"}, {FAN_DELETE, "g"}, {FAN_DELETE | FAN_ONDIR, "d"}}));
}

TEST_F(FanotifyTest, ReportsDirectoryAndFile) {
  Init(FAN_REPORT_DFID_NAME | FAN_REPORT_FID);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD | FAN_RENAME, dir_ / "d"));
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  std::vector<Seen> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].infos, (std::vector<int>{FAN_EVENT_INFO_TYPE_DFID_NAME, FAN_EVENT_INFO_TYPE_FID}));
  EXPECT_EQ(events[0].info_name, "g");
  EXPECT_EQ(events[0].handles, HandleOf(dir_ / "d") + HandleOf(dir_ / "d/g"));
  ASSERT_OK(rename((dir_ / "d/g").c_str(), (dir_ / "d/h").c_str()));
  events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].mask, uint64_t{FAN_RENAME});
  EXPECT_EQ(events[0].infos, (std::vector<int>{FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, FAN_EVENT_INFO_TYPE_NEW_DFID_NAME}));
  EXPECT_EQ(events[0].info_name, "g>h");
}

TEST_F(FanotifyTest, ReadingInPieces) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, dir_.path()));
  Fd(open((dir_ / "f").c_str(), O_RDONLY)).reset();
  Fd(open((dir_ / "d/g").c_str(), O_RDONLY)).reset();
  int ready = 0;
  ASSERT_OK(ioctl(fd_.get(), FIONREAD, &ready));
  EXPECT_EQ(ready, 48);
  EXPECT_TRUE(PollFor(fd_.get(), POLLIN, 0));
  char buffer[47];
  EXPECT_FAILS(EINVAL, read(fd_.get(), buffer, 23));
  ASSERT_EQ(read(fd_.get(), buffer, sizeof buffer), 24);
  close(reinterpret_cast<fanotify_event_metadata*>(buffer)->fd);
  EXPECT_EQ(Text(), Want({{FAN_OPEN, "d/g"}}));
  EXPECT_FAILS(EAGAIN, read(fd_.get(), buffer, sizeof buffer));
  EXPECT_FALSE(PollFor(fd_.get(), POLLIN, 0));
}

TEST_F(FanotifyTest, EventsOfExecution) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_TRUE(WriteFile(dir_ / "program", "#!/bin/sh\nexit 3\n", 0755));
  ASSERT_OK(chmod((dir_ / "program").c_str(), 0755));
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_EXEC, dir_.path()));
  Fd(open((dir_ / "program").c_str(), O_RDONLY)).reset();
  EXPECT_EQ(Text(), "");
  EXPECT_EQ(Exited(3), RunInChild([&] { execl((dir_ / "program").c_str(), "program", nullptr); }));
  EXPECT_EQ(Text(), Want({{FAN_OPEN_EXEC, "program"}}));
}

TEST_F(FanotifyTest, Overflow) {
  const long limit = atol(ReadFile("/proc/sys/fs/fanotify/max_queued_events").c_str());
  ASSERT_GT(limit, 0);
  if (limit > 100000) GTEST_SKIP() << "a queue of " << limit;
  Init(FAN_REPORT_DFID_NAME);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_CREATE, dir_.path()));
  for (long i = 0; i < limit + 5; ++i) {
    const std::string name = dir_ / ("n" + std::to_string(i));
    ASSERT_OK(mknod(name.c_str(), S_IFREG | 0600, 0));
  }
  std::vector<Seen> events = Events();
  ASSERT_EQ(events.size(), static_cast<size_t>(limit) + 1);
  EXPECT_EQ(events.back().mask, uint64_t{FAN_Q_OVERFLOW});
  EXPECT_EQ(events.back().fd.get(), FAN_NOFD);
}

TEST_F(FanotifyTest, GroupsAreLimited) {
  const long limit = atol(ReadFile("/proc/sys/fs/fanotify/max_user_groups").c_str());
  ASSERT_GT(limit, 0);
  if (limit > 900) GTEST_SKIP() << "more groups than descriptors";
  std::vector<Fd> groups;
  int error = 0;
  while (groups.size() < 1000) {
    Fd one(fanotify_init(FAN_CLOEXEC, O_RDONLY));
    error = errno;
    if (!one.ok()) break;
    groups.push_back(std::move(one));
  }
  EXPECT_EQ(error, EMFILE);
  EXPECT_LE(groups.size(), static_cast<size_t>(limit));
}

TEST_F(FanotifyTest, FdInfo) {
  Init(FAN_CLASS_NOTIF);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN, dir_ / "f"));
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_MODIFY, dir_.path()));
  const std::string info = ReadFile("/proc/self/fdinfo/" + std::to_string(fd_.get()));
  struct stat st;
  ASSERT_OK(stat((dir_ / "f").c_str(), &st));
  char ino[64];
  snprintf(ino, sizeof ino, "fanotify ino:%lx sdev:", st.st_ino);
  EXPECT_NE(info.find("fanotify flags:3 event-flags:8000\n"), std::string::npos) << info;
  EXPECT_NE(info.find(ino), std::string::npos) << info;
  EXPECT_NE(info.find("fanotify mnt_id:"), std::string::npos) << info;
  EXPECT_NE(info.find("mask:2 ignored_mask:0"), std::string::npos) << info;
}

TEST_F(FanotifyTest, Unprivileged) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(chmod(dir_.path().c_str(), 0777) == 0);
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY) == -1 && errno == EPERM);
              CHILD_CHECK(fanotify_init(FAN_REPORT_FID | FAN_UNLIMITED_QUEUE, O_RDONLY) == -1 && errno == EPERM);
              fd_.reset(fanotify_init(FAN_REPORT_FID | FAN_NONBLOCK, O_RDONLY));
              CHILD_CHECK(fd_.ok());
              CHILD_CHECK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, dir_ / "f") == -1 && errno == EPERM);
              CHILD_CHECK(Mark(FAN_MARK_ADD, FAN_OPEN, dir_ / "f") == 0);
              ReadF();
              CHILD_CHECK(Events().size() == 1);
            }));
}

// ---- permission events

class Guard {
 public:
  // Answers each question with what `decide` says of the file's name.
  template <typename Decide>
  Guard(int fd, Decide decide) : thread_([this, fd, decide] { Run(fd, decide); }) {}
  ~Guard() { Stop(); }
  void Stop() {
    if (!thread_.joinable()) return;
    stop_.w.reset();
    thread_.join();
  }
  int asked() const { return asked_; }
  uint64_t masks() const { return masks_; }

 private:
  template <typename Decide>
  void Run(int fd, Decide decide) {
    for (;;) {
      pollfd fds[2] = {{fd, POLLIN, 0}, {stop_.r.get(), POLLIN, 0}};
      poll(fds, 2, -1);
      if (fds[1].revents) return;
      fanotify_event_metadata meta;
      if (read(fd, &meta, sizeof meta) != sizeof meta) continue;
      ++asked_;
      masks_ |= meta.mask;
      fanotify_response response = {.fd = meta.fd,
                                    .response = decide(Link(meta.fd)) ? unsigned{FAN_ALLOW} : unsigned{FAN_DENY}};
      EXPECT_EQ(write(fd, &response, sizeof response), static_cast<ssize_t>(sizeof response));
      close(meta.fd);
    }
  }
  Pipe stop_;
  std::atomic<int> asked_{0};
  std::atomic<uint64_t> masks_{0};
  std::thread thread_;
};

TEST_F(FanotifyTest, PermissionToOpenAndRead) {
  Init(FAN_CLASS_CONTENT);
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_PERM | FAN_ACCESS_PERM, dir_.path()));
  std::atomic<bool> reading{true};
  Guard guard(fd_.get(), [&](const std::string& name) { return !name.ends_with("/g") && reading; });
  EXPECT_FAILS(EPERM, open((dir_ / "d/g").c_str(), O_RDONLY));
  Fd f(open((dir_ / "f").c_str(), O_RDWR));
  ASSERT_TRUE(f.ok());
  char c;
  EXPECT_EQ(read(f.get(), &c, 1), 1);
  reading = false;
  EXPECT_FAILS(EPERM, read(f.get(), &c, 1));
  EXPECT_EQ(write(f.get(), "x", 1), 1);  // nobody asks
  EXPECT_EQ(guard.asked(), 4);
  guard.Stop();
}

TEST_F(FanotifyTest, PermissionToExecute) {
  ASSERT_TRUE(WriteFile(dir_ / "program", "#!/bin/sh\nexit 3\n", 0755));
  ASSERT_OK(chmod((dir_ / "program").c_str(), 0755));
  Init(FAN_CLASS_PRE_CONTENT);
  ASSERT_OK(Mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_EXEC_PERM, dir_.path()));
  std::atomic<bool> allow{false};
  Guard guard(fd_.get(), [&](const std::string&) { return allow.load(); });
  auto run = [&] {
    return RunInChild([&] {
      execl((dir_ / "program").c_str(), "program", nullptr);
      _exit(errno == EPERM ? 77 : 1);
    });
  };
  EXPECT_EQ(Exited(77), run());
  allow = true;
  EXPECT_EQ(Exited(3), run());
  guard.Stop();
  EXPECT_EQ(guard.masks(), FAN_OPEN_EXEC_PERM);
}

TEST_F(FanotifyTest, ClosingAnswersYes) {
  Init(FAN_CLASS_CONTENT);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN_PERM, dir_ / "f"));
  // One question that was read, one that was not.
  std::vector<std::thread> threads;
  std::atomic<int> opened{0};
  for (int i = 0; i < 2; ++i) threads.emplace_back([&] { opened += Fd(open((dir_ / "f").c_str(), O_RDONLY)).ok(); });
  ASSERT_TRUE(PollFor(fd_.get(), POLLIN, 20'000));
  fanotify_event_metadata meta;
  ASSERT_EQ(read(fd_.get(), &meta, sizeof meta), static_cast<ssize_t>(sizeof meta));
  EXPECT_EQ(meta.mask, FAN_OPEN_PERM);
  fanotify_response wrong = {.fd = meta.fd + 100, .response = FAN_ALLOW};
  EXPECT_FAILS(ENOENT, write(fd_.get(), &wrong, sizeof wrong));
  wrong = {.fd = meta.fd, .response = 7};
  EXPECT_FAILS(EINVAL, write(fd_.get(), &wrong, sizeof wrong));
  EXPECT_FAILS(EINVAL, write(fd_.get(), &wrong, 4));
  ASSERT_TRUE(PollFor(fd_.get(), POLLIN, 20'000));
  EXPECT_EQ(opened, 0);
  fd_.reset();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(opened, 2);
  close(meta.fd);
}

TEST_F(FanotifyTest, AskedOnesCanBeKilled) {
  Init(FAN_CLASS_CONTENT);
  ASSERT_OK(Mark(FAN_MARK_ADD, FAN_OPEN_PERM, dir_ / "f"));
  Child child([&] { open((dir_ / "f").c_str(), O_RDONLY); });
  ASSERT_TRUE(PollFor(fd_.get(), POLLIN, 20'000));
  ASSERT_OK(child.Kill(SIGKILL));
  EXPECT_EQ(Killed(SIGKILL), child.Wait());
}

}  // namespace
