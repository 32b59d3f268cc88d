#include "transfer.h"

#if defined(__linux__)

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "htab-io.h"
#include "operation.h"
#include "record.h"

namespace {

// NATIVE_MAX_BYTES of src/addon/load.ts: most bytes of one call, of which there is a copy each.
constexpr size_t kMaxBytes = 16 << 20;
constexpr char kTooMany[] = "one call takes 16 MiB at most";

napi_value CopyOf(napi_env env, const char* bytes, size_t length) {
  void* data;
  napi_value buffer;
  napi_value array;
  if (napi_create_arraybuffer(env, length, &data, &buffer) != napi_ok) return nullptr;
  if (length > 0) memcpy(data, bytes, length);
  return napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &array) == napi_ok
             ? array
             : nullptr;
}

class ReadOperation : public Operation {
 public:
  ReadOperation(const Descriptor& descriptor, size_t length)
      : descriptor_(descriptor), length_(length) {}

 private:
  void Run() override {
    bytes_.reset(new (std::nothrow) char[length_]);
    read_ = bytes_ == nullptr ? Transferred{0, ENOMEM}
                              : Read(descriptor_.fd(), bytes_.get(), length_);
  }

  napi_value Result(napi_env env) override {
    return Record(env)
        .Value("bytes", CopyOf(env, bytes_.get(), read_.count))
        .Number("errno", read_.error)
        .value();
  }

  const Descriptor descriptor_;
  const size_t length_;
  std::unique_ptr<char[]> bytes_;
  Transferred read_ = {0, 0};
};

// Bytes that were copied before the call returned.
class OutgoingOperation : public Operation {
 public:
  OutgoingOperation(const Descriptor& descriptor, std::unique_ptr<char[]> bytes, size_t length)
      : descriptor_(descriptor), bytes_(std::move(bytes)), length_(length) {}

 protected:
  const Descriptor descriptor_;
  const std::unique_ptr<char[]> bytes_;
  const size_t length_;
};

class WriteOperation : public OutgoingOperation {
 public:
  using OutgoingOperation::OutgoingOperation;

 private:
  void Run() override { written_ = Write(descriptor_.fd(), bytes_.get(), length_); }

  napi_value Result(napi_env env) override {
    return Record(env).Number("count", written_.count).Number("errno", written_.error).value();
  }

  Transferred written_ = {0, 0};
};

class WriteBlocksOperation : public OutgoingOperation {
 public:
  using OutgoingOperation::OutgoingOperation;

 private:
  void Run() override { written_ = WriteBlocks(descriptor_.fd(), bytes_.get(), length_); }

  napi_value Result(napi_env env) override {
    return Record(env)
        .Number("blocks", written_.blocks)
        .Number("bytes", written_.bytes)
        .Number("errno", written_.error)
        .value();
  }

  BlocksTransferred written_ = {0, 0, 0};
};

template <typename Outgoing>
napi_value BeginOutgoing(const Arguments& arguments, const Descriptor& descriptor,
                         const char* name) {
  const char* bytes;
  size_t length;
  if (!arguments.Bytes(0, &bytes, &length)) {
    return ThrowTypeError(arguments.env, "what is written must be a Uint8Array");
  }
  if (length > kMaxBytes) return ThrowRangeError(arguments.env, kTooMany);
  std::unique_ptr<Operation> operation;
  std::unique_ptr<char[]> copy(new (std::nothrow) char[length]);
  if (copy != nullptr) {
    if (length > 0) memcpy(copy.get(), bytes, length);
    operation.reset(new (std::nothrow) Outgoing(descriptor, std::move(copy), length));
  }
  return Operation::Begin(arguments.env, name, std::move(operation));
}

}  // namespace

napi_value BeginRead(const Arguments& arguments, const Descriptor& descriptor) {
  int64_t length;
  if (!arguments.Integer(0, kMaxInteger, &length)) {
    return ThrowTypeError(arguments.env, "the length must be an integer that is not negative");
  }
  if (length > static_cast<int64_t>(kMaxBytes)) return ThrowRangeError(arguments.env, kTooMany);
  return Operation::Begin(arguments.env, "spapr-htab read",
                          std::unique_ptr<Operation>(new (std::nothrow) ReadOperation(
                              descriptor, static_cast<size_t>(length))));
}

napi_value BeginWrite(const Arguments& arguments, const Descriptor& descriptor) {
  return BeginOutgoing<WriteOperation>(arguments, descriptor, "spapr-htab write");
}

napi_value BeginWriteBlocks(const Arguments& arguments, const Descriptor& descriptor) {
  return BeginOutgoing<WriteBlocksOperation>(arguments, descriptor, "spapr-htab writeBlocks");
}

#endif
