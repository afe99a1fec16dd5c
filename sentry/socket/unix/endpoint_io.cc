// SPDX-License-Identifier: Apache-2.0
// Data through AF_UNIX endpoints: byte streams, datagrams and sequenced packets (net/unix/af_unix.c has the order of
// the errors).
#include <linux/capability.h>
#include <sys/resource.h>

#include <algorithm>

#include "sentry/socket/environment.h"
#include "sentry/socket/unix/endpoint.h"
#include "sentry/socket/unix/in_flight.h"
#include "sentry/socket/unix/names.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry::socket {
namespace {

constexpr size_t kMaxChunk = 32768;  // of a stream
constexpr size_t kMinChunk = 2048;   // small sends share one

// How many descriptors the caller may have in flight (net/unix/scm.c).
uint64_t FilesLimit() {
  Caller& caller = Caller::Current();
  const Credentials& creds = *caller.creds();
  if (creds.HasCapability(CAP_SYS_RESOURCE) || creds.HasCapability(CAP_SYS_ADMIN)) return UINT64_MAX;
  return caller.SoftLimit(RLIMIT_NOFILE);
}

}  // namespace

Identity UnixEndpoint::CredsFor(const UnixEndpoint& receiver, const SendRequest& request) const {
  if (request.creds) return *request.creds;
  // Asked for by neither side: nothing is recorded, and who asks later is told "nobody".
  if (!pass_creds_.load(std::memory_order_relaxed) && !receiver.pass_creds_.load(std::memory_order_relaxed) &&
      receiver.file_.load(std::memory_order_relaxed)) {
    return {};
  }
  const Credentials& creds = *Caller::Current().creds();
  return {GetEnvironment().caller_pid(), creds.ruid, creds.rgid};
}

void UnixEndpoint::Charge(Message& message) {
  message.charge = message.capacity() + Message::kOverhead + message.files.size() * sizeof(vfs::FileRef);
  message.payer = RefPtr<Message::Payer>(this);
  charged_.fetch_add(message.charge, std::memory_order_relaxed);
}

void UnixEndpoint::Refund(size_t charge) {
  size_t before = charged_.fetch_sub(charge, std::memory_order_relaxed);
  size_t limit = send_buffer_.load(std::memory_order_relaxed);
  if (before * 4 > limit && (before - charge) * 4 <= limit) Notify(kEventOut);
}

Result<size_t> UnixEndpoint::Send(SendRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EOPNOTSUPP);
  if (pass_creds_.load(std::memory_order_relaxed)) TRY(Autobind());
  const bool with_files = !request.files.empty();
  auto sent = type_ == SOCK_STREAM ? SendStream(request) : SendMessage(request);
  if (with_files) InFlight::Get().CollectAfterSend();
  return sent;
}

Result<size_t> UnixEndpoint::SendStream(SendRequest& request) {
  RefPtr<UnixEndpoint> peer;
  RefPtr<const UnixAddress> from;
  {
    MutexLock lock(mu_);
    if (!request.address.empty()) return Errno(state_ == State::kConnected ? EISCONN : EOPNOTSUPP);
    if (!peer_) return Errno(ENOTCONN);
    if (shutdown_ & kSend) return Errno(EPIPE);
    peer = peer_;
    from = address_;
  }
  const Identity creds = CredsFor(*peer, request);
  size_t sent = 0;
  Errno error(0);
  while (request.data.remaining() && error.number() == 0) {
    std::unique_ptr<Message> refused;  // dies without the lock
    std::vector<vfs::FileRef> files;
    const bool first_with_files = !request.files.empty();
    const uint64_t files_limit = first_with_files ? FilesLimit() : 0;
    MutexLock lock(peer->mu_);
    if (peer->dead_ || (peer->shutdown_ & kReceive)) {
      error = Errno(EPIPE);
      break;
    }
    Message* last = peer->messages_.back();
    size_t want;
    if (last && last->room() && !first_with_files && last->files.empty() && last->payer == this &&
        last->creds == creds && last->from == from) {
      want = std::min(request.data.remaining(), last->room());
      auto n = request.data.Take(last->tail(), want);
      if (!n.ok()) {
        error = n.error();
        break;
      }
      last->Grow(*n);
      sent += *n;
      if (*n < want) error = Errno(EFAULT);
      continue;
    }
    if (!HasSendRoom()) {
      error = Errno(EAGAIN);
      break;
    }
    const size_t half = send_buffer_.load(std::memory_order_relaxed) / 2;
    want = std::min({request.data.remaining(), kMaxChunk, std::max<size_t>(half - 64, 1)});
    refused = Message::New(first_with_files ? want : std::max(want, kMinChunk));
    if (!refused) {
      error = Errno(ENOBUFS);
      break;
    }
    auto n = request.data.Take(refused->data(), want);
    if (!n.ok() || *n == 0) {
      error = n.ok() ? Errno(EFAULT) : n.error();
      break;
    }
    refused->Grow(*n);
    refused->creds = creds;
    refused->from = from;
    if (first_with_files) {
      refused->files = request.files;
      refused->files_owner = Caller::Current().creds()->ruid;
    }
    Charge(*refused);
    if (auto added = InFlight::Get().Add(*peer, *refused, files_limit); !added.ok()) {
      error = added.error();
      break;
    }
    peer->messages_.PushBack(std::move(refused));
    files.swap(request.files);  // the message has its own references
    sent += *n;
    if (*n < want) error = Errno(EFAULT);
  }
  if (sent) {
    peer->Notify(kEventIn);
    return sent;
  }
  if (error.number()) return error;
  return size_t{0};
}

