// SPDX-License-Identifier: Apache-2.0
// uid_map, gid_map, projid_map and setgroups of a process's user namespace: who may write what (user_namespaces(7),
// "User and group ID mappings").
#include <algorithm>

#include "sentry/fs/proc/task_dir.h"
#include "sentry/kernel/kernel.h"

namespace sentry::fs {
namespace {

Result<RefPtr<UserNamespace>> NamespaceOf(const Context& context) {
  RefPtr<const Credentials> creds = context.task->creds_ref();
  if (!creds || !creds->user_ns) return Errno(EINVAL);
  return creds->user_ns;
}

IdKind KindOf(const Context& context) {
  const std::string_view name = context.entry.name;
  return name == "uid_map" ? IdKind::kUser : name == "gid_map" ? IdKind::kGroup : IdKind::kProject;
}

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

// A decimal number at the start of `line`, with the blanks before it, taken off. False: none, or above 32 bits.
bool TakeNumber(std::string_view& line, uint32_t* number) {
  while (!line.empty() && IsBlank(line[0])) line.remove_prefix(1);
  uint64_t value = 0;
  size_t digits = 0;
  while (digits < line.size() && line[digits] >= '0' && line[digits] <= '9') {
    value = value * 10 + static_cast<uint64_t>(line[digits++] - '0');
    if (value > UINT32_MAX) return false;
  }
  if (digits == 0) return false;
  line.remove_prefix(digits);
  *number = static_cast<uint32_t>(value);
  return line.empty() || IsBlank(line[0]);
}

bool Overlap(uint32_t a, uint32_t a_count, uint32_t b, uint32_t b_count) { return a < b + b_count && b < a + a_count; }

Result<std::vector<IdMap::Extent>> ParseMap(std::string_view data) {
  data = data.substr(0, data.find('\0'));
  std::vector<IdMap::Extent> extents;
  while (!data.empty()) {
    const size_t end = data.find('\n');
    std::string_view line = data.substr(0, end);
    data = end == std::string_view::npos ? std::string_view() : data.substr(end + 1);
    IdMap::Extent e;
    if (!TakeNumber(line, &e.inside) || !TakeNumber(line, &e.outside) || !TakeNumber(line, &e.count))
      return Errno(EINVAL);
    if (!std::all_of(line.begin(), line.end(), IsBlank)) return Errno(EINVAL);
    if (e.inside == kInvalidId || e.outside == kInvalidId) return Errno(EINVAL);
    if (e.inside + e.count <= e.inside || e.outside + e.count <= e.outside) return Errno(EINVAL);
    for (const IdMap::Extent& other : extents) {
      if (Overlap(e.inside, e.count, other.inside, other.count) ||
          Overlap(e.outside, e.count, other.outside, other.count)) {
        return Errno(EINVAL);
      }
    }
    extents.push_back(e);
    if (extents.size() == IdMap::kMaxExtents && !data.empty()) return Errno(EINVAL);
  }
  if (extents.empty()) return Errno(EINVAL);
  return extents;
}

// Whoever maps the parent's root can give files capabilities that count there: CAP_SETFCAP over the parent is needed.
bool MayMapRoot(const Credentials& opener, const UserNamespace& ns, const std::vector<IdMap::Extent>& extents) {
  const bool maps_root = std::any_of(extents.begin(), extents.end(), [](const auto& e) { return e.outside == 0; });
  if (!maps_root) return true;
  if (opener.user_ns && opener.user_ns->IsSame(ns)) return ns.parent_could_set_fcap();
  return opener.HasCapabilityIn(ns.parent(), CAP_SETFCAP);
}

// new_idmap_permitted(): one's own id may be mapped by anyone who owns the namespace; more needs CAP_SETUID or
// CAP_SETGID over the parent, by the writer and by who opened the file.
bool MayMap(const Credentials& opener, const UserNamespace& ns, IdKind kind,
            const std::vector<IdMap::Extent>& extents) {
  if (kind == IdKind::kUser && !MayMapRoot(opener, ns, extents)) return false;
  if (extents.size() == 1 && extents[0].count == 1 && ns.owner() == opener.euid) {
    const uint32_t id = ns.parent()->ToKernel(kind, extents[0].outside);
    if (kind == IdKind::kUser && id == opener.euid) return true;
    if (kind == IdKind::kGroup && !ns.setgroups_allowed() && id == opener.egid) return true;
  }
  if (kind == IdKind::kProject) return true;
  const int capability = kind == IdKind::kUser ? CAP_SETUID : CAP_SETGID;
  Caller* caller = Caller::CurrentOrNull();
  return caller && caller->creds()->HasCapabilityIn(ns.parent(), capability) &&
         opener.HasCapabilityIn(ns.parent(), capability);
}

}  // namespace

Result<std::string> TaskIdMap(const Context& context) {
  RefPtr<UserNamespace> ns = TRY(NamespaceOf(context));
  // The right column is in terms of the reader's namespace; for the reader's own, of its parent.
  RefPtr<UserNamespace> reader = kernel::Kernel::Get().root_user_ns();
  if (Caller* caller = Caller::CurrentOrNull()) reader = caller->creds()->user_ns;
  if (reader->IsSame(*ns) && reader->parent()) reader = reader->parent();
  std::string text;
  for (const IdMap::Extent& e : ns->Extents(KindOf(context)))
    Append(text, "%10u %10u %10u\n", e.inside, reader->FromKernel(KindOf(context), e.outside), e.count);
  return text;
}

Result<size_t> WriteTaskIdMap(const Context& context, std::string_view data) {
  RefPtr<UserNamespace> ns = TRY(NamespaceOf(context));
  if (!context.opener || ns->IsRoot()) return Errno(EPERM);
  const Credentials& opener = *context.opener;
  if (!context.at_start || data.size() >= kPageSize) return Errno(EINVAL);
  if (!opener.user_ns || (!opener.user_ns->IsSame(*ns) && !opener.user_ns->IsSame(*ns->parent()))) return Errno(EPERM);
  const IdKind kind = KindOf(context);
  if (ns->HasMap(kind)) return Errno(EPERM);
  if (kind != IdKind::kProject && !opener.HasCapabilityIn(ns, CAP_SYS_ADMIN)) return Errno(EPERM);
  std::vector<IdMap::Extent> extents = TRY(ParseMap(data));
  if (!MayMap(opener, *ns, kind, extents)) return Errno(EPERM);
  TRY(ns->SetMap(kind, std::move(extents)));
  return data.size();
}

Result<std::string> TaskSetgroups(const Context& context) {
  return std::string(TRY(NamespaceOf(context))->setgroups_allowed() ? "allow\n" : "deny\n");
}

Result<size_t> WriteTaskSetgroups(const Context& context, std::string_view data) {
  RefPtr<UserNamespace> ns = TRY(NamespaceOf(context));
  if (!context.opener || !context.opener->HasCapabilityIn(ns, CAP_SYS_ADMIN)) return Errno(EACCES);
  if (!context.at_start || data.size() >= 8) return Errno(EINVAL);
  std::string_view word = data.substr(0, data.find('\0'));
  bool allow;
  if (word.starts_with("allow")) {
    allow = true;
    word.remove_prefix(5);
  } else if (word.starts_with("deny")) {
    allow = false;
    word.remove_prefix(4);
  } else {
    return Errno(EINVAL);
  }
  if (word.find_first_not_of(" \t\n\v\f\r") != std::string_view::npos) return Errno(EINVAL);
  TRY(ns->SetSetgroups(allow));
  return data.size();
}

}  // namespace sentry::fs
