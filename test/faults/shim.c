// Preloaded into the command, this makes operations on the files beneath one folder fail, fall short,
// or end the process, and writes down every one. Whatever asks for them, Node's libuv or the addon, calls
// the C library; what libuv asks of the kernel by number goes through its syscall().
//
//   FAULTS_FOLDER  absolute path; files beneath it are watched, and the folder itself
//   FAULTS_LOG     a file that gets a line for each operation: number or -, outcome, name, path, details
//   FAULTS_ON      names of the operations that are numbered, with commas around each; all where unset
//   FAULTS_AT      number of the one that is hit, from 1; none where unset
//   FAULTS_HOW     name of an errno, or `short` (half of what was asked for), `kill` (SIGKILL in place of the
//                  operation), `torn` (SIGKILL after half of it)
//   FAULTS_ALWAYS  set: all from that number on
//   FAULTS_HTAB    a file that passes for an HTAB fd, as far as /proc tells
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 4096
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char folder[4096];
static size_t folder_length;
static char htab[4096];
static char on[1024];
static int log_fd = -1;
static long at;
static bool always;
static enum { ERROR, SHORT, KILL, TORN } how;
static int error_number;
static atomic_long count;
/** What each descriptor is of: 0 is nothing that is watched. */
static char* _Atomic names[MOST_FDS];

enum verdict { GO, FAIL, HALF, HALF_AND_DIE };

static const struct {
  const char* name;
  int number;
} kErrors[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EINTR", EINTR}, {"EDQUOT", EDQUOT},
               {"EACCES", EACCES}, {"EPERM", EPERM},   {"EROFS", EROFS}, {"EXDEV", EXDEV},
               {"ENOMEM", ENOMEM}, {"ESTALE", ESTALE}};

static void text(char* target, size_t size, const char* variable) {
  const char* const value = getenv(variable);
  if (value != NULL) snprintf(target, size, "%s", value);
  unsetenv(variable);
}

__attribute__((constructor)) static void begin(void) {
  char path[4096] = "";
  char word[32] = "";
  text(folder, sizeof(folder), "FAULTS_FOLDER");
  folder_length = strlen(folder);
  text(htab, sizeof(htab), "FAULTS_HTAB");
  text(on, sizeof(on), "FAULTS_ON");
  text(word, sizeof(word), "FAULTS_AT");
  at = atol(word);
  word[0] = '\0';
  text(word, sizeof(word), "FAULTS_ALWAYS");
  always = word[0] != '\0';
  text(word, sizeof(word), "FAULTS_HOW");
  how = strcmp(word, "short") == 0 ? SHORT : strcmp(word, "kill") == 0 ? KILL : strcmp(word, "torn") == 0 ? TORN : ERROR;
  for (size_t i = 0; i < sizeof(kErrors) / sizeof(kErrors[0]); i++) {
    if (strcmp(word, kErrors[i].name) == 0) error_number = kErrors[i].number;
  }
  text(path, sizeof(path), "FAULTS_LOG");
  // Programs that the command starts are their own masters.
  unsetenv("LD_PRELOAD");
  if (at > 0 && how == ERROR && error_number == 0) _exit(125);
  const int made = NEXT(open64)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  log_fd = fcntl(made, F_DUPFD_CLOEXEC, 1000);
  NEXT(close)(made);
}

static bool beneath(const char* path) {
  return folder_length > 0 && path != NULL && strncmp(path, folder, folder_length) == 0 &&
         (path[folder_length] == '/' || path[folder_length] == '\0');
}

static const char* name_of(int fd) {
  return fd >= 0 && fd < MOST_FDS ? names[fd] : NULL;
}

static void watch(int fd, const char* path) {
  if (fd >= 0 && fd < MOST_FDS) names[fd] = strdup(path);
}

