// SPDX-License-Identifier: Apache-2.0
// config.json: what is read, and that every kind of mistake is named by its path.
#include <linux/mount.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "gtest/gtest.h"
#include "runsc/json_writer.h"
#include "runsc/spec/parse.h"

namespace runsc::spec {
namespace {

constexpr char kMinimal[] = R"({"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/"},"root":{"path":"rootfs"}})";

// kMinimal with `from` replaced by `to`.
std::string With(const std::string& from, const std::string& to) {
  std::string text = kMinimal;
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}
// kMinimal with one more top-level field.
std::string Plus(const std::string& field) { return With(R"("root")", field + R"(,"root")"); }
std::string PlusProcess(const std::string& field) { return With(R"("args")", field + R"(,"args")"); }
std::string PlusMount(const std::string& fields) { return Plus(R"("mounts":[{)" + fields + "}]"); }
std::string PlusLinux(const std::string& fields) { return Plus(R"("linux":{)" + fields + "}"); }

std::string ErrorOf(const std::string& text) {
  auto spec = ParseSpec(text, "/bundle", nullptr);
  return spec.ok() ? "" : std::string(spec.status().message());
}

struct Bad {
  std::string text;
  const char* message;
};

TEST(BadSpec, IsNamedByItsPath) {
  const Bad cases[] = {
      {"", "line 1, column 1: not valid JSON"},
      {"{\n \"a\": 1,\n \"b\" 2}", "line 3, column 6: not valid JSON"},
      {"[]", "not a JSON object"},
      {"{}", "ociVersion: missing"},
      {With(R"("1.0.2")", "1"), "ociVersion: must be a string, is 1"},
      {With("1.0.2", "2.0.0"), "ociVersion: \"2.0.0\" is not supported: only 1.x is"},
      {R"({"ociVersion":"1.0.2","root":{"path":"r"}})", "process: missing"},
      {R"({"ociVersion":"1.0.2","process":[],"root":{"path":"r"}})", "process: must be an object, is []"},
      {R"({"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/"}})", "root: missing"},
      {With(R"({"path":"rootfs"})", "{}"), "root.path: missing"},
      {With("rootfs", ""), "root.path: must not be empty"},
      {With(R"("rootfs")", R"("rootfs","readonly":"yes")"), "root.readonly: must be true or false, is \"yes\""},
      {With(R"(["sh"])", "[]"), "process.args: must not be empty"},
      {With(R"(["sh"])", "\"sh\""), "process.args: must be an array of strings, is \"sh\""},
      {With(R"(["sh"])", R"(["sh",3])"), "process.args[1]: must be a string, is 3"},
      {With(R"("sh")", R"("a\u0000b")"), "process.args[0]: must not contain a NUL byte"},
      {With(R"("args":["sh"],)", ""), "process.args: missing"},
      {With(R"(,"cwd":"/")", ""), "process.cwd: missing"},
      {With(R"("cwd":"/")", R"("cwd":"work")"), "process.cwd: must be an absolute path, is \"work\""},
      {PlusProcess(R"("terminal":1)"), "process.terminal: must be true or false, is 1"},
      {PlusProcess(R"("env":["A=1","B"])"), "process.env[1]: must look like NAME=value, is \"B\""},
      {PlusProcess(R"("user":{"uid":-1})"), "process.user.uid: must be in 0..4294967295, is -1"},
      {PlusProcess(R"("user":{"uid":4294967295})"), "process.user.uid: 4294967295 is not a valid id"},
      {PlusProcess(R"("user":{"gid":1.5})"), "process.user.gid: must be an integer, is 1.5"},
      {PlusProcess(R"("user":{"gid":18446744073709551615})"),
       "process.user.gid: must be in 0..4294967295, is 18446744073709551615"},
      {PlusProcess(R"("user":{"additionalGids":[1,"x"]})"),
       "process.user.additionalGids[1]: must be an integer in 0..4294967295, is \"x\""},
      {PlusProcess(R"("consoleSize":{"height":1})"), "process.consoleSize.width: missing"},
      {PlusProcess(R"("consoleSize":{"height":70000,"width":1})"),
       "process.consoleSize.height: must be in 0..65535, is 70000"},
      {Plus(R"("annotations":{"":"x"})"), "annotations: a key must not be empty"},
      {PlusProcess(R"("capabilities":{"effective":["CAP_KILL"]})"),
       "process.capabilities.effective: holds a capability that process.capabilities.permitted does not"},
      {PlusProcess(R"("rlimits":[{"type":"RLIMIT_X","soft":1,"hard":1}])"),
       "process.rlimits[0].type: unknown resource limit \"RLIMIT_X\""},
      {PlusProcess(R"("rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}])"),
       "process.rlimits[0].soft: must not be above hard"},
      {PlusProcess(R"("rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":1},{"type":"RLIMIT_CPU","soft":1,"hard":1}])"),
       "process.rlimits[1].type: \"RLIMIT_CPU\" is listed twice"},
      {PlusProcess(R"("rlimits":[{"type":"RLIMIT_CPU","soft":1}])"), "process.rlimits[0].hard: missing"},
      {Plus(R"("hostname":3)"), "hostname: must be a string, is 3"},
      {Plus(R"("mounts":{})"), "mounts: must be an array of objects, is {}"},
      {Plus(R"("mounts":["/a"])"), "mounts[0]: must be an object, is \"/a\""},
      {PlusMount(R"("type":"tmpfs")"), "mounts[0].destination: missing"},
      {PlusMount(R"("type":"tmpfs","destination":"tmp")"),
       "mounts[0].destination: must be an absolute path, is \"tmp\""},
      {PlusMount(R"("type":"tmpfs","destination":"/a/..")"),
       "mounts[0].destination: must not be \"/\": the root is named by root.path"},
      {PlusMount(R"("type":"nfs","destination":"/n")"), "mounts[0].type: file system \"nfs\" is not supported"},
      {PlusMount(R"("destination":"/n")"), "mounts[0].type: missing, and options has neither bind nor rbind"},
      {PlusMount(R"("type":"bind","destination":"/n")"), "mounts[0].source: missing: a bind mount needs the host path"},
      {PlusMount(R"("type":"tmpfs","destination":"/n","options":["ro","colour=red"])"),
       "mounts[0].options[1]: unknown option \"colour=red\" for tmpfs"},
      {PlusMount(R"("type":"tmpfs","destination":"/n","options":"ro")"),
       "mounts[0].options: must be an array of strings, is \"ro\""},
      {Plus(R"("mounts":[{"type":"tmpfs","destination":"/t"},{"type":"tmpfs","destination":"/t/"}])"),
       "mounts[1]: the same mount of \"/t\" as mounts[0]: remove one of them"},
      {Plus(R"("hooks":{"poststop":[{"path":"x"}]})"), "hooks.poststop[0].path: must be an absolute path, is \"x\""},
      {Plus(R"("hooks":{"prestart":[{"path":"/x","timeout":0}]})"),
       "hooks.prestart[0].timeout: must be in 1..2147483, is 0"},
      {Plus(R"("annotations":{"a":1})"), "annotations[\"a\"]: must be a string, is 1"},
      {PlusLinux(R"("namespaces":[{"type":"pid"},{"type":"nested"}])"),
       "linux.namespaces[1].type: unknown namespace \"nested\""},
      {PlusLinux(R"("namespaces":[{"type":"pid"},{"type":"pid"}])"),
       "linux.namespaces[1].type: namespace \"pid\" is listed twice"},
      {PlusLinux(R"("namespaces":[{"type":"network","path":"netns"}])"),
       "linux.namespaces[0].path: must be an absolute path, is \"netns\""},
      {PlusLinux(R"("uidMappings":[{"containerID":0,"hostID":0,"size":1}])"),
       "linux.uidMappings: id mappings need a \"user\" entry in linux.namespaces"},
      {PlusLinux(R"("namespaces":[{"type":"user"}])"), "linux.uidMappings: missing: a new user namespace needs them"},
      {PlusLinux(R"("devices":[{"type":"z","path":"/dev/z"}])"),
       "linux.devices[0].type: must be one of c, b, u, p, is \"z\""},
      {PlusLinux(R"("devices":[{"type":"c","path":"/dev/z"}])"), "linux.devices[0].major: missing"},
      {PlusLinux(R"("resources":{"memory":{"limit":"1G"}})"),
       "linux.resources.memory.limit: must be an integer, is \"1G\""},
      {PlusLinux(R"("resources":{"unified":{"../x":"1"}})"),
       "linux.resources.unified[\"../x\"]: not a cgroup file name"},
      {PlusLinux(R"("maskedPaths":["proc"])"), "linux.maskedPaths[0]: must be an absolute path, is \"proc\""},
      {PlusLinux(R"("rootfsPropagation":"x")"), "linux.rootfsPropagation: unknown propagation \"x\""},
      {PlusLinux(R"("seccomp":{})"), "linux.seccomp.defaultAction: missing"},
      {PlusLinux(R"("seccomp":{"defaultAction":"DENY"})"), "linux.seccomp.defaultAction: unknown action \"DENY\""},
      {PlusLinux(R"("seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"})"),
       "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported: a seccomp agent of the host cannot reach into "
       "the sandbox"},
      {PlusLinux(R"("seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["VAX"]})"),
       "linux.seccomp.architectures[0]: unknown architecture \"VAX\""},
      {PlusLinux(R"("seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_LOG"}]})"),
       "linux.seccomp.syscalls[0].names: must not be empty"},
      {PlusLinux(R"("seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG",)"
                 R"("args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]})"),
       "linux.seccomp.syscalls[0].args[0].index: must be in 0..5, is 6"},
      {PlusLinux(R"("seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG",)"
                 R"("args":[{"index":0,"value":1,"op":"=="}]}]})"),
       "linux.seccomp.syscalls[0].args[0].op: unknown operator \"==\""},
      {PlusLinux(R"("personality":{"domain":"LINUX32"})"),
       "linux.personality.domain: \"LINUX32\" is not supported: only LINUX (64-bit) is"},
  };
  for (const Bad& bad : cases) EXPECT_EQ(ErrorOf(bad.text), bad.message) << bad.text;
}

