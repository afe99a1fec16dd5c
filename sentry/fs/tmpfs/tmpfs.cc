// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/tmpfs/tmpfs.h"

#include <stdio.h>

#include <algorithm>

#include "sentry/fs/tmpfs/directory.h"

namespace sentry::tmpfs {
namespace {

constexpr uint64_t kTmpfsMagic = 0x01021994;
constexpr uint64_t kFallbackSize = uint64_t{8} << 30;
constexpr uint64_t kUnlimited = UINT64_MAX;
// As Linux: one inode per page of the default size. Each costs about 1 KiB of heap with its name and dentry.
constexpr uint64_t kBytesPerInode = 4096;

platform::MemoryFile* configured_memory = nullptr;
uint64_t configured_total = 0;

uint64_t DefaultSize() { return configured_total ? configured_total / 2 : kFallbackSize; }

// A number with the suffixes of tmpfs(5); false if malformed.
bool ParseSize(std::string_view text, bool percent, uint64_t* value) {
  size_t i = 0;
  uint64_t n = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, uint64_t(text[i] - '0'), &n)) return false;
  }
  if (i == 0) return false;
  std::string_view suffix = text.substr(i);
  int shift = 0;
  if (suffix == "k" || suffix == "K") {
    shift = 10;
  } else if (suffix == "m" || suffix == "M") {
    shift = 20;
  } else if (suffix == "g" || suffix == "G") {
    shift = 30;
  } else if (suffix == "t" || suffix == "T") {
    shift = 40;
  } else if (suffix == "%" && percent) {
    // Of all the sandbox's memory.
    *value =
        static_cast<uint64_t>(static_cast<unsigned __int128>(DefaultSize()) * 2 * std::min<uint64_t>(n, 1000) / 100);
    return true;
  } else if (!suffix.empty()) {
    return false;
  }
  if (n > (UINT64_MAX >> shift)) return false;
  *value = n << shift;
  return true;
}

bool ParseNumber(std::string_view text, unsigned base, uint32_t* value) {
  uint64_t n = 0;
  if (text.empty()) return false;
  for (char c : text) {
    if (c < '0' || unsigned(c - '0') >= base) return false;
    n = n * base + unsigned(c - '0');
    if (n > UINT32_MAX) return false;
  }
  *value = static_cast<uint32_t>(n);
  return true;
}

uint64_t Pages(uint64_t bytes) { return bytes / kPageSize + (bytes % kPageSize != 0); }
uint64_t Limit(uint64_t value) { return value == 0 ? kUnlimited : value; }

Result<void> Charge(std::atomic<uint64_t>& used, uint64_t count, uint64_t limit) {
  uint64_t now = used.load(std::memory_order_relaxed);
  do {
    if (now > limit || count > limit - now) return Errno(ENOSPC);
  } while (!used.compare_exchange_weak(now, now + count, std::memory_order_relaxed));
  return OkResult();
}

}  // namespace

Result<TmpfsOptions> TmpfsOptions::Parse(std::string_view options) {
  TmpfsOptions result;
  while (!options.empty()) {
    size_t comma = options.find(',');
    std::string_view option = options.substr(0, comma);
    options = comma == std::string_view::npos ? std::string_view() : options.substr(comma + 1);
    if (option.empty()) continue;
    size_t equals = option.find('=');
    std::string_view key = option.substr(0, equals);
    std::string_view text = equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
    uint64_t number = 0;
    uint32_t mode = 0;
    bool ok = true;
    if (key == "size") {
      ok = ParseSize(text, true, &number);
      result.size = number;
    } else if (key == "nr_blocks") {
      ok = ParseSize(text, false, &number) && number < (UINT64_MAX >> 12);
      result.size = number << 12;
    } else if (key == "nr_inodes") {
      ok = ParseSize(text, false, &number);
      result.nr_inodes = number;
    } else if (key == "mode") {
      ok = ParseNumber(text, 8, &mode);
      result.mode = mode & 07777;
    } else if (key == "uid") {
      ok = result.uid_given = ParseNumber(text, 10, &result.uid);
    } else if (key == "gid") {
      ok = result.gid_given = ParseNumber(text, 10, &result.gid);
    } else {
      // Accepted without effect: huge pages and inode widths are the host's matter, and nothing is ever swapped.
      ok = key == "huge" || key == "inode32" || key == "inode64" || key == "mpol" || key == "noswap";
    }
    if (!ok) return Errno(EINVAL);
  }
  return result;
}

void ConfigureTmpfs(platform::MemoryFile& memory, uint64_t total_memory) {
  configured_memory = &memory;
  configured_total = total_memory;
}

