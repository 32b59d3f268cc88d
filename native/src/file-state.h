#pragma once

#if defined(__linux__)

#include <cstdint>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

// What a descriptor is of.
struct FileState {
  mode_t mode;
  int64_t size;

  bool regular() const { return S_ISREG(mode); }
  // False with errno. By statx: glibc's fstat is a symbol of 2.33, and what is compiled with it does
  // not load with an older one.
  static bool Of(int fd, FileState* state) {
#if defined(__GLIBC__)
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &st) != 0) return false;
    *state = {static_cast<mode_t>(st.stx_mode), static_cast<int64_t>(st.stx_size)};
#else
    struct stat st;
    if (fstat(fd, &st) != 0) return false;
    *state = {st.st_mode, st.st_size};
#endif
    return true;
  }
};

#endif