Result<size_t> UnixEndpoint::SendMessage(SendRequest& request) {
  RefPtr<UnixEndpoint> target;
  RefPtr<const UnixAddress> from;
  const bool named = !request.address.empty() && type_ == SOCK_DGRAM;
  ParsedUnixName name;
  if (named) {
    name = TRY(ParseUnixName(request.address));
    if (name.kind == ParsedUnixName::Kind::kUnnamed) return Errno(EINVAL);
  }
  {
    MutexLock lock(mu_);
    if (type_ == SOCK_SEQPACKET) {
      if (int error = TakeErrorLocked()) return Errno(error);
      if (state_ != State::kConnected) return Errno(ENOTCONN);
    }
    if (!named) {
      if (!peer_) return Errno(ENOTCONN);
      target = peer_;
    }
    from = address_;
    size_t limit = send_buffer_.load(std::memory_order_relaxed);
    if (request.data.remaining() > limit - 32) return Errno(EMSGSIZE);
    if (int error = TakeErrorLocked()) return Errno(error);
    if (shutdown_ & kSend) return Errno(EPIPE);
  }
  if (!HasSendRoom()) return Errno(EAGAIN);
  if (named) target = TRY(UnixNames::Get().Find(*this, name));

  const size_t length = request.data.remaining();
  std::unique_ptr<Message> message = Message::New(length);
  if (!message) return Errno(ENOBUFS);
  if (length && TRY(request.data.Take(message->data(), length)) < length) return Errno(EFAULT);
  message->Grow(length);
  message->creds = CredsFor(*target, request);
  message->from = std::move(from);
  message->files = request.files;
  message->files_owner = Caller::Current().creds()->ruid;
  const uint64_t files_limit = request.files.empty() ? 0 : FilesLimit();
  Charge(*message);

  Errno error(0);
  bool forget_peer = false;
  {
    MutexLock lock(target->mu_);
    const bool mutual = target == this || target->peer_ == this;
    if (target->peer_ && !mutual && type_ == SOCK_DGRAM) {
      error = Errno(EPERM);
    } else if (target->dead_) {
      error = Errno(type_ == SOCK_SEQPACKET ? EPIPE : ECONNREFUSED);
      forget_peer = type_ == SOCK_DGRAM && !named;
    } else if (target->shutdown_ & kReceive) {
      error = Errno(EPIPE);
    } else if (!mutual && target->IsFullLocked()) {
      error = Errno(EAGAIN);
      request.wait_on = target->room_;
    } else if (auto added = InFlight::Get().Add(*target, *message, files_limit); !added.ok()) {
      error = added.error();
    } else {
      target->messages_.PushBack(std::move(message));
    }
  }
  if (error.number()) {
    request.data.Untake(length);
    if (forget_peer) SetDatagramPeer(nullptr);
    return error;
  }
  DropFiles(std::exchange(request.files, {}));
  target->Notify(kEventIn);
  return length;
}

// --- Receiving

void UnixEndpoint::TakePassengers(Message& message, bool peek, ReceiveRequest& request) {
  if (message.files.empty()) return;
  if (peek) {
    request.files = InFlight::Get().Copy(message);
    return;
  }
  InFlight::Get().Remove(*this, message);
  request.files.swap(message.files);
}

Result<size_t> UnixEndpoint::Receive(ReceiveRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EOPNOTSUPP);
  return type_ == SOCK_STREAM ? ReceiveStream(request) : ReceiveMessage(request);
}

