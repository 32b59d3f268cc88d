#include "bus-guard.h"

#if defined(__linux__)

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <pthread.h>

namespace {

struct Guarded {
  // The thread that works there: only that one touches what follows, in its handler too.
  std::atomic<pthread_t> owner{};
  uintptr_t begin = 0;
  uintptr_t end = 0;
  sigjmp_buf back;
};
constexpr pthread_t kNobody{};

// As many at once as threads of the pool may walk; one that finds no place reads in the plain way.
Guarded guarded[64];
struct sigaction before;

// What this thread works on, where the address is in it.
Guarded* Find(uintptr_t address) {
  for (Guarded& one : guarded) {
    if (one.owner.load(std::memory_order_relaxed) != pthread_self()) continue;
    return address >= one.begin && address < one.end ? &one : nullptr;
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
    pthread_t nobody = kNobody;
    if (!one.owner.compare_exchange_strong(nobody, pthread_self())) continue;
    one.begin = reinterpret_cast<uintptr_t>(bytes);
    one.end = one.begin + static_cast<uintptr_t>(length);
    const bool whole = sigsetjmp(one.back, 1) == 0;
    if (whole) work(context);
    one.begin = one.end = 0;
    one.owner.store(kNobody, std::memory_order_release);
    return whole;
  }
  return false;
}

#endif
