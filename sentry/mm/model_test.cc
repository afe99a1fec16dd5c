// SPDX-License-Identifier: Apache-2.0
// Random sequences of memory calls and guest accesses against a page-by-page reference model.
#include <linux/mman.h>

#include <memory>
#include <random>
#include <set>

#include "base/clock.h"
#include "sentry/mm/fake_platform.h"

namespace sentry::mm {
namespace {

constexpr uint64_t kArena = kGuestBase + (64 << 20);
constexpr uint64_t kArenaPages = 1100;  // more than two windows
constexpr size_t kMaxProcesses = 4;

struct ModelPage {
  Protection prot;
  bool is_private = true;
  std::shared_ptr<uint64_t> content;  // of the page's first word; shared by forked shared mappings
};
using ModelSpace = std::map<uint64_t, ModelPage>;  // page number in the arena

struct Process {
  RefPtr<MemoryManager> mm;
  ModelSpace pages;
};

class ModelTest : public MmTest, public testing::WithParamInterface<int> {
 protected:
  uint64_t Pick(uint64_t n) { return random_() % n; }
  static uint64_t Address(uint64_t page) { return kArena + page * kPageSize; }
  static bool None(Protection p) { return !p.read && !p.write && !p.exec; }
  Protection RandomProt() {
    switch (Pick(5)) {
      case 0:
        return {};
      case 1:
        return {true, false, false};
      default:
        return {true, true, false};
    }
  }
  void RandomRange(uint64_t* page, uint64_t* count) {
    static constexpr uint64_t kLengths[] = {1, 2, 3, 16, 17, 40, 200, 600};
    *count = kLengths[Pick(8)];
    *page = Pick(kArenaPages - *count);
  }

  void Mmap(Process& p) {
    uint64_t page, count;
    RandomRange(&page, &count);
    MmapRequest request = At(Address(page), count * kPageSize);
    request.protection = RandomProt();
    request.no_reserve = Pick(4) == 0;
    uint64_t kind = Pick(4);
    request.is_private = kind != 1;
    if (kind == 2) request.object = RefPtr<MappedObject>(file_), request.offset = Pick(8) * kPageSize;
    ASSERT_EQ(p.mm->Mmap(request).error_number(), 0);
    for (uint64_t i = 0; i < count; ++i) {
      uint64_t value = kind == 2 ? request.offset + i * kPageSize + 7 : 0;
      p.pages[page + i] = {request.protection, request.is_private, std::make_shared<uint64_t>(value)};
    }
  }
  void Munmap(Process& p) {
    uint64_t page, count;
    RandomRange(&page, &count);
    ASSERT_TRUE(p.mm->Munmap(Address(page), count * kPageSize).ok());
    p.pages.erase(p.pages.lower_bound(page), p.pages.lower_bound(page + count));
  }
  void Mprotect(Process& p) {
    uint64_t page, count;
    RandomRange(&page, &count);
    Protection prot = RandomProt();
    int error = p.mm->Mprotect(Address(page), count * kPageSize, prot).error_number();
    for (uint64_t i = 0; i < count; ++i) {
      auto it = p.pages.find(page + i);
      if (it == p.pages.end()) {
        ASSERT_EQ(error, ENOMEM);
        return;
      }
      it->second.prot = prot;
    }
    ASSERT_EQ(error, 0);
  }
  void Mremap(Process& p) {
    uint64_t from, count, to, unused;
    RandomRange(&from, &count);
    RandomRange(&to, &unused);
    uint64_t new_count = 1 + Pick(count + 20);
    if (to + new_count > kArenaPages) return;
    auto result = p.mm->Mremap(Address(from), count * kPageSize, new_count * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED,
                               Address(to));
    if (!result.ok()) {
      ASSERT_TRUE(result.error_number() == EFAULT || result.error_number() == EINVAL) << result.error_number();
      return;
    }
    std::vector<ModelPage> moved;
    for (uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(p.pages.contains(from + i));
      if (i < new_count) moved.push_back(p.pages[from + i]);
    }
    ModelPage last = moved.back();
    p.pages.erase(p.pages.lower_bound(from), p.pages.lower_bound(from + count));
    p.pages.erase(p.pages.lower_bound(to), p.pages.lower_bound(to + new_count));
    for (uint64_t i = 0; i < new_count; ++i) {
      ModelPage page = i < moved.size() ? moved[i] : last;
      // What a growing file mapping shows is checked elsewhere; read what is there.
      if (i >= moved.size()) {
        uint64_t value = 0;
        auto got = p.mm->CopyIn(UserAddr(Address(to + i)), &value, 8, true);
        // Beyond a shared object: SIGBUS. Drop such pages from the play.
        if (!got.ok()) {
          ASSERT_TRUE(p.mm->Munmap(Address(to + i), kPageSize).ok());
          continue;
        }
        page.content = std::make_shared<uint64_t>(value);
        if (!page.is_private) {
          ASSERT_TRUE(p.mm->Munmap(Address(to + i), kPageSize).ok());
          continue;
        }
      }
      p.pages[to + i] = page;
    }
  }
  void DontNeed(Process& p) {
    uint64_t page, count;
    RandomRange(&page, &count);
    // Only over private anonymous memory is the outcome zeroes; the model forgets files, so unmap those first.
    for (uint64_t i = 0; i < count; ++i) {
      auto it = p.pages.find(page + i);
      if (it == p.pages.end() || !it->second.is_private || files_.contains(it->second.content.get())) return;
    }
    auto vmas = Vmas(*p.mm);
    for (auto& vma : vmas) {
      if (vma.inode == 43 && vma.start < Address(page + count) && vma.end > Address(page)) return;
    }
    ASSERT_TRUE(p.mm->Madvise(Address(page), count * kPageSize, MADV_DONTNEED).ok());
    for (uint64_t i = 0; i < count; ++i) p.pages[page + i].content = std::make_shared<uint64_t>(0);
  }
  void Fork(Process& p) {
    if (processes_.size() >= kMaxProcesses) return;
    Process child;
    const uint64_t written[] = {Address(Pick(kArenaPages)), Address(Pick(kArenaPages))};
    child.mm = std::move(Pick(2) ? p.mm->Fork(written) : p.mm->Fork()).value();
    child.pages = p.pages;
    for (auto& [number, page] : child.pages) {
      if (page.is_private) page.content = std::make_shared<uint64_t>(*page.content);
    }
    processes_.push_back(std::move(child));
  }
  void Access1(Process& p) {
    uint64_t page = Pick(kArenaPages);
    if (!p.pages.empty() && Pick(8)) {
      auto it = p.pages.lower_bound(page);
      if (it != p.pages.end()) page = it->first;
    }
    auto it = p.pages.find(page);
    bool write = Pick(2);
    uint64_t value = random_();
    bool present = it != p.pages.end();
    bool allowed = present && (write ? it->second.prot.write : !None(it->second.prot));
    bool forced = Pick(10) == 0 && present && (!write || it->second.is_private);
    bool copy = forced || Pick(2);
    bool ok;
    if (!write) value = 0xbad;
    if (copy) {
      UserAddr at(Address(page));
      ok = write ? p.mm->CopyOut(at, &value, 8, forced).ok() : p.mm->CopyIn(at, &value, 8, forced).ok();
      allowed = allowed || forced;
    } else {
      Access access = Pick(2) ? Access::kUnknown : write ? Access::kWrite : Access::kRead;
      ok = (write ? Poke(*p.mm, Address(page), value, access) : Peek(*p.mm, Address(page), &value, access)) == 0;
    }
    ASSERT_EQ(ok, allowed) << "page " << page << (write ? " write" : " read") << (copy ? " copy" : " touch");
    if (!ok) return;
    if (write) {
      *it->second.content = value;
    } else {
      ASSERT_EQ(value, *it->second.content) << "page " << page << (copy ? " copy" : " touch");
    }
  }
  // VMAs cover the model's pages exactly, and the stub has no more than they allow.
  void Check(Process& p) {
    std::map<uint64_t, Protection> seen;
    uint64_t last_end = 0;
    for (const VmaInfo& vma : Vmas(*p.mm)) {
      ASSERT_LE(last_end, vma.start);
      last_end = vma.end;
      for (uint64_t at = vma.start; at < vma.end; at += kPageSize) seen[(at - kArena) / kPageSize] = vma.protection;
    }
    ASSERT_EQ(seen.size(), p.pages.size());
    for (auto& [number, page] : p.pages) {
      ASSERT_TRUE(seen.contains(number));
      ASSERT_EQ(seen[number], page.prot) << number;
    }
    for (auto& [start, entry] : SpaceOf(*p.mm).mapped) {
      for (uint64_t at = start; at < entry.first; at += kPageSize) {
        auto it = p.pages.find((at - kArena) / kPageSize);
        ASSERT_TRUE(it != p.pages.end()) << "left in the stub";
        ASSERT_TRUE(!entry.second.write || it->second.prot.write);
        ASSERT_TRUE(!None(it->second.prot));
      }
    }
    for (auto& [number, page] : p.pages) {
      uint64_t value = 0xbad;
      ASSERT_TRUE(p.mm->CopyIn(UserAddr(Address(number)), &value, 8, true).ok());
      ASSERT_EQ(value, *page.content) << "page " << number;
    }
  }

