// SPDX-License-Identifier: Apache-2.0
// IntervalSet: half-open ranges of addresses, adjacent ones joined. Not thread-safe.
#ifndef PLATFORM_PTRACE_INTERVAL_SET_H_
#define PLATFORM_PTRACE_INTERVAL_SET_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

namespace platform::ptrace {

class IntervalSet {
 public:
  void Add(uint64_t start, uint64_t end) {
    auto it = ranges_.upper_bound(start);
    if (it != ranges_.begin() && std::prev(it)->second >= start) --it;
    while (it != ranges_.end() && it->first <= end) {
      start = std::min(start, it->first);
      end = std::max(end, it->second);
      it = ranges_.erase(it);
    }
    ranges_.emplace_hint(it, start, end);
  }

  void Remove(uint64_t start, uint64_t end) {
    auto it = ranges_.upper_bound(start);
    if (it != ranges_.begin()) --it;
    while (it != ranges_.end() && it->first < end) {
      auto [first, last] = *it;
      if (last <= start) {
        ++it;
        continue;
      }
      it = ranges_.erase(it);
      if (first < start) ranges_.emplace(first, start);
      if (last > end) ranges_.emplace(end, last);
    }
  }

  // Calls `visit(start, end)` for each part of [start, end) in the set until it returns false; false if it did.
  template <typename F>
  bool ForEach(uint64_t start, uint64_t end, F visit) const {
    auto it = ranges_.upper_bound(start);
    if (it != ranges_.begin()) --it;
    for (; it != ranges_.end() && it->first < end; ++it) {
      if (it->second <= start) continue;
      if (!visit(std::max(start, it->first), std::min(end, it->second))) return false;
    }
    return true;
  }

  bool Intersects(uint64_t start, uint64_t end) const {
    return !ForEach(start, end, [](uint64_t, uint64_t) { return false; });
  }

  size_t size() const { return ranges_.size(); }

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_INTERVAL_SET_H_
