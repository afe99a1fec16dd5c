// SPDX-License-Identifier: Apache-2.0
#include "shim/reaper.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <string>

#include "base/unique_fd.h"

namespace shim {
namespace {

class ReaperTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(Reaper::Start().ok()); }

  // What a program writes to descriptor 1.
  static std::string OutputOf(SpawnOptions options, int* wait_status) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    base::UniqueFd read_end(ends[0]), write_end(ends[1]);
    options.fds.emplace_back(1, write_end.get());
    auto pid = Reaper::Get().Spawn(options);
    EXPECT_TRUE(pid.ok()) << pid.status();
    write_end.Reset();
    std::string text;
    char buffer[256];
    for (ssize_t n; (n = read(read_end.get(), buffer, sizeof buffer)) > 0;) text.append(buffer, n);
    *wait_status = *Reaper::Get().Wait(*pid, 20'000);
    return text;
  }
};

TEST_F(ReaperTest, ProgramsGetTheirDescriptorsDirectoryAndEnvironment) {
  int status;
  EXPECT_EQ(
      OutputOf({.argv = {"sh", "-c", "pwd; echo $KEY; cat; exit 7"}, .extra_env = {"KEY=value"}, .directory = "/"},
               &status),
      "/\nvalue\n");
  EXPECT_EQ(WEXITSTATUS(status), 7);
  // Nothing else is open: 0, 1, 2 and the one that ls reads the directory with.
  EXPECT_EQ(OutputOf({.argv = {"ls", "/proc/self/fd"}}, &status), "0\n1\n2\n3\n");
}

TEST_F(ReaperTest, AProgramThatIsNotThereIsAnError) {
  auto pid = Reaper::Get().Spawn({.argv = {"/no/such/program"}});
  EXPECT_TRUE(absl::IsUnavailable(pid.status()));
  EXPECT_EQ(pid.status().message(), "cannot run /no/such/program: No such file or directory");
}

TEST_F(ReaperTest, WaitHasALimit) {
  auto pid = Reaper::Get().Spawn({.argv = {"sleep", "1000"}});
  ASSERT_TRUE(pid.ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(Reaper::Get().Wait(*pid, 10).status()));
  kill(*pid, SIGKILL);
  auto status = Reaper::Get().Wait(*pid, 20'000);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(WTERMSIG(*status), SIGKILL);
  EXPECT_TRUE(absl::IsNotFound(Reaper::Get().Wait(*pid, 10).status()));
}

// A grandchild whose parent has ended, as a sandbox is. It ends when its parent is reaped: before, the shell would reap
// it.
TEST_F(ReaperTest, AdoptedChildrenAreTold) {
  for (bool ended_before : {false, true}) {
    int status;
    std::string text = OutputOf(
        {.argv = {"sh", "-c", "(while kill -0 $$ 2>/dev/null; do :; done; exit 9) >/dev/null & echo $!"}}, &status);
    pid_t pid = std::stoi(text);
    // Its exit is kept for whoever asks later.
    while (ended_before && kill(pid, 0) == 0) sched_yield();
    std::promise<int> told;
    Reaper::Get().OnExit(pid, [&](int wait_status) { told.set_value(wait_status); });
    EXPECT_EQ(WEXITSTATUS(told.get_future().get()), 9);
  }
}

}  // namespace
}  // namespace shim