  std::mt19937_64 random_;
  std::vector<Process> processes_;
  RefPtr<FakeFile> file_;
  std::set<const uint64_t*> files_;
};

TEST_P(ModelTest, AgreesWithReference) {
  // For longer hunts: MM_MODEL_SEED shifts the seeds.
  const char* shift = getenv("MM_MODEL_SEED");
  random_.seed(GetParam() * 7919 + 1 + (shift ? atoi(shift) * 1000003 : 0));
  file_ = MakeRef<FakeFile>(2000 * kPageSize);
  processes_.push_back({mm, {}});
  int64_t end = base::MonotonicNs() + base::kNsPerSecond;
  for (int step = 0; step < 4000 && base::MonotonicNs() < end; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    Process& p = processes_[Pick(processes_.size())];
    // Some threads cannot map.
    SpaceOf(*p.mm).bound = Pick(5) != 0;
    uint64_t op = Pick(30);
    if (op < 2)
      Mmap(p);
    else if (op < 3)
      Munmap(p);
    else if (op < 5)
      Mprotect(p);
    else if (op < 6)
      Mremap(p);
    else if (op < 7)
      DontNeed(p);
    else if (op < 8 && Pick(4) == 0)
      Fork(p);
    else if (op < 9 && processes_.size() > 1 && Pick(4) == 0)
      processes_.erase(processes_.begin() + Pick(processes_.size()));
    else {
      SpaceOf(*p.mm).bound = true;
      Access1(p);
    }
    if (HasFatalFailure()) return;
    if (step % 100 == 0) {
      for (Process& q : processes_) Check(q);
      if (HasFatalFailure()) return;
    }
  }
  mm.Reset();
  processes_.clear();
  EXPECT_TRUE(file_->reverse_map().Empty());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, testing::Range(0, 12));

}  // namespace
}  // namespace sentry::mm
