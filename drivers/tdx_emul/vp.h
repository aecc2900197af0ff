/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TDX_EMUL_VP_H
#define _TDX_EMUL_VP_H

#include <linux/types.h>
#include <asm/msr.h>

struct page;
struct tdx_l2_enter_guest_state;

void tdx_emul_vmrun(struct tdx_l2_enter_guest_state *gprs, u64 vmcb_pa, u64 host_pa);

/* By halves: the names of the accessors of whole MSRs changed in 6.16. */
static inline u64 read_msr(u32 msr)
{
	u32 low, high;

	rdmsr(msr, low, high);
	return (u64)high << 32 | low;
}

static inline void write_msr(u32 msr, u64 val)
{
	wrmsr(msr, (u32)val, (u32)(val >> 32));
}

int tdx_emul_vp_init(void);
void tdx_emul_vp_fini(void);
int tdx_emul_vp_online(unsigned int cpu);
int tdx_emul_vp_offline(unsigned int cpu);

#endif /* _TDX_EMUL_VP_H */