Tmpfs* KernelTmpfs() {
  if (!configured_memory) return nullptr;
  static Tmpfs* kernel = Tmpfs::Create(*configured_memory, {.size = 0, .nr_inodes = 0}).Release();
  return kernel;
}

Result<RefPtr<vfs::Filesystem>> NewTmpfs(const vfs::MountSource& source) {
  if (!configured_memory) return Errno(ENODEV);
  TmpfsOptions options = TRY(TmpfsOptions::Parse(source.options));
  // Ids are the mounter's; without them the root is its own.
  options.uid = options.uid_given ? source.creds.ToKernel(IdKind::kUser, options.uid) : source.creds.fsuid;
  options.gid = options.gid_given ? source.creds.ToKernel(IdKind::kGroup, options.gid) : source.creds.fsgid;
  if (options.uid == kInvalidId || options.gid == kInvalidId) return Errno(EINVAL);
  return RefPtr<vfs::Filesystem>(Tmpfs::Create(*configured_memory, options));
}

RefPtr<Tmpfs> Tmpfs::Create(platform::MemoryFile& memory, const TmpfsOptions& options) {
  return RefPtr<Tmpfs>(new Tmpfs(memory, options));
}

Tmpfs::Tmpfs(platform::MemoryFile& memory, const TmpfsOptions& options)
    : memory_(memory),
      options_(options),
      default_pages_(Pages(DefaultSize())),
      default_inodes_(std::max<uint64_t>(DefaultSize() / kBytesPerInode, 4096)) {
  max_pages_ = options.size ? Limit(Pages(*options.size)) : default_pages_;
  max_inodes_ = options.nr_inodes ? Limit(*options.nr_inodes) : default_inodes_;
}

Tmpfs::~Tmpfs() = default;

RefPtr<vfs::Inode> Tmpfs::Root() {
  MutexLock lock(root_mu_);
  if (!root_) {
    used_inodes_.fetch_add(1, std::memory_order_relaxed);
    root_ = MakeRef<TmpfsDirectory>(*this, vfs::CreateAttributes{options_.mode, options_.uid, options_.gid}, 0);
  }
  return root_;
}

vfs::StatFs Tmpfs::GetStatFs() {
  vfs::StatFs stat;
  stat.magic = kTmpfsMagic;
  const uint64_t pages = max_pages_, inodes = max_inodes_, used = used_pages_, used_inodes = used_inodes_;
  if (pages != kUnlimited) {
    stat.blocks = pages;
    stat.blocks_free = stat.blocks_available = pages > used ? pages - used : 0;
  }
  if (inodes != kUnlimited) {
    stat.files = inodes;
    stat.files_free = inodes > used_inodes ? inodes - used_inodes : 0;
  }
  return stat;
}

std::string Tmpfs::MountOptions() const {
  std::string text;
  auto add = [&](const std::string& option) { text += (text.empty() ? "" : ",") + option; };
  const uint64_t pages = max_pages_, inodes = max_inodes_;
  if (pages != default_pages_)
    add("size=" + std::to_string(pages == kUnlimited ? 0 : pages * (kPageSize / 1024)) + "k");
  if (inodes != default_inodes_) add("nr_inodes=" + std::to_string(inodes == kUnlimited ? 0 : inodes));
  if (options_.mode != 01777) {
    char mode[16];
    snprintf(mode, sizeof mode, "mode=%03o", options_.mode);
    add(mode);
  }
  if (options_.uid) add("uid=" + std::to_string(options_.uid));
  if (options_.gid) add("gid=" + std::to_string(options_.gid));
  return text;
}

Result<void> Tmpfs::Remount(std::string_view text) {
  TmpfsOptions options = TRY(TmpfsOptions::Parse(text));
  if (options.size) {
    const uint64_t pages = Limit(Pages(*options.size));
    if (pages < used_pages_) return Errno(EINVAL);
    max_pages_ = pages;
  }
  if (options.nr_inodes) {
    const uint64_t inodes = Limit(*options.nr_inodes);
    if (inodes < used_inodes_) return Errno(EINVAL);
    max_inodes_ = inodes;
  }
  return OkResult();
}

void Tmpfs::OnLastUnmount() {
  RefPtr<TmpfsDirectory> root;
  {
    MutexLock lock(root_mu_);
    root = std::move(root_);
  }
  if (root) TmpfsDirectory::FreeTree(std::move(root));
}

Result<void> Tmpfs::ChargePages(uint64_t pages) { return Charge(used_pages_, pages, max_pages_); }
Result<void> Tmpfs::ChargeInode() { return Charge(used_inodes_, 1, max_inodes_); }

}  // namespace sentry::tmpfs
