#pragma once

#if defined(__linux__)

#include <pthread.h>

// Of libuv, which Node exports, and not pthread_create: built with a newer glibc, that is a symbol
// which Node itself does not need, as std::thread and std::condition_variable are of the C++ library.
extern "C" {
int uv_thread_create(pthread_t* thread, void (*entry)(void*), void* argument) __attribute__((weak));
int uv_thread_join(pthread_t* thread) __attribute__((weak));
}

// A thread beside the one that works already. Where it cannot be had, there is one thread.
class SecondThread {
 public:
  SecondThread() = default;
  SecondThread(const SecondThread&) = delete;
  SecondThread& operator=(const SecondThread&) = delete;
  ~SecondThread() { Join(); }

  template <typename Worker, void (Worker::*kRun)()>
  bool Start(Worker* worker) {
    running_ = uv_thread_create != nullptr && uv_thread_join != nullptr &&
               uv_thread_create(&thread_, [](void* it) { (static_cast<Worker*>(it)->*kRun)(); },
                                worker) == 0;
    return running_;
  }
  bool running() const { return running_; }
  void Join() {
    if (running_) uv_thread_join(&thread_);
    running_ = false;
  }

 private:
  pthread_t thread_{};
  bool running_ = false;
};

#endif
