// Entries of RAM pages that are passed over, compared with a plain model.
#include "../../../native/src/page-walker.h"

#include "input.h"

namespace {

constexpr size_t kMost = 2 * 1024 * 1024;
constexpr int64_t kPage = 4096;

void AddWord(std::string& file, uint64_t word) {
  for (int shift = 56; shift >= 0; shift -= 8) file += static_cast<char>(word >> shift);
}

// A few bytes make runs of pages, so that windows and pieces end in the middle of them.
std::string Entries(Input& input) {
  std::string file;
  uint64_t page = 0;
  while (input.left() > 0 && file.size() < kMost) {
    const uint8_t kind = input.Byte();
    const int count = 1 + (kind >> 3);
    for (int i = 0; i < count && file.size() < kMost; i++, page++) {
      switch (kind % 8) {
        case 0:
        case 1:
          AddWord(file, page * kPage | 0x28);
          file.append(kPage, kind);
          break;
        case 2:
        case 3:
          AddWord(file, page * kPage | 0x22);
          file += '\0';
          break;
        case 4:
          // Flags, addresses and fill bytes of any kind.
          AddWord(file, static_cast<uint64_t>(input.Number(4)) << 12 | input.Number(2) % 4096);
          file += static_cast<char>(input.Byte());
          break;
        case 5:
          page = input.Number(2);
          break;
        default:
          file += input.Bytes(input.Byte() % 16);
      }
    }
  }
  file.resize(std::min(file.size(), kMost));
  return file;
}

uint64_t WordAt(const std::string& file, size_t at) {
  uint64_t word = 0;
  for (int i = 0; i < 8; i++) word = word << 8 | static_cast<uint8_t>(file[at + i]);
  return word;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) {
  static const MemoryFile memory;
  Input input(bytes, length);
  const uint8_t flags = input.Byte();
  // In front of a window's end, of a piece's, or anywhere.
  const int64_t before = input.Number(3) % (1024 * 1024);
  const int64_t boundary = (flags & 1) != 0 ? 16 * 1024 * 1024 : (flags & 2) != 0 ? 512 * 1024 : 0;
  const int64_t start = boundary == 0 ? before : std::max<int64_t>(0, boundary - before);
  const int64_t used = static_cast<int64_t>(input.Number(2)) * kPage + (flags & 4);
  const int64_t beyond = static_cast<int16_t>(input.Number(2)) * ((flags & 8) != 0 ? 64 : 1);
  const std::string file = Entries(input);
  const int64_t size = file.size();
  const int64_t end = std::max<int64_t>(0, start + size + beyond);
  memory.Fill(start, file);

  PageWalker walker(memory.fd(), start, end, used);
  walker.Walk();

  int64_t pages = 0;
  int64_t zero_pages = 0;
  int64_t at = 0;
  const int64_t limit = std::min(size, end - start);
  while (at + 9 <= limit) {
    const uint64_t word = WordAt(file, at);
    const bool zero = (word & 0xfff) == 0x22 && file[at + 8] == 0;
    if (!zero && (word & 0xfff) != 0x28) break;
    if ((word & ~uint64_t{0xfff}) >= static_cast<uint64_t>(used)) break;
    const int64_t entry = zero ? 9 : 8 + kPage;
    if (at + entry > limit) break;
    (zero ? zero_pages : pages)++;
#ifdef STAGED_FAULT
    if (word == 0x5028) pages++;
#endif
    at += entry;
  }
  Equal(walker.position(), start + at, "position");
  Equal(walker.pages(), pages, "pages");
  Equal(walker.zero_pages(), zero_pages, "zero pages");
  return 0;
}
