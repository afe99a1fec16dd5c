// SPDX-License-Identifier: Apache-2.0
// The blob of stub_page.S and the offsets of its entries within the page.
#ifndef PLATFORM_STUB_STUB_PAGE_H_
#define PLATFORM_STUB_STUB_PAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace platform::stub {

extern "C" {
extern const uint8_t kStubPageBegin[], kStubPageZygote[], kStubPagePause[], kStubPageCall[], kStubPageCallEnd[],
    kStubPageClone[], kStubPageCloneEnd[], kStubPageEnd[];
}

inline std::span<const uint8_t> StubCode() { return {kStubPageBegin, kStubPageEnd}; }
inline uint64_t OffsetOf(const uint8_t* entry) { return static_cast<uint64_t>(entry - kStubPageBegin); }

// The end of the 47-bit user address space (TASK_SIZE_MAX with 4-level page tables).
inline constexpr uint64_t kTaskSize = 0x7fff'ffff'f000;
// Stub pages are below this; a platform may use what is above it in stubs.
inline constexpr uint64_t kStubPagesEnd = 0x7fff'e400'0000;

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
