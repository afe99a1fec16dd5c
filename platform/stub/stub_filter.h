// SPDX-License-Identifier: Apache-2.0
// The seccomp filter of the zygote and all stub processes: no host call succeeds unless it is an x86-64 one, made from
// the stub page, on a short list. Everything else, int 0x80, sysenter, x32 and vsyscall included, raises SIGSYS.
#ifndef PLATFORM_STUB_STUB_FILTER_H_
#define PLATFORM_STUB_STUB_FILTER_H_

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace platform::stub {

// `page` is page-aligned. Allocates: build it before forking.
std::vector<sock_filter> BuildStubFilter(uint64_t page);

}  // namespace platform::stub

#endif  // PLATFORM_STUB_STUB_FILTER_H_
