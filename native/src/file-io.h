#pragma once

#if defined(__linux__)

#include <cstdint>
#include <cstdlib>
#include <memory>

// Memory that is used in whole pages, as the kernel copies from and to.
constexpr int64_t kPageBytes = 4096;

struct FreeMemory {
  void operator()(char* memory) const { std::free(memory); }
};
using PageMemory = std::unique_ptr<char, FreeMemory>;

// Memory that begins a page; nullptr when there is none. Not by `new` with an alignment, which older
// C++ libraries lack.
PageMemory NewPageMemory(int64_t bytes);

// Reads on until there are `length` bytes or the file ends: how many there are. `error` is the errno
// of the read that failed, or 0.
int64_t ReadFully(int fd, char* bytes, int64_t length, int64_t offset, int* error);

// Writes all of it. The errno of the write that failed, or 0.
int WriteFully(int fd, const char* bytes, int64_t length, int64_t offset);

// 0 where pwrite(2) heeds its offset; EBADF for a descriptor that appends, or is none.
int CheckPositioned(int fd);

#endif
