// SPDX-License-Identifier: Apache-2.0
#include "runsc/cmd/help_topics.h"

#include "base/log.h"

namespace runsc {
namespace {

constexpr int kMaxTopics = 8;
HelpTopic topics[kMaxTopics];
int topic_count = 0;

}  // namespace

void RegisterHelpTopic(HelpTopic topic) {
  CHECK_THAT(topic_count < kMaxTopics);
  topics[topic_count++] = topic;
}

const HelpTopic* FindHelpTopic(const std::string& name) {
  for (int i = 0; i < topic_count; ++i) {
    if (name == topics[i].name) return &topics[i];
  }
  return nullptr;
}

}  // namespace runsc
