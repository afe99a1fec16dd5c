// SPDX-License-Identifier: Apache-2.0
// Intrusive reference counting. `class Dentry : public RefCounted<Dentry>`; objects start with no reference, MakeRef
// gives the first. The last DecRef deletes through the (possibly overridden, virtual) destructor of T.
#ifndef BASE_REF_PTR_H_
#define BASE_REF_PTR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace base {

template <typename T>
class RefCounted {
 public:
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void IncRef() const { refs_.fetch_add(1, std::memory_order_relaxed); }
  void DecRef() const {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      static_cast<const T*>(this)->OnLastRef();
      delete static_cast<const T*>(this);
    }
  }
  // A class may hide this to leave its observers before its derived parts are destroyed. No new reference may be made.
  void OnLastRef() const {}
  // For caches that hold borrowed pointers under their own lock: takes a reference unless the count is already zero
  // (the object is being destroyed). The object's destructor must remove it from the cache under the same lock.
  [[nodiscard]] bool TryIncRef() const {
    int32_t n = refs_.load(std::memory_order_relaxed);
    while (n > 0) {
      if (refs_.compare_exchange_weak(n, n + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }
  int32_t RefCountForDebug() const { return refs_.load(std::memory_order_relaxed); }
  bool HasOneRef() const { return refs_.load(std::memory_order_acquire) == 1; }

 protected:
  RefCounted() = default;
  ~RefCounted() = default;

 private:
  mutable std::atomic<int32_t> refs_{0};
};

template <typename T>
class RefPtr {
 public:
  RefPtr() = default;
  RefPtr(std::nullptr_t) {}  // NOLINT
  // Takes a new reference.
  explicit RefPtr(T* object) : object_(object) {
    if (object_) object_->IncRef();
  }
  RefPtr(const RefPtr& other) : RefPtr(other.object_) {}
  RefPtr(RefPtr&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <typename U>
  requires std::is_convertible_v<U*, T*> RefPtr(const RefPtr<U>& other) : RefPtr(other.get()) {}  // NOLINT
  template <typename U>
  requires std::is_convertible_v<U*, T*> RefPtr(RefPtr<U>&& other)
  noexcept : object_(other.Release()) {}  // NOLINT
  RefPtr& operator=(RefPtr other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~RefPtr() {
    if (object_) object_->DecRef();
  }

  // Adopts a reference that the caller already owns.
  static RefPtr Adopt(T* object) {
    RefPtr p;
    p.object_ = object;
    return p;
  }
  // Gives the reference to the caller.
  [[nodiscard]] T* Release() { return std::exchange(object_, nullptr); }
  void Reset() { *this = RefPtr(); }

  T* get() const { return object_; }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  friend bool operator==(const RefPtr& a, const RefPtr& b) { return a.object_ == b.object_; }
  friend bool operator==(const RefPtr& a, const T* b) { return a.object_ == b; }
  friend bool operator<(const RefPtr& a, const RefPtr& b) { return a.object_ < b.object_; }

 private:
  T* object_ = nullptr;
};

template <typename T, typename... Args>
RefPtr<T> MakeRef(Args&&... args) {
  return RefPtr<T>(new T(std::forward<Args>(args)...));
}

}  // namespace base

#endif  // BASE_REF_PTR_H_
