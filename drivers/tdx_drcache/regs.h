/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The only hardware access: DR0-DR3, DR6 and the time stamp counter.
 */
#ifndef _DRCACHE_REGS_H
#define _DRCACHE_REGS_H

#include <asm/msr.h>
#include <uapi/linux/tdx_drcache.h>

/*
 * Not get_debugreg(): with PARAVIRT_XXL it is an indirect call, and the asm
 * behind it is not volatile for these registers, so that the compiler may take
 * the value of an earlier read.
 */
#define drcache_read_db(n, val)	asm volatile("mov %%db" #n ", %0" : "=r" (val))

/*
 * Read what this CPU holds. MOV from DR does not exit from an L1 or an L2, and
 * neither does RDTSC.
 */
static __always_inline void drcache_regs_read(struct tdx_drcache_slot *snap)
{
	drcache_read_db(0, snap->db[0]);
	drcache_read_db(1, snap->db[1]);
	drcache_read_db(2, snap->db[2]);
	drcache_read_db(3, snap->db[3]);
	drcache_read_db(6, snap->dr6);
	snap->tsc = rdtsc();
}

#endif /* _DRCACHE_REGS_H */