/** What happens to an operation; errno is set where it fails. Does not return where it is the last one. */
static enum verdict step(const char* operation, const char* path, const char* details) {
  char key[64];
  snprintf(key, sizeof(key), ",%s,", operation);
  const bool counted = on[0] == '\0' || strstr(on, key) != NULL;
  const long number = counted ? atomic_fetch_add(&count, 1) + 1 : 0;
  const bool hit = at > 0 && counted && (number == at || (always && number > at));
  char line[8192];
  const int length =
      counted ? snprintf(line, sizeof(line), "%ld\t%s\t%s\t%s\t%s\n", number, hit ? "hit" : "ok",
                         operation, path, details)
              : snprintf(line, sizeof(line), "-\tok\t%s\t%s\t%s\n", operation, path, details);
  if (NEXT(write)(log_fd, line, length) != length) _exit(125);
  if (!hit) return GO;
  switch (how) {
    case ERROR:
      errno = error_number;
      return FAIL;
    case SHORT:
      return HALF;
    case TORN:
      return HALF_AND_DIE;
    default:
      kill(getpid(), SIGKILL);
      for (;;) pause();
  }
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static size_t half(size_t length) { return length > 1 ? length / 2 : length; }

static int opened(int fd, const char* path) {
  if (fd >= 0) watch(fd, path);
  return fd;
}

static mode_t mode_of(int flags, va_list rest) {
  return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                            \
  int name(const char* path, int flags, ...) {                                \
    va_list rest;                                                             \
    va_start(rest, flags);                                                    \
    const mode_t mode = mode_of(flags, rest);                                 \
    va_end(rest);                                                             \
    if (!beneath(path)) return NEXT(name)(path, flags, mode);                 \
    char details[64];                                                         \
    snprintf(details, sizeof(details), "flags=%#x mode=%#o", flags, mode);    \
    const char* const what = (flags & O_CREAT) != 0 ? "create" : "open";      \
    if (step(what, path, details) == FAIL) return -1;                         \
    return opened(NEXT(name)(path, flags, mode), path);                       \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                          \
  int name(int at_fd, const char* path, int flags, ...) {                     \
    va_list rest;                                                             \
    va_start(rest, flags);                                                    \
    const mode_t mode = mode_of(flags, rest);                                 \
    va_end(rest);                                                             \
    if (!beneath(path)) return NEXT(name)(at_fd, path, flags, mode);          \
    char details[64];                                                         \
    snprintf(details, sizeof(details), "flags=%#x mode=%#o", flags, mode);    \
    const char* const what = (flags & O_CREAT) != 0 ? "create" : "open";      \
    if (step(what, path, details) == FAIL) return -1;                         \
    return opened(NEXT(name)(at_fd, path, flags, mode), path);                \
  }
OPENAT(openat)
OPENAT(openat64)

DIR* opendir(const char* path) {
  if (!beneath(path)) return NEXT(opendir)(path);
  return step("opendir", path, "") == FAIL ? NULL : NEXT(opendir)(path);
}

/** The descriptor is gone, whatever close(2) says (Linux). */
#define CLOSE(fd, real)                                                       \
  char* const path = atomic_exchange(&names[fd], NULL);                       \
  const enum verdict verdict = step("close", path, "");                       \
  const int error = errno;                                                    \
  free(path);                                                                 \
  const long result = (real);                                                 \
  if (verdict != FAIL) return result;                                         \
  errno = error;                                                              \
  return -1;

int close(int fd) {
  if (name_of(fd) == NULL) return NEXT(close)(fd);
  CLOSE(fd, NEXT(close)(fd))
}

#define TRANSFER(type, name, word, parameters, arguments, halved)             \
  type name parameters {                                                      \
    const char* const path = name_of(fd);                                     \
    if (path == NULL) return NEXT(name) arguments;                            \
    char details[64];                                                         \
    snprintf(details, sizeof(details), "length=%zu", (size_t)length);         \
    switch (step(word, path, details)) {                                      \
      case FAIL:                                                              \
        return -1;                                                            \
      case HALF:                                                              \
        return NEXT(name) halved;                                             \
      case HALF_AND_DIE:                                                      \
        NEXT(name) halved;                                                    \
        die();                                                                \
        return -1;                                                            \
      default:                                                                \
        return NEXT(name) arguments;                                          \
    }                                                                         \
  }
TRANSFER(ssize_t, read, "read", (int fd, void* bytes, size_t length), (fd, bytes, length),
         (fd, bytes, half(length)))
TRANSFER(ssize_t, pread, "pread", (int fd, void* bytes, size_t length, off_t from),
         (fd, bytes, length, from), (fd, bytes, half(length), from))
TRANSFER(ssize_t, pread64, "pread", (int fd, void* bytes, size_t length, off64_t from),
         (fd, bytes, length, from), (fd, bytes, half(length), from))
TRANSFER(ssize_t, write, "write", (int fd, const void* bytes, size_t length), (fd, bytes, length),
         (fd, bytes, half(length)))
TRANSFER(ssize_t, pwrite, "pwrite", (int fd, const void* bytes, size_t length, off_t from),
         (fd, bytes, length, from), (fd, bytes, half(length), from))
TRANSFER(ssize_t, pwrite64, "pwrite", (int fd, const void* bytes, size_t length, off64_t from),
         (fd, bytes, length, from), (fd, bytes, half(length), from))

#define OF_FD(name, word, parameters, arguments)                              \
  int name parameters {                                                       \
    const char* const path = name_of(fd);                                     \
    if (path != NULL && step(word, path, "") == FAIL) return -1;              \
    return NEXT(name) arguments;                                              \
  }
OF_FD(ftruncate, "ftruncate", (int fd, off_t size), (fd, size))
OF_FD(ftruncate64, "ftruncate", (int fd, off64_t size), (fd, size))
OF_FD(fsync, "fsync", (int fd), (fd))
OF_FD(fdatasync, "fsync", (int fd), (fd))
OF_FD(fallocate, "fallocate", (int fd, int mode, off_t from, off_t length), (fd, mode, from, length))
OF_FD(fallocate64, "fallocate", (int fd, int mode, off64_t from, off64_t length),
      (fd, mode, from, length))

#define LSEEK(name, type)                                                     \
  type name(int fd, type offset, int whence) {                                \
    const char* const path = name_of(fd);                                     \
    if (path != NULL && step("lseek", path, "") == FAIL) return -1;           \
    return NEXT(name)(fd, offset, whence);                                    \
  }
LSEEK(lseek, off_t)
LSEEK(lseek64, off64_t)

#define MMAP(name, type)                                                      \
  void* name(void* to, size_t length, int protection, int flags, int fd, type offset) { \
    const char* const path = name_of(fd);                                     \
    if (path != NULL && step("mmap", path, "") == FAIL) return MAP_FAILED;    \
    return NEXT(name)(to, length, protection, flags, fd, offset);             \
  }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

int ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  const char* const path = name_of(fd);
  if (path != NULL && request == FICLONERANGE && step("clone", path, "") == FAIL) return -1;
  return NEXT(ioctl)(fd, request, argument);
}

#define TWO_PATHS(name, word)                                                 \
  int name(const char* from, const char* to) {                                \
    if (beneath(to) && step(word, to, from) == FAIL) return -1;               \
    return NEXT(name)(from, to);                                              \
  }
TWO_PATHS(rename, "rename")
TWO_PATHS(link, "link")

int unlink(const char* path) {
  if (beneath(path) && step("unlink", path, "") == FAIL) return -1;
  return NEXT(unlink)(path);
}

ssize_t readlink(const char* path, char* target, size_t size) {
  if (beneath(path) && step("readlink", path, "") == FAIL) return -1;
  const ssize_t length = NEXT(readlink)(path, target, size);
  static const char kOwn[] = "/proc/self/fd/";
  static const char kHtab[] = "anon_inode:kvm-htab";
  if (length <= 0 || htab[0] == '\0' || strncmp(path, kOwn, strlen(kOwn)) != 0) return length;
  if ((size_t)length != strlen(htab) || memcmp(target, htab, length) != 0) return length;
  watch(atoi(path + strlen(kOwn)), htab);
  memcpy(target, kHtab, strlen(kHtab));
  return (ssize_t)strlen(kHtab);
}

int statx(int at_fd, const char* restrict path, int flags, unsigned mask, struct statx* restrict result) {
  const char* const what = path[0] == '\0' ? name_of(at_fd) : beneath(path) ? path : NULL;
  if (what != NULL && step("stat", what, "") == FAIL) return -1;
  return NEXT(statx)(at_fd, path, flags, mask, result);
}

long syscall(long number, ...) {
  va_list rest;
  va_start(rest, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
  va_end(rest);
  const int fd = (int)a[0];
  const char* path;
  if (number == SYS_statx) {
    path = (const char*)a[1];
    path = path == NULL || path[0] == '\0' ? name_of(fd) : beneath(path) ? path : NULL;
    if (path != NULL && step("stat", path, "") == FAIL) return -1;
  } else if (number == SYS_close && name_of(fd) != NULL) {
    CLOSE(fd, NEXT(syscall)(number, a[0]))
  } else if (number == SYS_copy_file_range) {
    path = name_of((int)a[2]);
    char details[64];
    snprintf(details, sizeof(details), "length=%ld", a[4]);
    const enum verdict verdict = path == NULL ? GO : step("copy", path, details);
    if (verdict == FAIL) return -1;
    if (verdict != GO) a[4] = (long)half((size_t)a[4]);
    const long result = NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (verdict == HALF_AND_DIE) die();
    return result;
  }
  return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
