// SPDX-License-Identifier: Apache-2.0
// The option strings of mounts[].options: every one that runc knows, in one table.
#ifndef RUNSC_SPEC_MOUNT_OPTIONS_H_
#define RUNSC_SPEC_MOUNT_OPTIONS_H_

#include <string>

#include "runsc/spec/spec.h"

namespace runsc::spec {

// Applies one option; those not in the table go to Mount::data for the file system to judge.
// Returns "" or what is wrong with it.
std::string ApplyMountOption(const std::string& option, Mount* mount);

// "rprivate" and so on, for linux.rootfsPropagation. False if unknown.
bool ParsePropagation(const std::string& name, Propagation* propagation, bool* recursive);

// All names of the table, for `runsc features`.
std::vector<std::string> KnownMountOptions();

}  // namespace runsc::spec

#endif  // RUNSC_SPEC_MOUNT_OPTIONS_H_
