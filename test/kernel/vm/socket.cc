#include "socket.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "result.h"

namespace {

struct Service {
  int listener;
  int fd;
};

bool Send(int socket, int fd) {
  char byte = 0;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  return sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

void* Serve(void* data) {
  std::unique_ptr<Service> service(static_cast<Service*>(data));
  const int client = accept4(service->listener, nullptr, nullptr, SOCK_CLOEXEC);
  close(service->listener);
  if (client >= 0) {
    Send(client, service->fd);
    close(client);
  }
  close(service->fd);
  return nullptr;
}

}  // namespace

// (fd, path): whoever connects first gets a duplicate (SCM_RIGHTS), from a thread, so that it may be
// this process too. `@` in front: an abstract name.
Napi::Value ServeFd(const Napi::CallbackInfo& info) {
  const std::string path = info[1].As<Napi::String>();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return Result(info.Env(), -1);
  }
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  const socklen_t length = offsetof(sockaddr_un, sun_path) + path.size();
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int fd = fcntl(Descriptor(info[0]), F_DUPFD_CLOEXEC, 0);
  auto service = std::make_unique<Service>(Service{listener, fd});
  pthread_t thread;
  int error = 0;
  if (listener < 0 || fd < 0 ||
      bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(listener, 1) != 0) {
    error = errno;
  } else {
    error = pthread_create(&thread, nullptr, Serve, service.get());
  }
  if (error == 0) {
    pthread_detach(thread);
    service.release();
  } else {
    if (listener >= 0) close(listener);
    if (fd >= 0) close(fd);
  }
  errno = error;
  return Result(info.Env(), error == 0 ? 0 : -1);
}
