#pragma once

#if defined(__linux__)

#include <cstdint>

// What passBlocks does on its thread: plain system calls, without Node-API.
class BlockPasser {
 public:
  struct Range {
    int in;
    int64_t in_offset;
    int out;
    int64_t out_offset;
    int64_t length;
  };

  BlockPasser(const Range& range, int64_t slots, bool from_little, bool to_little)
      : range_(range), slots_(slots), from_little_(from_little), to_little_(to_little) {}

  void Run();

  // Of whole blocks.
  int64_t bytes() const { return bytes_; }
  int64_t blocks() const { return blocks_; }
  int64_t valid() const { return valid_; }
  int error() const { return error_; }
  bool reading() const { return reading_; }

 private:
  template <bool kNative, bool kTurn>
  int64_t Scan(char* bytes, int64_t length, int64_t left);
  int64_t ScanPiece(char* bytes, int64_t length, int64_t left);
  void Fail(int error, bool reading);

  const Range range_;
  const int64_t slots_;
  const bool from_little_;
  const bool to_little_;
  // Bytes that the last block has in the next pieces, and all that it has.
  int64_t inside_ = 0;
  int64_t open_bytes_ = 0;
  bool stopped_ = false;
  int64_t bytes_ = 0;
  int64_t blocks_ = 0;
  int64_t valid_ = 0;
  int error_ = 0;
  bool reading_ = false;
};

#endif
