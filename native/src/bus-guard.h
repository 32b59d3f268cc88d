#pragma once

#if defined(__linux__)

#include <cstdint>

// Reading the mapping of a file whose pages may be gone. Where the file was cut off meanwhile, or its
// device fails, the kernel raises SIGBUS, which would end the process: the guard ends the work instead.
//
// The handler is installed once for the process, when it is first needed, and stays. What was installed
// before it is called for every SIGBUS that is not from a guarded mapping.
class BusGuard {
 public:
  // False where there is no handler, or another one was installed since: mappings must not be used.
  static bool Ready();

  // Calls work(context), which reads from `bytes` on, `length` bytes at most. False when it was ended in
  // the middle, or could not be guarded. `work` is left without any destructor being run.
  static bool Run(const char* bytes, int64_t length, void (*work)(void*), void* context);
};

#endif
