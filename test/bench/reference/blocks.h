/* Passing blocks of an HPT from a file to another, with their headers turned round. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "io.h"

/*
 * Copies blocks until the end of the file or, where there is one, the end mark {0,0,0}, which is
 * taken and not written. `little` says what the headers are; they come out the other way round.
 */
static inline void copy_blocks(struct input *in, int out, int little, int marked, uint64_t slots)
{
    for (;;) {
        /* Whole blocks of what is there; one that is not whole waits for the next read. */
        size_t from = in->at, at = from;
        size_t wanted = HEADER;
        int ended = 0;
        while (in->end - at >= HEADER) {
            unsigned char *header = in->bytes + at;
            uint64_t index = little ? le32(header) : be32(header);
            uint64_t valid = little ? le16(header + 4) : be16(header + 4);
            uint64_t invalid = little ? le16(header + 6) : be16(header + 6);
            if (marked && index + valid + invalid == 0) {
                ended = 1;
                break;
            }
            if (index + valid + invalid > slots)
                die("a block reaches beyond the table");
            wanted = HEADER + valid * HPTE;
            if (in->end - at < wanted)
                break;
            turn(header);
            at += wanted;
            wanted = HEADER;
        }
        put(out, in->bytes + from, at - from);
        in->at = at;
        if (ended) {
            in->at += HEADER;
            return;
        }
        if (!have(in, wanted)) {
            if (marked || in->end != in->at)
                die("the input ends within blocks");
            return;
        }
    }
}

#endif
