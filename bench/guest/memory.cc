// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/guest/harness.h"

namespace bench {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kArena = 8 << 20;
constexpr size_t kFilePages = 16;

void MmapMunmap(Measurement& m) {
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      BENCH_CHECK(page != MAP_FAILED && munmap(page, kPage) == 0, "mmap");
    }
  });
}

// New pages of a mapping of 8 MiB: the mapping is made and removed outside the measured time.
void PageTouch(Measurement& m) {
  char* arena = nullptr;
  m.Run(
      [&](uint64_t) {
        if (arena) munmap(arena, kArena);
        void* at = mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        BENCH_CHECK(at != MAP_FAILED, "mmap");
        arena = static_cast<char*>(at);
        // As on a machine with huge pages "madvise": what is measured is the fault of a small page.
        madvise(at, kArena, MADV_NOHUGEPAGE);
      },
      [&](uint64_t n) {
        for (uint64_t i = 0; i < n; ++i) *const_cast<volatile char*>(arena + i * kPage) = 1;
        BENCH_CHECK(arena[(n - 1) * kPage] == 1 && arena[(n - 1) * kPage + 1] == 0, "a new page was not zero");
      },
      kArena / kPage);
}

// mmap of a file of the root (16 pages), read of each page, munmap: per page.
void FileFault(Measurement& m) {
  int fd = open((m.directory() + "/data").c_str(), O_RDONLY | O_CLOEXEC);
  BENCH_CHECK(fd >= 0, "data");
  m.Run([&](uint64_t n) {
    for (uint64_t done = 0; done < n; done += kFilePages) {
      void* at = mmap(nullptr, kFilePages * kPage, PROT_READ, MAP_PRIVATE, fd, 0);
      BENCH_CHECK(at != MAP_FAILED, "mmap");
      for (size_t page = 0; page < kFilePages; ++page)
        BENCH_CHECK(static_cast<const volatile char*>(at)[page * kPage] == static_cast<char>(page + 1),
                    "mmap: other bytes");
      munmap(at, kFilePages * kPage);
    }
  });
  close(fd);
}

constexpr Operation kOperations[] = {
    {"mmap_munmap", "mmap + munmap of an untouched page", MmapMunmap},
    {"page_touch", "first touch of an anonymous page", PageTouch},
    {"file_fault", "first read of a mapped file's page, 1/16 of its mmap and munmap", FileFault},
};

}  // namespace

std::span<const Operation> MemoryOperations() { return kOperations; }

}  // namespace bench
