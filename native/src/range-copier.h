#pragma once

#if defined(__linux__)

#include <cstdint>

// What copyRange does on its thread: plain system calls, without Node-API.
class RangeCopier {
 public:
  RangeCopier(int in, int64_t in_offset, int out, int64_t out_offset, int64_t length)
      : in_(in), out_(out), in_offset_(in_offset), out_offset_(out_offset), end_(length) {}

  void Run();

  int64_t copied() const { return done_; }
  int64_t shared() const { return shared_; }
  int error() const { return error_; }
  bool reading() const { return reading_; }

 private:
  void Share(int64_t block);
  bool CopyTo(int64_t end);
  bool CopyData(int64_t end);
  bool CopyInKernel(int64_t end);
  bool ReadAndWrite(int64_t end);
  bool Available(int64_t* available);
  bool Fail(int error, bool reading);

  const int in_;
  const int out_;
  const int64_t in_offset_;
  const int64_t out_offset_;
  // Where the range ends and how far it is copied, from its beginning.
  int64_t end_;
  int64_t done_ = 0;
  int64_t shared_ = 0;
  int error_ = 0;
  bool reading_ = false;
  // Whether the input is a regular file, which has a size and may have holes.
  bool regular_ = false;
  bool in_kernel_ = false;
};

#endif
