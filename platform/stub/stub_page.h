// SPDX-License-Identifier: Apache-2.0
// The blob of stub_page.S and the offsets of its entries within the page.
#ifndef PLATFORM_STUB_STUB_PAGE_H_
#define PLATFORM_STUB_STUB_PAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "platform/platform.h"

namespace platform::stub {

extern "C" {
extern const uint8_t kStubPageBegin[], kStubPageZygote[], kStubPagePause[], kStubPageCall[], kStubPageCallEnd[],
    kStubPageClone[], kStubPageCloneEnd[], kStubPageEnd[];
}

inline std::span<const uint8_t> StubCode() { return {kStubPageBegin, kStubPageEnd}; }
inline uint64_t OffsetOf(const uint8_t* entry) { return static_cast<uint64_t>(entry - kStubPageBegin); }

// Stub pages are within this above the guests' addresses; a platform may use what is above that in stubs.
inline constexpr uint64_t kStubPagesSpace = uint64_t{64} << 20;
inline const uint64_t kStubPagesEnd = kGuestAddressLimit + kStubPagesSpace;

// The addresses of one mapped stub page.
struct StubLayout {
  uint64_t page = 0;
  uint64_t zygote() const { return page + OffsetOf(kStubPageZygote); }
  uint64_t pause() const { return page + OffsetOf(kStubPagePause); }
  // Where to start a host call, and where it has trapped once done (rip behind the int3).
  uint64_t call() const { return page + OffsetOf(kStubPageCall); }
  uint64_t call_done() const { return page + OffsetOf(kStubPageCallEnd) + 1; }
  uint64_t clone() const { return page + OffsetOf(kStubPageClone); }
  uint64_t clone_done() const { return page + OffsetOf(kStubPageCloneEnd); }
};

}  // namespace platform::stub

#endif  // PLATFORM_STUB_STUB_PAGE_H_
