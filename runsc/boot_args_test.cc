// SPDX-License-Identifier: Apache-2.0
// What a new process tells the CLI through its pipe and the state directory.
#include "runsc/boot_args.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace runsc {
namespace {

// All that `report` writes to its end of a pipe.
template <typename Report>
std::string Said(const Report& report) {
  int ends[2];
  EXPECT_EQ(0, pipe2(ends, O_CLOEXEC));
  base::UniqueFd read_end(ends[0]);
  report(base::UniqueFd(ends[1]));
  std::string text(8192, '\0');
  size_t size = 0;
  ssize_t n;
  while ((n = read(read_end.get(), text.data() + size, text.size() - size)) > 0) size += static_cast<size_t>(n);
  text.resize(size);
  return text;
}

TEST(BootArgs, ReadyAndFailureAreOneLineEach) {
  EXPECT_EQ("R\n", Said([](base::UniqueFd fd) { ReportReady(std::move(fd)); }));
  EXPECT_EQ("Eroot.path: no such file\n",
            Said([](base::UniqueFd fd) { ReportFailure(std::move(fd), "root.path: no such file"); }));
  // Whatever the text holds: the CLI reads to the first newline, and a bounded number of bytes.
  EXPECT_EQ("Eone two \n", Said([](base::UniqueFd fd) { ReportFailure(std::move(fd), "one\ntwo\n"); }));
  const std::string long_line =
      Said([](base::UniqueFd fd) { ReportFailure(std::move(fd), std::string(100'000, 'x')); });
  EXPECT_EQ(4002u, long_line.size());
  EXPECT_EQ('\n', long_line.back());
}

TEST(BootArgs, NobodyListens) {
  signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
  close(ends[0]);
  ReportReady(base::UniqueFd(ends[1]));  // returns
  ReportFailure(base::UniqueFd(), "no pipe at all");
}

TEST(BootArgs, ExitStatusIsReplaced) {
  base::UniqueFd file(memfd_create("exit_status", MFD_CLOEXEC));
  ASSERT_TRUE(file.ok());
  RecordExitStatus(file.get(), 0x0700);
  char text[32] = {};
  ASSERT_EQ(5, pread(file.get(), text, sizeof text, 0));
  EXPECT_STREQ("1792\n", text);
  RecordExitStatus(file.get(), SIGKILL);
  ASSERT_EQ(5, pread(file.get(), text, sizeof text, 0));
  // Written in place: only the first line counts, which is how it is read.
  EXPECT_EQ(SIGKILL, atoi(text));
  RecordExitStatus(-1, 0);  // returns
}

TEST(BootArgs, ExitCodes) {
  EXPECT_EQ(0, ExitCodeOf(0));
  EXPECT_EQ(7, ExitCodeOf(7 << 8));
  EXPECT_EQ(255, ExitCodeOf(255 << 8));
  EXPECT_EQ(128 + SIGKILL, ExitCodeOf(SIGKILL));
  EXPECT_EQ(128 + SIGSEGV, ExitCodeOf(SIGSEGV | 0x80));  // with a core
}

}  // namespace
}  // namespace runsc
