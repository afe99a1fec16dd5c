// SPDX-License-Identifier: Apache-2.0
// Every request of the protocol once, with expectations: run against servers with different confinement.
#ifndef GOFER_TESTING_EXERCISE_H_
#define GOFER_TESTING_EXERCISE_H_

#include "gofer/protocol/client.h"

namespace gofer {

// The root is a writable, empty directory. Failures are gtest expectations.
void ExerciseEverything(Client& client);
// Several threads at once, so that channels are opened.
void ExerciseChannels(Client& client);

}  // namespace gofer

#endif  // GOFER_TESTING_EXERCISE_H_
