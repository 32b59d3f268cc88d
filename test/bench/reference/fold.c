/*
 * fold ORDER INPUT: applies blocks of the kernel, headers little-endian, to a table in memory, and
 * says how many of its entries have V.
 */
#include "io.h"

static struct input in;
static const unsigned char none[HPTE];

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: fold ORDER INPUT");
    uint64_t slots = UINT64_C(1) << (atoi(argv[1]) - 4);
    unsigned char *table = calloc(slots, HPTE);
    if (table == NULL)
        die("no memory for the table");
    in.fd = open_input(argv[2]);
    while (have(&in, HEADER)) {
        const unsigned char *header = in.bytes + in.at;
        uint64_t index = le32(header), valid = le16(header + 4), invalid = le16(header + 6);
        if (index + valid + invalid > slots)
            die("a block reaches beyond the table");
        in.at += HEADER;
        need(&in, valid * HPTE);
        memcpy(table + index * HPTE, in.bytes + in.at, valid * HPTE);
        in.at += valid * HPTE;
        /* A slot that is empty is not touched: a new table has no memory there. */
        for (uint64_t i = index + valid; i < index + valid + invalid; i++)
            if (memcmp(table + i * HPTE, none, HPTE) != 0)
                memset(table + i * HPTE, 0, HPTE);
    }
    if (in.end != in.at)
        die("the input ends within a block");
    uint64_t count = 0;
    for (uint64_t i = 0; i < slots; i++)
        count += table[i * HPTE + 7] & 1;
    printf("%llu\n", (unsigned long long)count);
    return 0;
}