Result<size_t> UnixEndpoint::ReceiveStream(ReceiveRequest& request) {
  const bool peek = request.flags & MSG_PEEK;
  const bool pass_creds = pass_creds_.load(std::memory_order_relaxed);
  MessageList consumed;  // freed without the lock
  size_t copied = 0;
  MutexLock lock(mu_);
  if (state_ != State::kConnected) return Errno(EINVAL);
  const int peek_offset = peek_offset_.load(std::memory_order_relaxed);
  size_t skip = peek && peek_offset >= 0 ? peek_offset : 0;
  Message* message = messages_.front();
  while (message && skip && skip >= message->size()) {
    skip -= message->size();
    message = MessageList::Next(message);
  }
  if (!message) {
    if (request.data.remaining() == 0) return size_t{0};
    if (int error = TakeErrorLocked()) return Errno(error);
    if (shutdown_ & kReceive) return size_t{0};
    return Errno(EAGAIN);
  }
  bool has_first = false;
  Identity first_creds;
  do {
    if (pass_creds) {
      if (has_first && message->creds != first_creds) {
        request.at_boundary = true;
        break;
      }
      first_creds = message->creds;
      request.creds = message->creds;
    }
    if (!has_first && message->from) request.address = message->from->bytes;
    has_first = true;
    const size_t want = std::min(request.data.remaining(), message->size() - skip);
    size_t done = 0;
    if (want) {
      auto n = request.data.Put(message->data() + skip, want);
      if (!n.ok()) {
        if (copied) break;
        return n.error();
      }
      done = *n;
    }
    copied += done;
    const bool has_files = !message->files.empty();
    TakePassengers(*message, peek, request);
    if (has_files) request.at_boundary = true;
    if (peek) {
      if (peek_offset >= 0) peek_offset_.fetch_add(static_cast<int>(done), std::memory_order_relaxed);
      if (done < want || has_files) break;
      skip = 0;
      message = MessageList::Next(message);
      continue;
    }
    message->Consume(done);
    if (peek_offset >= 0)
      peek_offset_.store(std::max(0, peek_offset_.load() - static_cast<int>(done)), std::memory_order_relaxed);
    if (message->size()) break;
    consumed.PushBack(messages_.PopFront());
    if (has_files) break;
    message = messages_.front();
  } while (message && request.data.remaining());
  return copied;
}

Result<size_t> UnixEndpoint::ReceiveMessage(ReceiveRequest& request) {
  const bool peek = request.flags & MSG_PEEK;
  std::unique_ptr<Message> taken;
  bool made_room = false;
  size_t skip = 0, copied = 0, length = 0;
  {
    MutexLock lock(mu_);
    if (type_ == SOCK_SEQPACKET && state_ != State::kConnected) return Errno(ENOTCONN);
    if (int error = TakeErrorLocked()) return Errno(error);
    const int peek_offset = peek_offset_.load(std::memory_order_relaxed);
    Message* previous = nullptr;
    Message* message = messages_.front();
    if (peek && peek_offset >= 0) {
      skip = peek_offset;
      while (message && skip && skip >= message->size()) {
        skip -= message->size();
        previous = message;
        message = MessageList::Next(message);
      }
    }
    if (!message) {
      // A blocking read of a datagram socket that was shut down ends; a non-blocking one has nothing.
      if ((shutdown_ & kReceive) && (type_ == SOCK_SEQPACKET || !request.nonblocking)) return size_t{0};
      return Errno(EAGAIN);
    }
    if (message->from) request.address = message->from->bytes;
    if (pass_creds_.load(std::memory_order_relaxed)) request.creds = message->creds;
    length = message->size() - skip;
    copied = std::min(length, request.data.remaining());
    if (peek) {
      if (copied && TRY(request.data.Put(message->data() + skip, copied)) < copied) return Errno(EFAULT);
      TakePassengers(*message, true, request);
      if (peek_offset >= 0) peek_offset_.fetch_add(static_cast<int>(copied), std::memory_order_relaxed);
    } else {
      made_room = IsFullLocked();
      TakePassengers(*message, false, request);
      taken = messages_.PopAfter(previous);
      if (peek_offset >= 0)
        peek_offset_.store(std::max(0, peek_offset - static_cast<int>(length)), std::memory_order_relaxed);
    }
  }
  if (made_room) room_->queue.Notify(kEventOut);
  // A message whose reader faults is lost, as in Linux.
  if (taken && copied && TRY(request.data.Put(taken->data(), copied)) < copied) return Errno(EFAULT);
  if (copied < length) request.message_flags |= MSG_TRUNC;
  return request.flags & MSG_TRUNC ? length : copied;
}

void UnixEndpoint::TakeFiles(std::vector<vfs::FileRef>* files) {
  MessageList dropped, kept;
  MutexLock lock(mu_);
  while (std::unique_ptr<Message> message = messages_.PopFront()) {
    if (message->files.empty()) {
      kept.PushBack(std::move(message));
      continue;
    }
    InFlight::Get().Remove(*this, *message);
    files->insert(files->end(), std::make_move_iterator(message->files.begin()),
                  std::make_move_iterator(message->files.end()));
    message->files.clear();
    dropped.PushBack(std::move(message));
  }
  messages_.Swap(kept);
}

}  // namespace sentry::socket
