#include "property.h"

struct random random_of(uint64_t seed)
{
    struct random r = {seed * 2 + 1};
    for (int i = 0; i < 4; i++)
        (void)pick(&r, 2);
    return r;
}

/* splitmix64 */
unsigned pick(struct random *r, unsigned n)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((z ^ z >> 31) >> 33) % n;
}
