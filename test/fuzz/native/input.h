#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

// The bytes of an input, taken from the front; zeros where it is used up.
class Input {
 public:
  Input(const uint8_t* bytes, size_t length) : bytes_(bytes), left_(length) {}

  size_t left() const { return left_; }

  uint8_t Byte() {
    if (left_ == 0) return 0;
    left_--;
    return *bytes_++;
  }

  uint32_t Number(int width) {
    uint32_t value = 0;
    for (int at = 0; at < width; at++) value = value << 8 | Byte();
    return value;
  }

  std::string Bytes(size_t length) {
    std::string bytes(length, '\0');
    for (char& byte : bytes) byte = static_cast<char>(Byte());
    return bytes;
  }

 private:
  const uint8_t* bytes_;
  size_t left_;
};

// A file in memory that begins with a hole of `hole` bytes. Emptied for each input: opening is slow.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("fuzz", 0)) { Must(fd_ >= 0, "memfd_create"); }

  int fd() const { return fd_; }

  void Fill(int64_t hole, const std::string& bytes) const {
    Must(ftruncate(fd_, 0) == 0 && ftruncate(fd_, hole) == 0, "ftruncate");
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t count = pwrite(fd_, bytes.data() + done, bytes.size() - done, hole + done);
      Must(count > 0, "pwrite");
      done += count;
    }
  }

  std::string Read(int64_t from, size_t length) const {
    std::string bytes(length, '\0');
    for (size_t done = 0; done < length;) {
      const ssize_t count = pread(fd_, bytes.data() + done, length - done, from + done);
      Must(count > 0, "what was said to be written is not in the file");
      done += count;
    }
    return bytes;
  }

  static void Must(bool holds, const char* what) {
    if (holds) return;
    fprintf(stderr, "WRONG: %s\n", what);
    abort();
  }

 private:
  const int fd_;
};

inline void Equal(int64_t is, int64_t wanted, const char* what) {
  if (is == wanted) return;
  fprintf(stderr, "WRONG: %s is %lld, and %lld by the plain model\n", what,
          static_cast<long long>(is), static_cast<long long>(wanted));
  abort();
}
