#pragma once

#if defined(__linux__)

#include <cstdint>
#include <linux/kvm.h>
#include <sys/ioctl.h>

// struct kvm_get_htab_fd (arch/powerpc/include/uapi/asm/kvm.h), which the headers of other
// architectures lack.
struct HtabFdRequest {
  uint64_t flags;
  uint64_t start_index;
  uint64_t reserved[2];
};
static_assert(sizeof(HtabFdRequest) == 32, "the size is a part of the number");

// KVM_PPC_GET_HTAB_FD by this platform's _IOW: powerpc has 13 size bits, and "write" is 4 at bit 29
// (arch/powerpc/include/uapi/asm/ioctl.h); most others have 14, and "write" is 1 at bit 30.
constexpr unsigned long kGetHtabFd = _IOW(KVMIO, 0xaa, HtabFdRequest);
#if defined(__powerpc64__)
static_assert(kGetHtabFd == 0x8020AEAAUL && kGetHtabFd == KVM_PPC_GET_HTAB_FD, "powerpc");
#elif defined(__x86_64__) || defined(__aarch64__)
static_assert(kGetHtabFd == 0x4020AEAAUL, "asm-generic/ioctl.h");
#endif

#endif
