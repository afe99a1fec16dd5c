// SPDX-License-Identifier: Apache-2.0
// Cleanup runs a function at scope exit unless cancelled.
#ifndef BASE_CLEANUP_H_
#define BASE_CLEANUP_H_

#include <utility>

namespace base {

template <typename F>
class [[nodiscard]] Cleanup {
 public:
  explicit Cleanup(F function) : function_(std::move(function)) {}
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  ~Cleanup() {
    if (armed_) function_();
  }
  void Cancel() { armed_ = false; }

 private:
  F function_;
  bool armed_ = true;
};

}  // namespace base

#endif  // BASE_CLEANUP_H_
