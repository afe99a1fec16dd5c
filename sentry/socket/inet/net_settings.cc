// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet/net_settings.h"

#include <array>
#include <charconv>
#include <vector>

#include "sentry/kernel/core/caller.h"

namespace sentry::socket {
namespace {

using net::Settings;

// Sockets may hold so much of the sentry's memory, whatever the guest's administrator wants.
constexpr int kLargestBuffer = 64 << 20;
constexpr int kLargestBacklog = 1 << 20;
constexpr int kLeastBuffer = 4096;

struct Row {
  std::string_view name;
  int min, max;
  std::array<std::atomic<int> Settings::*, 2> fields;  // one or two
  bool after_least = false;                            // behind a first number, that of memory pressure, which never is
};

constexpr Row kRows[] = {
    {"core/somaxconn", 0, kLargestBacklog, {&Settings::somaxconn}},
    {"ipv4/ip_default_ttl", 1, 255, {&Settings::default_ttl}},
    {"ipv4/ip_local_port_range", 1, 65535, {&Settings::port_low, &Settings::port_high}},
    {"ipv4/tcp_fin_timeout", 0, INT32_MAX, {&Settings::tcp_fin_timeout}},
    {"ipv4/tcp_keepalive_intvl", 1, 32767, {&Settings::tcp_keepalive_interval}},
    {"ipv4/tcp_keepalive_probes", 1, 127, {&Settings::tcp_keepalive_probes}},
    {"ipv4/tcp_keepalive_time", 1, 32767, {&Settings::tcp_keepalive_time}},
    {"ipv4/tcp_max_syn_backlog", 0, kLargestBacklog, {&Settings::max_syn_backlog}},
    {"ipv4/tcp_max_tw_buckets", 0, kLargestBacklog, {&Settings::tcp_max_time_wait}},
    {"ipv4/tcp_orphan_retries", 0, 255, {&Settings::tcp_orphan_retries}},
    {"ipv4/tcp_retries2", 0, 255, {&Settings::tcp_retries2}},
    {"ipv4/tcp_rmem", kLeastBuffer, kLargestBuffer, {&Settings::tcp_receive_default, &Settings::tcp_receive_max}, true},
    {"ipv4/tcp_sack", 0, 1, {&Settings::tcp_sack}},
    {"ipv4/tcp_syn_retries", 1, 127, {&Settings::tcp_syn_retries}},
    {"ipv4/tcp_synack_retries", 0, 255, {&Settings::tcp_synack_retries}},
    {"ipv4/tcp_timestamps", 0, 2, {&Settings::tcp_timestamps}},
    {"ipv4/tcp_tw_reuse", 0, 2, {&Settings::tcp_reuse_time_wait}},
    {"ipv4/tcp_window_scaling", 0, 1, {&Settings::tcp_window_scaling}},
    {"ipv4/tcp_wmem", kLeastBuffer, kLargestBuffer, {&Settings::tcp_send_default, &Settings::tcp_send_max}, true},
};

struct Switch {
  std::string_view name;
  std::atomic<bool> Settings::*field;
};

constexpr Switch kSwitches[] = {
    {"ipv4/conf/all/forwarding", &Settings::forwarding},
    {"ipv4/icmp_echo_ignore_all", &Settings::echo_ignore_all},
    {"ipv4/ip_forward", &Settings::forwarding},
    {"ipv6/conf/all/forwarding", &Settings::forwarding6},
};

constexpr std::string_view kCongestion = "ipv4/tcp_congestion_control", kPingGroups = "ipv4/ping_group_range",
                           kBlanks = " \t\n\v\f\r";

// The next word, taken off `text`; empty at its end.
std::string_view Word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(kBlanks));
  text.remove_prefix(word.size());
  return word;
}

// At least one number and at most `most`.
Result<std::vector<int64_t>> Numbers(std::string_view text, size_t most, int64_t min, int64_t max) {
  std::vector<int64_t> numbers;
  for (std::string_view word; !(word = Word(text)).empty();) {
    int64_t value;
    auto [end, error] = std::from_chars(word.begin(), word.end(), value);
    if (error != std::errc() || end != word.end() || value < min || value > max || numbers.size() == most)
      return Errno(EINVAL);
    numbers.push_back(value);
  }
  if (numbers.empty()) return Errno(EINVAL);
  return numbers;
}