TEST(Spec, MinimalIsValid) {
  auto spec = ParseSpec(kMinimal, "/bundle", nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->root_path, "/bundle/rootfs");
  EXPECT_EQ(spec->process.args, std::vector<std::string>{"sh"});
  EXPECT_FALSE(spec->process.capabilities.has_value());
}

TEST(Spec, DeepNestingAndEveryTruncationAreErrorsNotCrashes) {
  EXPECT_NE(ErrorOf(std::string(200000, '[')), "");
  std::string text = DefaultSpecJson({"sh"}, "/", false);
  // Up to the last brace.
  size_t end = text.rfind('}');
  for (size_t n = 0; n <= end; n += 7) EXPECT_NE(ErrorOf(text.substr(0, n)), "") << n;
}

TEST(Spec, UnknownFieldsAreWarnedOf) {
  std::vector<std::string> warnings;
  auto spec =
      ParseSpec(Plus(R"("colour":1,"linux":{"resources":{"cpu":{"turbo":1}},"mountLabel":"x"})"), "/b", &warnings);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(warnings,
            (std::vector<std::string>{"linux.resources.cpu.turbo: unknown field, ignored",
                                      "linux.mountLabel: not supported, ignored: the guest kernel has no SELinux",
                                      "colour: unknown field, ignored"}));
}

