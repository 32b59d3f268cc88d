/* Reading and writing with a buffer of 1 MiB, and numbers of either byte order. */
#ifndef IO_H
#define IO_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, HPTE = 16, HEADER = 8 };

static inline _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline uint16_t be16(const unsigned char *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint16_t le16(const unsigned char *p) { return (uint16_t)(p[1] << 8 | p[0]); }
static inline uint32_t be32(const unsigned char *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static inline uint32_t le32(const unsigned char *p) { return (uint32_t)le16(p + 2) << 16 | le16(p); }
static inline uint64_t be64(const unsigned char *p) { return (uint64_t)be32(p) << 32 | be32(p + 4); }

/* Turns the three numbers of a block header round: u32, u16, u16. */
static inline void turn(unsigned char *p)
{
    uint32_t index;
    uint16_t counts[2];
    memcpy(&index, p, sizeof index);
    memcpy(counts, p + 4, sizeof counts);
    index = __builtin_bswap32(index);
    counts[0] = __builtin_bswap16(counts[0]);
    counts[1] = __builtin_bswap16(counts[1]);
    memcpy(p, &index, sizeof index);
    memcpy(p + 4, counts, sizeof counts);
}

struct input {
    int fd;
    size_t at, end;
    /* Two buffers' room: what is left of one and the next read. */
    unsigned char bytes[2 * BUFFER];
};

/* Makes n bytes available at bytes[at], n at most BUFFER; 0 where the file ends before. */
static inline int have(struct input *in, size_t n)
{
    if (in->end - in->at >= n)
        return 1;
    memmove(in->bytes, in->bytes + in->at, in->end - in->at);
    in->end -= in->at;
    in->at = 0;
    while (in->end < n) {
        ssize_t got = read(in->fd, in->bytes + in->end, BUFFER);
        if (got < 0)
            die("cannot read");
        if (got == 0)
            return 0;
        in->end += (size_t)got;
    }
    return 1;
}

static inline void need(struct input *in, size_t n)
{
    if (!have(in, n))
        die("the input ends too early");
}

static inline void skip(struct input *in, uint64_t n)
{
    size_t buffered = in->end - in->at;
    if (n <= buffered) {
        in->at += n;
        return;
    }
    if (lseek(in->fd, (off_t)(n - buffered), SEEK_CUR) < 0)
        die("cannot seek");
    in->at = in->end = 0;
}

static inline void put(int fd, const unsigned char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0)
            die("cannot write");
        bytes += done;
        n -= (size_t)done;
    }
}

static inline int open_input(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        die("cannot open the input");
    return fd;
}

static inline int open_output(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die("cannot create the output");
    return fd;
}

#endif
