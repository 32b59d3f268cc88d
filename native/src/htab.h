#pragma once

#if defined(__linux__)

#include <node_api.h>

// NativeHtab of src/addon/load.ts; nullptr when it cannot be made.
napi_value CreateHtab(napi_env env);

#endif
