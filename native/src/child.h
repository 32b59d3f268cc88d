#pragma once

#if defined(__linux__)

#include <node_api.h>

// NativeChild of src/addon/load.ts, which says what each function takes and gives: what a program that
// this process starts is given as its standard input and output. nullptr when it cannot be made.
// After DefineNativeFile.
napi_value CreateChild(napi_env env);

#endif
