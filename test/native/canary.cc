// Each function makes one mistake that the sanitizers must find: they are at work, then.

#include <climits>
#include <cstdlib>
#include <node_api.h>

namespace {

volatile int number = INT_MAX;

napi_value Overrun(napi_env, napi_callback_info) {
  char* volatile bytes = new char[10];
  number = bytes[10];
  delete[] bytes;
  return nullptr;
}

napi_value Overflow(napi_env, napi_callback_info) {
  number = number + 1;
  return nullptr;
}

napi_value Leak(napi_env, napi_callback_info) {
  char* volatile bytes = static_cast<char*>(malloc(12345));
  bytes[0] = 1;
  bytes = nullptr;
  return nullptr;
}

napi_value Nothing(napi_env, napi_callback_info) { return nullptr; }

void Export(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok) {
    napi_set_named_property(env, exports, name, function);
  }
}

}  // namespace

NAPI_MODULE_INIT() {
  Export(env, exports, "overrun", Overrun);
  Export(env, exports, "overflow", Overflow);
  Export(env, exports, "leak", Leak);
  Export(env, exports, "nothing", Nothing);
  return exports;
}
