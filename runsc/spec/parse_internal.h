// SPDX-License-Identifier: Apache-2.0
// Sections of config.json, one function each; all report through the reader.
#ifndef RUNSC_SPEC_PARSE_INTERNAL_H_
#define RUNSC_SPEC_PARSE_INTERNAL_H_

#include "runsc/spec/json_reader.h"
#include "runsc/spec/spec.h"

namespace runsc::spec {

void ReadProcess(ObjectReader& reader, Process* process);
void ReadMount(ObjectReader& reader, const std::string& bundle, Mount* mount);
void ReadHooks(ObjectReader& reader, Hooks* hooks);
void ReadLinux(ObjectReader& reader, Linux* linux);
void ReadResources(ObjectReader& reader, Resources* resources);
void ReadSeccomp(ObjectReader& reader, Seccomp* seccomp);
// An absolute path at `name`; an error otherwise.
void ReadAbsolutePath(ObjectReader& reader, const char* name, std::string* out, Need need);

}  // namespace runsc::spec

#endif  // RUNSC_SPEC_PARSE_INTERNAL_H_