TEST(Spec, UnknownCapabilitiesAreWarnedOf) {
  std::vector<std::string> warnings;
  auto spec = ParseSpec(PlusProcess(R"("capabilities":{"bounding":["CAP_FLY","CAP_KILL"]})"), "/b", &warnings);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->process.capabilities->bounding, uint64_t{1} << 5);
  EXPECT_EQ(warnings,
            std::vector<std::string>{"process.capabilities.bounding[0]: unknown capability \"CAP_FLY\", ignored"});
}

TEST(Spec, VersionsAreSemantic) {
  auto error_of = [](const std::string& version) {
    std::string text = Plus(R"("hostname":"h")");
    text.replace(text.find("1.0.2"), 5, version);
    return ErrorOf(text);
  };
  for (const char* good : {"1.0.0", "1.2.0", "1.1.0-rc.1", "1.0.2-dev", "1.0.0+build.7", "1.22.333"})
    EXPECT_EQ(error_of(good), "") << good;
  for (const char* bad : {"1.0", "1", "1.0.x", "1..0", "1.0.0.0", "1.0.0-", "1.0.0-a b", "1.0.-1", "v1.0.0"})
    EXPECT_NE(error_of(bad).find("ociVersion"), std::string::npos) << bad;
}

TEST(Spec, TheDefaultOneIsValidAndWithoutWarnings) {
  for (bool rootless : {false, true}) {
    std::vector<std::string> warnings;
    auto spec = ParseSpec(DefaultSpecJson({"echo", "a \"b\""}, "/w", rootless), "/b", &warnings);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(warnings, std::vector<std::string>{});
    EXPECT_EQ(spec->process.args[1], "a \"b\"");
    EXPECT_TRUE(spec->process.terminal);
    EXPECT_TRUE(spec->root.readonly);
    EXPECT_EQ(spec->process.capabilities->bounding, uint64_t{1} << 29 | 1 << 5 | 1 << 10);
    EXPECT_EQ(spec->process.rlimits[0].resource, RLIMIT_NOFILE);
  }
}

