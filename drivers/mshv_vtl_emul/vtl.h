/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MSHV_VTL_EMUL_VTL_H
#define _MSHV_VTL_EMUL_VTL_H

int vtl_create(void);
int vtl_init(void);
void vtl_fini(void);

#endif /* _MSHV_VTL_EMUL_VTL_H */
