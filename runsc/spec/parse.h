// SPDX-License-Identifier: Apache-2.0
// config.json and process.json: read, validated whole, before anything is started.
#ifndef RUNSC_SPEC_PARSE_H_
#define RUNSC_SPEC_PARSE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/spec/spec.h"

namespace runsc::spec {

// The first thing wrong is the error, named by its path: "process.args[0]: must be a string, is 3". What is known but
// has no effect, and what is unknown, goes to `warnings` (may be null). `bundle` is absolute: relative paths start
// there.
absl::StatusOr<Spec> ParseSpec(const std::string& text, const std::string& bundle, std::vector<std::string>* warnings);

// `bundle`/config.json. Errors start with the file's path.
absl::StatusOr<Spec> LoadSpec(const std::string& bundle, std::string* text, std::vector<std::string>* warnings);

// The process of `exec --process`.
absl::StatusOr<Process> ParseProcess(const std::string& text, std::vector<std::string>* warnings);

// A linux.resources object, as `update --resources` reads it.
absl::StatusOr<Resources> ParseResources(const std::string& text);

// What config.json names on this host: the root and the sources of bind mounts exist and are of the right kind.
absl::Status CheckHostPaths(const Spec& spec);

// Bit n of capability `name` ("CAP_KILL"), -1 if unknown. And back; null beyond the last.
int CapabilityNumber(const std::string& name);
const char* CapabilityName(int number);
inline constexpr int kCapabilityCount = 41;

// RLIMIT_* of "RLIMIT_NOFILE", -1 if unknown.
int RlimitNumber(const std::string& name);

// The default config.json of `runsc spec`: valid, and able to run `args` in ./rootfs.
std::string DefaultSpecJson(const std::vector<std::string>& args, const std::string& cwd, bool rootless);

// "a//b/./c/" -> "a/b/c", ".." resolved lexically, never above "/". For absolute paths.
std::string CleanPath(const std::string& path);

}  // namespace runsc::spec

#endif  // RUNSC_SPEC_PARSE_H_
