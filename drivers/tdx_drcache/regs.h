/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The only hardware access: DR0-DR3, DR6 and the time stamp counter.
 */
#ifndef _DRCACHE_REGS_H
#define _DRCACHE_REGS_H

#include <asm/msr.h>

#include "slot.h"

/*
 * Don't use get_debugreg(): with PARAVIRT_XXL it is an indirect call, and its asm
 * is not volatile for these registers, so the compiler may reuse the value of an
 * earlier read.
 */
#define drcache_read_db(n, val)	asm volatile("mov %%db" #n ", %0" : "=r" (val))

static __always_inline u64 drcache_read_dr6(void)
{
	u64 dr6;

	drcache_read_db(6, dr6);
	return dr6;
}

/*
 * Read this CPU's debug registers and time stamp counter. Neither MOV from DR nor RDTSC
 * exits from an L1 or an L2.
 */
static __always_inline void drcache_sample_read(struct drcache_sample *sample)
{
	drcache_read_db(0, sample->db0);
	drcache_read_db(1, sample->db1);
	drcache_read_db(2, sample->db2);
	drcache_read_db(3, sample->db3);
	sample->dr6 = drcache_read_dr6();
	sample->tsc = rdtsc();
}

#endif /* _DRCACHE_REGS_H */
