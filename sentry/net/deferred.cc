// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/deferred.h"

#include "sentry/net/ring.h"

namespace sentry::net {
namespace {

struct Item {
  RefPtr<Observer> observer;
  uint32_t events = 0;
  RefPtr<DeferredTask> task;
};

struct Pending {
  int depth = 0;
  bool running = false;
  Ring<Item> items;
};

thread_local Pending pending;

void RunAll() {
  pending.running = true;
  while (!pending.items.empty()) {
    Item item = std::move(pending.items.front());
    pending.items.pop_front();
    if (item.observer) item.observer->OnEvents(item.events);
    if (item.task && item.task->Run()) pending.items.push_back(std::move(item));
  }
  pending.running = false;
}

}  // namespace

DeferScope::DeferScope() { ++pending.depth; }

DeferScope::~DeferScope() {
  if (--pending.depth == 0 && !pending.running && !pending.items.empty()) RunAll();
}

void DeferEvents(const RefPtr<Observer>& observer, uint32_t events) {
  if (!observer || !events) return;
  if (!pending.items.empty() && pending.items.back().observer == observer) {
    pending.items.back().events |= events;
    return;
  }
  pending.items.push_back(Item{observer, events, nullptr});
}

void DeferTask(RefPtr<DeferredTask> task) { pending.items.push_back(Item{nullptr, 0, std::move(task)}); }

}  // namespace sentry::net
