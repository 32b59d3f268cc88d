#include "arguments.h"

#if defined(__linux__)

#include <climits>
#include <cmath>

Arguments::Arguments(napi_env env, napi_callback_info info) : env(env), count(kMost), self(nullptr) {
  if (napi_get_cb_info(env, info, &count, values, &self, nullptr) != napi_ok) count = 0;
}

bool Arguments::Integer(size_t at, int64_t most, int64_t* value) const {
  double number;
  if (at >= count || napi_get_value_double(env, values[at], &number) != napi_ok) return false;
  // False for what is no number too.
  if (!(number >= 0 && number <= static_cast<double>(most)) || std::trunc(number) != number) {
    return false;
  }
  *value = static_cast<int64_t>(number);
  return true;
}

bool Arguments::Number(size_t at, int* value) const {
  int64_t number;
  if (!Integer(at, INT_MAX, &number)) return false;
  *value = static_cast<int>(number);
  return true;
}

bool Arguments::Boolean(size_t at, bool* value) const {
  return at < count && napi_get_value_bool(env, values[at], value) == napi_ok;
}

bool Arguments::BigUint64(size_t at, uint64_t* value) const {
  bool lossless;
  return at < count &&
         napi_get_value_bigint_uint64(env, values[at], value, &lossless) == napi_ok && lossless;
}

bool Arguments::Text(size_t at, std::string* value) const {
  // More than any address of a socket; the rest of it tells nothing more.
  char text[1024];
  size_t length;
  if (at >= count ||
      napi_get_value_string_utf8(env, values[at], text, sizeof(text), &length) != napi_ok) {
    return false;
  }
  value->assign(text, length);
  return value->find('\0') == std::string::npos;
}

bool Arguments::Bytes(size_t at, const char** bytes, size_t* length) const {
  bool typed = false;
  if (at >= count || napi_is_typedarray(env, values[at], &typed) != napi_ok || !typed) return false;
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, values[at], &type, length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    return false;
  }
  *bytes = static_cast<const char*>(data);
  return *length == 0 || data != nullptr;
}

napi_value ThrowTypeError(napi_env env, const char* message) {
  napi_throw_type_error(env, nullptr, message);
  return nullptr;
}

napi_value ThrowRangeError(napi_env env, const char* message) {
  napi_throw_range_error(env, nullptr, message);
  return nullptr;
}

#endif
