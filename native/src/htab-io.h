#pragma once

#if defined(__linux__)

#include <cstddef>
#include <cstdint>

#include "descriptor.h"

// The system calls of an HTAB fd, again after EINTR, without Node-API. They may be made on any
// thread. `error` is 0 or the errno.

struct Transferred {
  size_t count;
  int error;
};

struct BlocksTransferred {
  // Blocks that were taken whole, and their bytes: where the block that failed begins.
  size_t blocks;
  size_t bytes;
  int error;
};

// KVM_PPC_GET_HTAB_FD of a VM.
Opened OpenHtab(int vm, uint64_t flags, uint64_t start_index);

Transferred Read(int fd, char* bytes, size_t length);
Transferred Write(int fd, const char* bytes, size_t length);

// One write(2) for each block, up to the first that fails. Several in one are not safe: after a
// block with entries the kernel looks for the next header at the wrong place; nor is a part of a
// block, whose rest it takes from the memory behind it (kvm_htab_write of
// arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1). EINVAL: a block does not end within the bytes, and
// was not handed over. EPROTO: the kernel took another number of bytes than the block has, of which it
// has no errno itself; it gives EBADF, EBUSY, EFAULT, EINVAL and EIO.
BlocksTransferred WriteBlocks(int fd, const char* bytes, size_t length);

#endif
