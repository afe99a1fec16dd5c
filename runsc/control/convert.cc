// SPDX-License-Identifier: Apache-2.0
#include "runsc/control/convert.h"

#include <sys/resource.h>

#include <algorithm>

namespace runsc::control {

void ToProto(const spec::Process& process, pb::Process* out) {
  out->set_terminal(process.terminal);
  if (process.console_size) {
    out->set_rows(process.console_size->rows);
    out->set_columns(process.console_size->columns);
  }
  out->set_uid(process.user.uid);
  out->set_gid(process.user.gid);
  if (process.user.umask) out->set_umask(*process.user.umask);
  for (uint32_t gid : process.user.additional_gids) out->add_additional_gids(gid);
  for (const std::string& arg : process.args) out->add_args(arg);
  for (const std::string& variable : process.env) out->add_env(variable);
  out->set_cwd(process.cwd);
  if (process.capabilities) {
    pb::Capabilities* c = out->mutable_capabilities();
    c->set_bounding(process.capabilities->bounding);
    c->set_effective(process.capabilities->effective);
    c->set_inheritable(process.capabilities->inheritable);
    c->set_permitted(process.capabilities->permitted);
    c->set_ambient(process.capabilities->ambient);
  }
  for (const spec::Rlimit& limit : process.rlimits) {
    pb::Rlimit* r = out->add_rlimits();
    r->set_resource(limit.resource);
    r->set_soft(limit.soft);
    r->set_hard(limit.hard);
  }
  out->set_no_new_privileges(process.no_new_privileges);
  if (process.oom_score_adj) out->set_oom_score_adj(*process.oom_score_adj);
}

absl::StatusOr<spec::Process> FromProto(const pb::Process& in) {
  spec::Process out;
  out.terminal = in.terminal();
  if (in.rows() > UINT16_MAX || in.columns() > UINT16_MAX) {
    return absl::InvalidArgumentError("process.consoleSize: over 65535");
  }
  if (in.rows() && in.columns()) {
    out.console_size = {.rows = static_cast<uint16_t>(in.rows()), .columns = static_cast<uint16_t>(in.columns())};
  }
  out.user.uid = in.uid();
  out.user.gid = in.gid();
  if (in.has_umask()) out.user.umask = in.umask() & 0777;
  out.user.additional_gids.assign(in.additional_gids().begin(), in.additional_gids().end());
  out.args.assign(in.args().begin(), in.args().end());
  out.env.assign(in.env().begin(), in.env().end());
  out.cwd = in.cwd();
  if (out.args.empty()) return absl::InvalidArgumentError("process.args: must not be empty");
  if (out.cwd.empty() || out.cwd[0] != '/') return absl::InvalidArgumentError("process.cwd: must be an absolute path");
  if (in.has_capabilities()) {
    const pb::Capabilities& c = in.capabilities();
    out.capabilities = spec::Capabilities{.bounding = c.bounding(),
                                          .effective = c.effective(),
                                          .inheritable = c.inheritable(),
                                          .permitted = c.permitted(),
                                          .ambient = c.ambient()};
  }
  for (const pb::Rlimit& limit : in.rlimits()) {
    if (limit.resource() < 0 || limit.resource() >= RLIM_NLIMITS) {
      return absl::InvalidArgumentError("process.rlimits: unknown resource");
    }
    if (limit.soft() > limit.hard()) return absl::InvalidArgumentError("process.rlimits: soft above hard");
    out.rlimits.push_back({.resource = limit.resource(), .soft = limit.soft(), .hard = limit.hard()});
  }
  out.no_new_privileges = in.no_new_privileges();
  if (in.has_oom_score_adj()) {
    if (in.oom_score_adj() < -1000 || in.oom_score_adj() > 1000)
      return absl::InvalidArgumentError("oomScoreAdj: not in -1000..1000");
    out.oom_score_adj = in.oom_score_adj();
  }
  return out;
}

void ToProto(const NetworkConfig& config, pb::SetNetworkRequest* out) {
  auto hardware = [](const std::array<uint8_t, 6>& a) { return std::string(a.begin(), a.end()); };
  for (const NetworkInterface& i : config.interfaces) {
    pb::NetworkInterface* o = out->add_interfaces();
    o->set_name(i.name);
    o->set_index(i.index);
    o->set_hardware_address(hardware(i.hardware_address));
    o->set_mtu(i.mtu);
    o->set_flags(i.flags);
    o->set_tx_queue_length(i.tx_queue_length);
    for (const NetworkAddress& a : i.addresses) {
      pb::NetworkAddress* address = o->add_addresses();
      address->set_ip(a.ip);
      address->set_prefix(a.prefix);
      address->set_broadcast(a.broadcast);
      address->set_scope(a.scope);
      address->set_flags(a.flags);
      address->set_label(a.label);
    }
  }
  for (const NetworkRoute& r : config.routes) {
    pb::NetworkRoute* o = out->add_routes();
    o->set_destination(r.destination);
    o->set_prefix(r.prefix);
    o->set_gateway(r.gateway);
    o->set_source(r.source);
    o->set_interface(r.interface);
    o->set_metric(r.metric);
    o->set_scope(r.scope);
    o->set_type(r.type);
    o->set_protocol(r.protocol);
    o->set_mtu(r.mtu);
  }
  for (const NetworkNeighbour& n : config.permanent) {
    pb::NetworkNeighbour* o = out->add_permanent();
    o->set_ip(n.ip);
    o->set_hardware_address(hardware(n.hardware_address));
    o->set_interface(n.interface);
  }
}

absl::StatusOr<NetworkConfig> FromProto(const pb::SetNetworkRequest& in) {
  NetworkConfig out;
  bool fine = true;
  auto hardware = [&](const std::string& bytes) {
    std::array<uint8_t, 6> a = {};
    if (bytes.size() == a.size()) {
      std::copy(bytes.begin(), bytes.end(), a.begin());
    } else {
      fine = false;
    }
    return a;
  };
  // An address of 4 or 16 bytes, or none.
  auto ip = [&](const std::string& bytes, bool optional, size_t family = 0) {
    const bool right = bytes.size() == 4 || bytes.size() == 16;
    if (!(right || (optional && bytes.empty())) || (family && right && bytes.size() != family)) fine = false;
    return bytes;
  };
  auto prefix = [&](uint32_t bits, const std::string& of) {
    if (bits > of.size() * 8) fine = false;
    return bits;
  };
  for (const pb::NetworkInterface& i : in.interfaces()) {
    NetworkInterface& o = out.interfaces.emplace_back();
    o.name = i.name();
    o.index = i.index();
    o.hardware_address = hardware(i.hardware_address());
    o.mtu = i.mtu();
    o.flags = i.flags();
    o.tx_queue_length = i.tx_queue_length();
    if (o.name.empty() || o.name.size() > 15 || o.index == 0 || o.index > INT32_MAX || o.mtu < 68) fine = false;
    for (const pb::NetworkAddress& a : i.addresses()) {
      o.addresses.push_back({.ip = ip(a.ip(), false),
                             .prefix = prefix(a.prefix(), a.ip()),
                             .broadcast = ip(a.broadcast(), true, 4),
                             .scope = a.scope(),
                             .flags = a.flags(),
                             .label = a.label()});
      if (a.scope() > UINT8_MAX) fine = false;
    }
  }
  for (const pb::NetworkRoute& r : in.routes()) {
    out.routes.push_back({.destination = ip(r.destination(), false),
                          .prefix = prefix(r.prefix(), r.destination()),
                          .gateway = ip(r.gateway(), true, r.destination().size()),
                          .source = ip(r.source(), true, r.destination().size()),
                          .interface = r.interface(),
                          .metric = r.metric(),
                          .scope = r.scope(),
                          .type = r.type(),
                          .protocol = r.protocol(),
                          .mtu = r.mtu()});
    if ((r.scope() | r.type() | r.protocol()) > UINT8_MAX) fine = false;
  }
  for (const pb::NetworkNeighbour& n : in.permanent()) {
    out.permanent.push_back({ip(n.ip(), false), hardware(n.hardware_address()), n.interface()});
  }
  if (!fine) return absl::InvalidArgumentError("the network's description is malformed");
  return out;
}

std::string SerializeNetwork(const NetworkConfig& config) {
  pb::SetNetworkRequest message;
  ToProto(config, &message);
  return message.SerializeAsString();
}

absl::StatusOr<NetworkConfig> ParseNetwork(const std::string& text) {
  pb::SetNetworkRequest message;
  if (!message.ParseFromString(text)) return absl::DataLossError("the network's description is damaged");
  return FromProto(message);
}

}  // namespace runsc::control
