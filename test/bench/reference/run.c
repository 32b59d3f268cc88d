/*
 * Runs one program and says how long it took, from before it is started to its end, and the largest
 * resident set of it and its children: run [-i FILE] [-s OFFSET] [-o FILE] [-f FILE] -- PROGRAM...
 *
 *   -i  its standard input, from byte OFFSET on; /dev/null unless given
 *   -o  its standard output; /dev/null unless given
 *   -f  a file to sync before the time is taken: what is compared with does that too
 *
 * Standard error stays. The last line of standard output is "SECONDS KIB STATUS".
 *
 * A small process does this because Linux hands the peak of a process on to what it executes.
 */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(125);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sync_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fsync(fd) != 0)
        fail(path);
    close(fd);
}

static void become(const char *in, off_t offset, const char *out, char **command)
{
    int from = open(in, O_RDONLY);
    int to = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (from < 0 || (offset > 0 && lseek(from, offset, SEEK_SET) < 0))
        fail(in);
    if (to < 0)
        fail(out);
    if (dup2(from, 0) < 0 || dup2(to, 1) < 0)
        fail("dup2");
    close(from);
    close(to);
    execvp(command[0], command);
    fail(command[0]);
}

int main(int argc, char **argv)
{
    const char *in = "/dev/null", *out = "/dev/null", *synced = NULL;
    off_t offset = 0;
    int at = 1;
    for (; at + 1 < argc && strcmp(argv[at], "--") != 0; at += 2) {
        const char *value = argv[at + 1];
        switch (argv[at][1]) {
        case 'i': in = value; break;
        case 's': offset = (off_t)strtoll(value, NULL, 10); break;
        case 'o': out = value; break;
        case 'f': synced = value; break;
        default: fprintf(stderr, "no such option: %s\n", argv[at]); return 125;
        }
    }
    if (at + 1 >= argc) {
        fprintf(stderr, "usage: run [-i FILE] [-s OFFSET] [-o FILE] [-f FILE] -- PROGRAM...\n");
        return 125;
    }
    double begin = now();
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0)
        become(in, offset, out, argv + at + 1);
    int status;
    struct rusage usage;
    if (wait4(child, &status, 0, &usage) != child)
        fail("wait4");
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (synced != NULL && code == 0)
        sync_file(synced);
    printf("%.6f %ld %d\n", now() - begin, usage.ru_maxrss, code);
    return 0;
}
