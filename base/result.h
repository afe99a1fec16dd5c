// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value or an Errno; the return type of every kernel path. TRY(expr) yields the value or returns the error
// from the enclosing function (which must return a Result or an Errno-constructible type).
//
//   Result<size_t> Read(...);
//   size_t n = TRY(file->Read(...));
//   if (bad) return Errno(EINVAL);
#ifndef BASE_RESULT_H_
#define BASE_RESULT_H_

#include <optional>
#include <utility>
#include <variant>

#include "base/errno.h"

namespace base {

template <typename T>
class [[nodiscard]] Result {
 public:
  using ValueType = T;
  Result(Errno error) : state_(std::in_place_index<1>, error) {}         // NOLINT: implicit by design
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT
  template <typename U>
  requires(std::is_convertible_v<U, T> && !std::is_same_v<std::decay_t<U>, T> &&
           !std::is_same_v<std::decay_t<U>, Errno> && !std::is_same_v<std::decay_t<U>, Result<T>>) Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  Errno error() const { return std::get<1>(state_); }
  // Zero when ok.
  int error_number() const { return ok() ? 0 : error().number(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T value_or(T other) const { return ok() ? value() : std::move(other); }

 private:
  std::variant<T, Errno> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using ValueType = void;
  Result() = default;
  Result(Errno error) : error_(error) {}  // NOLINT: implicit by design
  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  Errno error() const { return *error_; }
  int error_number() const { return ok() ? 0 : error_->number(); }
  void value() const {}

 private:
  std::optional<Errno> error_;
};

// `return OkResult();` reads better than `return {};` in long functions.
inline Result<void> OkResult() { return {}; }

}  // namespace base

// A GNU statement expression (both compilers of this project have it). The temporary is moved from.
#define TRY(expression)                                \
  ({                                                   \
    auto&& try_result_ = (expression);                 \
    if (!try_result_.ok()) return try_result_.error(); \
    std::move(try_result_).value();                    \
  })

#endif  // BASE_RESULT_H_
