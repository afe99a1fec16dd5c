// SPDX-License-Identifier: Apache-2.0
// Message: data on its way to an AF_UNIX endpoint, with its sender and passengers. MessageList: a queue of them.
// Not thread-safe: the receiving endpoint's lock guards them. Destroy them without endpoint locks: files go with them.
#ifndef SENTRY_SOCKET_UNIX_MESSAGE_H_
#define SENTRY_SOCKET_UNIX_MESSAGE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sentry/socket/socket.h"

namespace sentry::socket {

// The bytes of a sockaddr_un as getsockname(2) shows them; immutable, shared by a listener and what it accepts.
struct UnixAddress : public RefCounted<UnixAddress> {
  explicit UnixAddress(std::string address) : bytes(std::move(address)) {}
  const std::string bytes;
};

// Drops references to files; however deep their queues nest, in bounded stack. No locks may be held.
void DropFiles(std::vector<vfs::FileRef> files);

class Message {
 public:
  // Memory that a message costs beside its data.
  static constexpr size_t kOverhead = 512;
  // Data of `capacity` bytes; null when the host has no memory.
  static std::unique_ptr<Message> New(size_t capacity);
  ~Message();

  uint8_t* data() { return data_.get() + begin_; }
  size_t size() const { return end_ - begin_; }
  // For the writer: where more data goes.
  uint8_t* tail() { return data_.get() + end_; }
  size_t room() const { return capacity_ - end_; }
  void Grow(size_t n) { end_ += n; }
  void Consume(size_t n) { begin_ += n; }
  size_t capacity() const { return capacity_; }

  Identity creds;
  RefPtr<const UnixAddress> from;
  std::vector<vfs::FileRef> files;
  uid_t files_owner = 0;  // whose in-flight count the files are in
  // What the sender was charged, to be given back through `on_free(sender, charge)`.
  size_t charge = 0;
  class Payer : public RefCounted<Payer> {
   public:
    virtual ~Payer() = default;
    virtual void Refund(size_t charge) = 0;
  };
  RefPtr<Payer> payer;

 private:
  friend class MessageList;
  Message() = default;
  std::unique_ptr<uint8_t[]> data_;
  size_t capacity_ = 0, begin_ = 0, end_ = 0;
  Message* next_ = nullptr;
};

class MessageList {
 public:
  MessageList() = default;
  MessageList(MessageList&& other) noexcept { Swap(other); }
  ~MessageList();

  bool empty() const { return head_ == nullptr; }
  size_t count() const { return count_; }
  Message* front() { return head_; }
  Message* back() { return tail_; }
  static Message* Next(Message* message) { return message->next_; }
  // Bytes of data in all messages.
  size_t bytes() const;
  void PushBack(std::unique_ptr<Message> message);
  std::unique_ptr<Message> PopFront();
  // The message after `previous` (null: the first).
  std::unique_ptr<Message> PopAfter(Message* previous);
  void Swap(MessageList& other);

 private:
  Message* head_ = nullptr;
  Message* tail_ = nullptr;
  size_t count_ = 0;
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_UNIX_MESSAGE_H_
