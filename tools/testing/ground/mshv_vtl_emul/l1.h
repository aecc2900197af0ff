/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MSHV_VTL_EMUL_L1_H
#define _MSHV_VTL_EMUL_L1_H

void l1_after_exit(void);
void l1_init(void);
void l1_fini(void);

#endif /* _MSHV_VTL_EMUL_L1_H */
