// SPDX-License-Identifier: Apache-2.0
#include "runsc/control/convert.h"

#include <sys/resource.h>

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
  return out;
}

}  // namespace runsc::control
