/*
 * walk INPUT OUTPUT: finds the HPT in a migration stream, and writes its blocks with little-endian
 * headers. It reads a stream with footers from its first element to its end mark; of mapped-ram it
 * passes over the pages. Device sections end where their footer is found.
 */
#include "blocks.h"

static struct input in;
static int out;
static int mapped, shared;
static uint64_t slots;
/* What is known by its id: 1 ram, 2 spapr/htab. */
static unsigned char names[65536];

static uint32_t u8(void) { need(&in, 1); return in.bytes[in.at++]; }
static uint32_t u32(void) { need(&in, 4); in.at += 4; return be32(in.bytes + in.at - 4); }
static uint64_t u64(void) { need(&in, 8); in.at += 8; return be64(in.bytes + in.at - 8); }

static uint64_t position(void)
{
    return (uint64_t)lseek(in.fd, 0, SEEK_CUR) - (in.end - in.at);
}

static void pass(size_t n)
{
    need(&in, n);
    in.at += n;
}

static void configuration(void)
{
    pass(u32());
    for (;;) {
        need(&in, 2);
        if (in.bytes[in.at] != 5 || !have(&in, 32) ||
            memcmp(in.bytes + in.at + 2, "configuration/", 14) != 0)
            return;
        pass(1);
        uint32_t length = u8();
        pass(length);
        if (memcmp(in.bytes + in.at - length, "configuration/capabilities", length) != 0)
            die("this subsection of the configuration is not known here");
        pass(4);
        for (uint32_t left = u32(); left > 0; left--) {
            length = u8();
            pass(length);
            const unsigned char *name = in.bytes + in.at - length;
            mapped |= length == 10 && memcmp(name, "mapped-ram", 10) == 0;
            shared |= length == 15 && memcmp(name, "x-ignore-shared", 15) == 0;
        }
    }
}

static void ram_blocks(uint64_t total)
{
    while (total > 0) {
        pass(u8());
        uint64_t used = u64();
        total -= used;
        if (shared)
            pass(8);
        if (!mapped)
            continue;
        pass(4 + 8 + 8);
        uint64_t pages = u64();
        skip(&in, pages + used - position());
    }
}

static void ram(void)
{
    enum { ZERO = 2, SIZE = 4, PAGE = 8, EOS = 16, SAME = 32, MASK = 4095 };
    for (;;) {
        uint64_t word = u64();
        uint32_t flags = word & MASK;
        if ((flags & ~SAME) == PAGE || (flags & ~SAME) == ZERO) {
            if (!(flags & SAME))
                pass(u8());
            pass(flags & PAGE ? 4096 : 1);
        } else if (flags == SIZE) {
            ram_blocks(word - flags);
        } else if (flags == EOS) {
            return;
        } else {
            die("this word of ram is not known here");
        }
    }
}

static void htab(void)
{
    uint32_t word = u32();
    if (word == 0)
        copy_blocks(&in, out, 0, 1, slots);
    else if (word != UINT32_MAX)
        slots = UINT64_C(1) << (word - 4);
}

/* The payload of a device: up to the footer and an element behind it. */
static void device(uint32_t id)
{
    unsigned char footer[5] = {0x7e, (unsigned char)(id >> 24), (unsigned char)(id >> 16),
                               (unsigned char)(id >> 8), (unsigned char)id};
    for (;;) {
        have(&in, BUFFER);
        size_t length = in.end - in.at;
        unsigned char *found = memmem(in.bytes + in.at, length, footer, sizeof footer);
        if (found == NULL) {
            if (length < sizeof footer)
                die("a footer is missing");
            in.at = in.end - (sizeof footer - 1);
            continue;
        }
        in.at = (size_t)(found - in.bytes);
        if (have(&in, 6) && in.bytes[in.at + 5] <= 8)
            return;
        in.at += 1;
    }
}

static void section(uint32_t type)
{
    uint32_t id = u32();
    if (type == 1 || type == 4) {
        uint32_t length = u8();
        pass(length);
        const unsigned char *name = in.bytes + in.at - length;
        names[id & 65535] = length == 3 && memcmp(name, "ram", 3) == 0            ? 1
                            : length == 10 && memcmp(name, "spapr/htab", 10) == 0 ? 2
                                                                                   : 0;
        pass(8);
    }
    if (type == 4 || names[id & 65535] == 0)
        device(id);
    else if (names[id & 65535] == 1)
        ram();
    else
        htab();
    pass(5);
    if (in.bytes[in.at - 5] != 0x7e || be32(in.bytes + in.at - 4) != id)
        die("a footer is wrong");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: walk INPUT OUTPUT");
    in.fd = open_input(argv[1]);
    out = open_output(argv[2]);
    if (u32() != 0x5145564d || u32() != 3)
        die("no migration stream");
    for (;;) {
        uint32_t type = u8();
        if (type == 0)
            return 0;
        if (type == 7) {
            configuration();
        } else if (type == 8) {
            pass(2);
            uint32_t high = u8();
            pass(high << 8 | u8());
        } else if (type >= 1 && type <= 4) {
            section(type);
        } else {
            die("no element begins so");
        }
    }
}
