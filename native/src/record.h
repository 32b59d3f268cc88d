#pragma once

#if defined(__linux__)

#include <cstdint>
#include <node_api.h>

// An object that is made property by property: by plain Node-API, with one check at the end.
class Record {
 public:
  explicit Record(napi_env env) : env_(env) {
    if (napi_create_object(env, &object_) != napi_ok) object_ = nullptr;
  }

  Record& Value(const char* name, napi_value value) {
    if (value == nullptr || object_ == nullptr ||
        napi_set_named_property(env_, object_, name, value) != napi_ok) {
      object_ = nullptr;
    }
    return *this;
  }
  Record& Number(const char* name, int64_t number) {
    napi_value value;
    return Value(name, napi_create_int64(env_, number, &value) == napi_ok ? value : nullptr);
  }
  Record& Boolean(const char* name, bool boolean) {
    napi_value value;
    return Value(name, napi_get_boolean(env_, boolean, &value) == napi_ok ? value : nullptr);
  }
  Record& Function(const char* name, napi_callback callback) {
    napi_value value;
    const napi_status status =
        napi_create_function(env_, name, NAPI_AUTO_LENGTH, callback, nullptr, &value);
    return Value(name, status == napi_ok ? value : nullptr);
  }

  // nullptr when anything failed.
  napi_value value() const { return object_; }

 private:
  const napi_env env_;
  napi_value object_ = nullptr;
};

#endif
