#include "raw-io.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <cstring>

#include "region.h"
#include "result.h"

// System calls as they are: nothing is checked, repeated or rounded, so that a test sees what the
// kernel does with what it is given.

namespace {

// Nothing that the kernel hands out is made of this byte alone.
constexpr int kUntouched = 0xAA;

// read(2) or pread(2) of `length` bytes to where only `mapped` are; `memory` is what they hold then.
Napi::Value ReadAt(Napi::Env env, int fd, size_t length, size_t mapped, const int64_t* offset) {
  const auto region = Region::Map(mapped);
  if (region == nullptr) return Result(env, -1);
  char* at = region->Ending(mapped);
  memset(at, kUntouched, mapped);
  const ssize_t count = offset == nullptr ? read(fd, at, length) : pread(fd, at, length, *offset);
  Napi::Object result = Result(env, count);
  result.Set("memory", Napi::Buffer<char>::Copy(env, at, mapped));
  return result;
}

}  // namespace

Napi::Value Read(const Napi::CallbackInfo& info) {
  return ReadAt(info.Env(), Descriptor(info[0]), Length(info[1]), Length(info[2]), nullptr);
}

Napi::Value PositionedRead(const Napi::CallbackInfo& info) {
  const size_t length = Length(info[1]);
  const int64_t offset = info[2].As<Napi::Number>().Int64Value();
  return ReadAt(info.Env(), Descriptor(info[0]), length, length, &offset);
}

// write(2) of `count` bytes that begin with those given, behind which nothing is mapped.
Napi::Value Write(const Napi::CallbackInfo& info) {
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const auto region = Region::Map(bytes.ByteLength());
  if (region == nullptr) return Result(info.Env(), -1);
  char* at = region->Ending(bytes.ByteLength());
  memcpy(at, bytes.Data(), bytes.ByteLength());
  return Result(info.Env(), write(Descriptor(info[0]), at, Length(info[2])));
}

Napi::Value Seek(const Napi::CallbackInfo& info) {
  const int64_t offset = info[1].As<Napi::Number>().Int64Value();
  return Result(info.Env(), lseek(Descriptor(info[0]), offset, Descriptor(info[2])));
}

Napi::Value StatusFlags(const Napi::CallbackInfo& info) {
  return Result(info.Env(), fcntl(Descriptor(info[0]), F_GETFL));
}

Napi::Value DescriptorFlags(const Napi::CallbackInfo& info) {
  return Result(info.Env(), fcntl(Descriptor(info[0]), F_GETFD));
}

Napi::Value Link(const Napi::CallbackInfo& info) {
  const std::string path = "/proc/self/fd/" + std::to_string(Descriptor(info[0]));
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  Napi::Object result = Result(info.Env(), length);
  if (length >= 0) result.Set("target", Napi::String::New(info.Env(), target, length));
  return result;
}

Napi::Value Close(const Napi::CallbackInfo& info) {
  return Result(info.Env(), close(Descriptor(info[0])));
}
