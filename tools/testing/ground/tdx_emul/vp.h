/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TDX_EMUL_VP_H
#define _TDX_EMUL_VP_H

#include <linux/types.h>
#include <asm/msr.h>

struct page;
struct tdx_l2_enter_guest_state;
struct tdx_vp_enter_regs;

/* The DEBUGCTL bits that every CPU has: LBR, and single step on branches. */
#define TDX_EMUL_DEBUGCTL_MASK	(BIT(0) | BIT(1))

void tdx_emul_vmrun(struct tdx_l2_enter_guest_state *gprs, u64 vmcb_pa, u64 host_pa);

/* In two halves: 6.16 renamed the accessors of 64-bit MSRs. */
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

void tdx_emul_vp_init(void);

int svm_check(void);
int svm_init(void);
void svm_fini(void);
void svm_reset(void);
int svm_set_memory(struct page **pages, unsigned long nr_pages);
bool svm_enter(unsigned int vm, struct tdx_l2_enter_guest_state *state,
	       struct tdx_vp_enter_regs *regs);
void svm_exit_info(unsigned int vm, struct tdx_vp_enter_regs *regs);
u64 svm_read_field(unsigned int vm, u32 code);
void svm_write_field(unsigned int vm, u32 code, u64 val);

#endif /* _TDX_EMUL_VP_H */
