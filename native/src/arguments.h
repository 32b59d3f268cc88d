#pragma once

#if defined(__linux__)

#include <cstddef>
#include <cstdint>
#include <node_api.h>
#include <string>

// What JavaScript hands over, by plain Node-API and without running any of its code: nothing is
// converted. Each gives false for what it does not take.

constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;

struct Arguments {
  static constexpr size_t kMost = 8;

  Arguments(napi_env env, napi_callback_info info);

  // An integer from 0 to `most`.
  bool Integer(size_t at, int64_t most, int64_t* value) const;
  // A number as descriptors and processes have: 0 to 2^31 - 1.
  bool Number(size_t at, int* value) const;
  bool Boolean(size_t at, bool* value) const;
  bool BigUint64(size_t at, uint64_t* value) const;
  // Without NUL.
  bool Text(size_t at, std::string* value) const;
  // A Uint8Array. The memory is JavaScript's: to be copied before anything else runs.
  bool Bytes(size_t at, const char** bytes, size_t* length) const;

  napi_env env;
  size_t count;
  napi_value self;
  napi_value values[kMost];
};

// Both give nullptr, for what is returned.
napi_value ThrowTypeError(napi_env env, const char* message);
napi_value ThrowRangeError(napi_env env, const char* message);

#endif
