#pragma once

#if defined(__linux__)

#include <cstdint>

#include "file-io.h"

// What walkPages does on its thread: plain system calls, without Node-API.
//
// The file is mapped, a window at a time, so that only the words of its entries are touched. Where it
// cannot be mapped, or a page of it is gone when its turn comes, it is read instead.
class PageWalker {
 public:
  // `position` and `end` are below 2^53.
  PageWalker(int fd, int64_t position, int64_t end, int64_t used_length);

  void Walk();

  // Where the walk stopped: in front of what is no whole entry of a page.
  int64_t position() const { return passed_.position; }
  int64_t pages() const { return passed_.pages; }
  int64_t zero_pages() const { return passed_.zero_pages; }

 private:
  struct Passed {
    int64_t position;
    int64_t pages;
    int64_t zero_pages;
    // In front of something that is no entry of a page.
    bool stopped;
  };
  // Bytes of the file, and where the last entry must end.
  struct Window {
    const char* bytes;
    int64_t from;
    int64_t length;
    int64_t limit;
    uint64_t used_length;
    Passed passed;
  };

  bool PassMapped();
  bool PassRead();
  static void PassOver(void* window);

  const int fd_;
  const int64_t end_;
  const uint64_t used_length_;
  bool mapped_ = true;
  Passed passed_;
  PageMemory memory_;
};

#endif
