// SPDX-License-Identifier: Apache-2.0
// Between spec::Process and the control protocol's Process. The receiver checks ranges again: each end is an edge.
#ifndef RUNSC_CONTROL_CONVERT_H_
#define RUNSC_CONTROL_CONVERT_H_

#include "absl/status/statusor.h"
#include "runsc/control/control.pb.h"
#include "runsc/control/network_config.h"
#include "runsc/spec/spec.h"

namespace runsc::control {

void ToProto(const spec::Process& process, pb::Process* out);
// kInvalidArgument naming the field.
absl::StatusOr<spec::Process> FromProto(const pb::Process& in);

// Without the sockets, which are the frame's descriptors in the order of the interfaces.
void ToProto(const NetworkConfig& config, pb::SetNetworkRequest* out);
absl::StatusOr<NetworkConfig> FromProto(const pb::SetNetworkRequest& in);

}  // namespace runsc::control

#endif  // RUNSC_CONTROL_CONVERT_H_
