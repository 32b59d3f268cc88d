// HTAB blocks from file to file, compared with a plain model: what is counted, and every byte.
#include "../../../native/src/block-passer.h"

#include "input.h"

namespace {

// Several pieces of the reader and the writer.
constexpr size_t kMost = 3 * 1024 * 1024;

struct Passed {
  int64_t bytes = 0;
  int64_t blocks = 0;
  int64_t valid = 0;
  std::string output;
};

uint32_t Read(const std::string& bytes, size_t at, int width, bool little) {
  uint32_t value = 0;
  for (int i = 0; i < width; i++) {
    const int place = little ? width - 1 - i : i;
    value = value << 8 | static_cast<uint8_t>(bytes[at + place]);
  }
  return value;
}

void Write(std::string& bytes, size_t at, int width, bool little, uint32_t value) {
  for (int i = 0; i < width; i++) {
    bytes[at + (little ? i : width - 1 - i)] = static_cast<char>(value >> 8 * i);
  }
}

Passed Model(const std::string& file, int64_t length, int64_t slots, bool from, bool to) {
  Passed passed;
  const int64_t range = std::min<int64_t>(length, file.size());
  passed.output = file.substr(0, range);
  while (passed.bytes + 8 <= range) {
    const int64_t at = passed.bytes;
    const int64_t index = Read(file, at, 4, from);
    const int64_t valid = Read(file, at + 4, 2, from);
    const int64_t invalid = Read(file, at + 6, 2, from);
    if (index == 0 && valid == 0 && invalid == 0) break;
    if (index + valid + invalid > slots || at + 8 + valid * 16 > range) break;
    Write(passed.output, at, 4, to, index);
    Write(passed.output, at + 4, 2, to, valid);
    Write(passed.output, at + 6, 2, to, invalid);
    passed.bytes += 8 + valid * 16;
    passed.blocks++;
    passed.valid += valid;
#ifdef STAGED_FAULT
    if (index == 0x4242) passed.blocks++;
#endif
  }
  passed.output.resize(passed.bytes);
  return passed;
}

// Headers as they are in the input, with as many entries as they say: a few bytes make a long file.
std::string Blocks(Input& input) {
  std::string file;
  while (input.left() > 0 && file.size() < kMost) {
    const uint8_t kind = input.Byte();
    if (kind % 8 == 7) {
      file += input.Bytes(input.Byte());
      continue;
    }
    std::string header = input.Bytes(8);
    // Most of them small, in either byte order.
    if (kind % 8 < 4) header[kind % 2 == 0 ? 4 : 5] = 0;
    const size_t little = Read(header, 4, 2, true);
    const size_t big = Read(header, 4, 2, false);
    file += header;
    file.append(16 * (kind % 8 < 6 ? std::min(little, big) : std::max(little, big)), kind);
  }
  file.resize(std::min(file.size(), kMost));
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) {
  static const MemoryFile in;
  static const MemoryFile out;
  Input input(bytes, length);
  const uint8_t flags = input.Byte();
  const bool from_little = (flags & 1) != 0;
  const bool to_little = (flags & 2) != 0;
  const int64_t slots = (flags & 4) != 0 ? int64_t{1} << (14 + input.Byte() % 29)
                                         : (int64_t{1} << 53) - 1;
  const int64_t in_offset = input.Number(2);
  const int64_t out_offset = input.Number(2);
  const int64_t beyond = static_cast<int16_t>(input.Number(2));
  const std::string file = Blocks(input);
  const int64_t range = std::max<int64_t>(0, static_cast<int64_t>(file.size()) + beyond);
  in.Fill(in_offset, file);
  out.Fill(out_offset, "");

  BlockPasser passer({in.fd(), in_offset, out.fd(), out_offset, range}, slots, from_little,
                     to_little);
  passer.Run();
  const Passed wanted = Model(file, range, slots, from_little, to_little);
  Equal(passer.error(), 0, "errno");
  Equal(passer.bytes(), wanted.bytes, "bytes");
  Equal(passer.blocks(), wanted.blocks, "blocks");
  Equal(passer.valid(), wanted.valid, "valid entries");
  MemoryFile::Must(out.Read(out_offset, wanted.bytes) == wanted.output, "other bytes");
  return 0;
}
