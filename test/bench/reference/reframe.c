/*
 * reframe section|kernel ORDER INPUT OUTPUT: blocks of the kernel, headers little-endian, to
 * payloads of the section, or the other way.
 */
#include "blocks.h"

static struct input in;

static void to_section(int out, uint32_t order, uint64_t slots)
{
    unsigned char words[8] = {0, 0, 0, (unsigned char)order, 0, 0, 0, 0};
    unsigned char mark[HEADER] = {0};
    put(out, words, sizeof words);
    copy_blocks(&in, out, 1, 0, slots);
    put(out, mark, sizeof mark);
}

static void to_kernel(int out, uint64_t slots)
{
    while (have(&in, 4)) {
        uint32_t word = be32(in.bytes + in.at);
        in.at += 4;
        if (word == 0)
            copy_blocks(&in, out, 0, 1, slots);
        else if (word != UINT32_MAX)
            slots = UINT64_C(1) << (word - 4);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: reframe section|kernel ORDER INPUT OUTPUT");
    uint32_t order = (uint32_t)atoi(argv[2]);
    uint64_t slots = UINT64_C(1) << (order - 4);
    in.fd = open_input(argv[3]);
    int out = open_output(argv[4]);
    if (strcmp(argv[1], "section") == 0)
        to_section(out, order, slots);
    else
        to_kernel(out, slots);
    return 0;
}
