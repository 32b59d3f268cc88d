#pragma once

#if defined(__linux__)

#include <node_api.h>

// walkPages(fd, position, end, usedLength) → Promise<{ position, pages, zeroPages }>
//
// Passes over entries of pages in a section `ram` of a migration stream, on a thread of the pool.
// `position` is that of an entry's word; the file is looked at up to `end`. Passed over are entries of
// the block before (PAGE or ZERO, with CONTINUE) whose address is below `usedLength`: pages as they are,
// and pages of zeros. The walk stops in front of the first that is anything else, or not whole, or whose
// word cannot be read: what it is is for the caller to see. What stands in pages is not read.
//
// All are integers from 0 to 2^53 - 1, and the descriptor stays open until the promise settles: it is
// never rejected.
napi_value WalkPages(napi_env env, napi_callback_info info);

#endif
