#include <napi.h>

#include "copy-range.h"
#include "htab.h"
#include "probe.h"

// No state but the instance data of an environment: the addon may be loaded by any number of
// environments and worker threads.
static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
#if defined(__linux__)
  napi_value copy_range;
  if (napi_create_function(env, "copyRange", NAPI_AUTO_LENGTH, CopyRange, nullptr, &copy_range) ==
      napi_ok) {
    exports.Set("copyRange", copy_range);
  }
  const napi_value htab = CreateHtab(env);
  if (htab != nullptr) exports.Set("htab", htab);
#endif
  return exports;
}

NODE_API_MODULE(spapr_htab, Init)
