// SPDX-License-Identifier: Apache-2.0
// The whole command line, for runsc itself and for the test binary with another sandbox behind it.
#ifndef RUNSC_MAIN_H_
#define RUNSC_MAIN_H_

namespace runsc {
int Main(int argc, char** argv);
}  // namespace runsc

#endif  // RUNSC_MAIN_H_
