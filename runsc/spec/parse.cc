// SPDX-License-Identifier: Apache-2.0
#include "runsc/spec/parse.h"

#include <errno.h>
#include <sys/stat.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"
#include "runsc/spec/parse_internal.h"

namespace runsc::spec {
namespace {

bool SameMount(const Mount& a, const Mount& b) {
  return a.destination == b.destination && a.type == b.type && a.source == b.source && a.flags == b.flags &&
         a.data == b.data;
}

void ReadHookList(ObjectReader& reader, const char* name, std::vector<Hook>* hooks) {
  reader.Objects(name, [&](ObjectReader& r, size_t) {
    Hook hook;
    ReadAbsolutePath(r, "path", &hook.path, Need::kRequired);
    r.Strings("args", &hook.args);
    r.Strings("env", &hook.env);
    std::optional<int64_t> timeout;
    r.OptionalInteger("timeout", &timeout, 1, INT32_MAX / 1000);
    if (timeout) hook.timeout_seconds = static_cast<int>(*timeout);
    hooks->push_back(std::move(hook));
  });
}

// MAJOR.MINOR.PATCH[-PRE-RELEASE][+BUILD], semver.org 2.0.0.
bool IsSemanticVersion(const std::string& text) {
  size_t at = 0;
  for (int part = 0; part < 3; ++part) {
    if (part > 0 && (at >= text.size() || text[at++] != '.')) return false;
    const size_t begin = at;
    while (at < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[at]))) ++at;
    if (at == begin) return false;
  }
  if (at == text.size()) return true;
  if ((text[at] != '-' && text[at] != '+') || at + 1 == text.size()) return false;
  for (unsigned char c : text.substr(at + 1)) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '-' && c != '+') return false;
  }
  return true;
}

void ReadSpec(ObjectReader& r, const std::string& bundle, Spec* spec) {
  r.String("ociVersion", &spec->oci_version, Need::kRequired);
  if (r.ok() && spec->oci_version.rfind("1.", 0) != 0) {
    r.Fail("ociVersion", "\"" + spec->oci_version + "\" is not supported: only 1.x is");
  }
  if (r.ok() && !IsSemanticVersion(spec->oci_version))
    r.Fail("ociVersion", "\"" + spec->oci_version + "\" is not of the form MAJOR.MINOR.PATCH");
  r.Object(
      "process", [&](ObjectReader& process) { ReadProcess(process, &spec->process); }, Need::kRequired);
  r.Object(
      "root",
      [&](ObjectReader& root) {
        root.String("path", &spec->root.path, Need::kRequired);
        root.Bool("readonly", &spec->root.readonly);
      },
      Need::kRequired);
  if (r.ok()) {
    spec->root_path = CleanPath(spec->root.path[0] == '/' ? spec->root.path : bundle + "/" + spec->root.path);
  }
  r.String("hostname", &spec->hostname);
  if (spec->hostname.size() > 64) r.Fail("hostname", "must not be longer than 64 bytes");
  r.String("domainname", &spec->domainname);
  if (spec->domainname.size() > 64) r.Fail("domainname", "must not be longer than 64 bytes");
  r.Objects("mounts", [&](ObjectReader& mount, size_t index) {
    Mount parsed;
    ReadMount(mount, bundle, &parsed);
    for (size_t i = 0; mount.ok() && i < spec->mounts.size(); ++i) {
      if (!SameMount(spec->mounts[i], parsed)) continue;
      return mount.Fail(
          "", absl::StrCat("the same mount of \"", parsed.destination, "\" as mounts[", i, "]: remove one of them"));
    }
    spec->mounts.push_back(std::move(parsed));
  });
  r.Object("hooks", [&](ObjectReader& hooks) { ReadHooks(hooks, &spec->hooks); });
  r.StringMap("annotations", &spec->annotations);
  if (spec->annotations.contains("")) r.Fail("annotations", "a key must not be empty");
  r.Object("linux", [&](ObjectReader& linux) { ReadLinux(linux, &spec->linux); });
}

}  // namespace

void ReadHooks(ObjectReader& r, Hooks* hooks) {
  ReadHookList(r, "prestart", &hooks->prestart);
  ReadHookList(r, "createRuntime", &hooks->create_runtime);
  ReadHookList(r, "createContainer", &hooks->create_container);
  ReadHookList(r, "startContainer", &hooks->start_container);
  ReadHookList(r, "poststart", &hooks->poststart);
  ReadHookList(r, "poststop", &hooks->poststop);
}

void ReadAbsolutePath(ObjectReader& r, const char* name, std::string* out, Need need) {
  r.String(name, out, need);
  if (r.ok() && !out->empty() && (*out)[0] != '/') r.Fail(name, "must be an absolute path, is \"" + *out + "\"");
}

std::string CleanPath(const std::string& path) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (at < path.size()) {
    size_t end = path.find('/', at);
    if (end == std::string::npos) end = path.size();
    std::string part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(std::move(part));
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  std::string clean;
  for (const std::string& part : parts) clean += "/" + part;
  return clean.empty() ? "/" : clean;
}

absl::StatusOr<Spec> ParseSpec(const std::string& text, const std::string& bundle, std::vector<std::string>* warnings) {
  Spec spec;
  RETURN_IF_ERROR(ReadJsonObject(
      text, "", [&](ObjectReader& reader) { ReadSpec(reader, bundle, &spec); }, warnings));
  return spec;
}

absl::StatusOr<Spec> LoadSpec(const std::string& bundle, std::string* text, std::vector<std::string>* warnings) {
  std::string path = bundle + "/config.json";
  RETURN_IF_ERROR(ReadSmallFile(path, text));
  auto spec = ParseSpec(*text, bundle, warnings);
  if (!spec.ok()) return Annotate(spec.status(), path);
  return spec;
}

absl::StatusOr<Process> ParseProcess(const std::string& text, std::vector<std::string>* warnings) {
  Process process;
  RETURN_IF_ERROR(ReadJsonObject(
      text, "", [&](ObjectReader& reader) { ReadProcess(reader, &process); }, warnings));
  return process;
}

absl::StatusOr<Resources> ParseResources(const std::string& text) {
  Resources resources;
  RETURN_IF_ERROR(ReadJsonObject(
      text, "", [&](ObjectReader& reader) { ReadResources(reader, &resources); }, nullptr));
  return resources;
}

absl::Status CheckHostPaths(const Spec& spec) {
  struct stat st;
  if (stat(spec.root_path.c_str(), &st) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("root.path: ", spec.root_path, ": ", ErrnoText(errno)));
  }
  if (!S_ISDIR(st.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("root.path: ", spec.root_path, ": not a directory"));
  }
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const Mount& mount = spec.mounts[i];
    if (!mount.IsBind() || stat(mount.source.c_str(), &st) == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("mounts[", i, "].source: ", mount.source, ": ", ErrnoText(errno)));
  }
  const Namespace* network = spec.linux.Find(NamespaceType::kNetwork);
  if (network && !network->path.empty() && stat(network->path.c_str(), &st) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("linux.namespaces (network): ", network->path, ": ", ErrnoText(errno)));
  }
  return absl::OkStatus();
}

}  // namespace runsc::spec
