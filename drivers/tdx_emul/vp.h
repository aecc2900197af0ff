/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TDX_EMUL_VP_H
#define _TDX_EMUL_VP_H

#include <linux/types.h>

struct page;
struct tdx_l2_enter_guest_state;

void tdx_emul_vmrun(struct tdx_l2_enter_guest_state *gprs, u64 vmcb_pa, u64 host_pa);

int tdx_emul_vp_init(void);
void tdx_emul_vp_fini(void);
int tdx_emul_vp_online(unsigned int cpu);
int tdx_emul_vp_offline(unsigned int cpu);

#endif /* _TDX_EMUL_VP_H */
