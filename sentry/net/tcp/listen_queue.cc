// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/tcp/listen_queue.h"

#include <sys/epoll.h>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {

void ListenQueue::set_observer(RefPtr<Observer> observer) {
  MutexLock lock(mu_);
  observer_ = std::move(observer);
}

void ListenQueue::set_backlog(int backlog) {
  MutexLock lock(mu_);
  backlog_ = static_cast<size_t>(backlog);
}

int ListenQueue::backlog() const {
  MutexLock lock(mu_);
  return static_cast<int>(backlog_);
}

bool ListenQueue::IsFull() const {
  MutexLock lock(mu_);
  return ready_.size() > backlog_;
}

bool ListenQueue::AddPending(TcpEndpoint& child, size_t limit) {
  MutexLock lock(mu_);
  if (closed_ || pending_.size() >= limit) return false;
  pending_.insert(&child);
  return true;
}

void ListenQueue::RemovePending(TcpEndpoint& child) {
  MutexLock lock(mu_);
  pending_.erase(&child);
}

bool ListenQueue::Complete(TcpEndpoint& child) {
  MutexLock lock(mu_);
  if (closed_ || ready_.size() > backlog_) return false;
  pending_.erase(&child);
  ready_.push_back(RefPtr<TcpEndpoint>(&child));
  DeferEvents(observer_, EPOLLIN | EPOLLRDNORM);
  return true;
}

RefPtr<TcpEndpoint> ListenQueue::Take() {
  MutexLock lock(mu_);
  if (ready_.empty()) return nullptr;
  RefPtr<TcpEndpoint> first = std::move(ready_.front());
  ready_.pop_front();
  return first;
}

size_t ListenQueue::ready() const {
  MutexLock lock(mu_);
  return ready_.size();
}

bool ListenQueue::closed() const {
  MutexLock lock(mu_);
  return closed_;
}

std::vector<RefPtr<TcpEndpoint>> ListenQueue::Close() {
  std::vector<RefPtr<TcpEndpoint>> children;
  MutexLock lock(mu_);
  closed_ = true;
  observer_ = nullptr;
  for (TcpEndpoint* child : pending_) {
    if (child->TryIncRef()) children.push_back(RefPtr<TcpEndpoint>::Adopt(child));
  }
  pending_.clear();
  while (!ready_.empty()) {
    children.push_back(std::move(ready_.front()));
    ready_.pop_front();
  }
  return children;
}

void ListenQueue::Reopen() {
  MutexLock lock(mu_);
  closed_ = false;
}

}  // namespace sentry::net
