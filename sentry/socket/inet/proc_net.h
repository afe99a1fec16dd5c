// SPDX-License-Identifier: Apache-2.0
// The texts of /proc/net of a stack (proc_pid_net(5)).
#ifndef SENTRY_SOCKET_INET_PROC_NET_H_
#define SENTRY_SOCKET_INET_PROC_NET_H_

#include <string>

#include "sentry/net/stack.h"

namespace sentry::socket {

std::string ProcNetTcp(net::Stack& stack);
std::string ProcNetTcp6(net::Stack& stack);
std::string ProcNetUdp(net::Stack& stack);
std::string ProcNetUdp6(net::Stack& stack);
std::string ProcNetRaw(net::Stack& stack);
std::string ProcNetRaw6(net::Stack& stack);
std::string ProcNetDev(net::Stack& stack);
std::string ProcNetArp(net::Stack& stack);
std::string ProcNetRoute(net::Stack& stack);
std::string ProcNetRoute6(net::Stack& stack);
std::string ProcNetIfInet6(net::Stack& stack);
std::string ProcNetSnmp(net::Stack& stack);
std::string ProcNetSnmp6(net::Stack& stack);
std::string ProcNetNetstat(net::Stack& stack);
std::string ProcNetSockstat(net::Stack& stack);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_INET_PROC_NET_H_
