// SPDX-License-Identifier: Apache-2.0
// Events for containerd, sent one after another by a thread of its own, in the order in which they were published. By
// ttrpc when containerd gave an address (TTRPC_ADDRESS), else by its command `publish`. What can't be sent is tried
// again until containerd is back; the queue is bounded, and an exit is the last thing to be dropped. Thread-safe.
#ifndef SHIM_PUBLISHER_H_
#define SHIM_PUBLISHER_H_

#include <deque>
#include <string>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace shim {

struct PublisherOptions {
  std::string name_space;
  std::string ttrpc_address;   // may be empty
  std::string publish_binary;  // used when it is
  std::string grpc_address;    // for publish_binary
};

class Publisher {
 public:
  explicit Publisher(PublisherOptions options) : options_(std::move(options)) {}
  // Once; the object lives as long as the process.
  void Start();
  // `type`: the message's full name, "containerd.events.TaskExit"; `event`: its bytes.
  void Publish(const std::string& topic, const std::string& type, const std::string& event);
  // Waits until all is sent, up to `timeout_ms`.
  void Flush(int timeout_ms);

 private:
  struct Event {
    std::string topic;
    std::string envelope;  // a serialised pb::Envelope
    std::string any;       // a serialised pb::Any, for publish_binary
  };
  void Run();
  absl::Status Send(const Event& event);

  static constexpr size_t kMaxQueue = 2048;

  const PublisherOptions options_;
  base::Mutex mu_;
  base::CondVar changed_;
  std::deque<Event> queue_ ABSL_GUARDED_BY(mu_);
};

}  // namespace shim

#endif  // SHIM_PUBLISHER_H_
