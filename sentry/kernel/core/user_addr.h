// SPDX-License-Identifier: Apache-2.0
// UserAddr: an address in a guest's address space. It cannot be dereferenced; see kernel/core/caller.h for copies.
#ifndef SENTRY_KERNEL_CORE_USER_ADDR_H_
#define SENTRY_KERNEL_CORE_USER_ADDR_H_

#include <compare>
#include <cstdint>

namespace sentry {

class UserAddr {
 public:
  constexpr UserAddr() = default;
  constexpr explicit UserAddr(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr bool IsNull() const { return value_ == 0; }
  // Wraps on overflow; copies check the range.
  constexpr UserAddr operator+(uint64_t offset) const { return UserAddr(value_ + offset); }
  friend constexpr auto operator<=>(UserAddr, UserAddr) = default;

 private:
  uint64_t value_ = 0;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_USER_ADDR_H_
