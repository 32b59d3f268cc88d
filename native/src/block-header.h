#pragma once

#if defined(__linux__)

#include <cstdint>

// struct kvm_get_htab_header (arch/powerpc/include/uapi/asm/kvm.h). Entries of 16 bytes follow it.
struct BlockHeader {
  uint32_t index;
  uint16_t n_valid;
  uint16_t n_invalid;
};
static_assert(sizeof(BlockHeader) == 8, "no padding");

constexpr int64_t kEntryBytes = 16;

#endif
