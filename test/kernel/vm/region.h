#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

// Anonymous memory with a page in front and one behind that are not mapped.
class Region {
 public:
  // A multiple of every page size that a ppc64 kernel has.
  static constexpr size_t kPage = 64 * 1024;

  // nullptr with errno set. `alignment` is a power of two.
  static std::shared_ptr<Region> Map(size_t size, size_t alignment = kPage) {
    const size_t usable = (size + kPage - 1) & ~(kPage - 1);
    const size_t whole = usable + alignment + 2 * kPage;
    if (usable < size || whole < usable) {
      errno = ENOMEM;
      return nullptr;
    }
    void* all = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    const uintptr_t first = reinterpret_cast<uintptr_t>(all) + kPage;
    const uintptr_t start = (first + alignment - 1) & ~(alignment - 1);
    char* bytes = reinterpret_cast<char*>(start);
    if (usable > 0 && mprotect(bytes, usable, PROT_READ | PROT_WRITE) != 0) {
      const int error = errno;
      munmap(all, whole);
      errno = error;
      return nullptr;
    }
    return std::shared_ptr<Region>(new Region(all, whole, bytes, usable));
  }

  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() { munmap(all_, whole_); }

  char* bytes() const { return bytes_; }
  // Rounded up to whole pages.
  size_t size() const { return size_; }
  // Where `length` bytes begin that end where nothing is mapped any more.
  char* Ending(size_t length) const { return bytes_ + size_ - length; }

 private:
  Region(void* all, size_t whole, char* bytes, size_t size)
      : all_(all), whole_(whole), bytes_(bytes), size_(size) {}

  void* all_;
  size_t whole_;
  char* bytes_;
  size_t size_;
};
