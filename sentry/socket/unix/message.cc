// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/unix/message.h"

#include <new>

namespace sentry::socket {
namespace {

// The thread's files that wait for the outermost DropFiles: the end of a socket empties its queue, which may end
// another.
thread_local std::vector<vfs::FileRef>* pending_drops = nullptr;

}  // namespace

void DropFiles(std::vector<vfs::FileRef> files) {
  if (pending_drops) {
    pending_drops->insert(pending_drops->end(), std::make_move_iterator(files.begin()),
                          std::make_move_iterator(files.end()));
    return;
  }
  pending_drops = &files;
  while (!files.empty()) {
    vfs::FileRef last = std::move(files.back());
    files.pop_back();
    last.Reset();
  }
  pending_drops = nullptr;
}

std::unique_ptr<Message> Message::New(size_t capacity) {
  std::unique_ptr<Message> message(new (std::nothrow) Message());
  if (!message) return nullptr;
  message->data_.reset(new (std::nothrow) uint8_t[capacity]);
  if (!message->data_) return nullptr;
  message->capacity_ = capacity;
  return message;
}

Message::~Message() {
  if (!files.empty()) DropFiles(std::move(files));
  if (payer) payer->Refund(charge);
}

MessageList::~MessageList() {
  while (head_) PopFront();
}

size_t MessageList::bytes() const {
  size_t total = 0;
  for (Message* m = head_; m; m = m->next_) total += m->size();
  return total;
}

void MessageList::PushBack(std::unique_ptr<Message> message) {
  Message* added = message.release();
  added->next_ = nullptr;
  (tail_ ? tail_->next_ : head_) = added;
  tail_ = added;
  ++count_;
}

std::unique_ptr<Message> MessageList::PopFront() { return PopAfter(nullptr); }

std::unique_ptr<Message> MessageList::PopAfter(Message* previous) {
  Message*& link = previous ? previous->next_ : head_;
  Message* taken = link;
  if (!taken) return nullptr;
  link = taken->next_;
  if (tail_ == taken) tail_ = previous;
  taken->next_ = nullptr;
  --count_;
  return std::unique_ptr<Message>(taken);
}

void MessageList::Swap(MessageList& other) {
  std::swap(head_, other.head_);
  std::swap(tail_, other.tail_);
  std::swap(count_, other.count_);
}

}  // namespace sentry::socket
