/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The registers at exit n of stress.c, shared with the reader in user space.
 */
#ifndef _DRCACHE_STRESS_H
#define _DRCACHE_STRESS_H

#include <linux/types.h>

/* Each register has all bits of n, in a different place. */
static inline __u64 stress_db(__u64 n, unsigned int i)
{
	return (n << 8 | n >> 56) + (i + 1) * 0x0101010101010101ull;
}

/* Bits 3:0 of DR6 come from n; the rest is the reset value. */
#define STRESS_DR6_REST		0xffff0ff0ull

static inline __u64 stress_dr6(__u64 n)
{
	return STRESS_DR6_REST | (n & 0xf);
}

/* HW_INTERRUPT, with n in bits 30:16, which the module ignores. */
static inline __u64 stress_rax(__u64 n)
{
	return 0x110000000001ull | (n & 0x7fff) << 16;
}

#endif /* _DRCACHE_STRESS_H */
