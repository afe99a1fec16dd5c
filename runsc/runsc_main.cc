// SPDX-License-Identifier: Apache-2.0
#include "runsc/cmd/help_topics.h"
#include "runsc/main.h"
#include "sentry/syscalls/compatibility.h"

int main(int argc, char** argv) {
  runsc::RegisterHelpTopic({"syscalls", &sentry::syscalls::SyscallsText});
  return runsc::Main(argc, argv);
}
