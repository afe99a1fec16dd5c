// SPDX-License-Identifier: Apache-2.0
// A queue that owns nothing while it is empty: std::deque takes 600 bytes at once, and there are many queues.
#ifndef SENTRY_NET_RING_H_
#define SENTRY_NET_RING_H_

#include <cstddef>
#include <memory>
#include <utility>

namespace sentry::net {

template <typename T>
class Ring {
 public:
  Ring() = default;
  Ring(Ring&& other) noexcept { Swap(other); }
  Ring& operator=(Ring&& other) noexcept {
    Ring taken(std::move(other));
    Swap(taken);
    return *this;
  }
  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  T& operator[](size_t i) { return items_[(head_ + i) & (capacity_ - 1)]; }
  const T& operator[](size_t i) const { return items_[(head_ + i) & (capacity_ - 1)]; }
  T& front() { return (*this)[0]; }
  const T& front() const { return (*this)[0]; }
  T& back() { return (*this)[count_ - 1]; }
  const T& back() const { return (*this)[count_ - 1]; }
  void push_back(T item) {
    if (count_ == capacity_) Grow();
    ++count_;
    back() = std::move(item);
  }
  void push_front(T item) {
    if (count_ == capacity_) Grow();
    head_ = (head_ + capacity_ - 1) & (capacity_ - 1);
    ++count_;
    front() = std::move(item);
  }
  void insert(size_t at, T item) {
    push_back(std::move(item));
    for (size_t i = count_ - 1; i > at; --i) std::swap((*this)[i], (*this)[i - 1]);
  }
  void erase(size_t at) {
    for (size_t i = at; i + 1 < count_; ++i) (*this)[i] = std::move((*this)[i + 1]);
    pop_back();
  }
  void pop_front() {
    front() = T();
    head_ = (head_ + 1) & (capacity_ - 1);
    if (--count_ == 0 && capacity_ > kKept) clear();
  }
  void pop_back() {
    back() = T();
    --count_;
  }
  void clear() {
    Ring empty;
    Swap(empty);
  }
  void Swap(Ring& other) {
    std::swap(items_, other.items_);
    std::swap(capacity_, other.capacity_);
    std::swap(head_, other.head_);
    std::swap(count_, other.count_);
  }

 private:
  // An empty queue gives more than this back.
  static constexpr size_t kKept = 64;
  void Grow() {
    const size_t wanted = capacity_ ? capacity_ * 2 : 2;
    auto items = std::make_unique<T[]>(wanted);
    for (size_t i = 0; i < count_; ++i) items[i] = std::move((*this)[i]);
    items_ = std::move(items);
    capacity_ = wanted;
    head_ = 0;
  }

  std::unique_ptr<T[]> items_;
  size_t capacity_ = 0, head_ = 0, count_ = 0;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_RING_H_
