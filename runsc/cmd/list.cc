// SPDX-License-Identifier: Apache-2.0
// runsc list
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/cmd/table.h"
#include "runsc/errors.h"

namespace runsc {

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 3, ' ');
    }
    text += '\n';
  }
  return text;
}

absl::StatusOr<int> RunList(CommandContext& context) {
  const std::string& format = context.flags.Get("format");
  if (format != "table" && format != "json") {
    return absl::InvalidArgumentError(absl::StrCat("--format: must be table or json, is \"", format, "\""));
  }
  std::vector<std::string> ids = VALUE_OR_RETURN(ContainerStore(context.config.root).List());
  std::vector<Container> containers;
  for (const std::string& id : ids) {
    // One that is being made or removed right now is not listed.
    auto container = Container::Open(context.config, id);
    if (container.ok()) containers.push_back(*std::move(container));
  }
  if (context.flags.GetBool("quiet")) {
    for (const Container& c : containers) PrintOut(c.record().id + "\n");
    return 0;
  }
  if (format == "json") {
    std::string text;
    for (const Container& c : containers) absl::StrAppend(&text, text.empty() ? "" : ",", c.StateJson(false));
    // As runc prints no containers.
    PrintOut(containers.empty() ? "null" : "[" + text + "]");
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const Container& c : containers) {
    const ContainerRecord& r = c.record();
    rows.push_back({r.id, absl::StrCat(r.status == Status::kStopped ? 0 : r.sandbox_pid), StatusName(r.status),
                    r.bundle, FormatTime(r.created_ns), r.owner_uid == 0 ? "root" : absl::StrCat(r.owner_uid)});
  }
  PrintOut(FormatTable(rows));
  return 0;
}

}  // namespace runsc
