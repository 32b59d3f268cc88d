#include <napi.h>

#include "child.h"
#include "copy-range.h"
#include "htab.h"
#include "pass-blocks.h"
#include "probe.h"
#include "walk-pages.h"

#if defined(__linux__)
// A function that cannot be made is not there, and the package does without it.
static void Export(Napi::Object exports, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, callback, nullptr, &function) ==
      napi_ok) {
    exports.Set(name, function);
  }
}
#endif

// No state but the instance data of an environment: the addon may be loaded by any number of
// environments and worker threads.
static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
#if defined(__linux__)
  Export(exports, "copyRange", CopyRange);
  Export(exports, "passBlocks", PassBlocks);
  Export(exports, "walkPages", WalkPages);
  const napi_value htab = CreateHtab(env);
  if (htab != nullptr) exports.Set("htab", htab);
  const napi_value child = htab == nullptr ? nullptr : CreateChild(env);
  if (child != nullptr) exports.Set("child", child);
#endif
  return exports;
}

NODE_API_MODULE(spapr_htab, Init)
