#include <napi.h>

#include "probe.h"

// No state: the addon may be loaded by any number of environments and worker threads.
static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
  return exports;
}

NODE_API_MODULE(spapr_htab, Init)
