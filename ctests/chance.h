/* Choices that a seed repeats. Each process has its own. */
#ifndef SHMSLOT_CTESTS_CHANCE_H
#define SHMSLOT_CTESTS_CHANCE_H

#include "check.h"

static uint64_t chance_state;

static inline uint64_t chance(uint64_t below)
{
    chance_state ^= chance_state >> 12;
    chance_state ^= chance_state << 25;
    chance_state ^= chance_state >> 27;
    return (chance_state * UINT64_C(0x2545f4914f6cdd1d) >> 16) % below;
}

static inline void seed_chance(uint64_t seed)
{
    int i;
    chance_state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (i = 0; i < 8; i++) (void)chance(2);
}

#endif
