// SPDX-License-Identifier: Apache-2.0
// maps, smaps and smaps_rollup (proc(5)).
#include <sys/sysmacros.h>

#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {
namespace {

void AppendMapLine(std::string& text, const mm::VmaInfo& vma, std::string_view forced_name = {}) {
  const size_t start = text.size();
  Append(text, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ", static_cast<unsigned long long>(vma.start),
         static_cast<unsigned long long>(vma.end), vma.protection.read ? 'r' : '-', vma.protection.write ? 'w' : '-',
         vma.protection.exec ? 'x' : '-', vma.is_private ? 'p' : 's', static_cast<unsigned long long>(vma.offset),
         major(vma.device), minor(vma.device), static_cast<unsigned long long>(vma.inode));
  const std::string_view name = forced_name.empty() ? std::string_view(vma.name) : forced_name;
  if (!name.empty()) {
    const size_t width = text.size() - start;
    if (width < 73) text.append(73 - width, ' ');
    for (char c : name) {
      if (c == '\n') {
        text += "\\012";
      } else {
        text += c;
      }
    }
  }
  text += '\n';
}

struct Sums {
  uint64_t size = 0, resident = 0, anonymous = 0, locked = 0;
};

// A page counts as private when it is anonymous: the sentry doesn't track how often file pages are mapped.
void AppendSums(std::string& text, const Sums& sums, bool rollup) {
  auto line = [&](const char* name, uint64_t bytes) {
    const std::string label = std::string(name) + ":";
    Append(text, "%-16s%8llu kB\n", label.c_str(), static_cast<unsigned long long>(bytes / 1024));
  };
  const uint64_t file = sums.resident - std::min(sums.anonymous, sums.resident);
  if (!rollup) {
    line("Size", sums.size);
    line("KernelPageSize", kPageSize);
    line("MMUPageSize", kPageSize);
  }
  line("Rss", sums.resident);
  line("Pss", sums.resident);
  line("Pss_Dirty", sums.anonymous);
  if (rollup) {
    line("Pss_Anon", sums.anonymous);
    line("Pss_File", file);
    line("Pss_Shmem", 0);
  }
  line("Shared_Clean", file);
  line("Shared_Dirty", 0);
  line("Private_Clean", 0);
  line("Private_Dirty", sums.anonymous);
  line("Referenced", sums.resident);
  line("Anonymous", sums.anonymous);
  for (const char* name : {"KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb",
                           "Private_Hugetlb", "Swap", "SwapPss"}) {
    line(name, 0);
  }
  line("Locked", sums.locked);
}

}  // namespace

Result<std::string> TaskMaps(const Context& context) {
  std::string text;
  if (RefPtr<mm::MemoryManager> mm = context.mm()) {
    mm->ForEachVma([&](const mm::VmaInfo& vma) { AppendMapLine(text, vma); });
  }
  return text;
}

// numa(7): all memory is on the one node.
Result<std::string> TaskNumaMaps(const Context& context) {
  std::string text;
  RefPtr<mm::MemoryManager> mm = context.mm();
  if (!mm) return text;
  mm->ForEachVma(
      [&](const mm::VmaInfo& vma) {
        const uint64_t anonymous = vma.anonymous / kPageSize, resident = vma.resident / kPageSize;
        Append(text, "%08llx default", static_cast<unsigned long long>(vma.start));
        if (vma.name.starts_with('/')) text += " file=" + vma.name;
        if (vma.name == "[heap]") text += " heap";
        if (vma.name == "[stack]") text += " stack";
        if (anonymous)
          Append(text, " anon=%llu dirty=%llu", static_cast<unsigned long long>(anonymous),
                 static_cast<unsigned long long>(anonymous));
        if (resident > anonymous) Append(text, " mapped=%llu", static_cast<unsigned long long>(resident));
        if (resident) Append(text, " N0=%llu kernelpagesize_kB=4", static_cast<unsigned long long>(resident));
        text += '\n';
      },
      true);
  return text;
}

Result<std::string> TaskSmaps(const Context& context) {
  std::string text;
  RefPtr<mm::MemoryManager> mm = context.mm();
  if (!mm) return text;
  mm->ForEachVma(
      [&](const mm::VmaInfo& vma) {
        AppendMapLine(text, vma);
        AppendSums(text, {vma.end - vma.start, vma.resident, vma.anonymous, vma.locked ? vma.resident : 0}, false);
        Append(text, "THPeligible:    0\nVmFlags:%s%s%s%s mr mw me%s%s \n", vma.protection.read ? " rd" : "",
               vma.protection.write ? " wr" : "", vma.protection.exec ? " ex" : "", vma.is_private ? "" : " sh",
               vma.grows_down ? " gd" : "", vma.locked ? " lo" : "");
      },
      true);
  return text;
}

Result<std::string> TaskSmapsRollup(const Context& context) {
  RefPtr<mm::MemoryManager> mm = context.mm();
  if (!mm) return Errno(ESRCH);
  Sums sums;
  mm::VmaInfo range = {};
  bool first = true;
  mm->ForEachVma(
      [&](const mm::VmaInfo& vma) {
        if (first) range.start = vma.start;
        first = false;
        range.end = vma.end;
        sums.resident += vma.resident;
        sums.anonymous += vma.anonymous;
        if (vma.locked) sums.locked += vma.resident;
      },
      true);
  range.is_private = true;
  std::string text;
  AppendMapLine(text, range, "[rollup]");
  AppendSums(text, sums, true);
  return text;
}

}  // namespace sentry::fs