TEST(Spec, MountOptions) {
  auto spec = ParseSpec(
      PlusMount(
          R"("destination":"/a//b/","source":"data","type":"none","options":["rbind","ro","nosuid","suid","nodev","rslave"])"),
      "/bundle", nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const Mount& mount = spec->mounts[0];
  EXPECT_TRUE(mount.IsBind());
  EXPECT_EQ(mount.destination, "/a/b");
  EXPECT_EQ(mount.source, "/bundle/data");
  EXPECT_EQ(mount.flags, uint64_t{MS_BIND | MS_REC | MS_RDONLY | MS_NODEV});
  EXPECT_EQ(mount.propagation, Propagation::kSlave);
  EXPECT_TRUE(mount.propagation_recursive);
  auto mounts = GoferMounts(*spec);
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].source, "/bundle/rootfs");
  EXPECT_FALSE(mounts[0].readonly);
  EXPECT_EQ(mounts[1].destination, "/a/b");
  EXPECT_TRUE(mounts[1].readonly);
}

TEST(Spec, TwoDifferentMountsOnOnePlaceStack) {
  auto spec = ParseSpec(
      Plus(R"("mounts":[{"type":"tmpfs","destination":"/t"},{"type":"tmpfs","destination":"/t","options":["ro"]}])"),
      "/b", nullptr);
  EXPECT_TRUE(spec.ok()) << spec.status();
}

TEST(Spec, ResourcesAndMappings) {
  auto spec = ParseSpec(
      PlusLinux(
          R"("namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":1000,"size":1}],)"
          R"("gidMappings":[{"containerID":0,"hostID":1000,"size":1}],"cgroupsPath":"/a/b",)"
          R"("resources":{"memory":{"limit":1048576,"swap":0},"pids":{"limit":5},"cpu":{"shares":2,"quota":50000}})"),
      "/b", nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->linux.resources.memory_limit, 1048576);
  EXPECT_FALSE(spec->linux.resources.memory_swap.has_value());
  EXPECT_EQ(spec->linux.resources.pids_limit, 5);
  EXPECT_EQ(spec->linux.resources.cpu_shares, 2u);
  EXPECT_EQ(spec->linux.uid_mappings[0].host_id, 1000u);
}

TEST(HostPaths, TheMissingOneIsNamed) {
  const char* tmp = getenv("TEST_TMPDIR");
  std::string bundle = std::string(tmp ? tmp : "/tmp") + "/bundle.XXXXXX";
  ASSERT_NE(mkdtemp(bundle.data()), nullptr);
  auto check = [&](const std::string& text) {
    auto spec = ParseSpec(text, bundle, nullptr);
    EXPECT_TRUE(spec.ok()) << spec.status();
    return std::string(CheckHostPaths(*spec).message());
  };
  EXPECT_EQ(check(kMinimal), "root.path: " + bundle + "/rootfs: no such file or directory");
  std::ofstream(bundle + "/rootfs") << "x";
  EXPECT_EQ(check(kMinimal), "root.path: " + bundle + "/rootfs: not a directory");
  ASSERT_EQ(unlink((bundle + "/rootfs").c_str()), 0);
  ASSERT_EQ(mkdir((bundle + "/rootfs").c_str(), 0755), 0);
  EXPECT_EQ(check(kMinimal), "");
  EXPECT_EQ(check(PlusMount(R"("type":"bind","source":"d","destination":"/d")")),
            "mounts[0].source: " + bundle + "/d: no such file or directory");
  std::string text;
  EXPECT_EQ(LoadSpec(bundle, &text, nullptr).status().message(), bundle + "/config.json: no such file or directory");
  ASSERT_EQ(mkdir((bundle + "/config.json").c_str(), 0755), 0);
  EXPECT_EQ(LoadSpec(bundle, &text, nullptr).status().message(), bundle + "/config.json: is a directory");
}

TEST(CleanPath, Cases) {
  EXPECT_EQ(CleanPath("/"), "/");
  EXPECT_EQ(CleanPath("//a/./b//../c/"), "/a/c");
  EXPECT_EQ(CleanPath("/../.."), "/");
}

TEST(JsonWriter, EscapesAndReplaces) {
  EXPECT_EQ(JsonString("a\"\\\n\x01\x7f\xc3\xa9\xff\xed\xa0\x80"),
            "\"a\\\"\\\\\\n\\u0001\\u007f\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\"");
  JsonWriter w("");
  w.BeginObject();
  w.Strings("a", {"x", "y"});
  w.BeginObject("o");
  w.EndObject();
  w.StringMap("m", {{"", "v"}});
  w.Number("n", -3);
  w.EndObject();
  EXPECT_EQ(w.text(), R"({"a":["x","y"],"o":{},"m":{"":"v"},"n":-3})");
}

}  // namespace
}  // namespace runsc::spec
