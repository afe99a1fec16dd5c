// SPDX-License-Identifier: Apache-2.0
#include "shim/publisher.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "shim/proto/events.pb.h"
#include "shim/reaper.h"
#include "shim/thread.h"
#include "shim/ttrpc/client.h"

namespace shim {
namespace {

constexpr char kExitTopic[] = "/tasks/exit";
constexpr int kSendTimeoutMs = 10'000;
constexpr int kRetryMs = 250;

}  // namespace

void Publisher::Start() {
  if (!StartThread([this] { Run(); })) FATAL("no thread to publish events with");
}

void Publisher::Publish(const std::string& topic, const std::string& type, const std::string& event) {
  pb::Envelope envelope;
  const int64_t now = base::RealtimeNs();
  envelope.mutable_timestamp()->set_seconds(now / base::kNsPerSecond);
  envelope.mutable_timestamp()->set_nanos(static_cast<int32_t>(now % base::kNsPerSecond));
  envelope.set_namespace_(options_.name_space);
  envelope.set_topic(topic);
  envelope.mutable_event()->set_type_url(type);
  envelope.mutable_event()->set_value(event);
  base::MutexLock lock(mu_);
  if (queue_.size() >= kMaxQueue) {
    // The front may be on its way.
    auto victim = std::find_if(queue_.begin() + 1, queue_.end(), [](const Event& e) { return e.topic != kExitTopic; });
    if (victim == queue_.end()) victim = queue_.begin() + 1;
    LOG_WARNING("too many events wait: one of %s is dropped", victim->topic.c_str());
    queue_.erase(victim);
  }
  queue_.push_back({topic, envelope.SerializeAsString(), envelope.event().SerializeAsString()});
  changed_.NotifyAll();
}

void Publisher::Flush(int timeout_ms) {
  const int64_t deadline = base::MonotonicNs() + int64_t{timeout_ms} * 1'000'000;
  base::MutexLock lock(mu_);
  while (!queue_.empty() && changed_.WaitUntil(mu_, deadline)) {
  }
}

absl::Status Publisher::Send(const Event& event) {
  if (!options_.ttrpc_address.empty()) {
    // A connection for each: containerd may have been restarted since the last one.
    auto client = ttrpc::Client::Connect(options_.ttrpc_address);
    if (!client.ok()) return client.status();
    pb::ForwardRequest request;
    request.mutable_envelope()->ParseFromString(event.envelope);
    return client
        ->Call("containerd.services.events.ttrpc.v1.Events", "Forward", request.SerializeAsString(), kSendTimeoutMs)
        .status();
  }
  if (options_.publish_binary.empty()) return absl::OkStatus();
  base::UniqueFd input(memfd_create("event", MFD_CLOEXEC));
  if (!input.ok() || write(input.get(), event.any.data(), event.any.size()) != static_cast<ssize_t>(event.any.size()) ||
      lseek(input.get(), 0, SEEK_SET) != 0) {
    return absl::ResourceExhaustedError("memfd for an event");
  }
  auto pid = Reaper::Get().Spawn({.argv = {options_.publish_binary, "--address", options_.grpc_address, "publish",
                                           "--topic", event.topic, "--namespace", options_.name_space},
                                  .fds = {{0, input.get()}}});
  if (!pid.ok()) return pid.status();
  auto wait_status = Reaper::Get().Wait(*pid, kSendTimeoutMs);
  if (!wait_status.ok()) return wait_status.status();
  if (*wait_status == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(options_.publish_binary, " publish: wait status ", *wait_status));
}

void Publisher::Run() {
  bool told = false;
  while (true) {
    Event event;
    {
      base::MutexLock lock(mu_);
      while (queue_.empty()) changed_.Wait(mu_);
      event = queue_.front();
    }
    absl::Status status = Send(event);
    // What containerd refuses it would refuse again.
    bool again = absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsDataLoss(status);
    if (!status.ok() && (!again || !told)) {
      LOG_WARNING("event %s: %s", event.topic.c_str(), std::string(status.message()).c_str());
    }
    told = again;
    if (again) {
      Pause(kRetryMs);
      continue;
    }
    base::MutexLock lock(mu_);
    queue_.pop_front();
    changed_.NotifyAll();
  }
}

}  // namespace shim
