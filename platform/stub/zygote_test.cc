// SPDX-License-Identifier: Apache-2.0
#include "platform/stub/zygote.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/platform.h"

namespace platform::stub {
namespace {

std::string Status(pid_t pid, const std::string& field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(field + ":", 0) == 0) return line.substr(line.find_first_not_of(" \t", field.size() + 1));
  }
  return "";
}

bool Alive(pid_t pid) { return kill(pid, 0) == 0 && Status(pid, "State").rfind("Z", 0) != 0; }

bool DiesSoon(pid_t pid) {
  int64_t deadline = base::MonotonicNs() + 5 * base::kNsPerSecond;
  while (Alive(pid)) {
    if (base::MonotonicNs() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ZygoteTest, StubsHoldNothingOfTheSentry) {
  auto zygote = Zygote::Start();
  ASSERT_TRUE(zygote.ok()) << zygote.status().ToString();
  auto stub = (*zygote)->Fork();
  ASSERT_TRUE(stub.ok());
  std::ifstream maps("/proc/" + std::to_string(*stub) + "/maps");
  int mappings = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("[vsyscall]") != std::string::npos) continue;
    ++mappings;
    EXPECT_NE(line.find(" r-xp "), std::string::npos) << line;
    EXPECT_EQ(std::stoull(line, nullptr, 16), (*zygote)->layout().page) << line;
  }
  EXPECT_EQ(mappings, 1);
  EXPECT_GE((*zygote)->layout().page, kGuestAddressLimit);
  EXPECT_EQ(Status(*stub, "Seccomp"), "2");
  EXPECT_EQ(Status(*stub, "NoNewPrivs"), "1");
  EXPECT_EQ(Status(*stub, "CapEff"), "0000000000000000");
  EXPECT_EQ(Status(*stub, "CapPrm"), "0000000000000000");
  EXPECT_EQ(Status(*stub, "SigBlk"), "0000000000000000");
  EXPECT_EQ(Status(*stub, "SigCgt"), "0000000000000000");
  EXPECT_EQ(Status(*stub, "PPid"), std::to_string((*zygote)->pid()));
}

TEST(ZygoteTest, StubsDieWithTheZygote) {
  auto zygote = Zygote::Start();
  ASSERT_TRUE(zygote.ok());
  auto stub = (*zygote)->Fork();
  ASSERT_TRUE(stub.ok());
  EXPECT_TRUE(Alive(*stub));
  zygote->reset();
  EXPECT_TRUE(DiesSoon(*stub));
}

TEST(ZygoteTest, DeadZygoteIsAnErrorNotAHang) {
  auto zygote = Zygote::Start();
  ASSERT_TRUE(zygote.ok());
  kill((*zygote)->pid(), SIGKILL);
  int64_t start = base::MonotonicNs();
  EXPECT_EQ((*zygote)->Fork().error_number(), ESRCH);
  EXPECT_EQ((*zygote)->Fork().error_number(), ESRCH);
  EXPECT_LT(base::MonotonicNs() - start, base::kNsPerSecond);
}

TEST(ZygoteTest, DiesWithTheSentry) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  pid_t sentry = fork();
  if (sentry == 0) {
    auto zygote = Zygote::Start();
    pid_t pids[2] = {(*zygote)->pid(), (*zygote)->Fork().value_or(-1)};
    if (write(pipe_fds[1], pids, sizeof(pids)) != sizeof(pids)) _exit(1);
    for (;;) pause();
  }
  pid_t pids[2];
  ASSERT_EQ(read(pipe_fds[0], pids, sizeof(pids)), static_cast<ssize_t>(sizeof(pids)));
  EXPECT_TRUE(Alive(pids[0]));
  EXPECT_TRUE(Alive(pids[1]));
  kill(sentry, SIGKILL);
  waitpid(sentry, nullptr, 0);
  EXPECT_TRUE(DiesSoon(pids[0]));
  EXPECT_TRUE(DiesSoon(pids[1]));
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace platform::stub
