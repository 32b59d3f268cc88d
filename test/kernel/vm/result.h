#pragma once

#include <napi.h>

#include <cerrno>

// What a system call returned, as { result, errno }: errno is 0 unless the result is negative. To be
// made directly after the call.
inline Napi::Object Result(Napi::Env env, long result) {
  const int error = result < 0 ? errno : 0;
  Napi::Object object = Napi::Object::New(env);
  object.Set("result", static_cast<double>(result));
  object.Set("errno", error);
  return object;
}

inline uint64_t Unsigned64(const Napi::Value& value) {
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw Napi::RangeError::New(value.Env(), "not a u64");
  return number;
}

inline int Descriptor(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

inline size_t Length(const Napi::Value& value) {
  return static_cast<size_t>(value.As<Napi::Number>().Int64Value());
}
