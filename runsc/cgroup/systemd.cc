// SPDX-License-Identifier: Apache-2.0
#include "runsc/cgroup/systemd.h"

#include <stdlib.h>
#include <unistd.h>

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

constexpr int kTimeoutMs = 30'000;
constexpr char kService[] = "org.freedesktop.systemd1";
constexpr char kObject[] = "/org/freedesktop/systemd1";
constexpr char kManager[] = "org.freedesktop.systemd1.Manager";
constexpr uint64_t kInfinity = UINT64_MAX;

void BeginProperty(dbus::Writer& w, const char* name, const char* type) {
  w.Align(8);
  w.String(name);
  w.Signature(type);
}

void Property(dbus::Writer& w, const char* name, uint64_t value) {
  BeginProperty(w, name, "t");
  w.U64(value);
}

void Property(dbus::Writer& w, const char* name, const std::string& value) {
  BeginProperty(w, name, "s");
  w.String(value);
}

void Property(dbus::Writer& w, const char* name, bool value) {
  BeginProperty(w, name, "b");
  w.Bool(value);
}

uint64_t LimitOf(int64_t value) { return value < 0 ? kInfinity : static_cast<uint64_t>(value); }

// "0-2,5" as systemd's bytes, bit by bit from the lowest; empty: not a list of processors.
std::vector<uint8_t> BitsOf(const std::string& list) {
  std::vector<uint8_t> bits;
  for (absl::string_view part : absl::StrSplit(list, ',', absl::SkipWhitespace())) {
    const size_t dash = part.find('-');
    unsigned first, last;
    if (!absl::SimpleAtoi(part.substr(0, dash), &first)) return {};
    last = first;
    if (dash != absl::string_view::npos && !absl::SimpleAtoi(part.substr(dash + 1), &last)) return {};
    if (last < first || last >= 8192) return {};
    if (bits.size() <= last / 8) bits.resize(last / 8 + 1);
    for (unsigned i = first; i <= last; ++i) bits[i / 8] |= static_cast<uint8_t>(1 << i % 8);
  }
  return bits;
}

void Property(dbus::Writer& w, const char* name, const std::vector<uint8_t>& bytes) {
  BeginProperty(w, name, "ay");
  const size_t array = w.BeginArray(1);
  for (uint8_t byte : bytes) w.Byte(byte);
  w.EndArray(array, 1);
}

}  // namespace

absl::StatusOr<SystemdUnit> SystemdUnitOf(const std::string& cgroups_path, const std::string& id) {
  // As a path, it has been checked.
  std::string path = VALUE_OR_RETURN(CgroupPath(cgroups_path, id, /*systemd=*/true));
  const size_t slash = path.rfind('/');
  SystemdUnit unit{.name = path.substr(slash + 1), .slice = path.substr(0, slash)};
  unit.slice = unit.slice.substr(unit.slice.rfind('/') + 1);
  if (!absl::EndsWith(unit.name, ".scope")) {
    return absl::InvalidArgumentError(
        absl::StrCat("linux.cgroupsPath: \"", cgroups_path, "\": a container cannot be a slice of systemd's"));
  }
  return unit;
}

