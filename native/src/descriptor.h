#pragma once

#if defined(__linux__)

#include <atomic>
#include <utility>

// A file descriptor that is closed when the last of its holders lets go of it, on whatever thread:
// a file that JavaScript holds, and each call on it that is in flight.
class Descriptor {
 public:
  // None: its number is -1, for which every system call says EBADF.
  Descriptor() = default;
  // Takes the number over. None if there is no memory; the number is closed then.
  static Descriptor Own(int fd);

  Descriptor(const Descriptor& other) : shared_(other.shared_) {
    if (shared_ != nullptr) shared_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  Descriptor(Descriptor&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  Descriptor& operator=(Descriptor other) noexcept {
    std::swap(shared_, other.shared_);
    return *this;
  }
  ~Descriptor();

  int fd() const { return shared_ == nullptr ? -1 : shared_->fd; }

 private:
  struct Shared {
    std::atomic<unsigned> holders;
    const int fd;
  };

  Shared* shared_ = nullptr;
};

// What a system call that gives a descriptor gave: `error` is 0, or its errno.
struct Opened {
  Descriptor descriptor;
  int error = 0;

  // Of what the call returned, with errno as it is.
  static Opened Of(long result);
  static Opened Failed(int error) { return {Descriptor(), error}; }
};

#endif
