#pragma once

#if defined(__linux__)

#include <node_api.h>

// copyRange(inFd, inOffset, outFd, outOffset, length) → Promise<{ copied, shared, errno, reading }>
//
// Copies a range of one file into another on a thread of the pool. The offsets and the length
// are integers from 0 to 2^53 - 1, and both descriptors stay open until the promise
// settles: it is never rejected. What is a hole in the input is not written; the range of the output
// must be one that holds nothing yet, and its caller sets the file's size.
//
// `copied`: bytes from the beginning of the range, holes included; fewer than asked when the input
// ends or `errno` is not 0. `shared`: those of them whose blocks both files now share. `reading`:
// whether it was the input that failed.
napi_value CopyRange(napi_env env, napi_callback_info info);

#endif
