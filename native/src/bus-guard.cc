#include "bus-guard.h"

#if defined(__linux__)

#include <atomic>
#include <csetjmp>
#include <csignal>

namespace {

struct Guarded {
  // 0 while nobody uses it, 1 while it is being prepared.
  std::atomic<uintptr_t> begin{0};
  uintptr_t end = 0;
  sigjmp_buf back;
};
constexpr uintptr_t kFree = 0;
constexpr uintptr_t kPrepared = 1;

// As many at once as threads of the pool may walk; one that finds no place reads in the plain way.
Guarded guarded[64];
struct sigaction before;

// Only the thread that works on a mapping touches it: the address tells whose the signal is.
Guarded* Find(uintptr_t address) {
  for (Guarded& one : guarded) {
    const uintptr_t begin = one.begin.load(std::memory_order_acquire);
    if (begin > kPrepared && address >= begin && address < one.end) return &one;
  }
  return nullptr;
}

void Handle(int signal, siginfo_t* info, void* context) {
  // Only faults have an address (si_code above 0).
  Guarded* const one =
      info->si_code > 0 ? Find(reinterpret_cast<uintptr_t>(info->si_addr)) : nullptr;
  if (one != nullptr) siglongjmp(one->back, 1);
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
    // As if this handler had never been: a fault comes again by itself, another signal is sent again.
    sigaction(signal, &before, nullptr);
    if (info->si_code <= 0) raise(signal);
  } else {
    before.sa_handler(signal);
  }
}

bool Install() {
  struct sigaction action {};
  action.sa_sigaction = Handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, nullptr, &before) == 0 && sigaction(SIGBUS, &action, nullptr) == 0;
}

}  // namespace

bool BusGuard::Ready() {
  static const bool installed = Install();
  struct sigaction now {};
  return installed && sigaction(SIGBUS, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
         now.sa_sigaction == Handle;
}

bool BusGuard::Run(const char* bytes, int64_t length, void (*work)(void*), void* context) {
  for (Guarded& one : guarded) {
    uintptr_t free = kFree;
    if (!one.begin.compare_exchange_strong(free, kPrepared)) continue;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(bytes);
    one.end = begin + static_cast<uintptr_t>(length);
    const bool whole = sigsetjmp(one.back, 1) == 0;
    if (whole) {
      one.begin.store(begin, std::memory_order_release);
      work(context);
    }
    one.begin.store(kFree, std::memory_order_release);
    return whole;
  }
  return false;
}

#endif
