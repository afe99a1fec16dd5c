// SPDX-License-Identifier: Apache-2.0
// Left-aligned columns, three spaces apart.
#ifndef RUNSC_CMD_TABLE_H_
#define RUNSC_CMD_TABLE_H_

#include <string>
#include <vector>

namespace runsc {
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);
}  // namespace runsc

#endif  // RUNSC_CMD_TABLE_H_
