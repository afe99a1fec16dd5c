// SPDX-License-Identifier: Apache-2.0
// Operations on files of the root file system (Measurement::directory) and on /tmp, a tmpfs.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/guest/harness.h"

namespace bench {
namespace {

constexpr size_t kFileSize = 64 << 10;
constexpr size_t kPage = 4096;
constexpr int kDirectorySize = 200;

// bench/compare made it: kFileSize bytes, the page p filled with the byte p + 1.
std::string DataFile(const Measurement& m) { return m.directory() + "/data"; }

void StatHit(Measurement& m) {
  const std::string path = DataFile(m);
  m.Run([&](uint64_t n) {
    struct stat s;
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(stat(path.c_str(), &s) == 0 && s.st_size == kFileSize, path.c_str());
  });
}

void StatMiss(Measurement& m) {
  const std::string path = m.directory() + "/missing";
  m.Run([&](uint64_t n) {
    struct stat s;
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(stat(path.c_str(), &s) == -1 && errno == ENOENT, path.c_str());
  });
}

void OpenClose(Measurement& m) {
  const std::string path = DataFile(m);
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      BENCH_CHECK(fd >= 0 && close(fd) == 0, path.c_str());
    }
  });
}

void CreateUnlink(Measurement& m) {
  const std::string path = "/tmp/bench-create";
  unlink(path.c_str());
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      BENCH_CHECK(fd >= 0 && close(fd) == 0 && unlink(path.c_str()) == 0, path.c_str());
    }
  });
}

void Pread(Measurement& m) {
  int fd = open(DataFile(m).c_str(), O_RDONLY | O_CLOEXEC);
  BENCH_CHECK(fd >= 0, DataFile(m).c_str());
  char buffer[kPage];
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      const size_t page = i % (kFileSize / kPage);
      BENCH_CHECK(pread(fd, buffer, kPage, static_cast<off_t>(page * kPage)) == kPage, "pread");
      BENCH_CHECK(buffer[0] == static_cast<char>(page + 1) && buffer[kPage - 1] == buffer[0], "pread: other bytes");
    }
  });
  close(fd);
}

void Pwrite(Measurement& m) {
  const std::string path = "/tmp/bench-pwrite";
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  BENCH_CHECK(fd >= 0, path.c_str());
  char buffer[kPage];
  memset(buffer, 7, sizeof buffer);
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i)
      BENCH_CHECK(pwrite(fd, buffer, kPage, static_cast<off_t>(i % (kFileSize / kPage) * kPage)) == kPage, "pwrite");
  });
  char last = 0;
  BENCH_CHECK(pread(fd, &last, 1, kPage - 1) == 1 && last == 7, "pwrite: other bytes");
  close(fd);
  unlink(path.c_str());
}

// A directory of the root with 200 files, which bench/compare made.
void ReadDirectory(Measurement& m) {
  const std::string path = m.directory() + "/many";
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      DIR* dir = opendir(path.c_str());
      BENCH_CHECK(dir, path.c_str());
      int names = 0;
      while (readdir(dir)) ++names;
      BENCH_CHECK(names == kDirectorySize + 2, "readdir: other names");
      closedir(dir);
    }
  });
}

constexpr Operation kOperations[] = {
    {"stat_hit", "stat of a file of the root", StatHit},
    {"stat_miss", "stat of a missing name of the root", StatMiss},
    {"open_close", "open + close of a file of the root", OpenClose},
    {"create_unlink", "create + close + unlink on a tmpfs", CreateUnlink},
    {"pread_4k", "pread 4 KiB of a file of the root", Pread},
    {"pwrite_4k", "pwrite 4 KiB to a file on a tmpfs", Pwrite},
    {"readdir_200", "opendir to closedir, 200 names", ReadDirectory},
};

}  // namespace

std::span<const Operation> FileOperations() { return kOperations; }

}  // namespace bench
