#pragma once

#if defined(__linux__)

#include <node_api.h>

#include "descriptor.h"

// NativeFile of src/addon/load.ts: an object of JavaScript that holds a descriptor, until it is
// closed or collected or its environment ends. Calls on it that are in flight hold it too.

// Makes the class, once for each environment, whose instance data it is.
bool DefineNativeFile(napi_env env);

// nullptr when it cannot be made; the descriptor is let go of then.
napi_value NewNativeFile(napi_env env, Descriptor descriptor);

// NativeOpen of src/addon/load.ts: { file, errno: 0 } or { errno }. nullptr when it cannot be made.
napi_value NativeOpenOf(napi_env env, Opened opened);

// What a NativeFile holds, none once it is closed. False for every other value.
bool DescriptorOf(napi_env env, napi_value value, Descriptor* descriptor);

#endif
