#pragma once

#if defined(__linux__)

#include <node_api.h>

#include "arguments.h"
#include "descriptor.h"

// read, write and writeBlocks of a NativeFile: each gives the promise, or throws for arguments that
// it does not take. The bytes are copied, in or out, on the thread of JavaScript.
using BeginTransfer = napi_value (*)(const Arguments& arguments, const Descriptor& descriptor);

napi_value BeginRead(const Arguments& arguments, const Descriptor& descriptor);
napi_value BeginWrite(const Arguments& arguments, const Descriptor& descriptor);
napi_value BeginWriteBlocks(const Arguments& arguments, const Descriptor& descriptor);

#endif