const Switch* FindSwitch(std::string_view name) {
  for (const Switch& one : kSwitches)
    if (one.name == name) return &one;
  return nullptr;
}

const Row* Find(std::string_view name) {
  for (const Row& row : kRows)
    if (row.name == name) return &row;
  return nullptr;
}

Result<void> Write(Settings& settings, const Row& row, std::string_view text) {
  const size_t fields = row.fields[1] ? 2 : 1;
  const bool is_range = row.fields[0] == &Settings::port_low;
  std::vector<int64_t> numbers = TRY(Numbers(text, fields + row.after_least, row.after_least ? 1 : row.min, row.max));
  if (row.after_least) numbers.erase(numbers.begin());
  for (int64_t number : numbers)
    if (number < row.min) return Errno(EINVAL);
  if (is_range && numbers.size() == 2 && numbers[0] > numbers[1]) return Errno(EINVAL);
  if (is_range && numbers.size() == 1 && numbers[0] > settings.port_high) return Errno(EINVAL);
  for (size_t i = 0; i < numbers.size(); ++i) (settings.*row.fields[i]).store(static_cast<int>(numbers[i]));
  return OkResult();
}

// Group ids as the caller's user namespace has them; a range that is none is that of nobody.
Result<void> WritePingGroups(Settings& settings, std::string_view text) {
  const std::vector<int64_t> numbers = TRY(Numbers(text, 2, 0, UINT32_MAX - 1));
  const Caller* caller = Caller::CurrentOrNull();
  const RefPtr<UserNamespace> ns = caller ? caller->creds()->user_ns : nullptr;
  uint32_t range[2] = {settings.ping_group_low, settings.ping_group_high};
  for (size_t i = 0; i < numbers.size(); ++i) {
    range[i] = static_cast<uint32_t>(numbers[i]);
    if (ns) range[i] = ns->ToKernel(IdKind::kGroup, range[i]);
    if (range[i] == UINT32_MAX) return Errno(EINVAL);
  }
  const bool empty = range[0] > range[1];
  settings.ping_group_low = empty ? 1 : range[0];
  settings.ping_group_high = empty ? 0 : range[1];
  return OkResult();
}

}  // namespace

Result<std::string> ReadNetSetting(net::Stack& stack, std::string_view name) {
  const Settings& settings = stack.settings();
  if (name == kCongestion) return std::string(settings.tcp_default_reno ? "reno\n" : "cubic\n");
  if (const Switch* one = FindSwitch(name)) return std::string((settings.*one->field) ? "1\n" : "0\n");
  if (name == kPingGroups) {
    const Caller* caller = Caller::CurrentOrNull();
    auto shown = [&](uint32_t gid) {
      return std::to_string(caller ? caller->creds()->Shown(IdKind::kGroup, gid) : gid);
    };
    return shown(settings.ping_group_low) + "\t" + shown(settings.ping_group_high) + "\n";
  }
  const Row* row = Find(name);
  if (!row) return Errno(ENOENT);
  std::string text = row->after_least ? std::to_string(kLeastBuffer) : "";
  for (auto field : row->fields) {
    if (field) text += (text.empty() ? "" : "\t") + std::to_string((settings.*field).load());
  }
  return text + "\n";
}

Result<void> WriteNetSetting(net::Stack& stack, std::string_view name, std::string_view text) {
  // --network=host: the host's are shown by nobody here, and are not to be changed.
  if (stack.is_frozen()) return Errno(EPERM);
  Settings& settings = stack.settings();
  if (name == kCongestion) {
    const std::string_view word = Word(text);
    if (word != "reno" && word != "cubic") return Errno(ENOENT);
    settings.tcp_default_reno = word == "reno";
    return OkResult();
  }
  if (const Switch* one = FindSwitch(name)) {
    settings.*one->field = TRY(Numbers(text, 1, 0, 1))[0] != 0;
    return OkResult();
  }
  if (name == kPingGroups) return WritePingGroups(settings, text);
  const Row* row = Find(name);
  if (!row) return Errno(ENOENT);
  return Write(settings, *row, text);
}

}  // namespace sentry::socket
