#pragma once

#if defined(__linux__)

#include <node_api.h>

// passBlocks(inFd, inOffset, outFd, outOffset, length, slots, fromLittle, toLittle)
//   → Promise<{ bytes, blocks, valid, errno, reading }>
//
// Copies HTAB blocks of a file into another on a thread of the pool, and a second one that writes,
// with the three numbers of their headers in the byte order that is wanted. Numbers are integers from
// 0 to 2^53 - 1, and both descriptors stay open until the promise settles: it is never rejected.
//
// Stops in front of a block {0,0,0}, of one that reaches beyond `slots`, of one that the range does
// not have whole, and where the file ends: what that means is for the caller to say.
//
// `bytes`: of whole blocks, from the beginning of the range; behind them, more may have been written.
// `blocks`, `valid`: how many those are, and the entries in them. `reading`: whether it was the input
// that failed.
napi_value PassBlocks(napi_env env, napi_callback_info info);

#endif