void WriteProperties(const spec::Resources& r, bool v2, dbus::Writer* out) {
  dbus::Writer& w = *out;
  if (r.memory_limit) Property(w, v2 ? "MemoryMax" : "MemoryLimit", LimitOf(*r.memory_limit));
  if (v2 && r.memory_reservation) Property(w, "MemoryLow", LimitOf(*r.memory_reservation));
  // v2 counts swap alone, config.json memory and swap together.
  if (v2 && r.memory_swap && *r.memory_swap < 0) Property(w, "MemorySwapMax", kInfinity);
  if (v2 && r.memory_swap && *r.memory_swap > 0 && r.memory_limit && *r.memory_limit > 0)
    Property(w, "MemorySwapMax", static_cast<uint64_t>(*r.memory_swap - *r.memory_limit));
  if (r.cpu_shares) Property(w, v2 ? "CPUWeight" : "CPUShares", v2 ? CgroupWeight(*r.cpu_shares) : *r.cpu_shares);
  if (r.cpu_quota) {
    uint64_t per_second = kInfinity;
    const uint64_t period = r.cpu_period.value_or(100'000);
    if (*r.cpu_quota > 0 && period > 0) {
      // systemd rounds to 10 ms itself, down to nothing at worst: up is meant.
      per_second = static_cast<uint64_t>(*r.cpu_quota) * 1'000'000 / period;
      per_second = (per_second + 9'999) / 10'000 * 10'000;
    }
    Property(w, "CPUQuotaPerSecUSec", per_second);
  }
  if (r.pids_limit) Property(w, "TasksMax", LimitOf(HostTaskLimit(*r.pids_limit)));
  if (v2 && !r.cpuset_cpus.empty()) Property(w, "AllowedCPUs", BitsOf(r.cpuset_cpus));
  if (v2 && !r.cpuset_mems.empty()) Property(w, "AllowedMemoryNodes", BitsOf(r.cpuset_mems));
}

absl::StatusOr<Systemd> Systemd::Connect() {
  const bool is_root = geteuid() == 0;
  const char* given = getenv(is_root ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS");
  std::vector<std::pair<std::string, bool>> places;  // address, is a bus
  if (given && *given) {
    places = {{given, true}};
  } else if (is_root) {
    places = {{"unix:path=/run/dbus/system_bus_socket", true}, {"unix:path=/run/systemd/private", false}};
  } else if (const char* runtime = getenv("XDG_RUNTIME_DIR"); runtime && *runtime) {
    places = {{absl::StrCat("unix:path=", runtime, "/bus"), true},
              {absl::StrCat("unix:path=", runtime, "/systemd/private"), false}};
  }
  absl::Status last = absl::UnavailableError("systemd: no bus is known: XDG_RUNTIME_DIR is not set");
  for (const auto& [address, is_bus] : places) {
    auto bus = dbus::Connection::Open(address, is_bus, kTimeoutMs);
    last = Annotate(bus.status(), "systemd");
    if (!bus.ok()) continue;
    return Systemd(*std::move(bus));
  }
  return last;
}

absl::StatusOr<dbus::Message> Systemd::Call(const char* member, const char* signature, dbus::Writer body) {
  auto answer = bus_.Call({.path = kObject,
                           .interface = kManager,
                           .member = member,
                           .destination = kService,
                           .signature = signature,
                           .body = body.bytes()});
  if (!answer.ok()) return Annotate(answer.status(), absl::StrCat("systemd: ", member));
  return answer;
}

absl::Status Systemd::RunJob(const char* member, const char* signature, dbus::Writer body) {
  // A bus brings the signals that one asked for; a service of its own brings all, and knows no matches.
  dbus::Writer match;
  match.String(absl::StrCat("type='signal',interface='", kManager, "',member='JobRemoved'"));
  bus_.Call({.path = "/org/freedesktop/DBus",
             .interface = "org.freedesktop.DBus",
             .member = "AddMatch",
             .destination = "org.freedesktop.DBus",
             .signature = "s",
             .body = match.bytes()})
      .status()
      .IgnoreError();
  RETURN_IF_ERROR(Call("Subscribe", "", {}).status());
  dbus::Message answer = VALUE_OR_RETURN(Call(member, signature, std::move(body)));
  const std::string job = dbus::Reader(answer.body).String();
  for (;;) {
    auto signal = bus_.NextSignal();
    if (!signal.ok()) return Annotate(signal.status(), absl::StrCat("systemd: ", member, ": the end of its job"));
    if (signal->member != "JobRemoved" || signal->interface != kManager) continue;
    dbus::Reader r(signal->body);
    r.U32();
    const std::string which = r.String(), unit = r.String(), result = r.String();
    if (!r.ok() || which != job) continue;
    if (result == "done") return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("systemd: ", member, " of ", unit, ": ", result));
  }
}

absl::Status Systemd::StartScope(const SystemdUnit& unit, const std::string& description, pid_t pid,
                                 const spec::Resources& resources, bool v2) {
  dbus::Writer w;
  w.String(unit.name);
  w.String("replace");
  const size_t properties = w.BeginArray(8);
  Property(w, "Description", description);
  Property(w, "Slice", unit.slice);
  Property(w, "Delegate", true);
  // The accounting is what makes systemd create a cgroup of each controller on v1.
  for (const char* name : {"MemoryAccounting", "CPUAccounting", "TasksAccounting"}) Property(w, name, true);
  Property(w, "DefaultDependencies", false);
  BeginProperty(w, "PIDs", "au");
  const size_t pids = w.BeginArray(4);
  w.U32(static_cast<uint32_t>(pid));
  w.EndArray(pids, 4);
  WriteProperties(resources, v2, &w);
  w.EndArray(properties, 8);
  const size_t auxiliary = w.BeginArray(8);
  w.EndArray(auxiliary, 8);
  return RunJob("StartTransientUnit", "ssa(sv)a(sa(sv))", std::move(w));
}

absl::Status Systemd::SetLimits(const std::string& unit, const spec::Resources& resources, bool v2) {
  dbus::Writer w;
  w.String(unit);
  w.Bool(true);  // until the unit ends
  const size_t properties = w.BeginArray(8);
  WriteProperties(resources, v2, &w);
  w.EndArray(properties, 8);
  return Call("SetUnitProperties", "sba(sv)", std::move(w)).status();
}

absl::Status Systemd::StopUnit(const std::string& unit) {
  dbus::Writer w;
  w.String(unit);
  w.String("replace");
  absl::Status status = RunJob("StopUnit", "ss", std::move(w));
  // A scope goes with its last process.
  if (absl::IsAborted(status) && absl::StrContains(status.message(), "NoSuchUnit")) return absl::OkStatus();
  return status;
}

}  // namespace runsc
