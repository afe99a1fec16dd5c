// SPDX-License-Identifier: Apache-2.0
// The settings below /proc/sys/net that a stack heeds, by their names there ("ipv4/ip_default_ttl"), each namespace's
// own. Thread-safe.
#ifndef SENTRY_SOCKET_INET_NET_SETTINGS_H_
#define SENTRY_SOCKET_INET_NET_SETTINGS_H_

#include <string>
#include <string_view>

#include "sentry/net/stack.h"

namespace sentry::socket {

// ENOENT: none of these.
Result<std::string> ReadNetSetting(net::Stack& stack, std::string_view name);
// Numbers separated by blanks; those that are left out stay as they are. EINVAL, ENOENT.
Result<void> WriteNetSetting(net::Stack& stack, std::string_view name, std::string_view text);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_INET_NET_SETTINGS_H_
