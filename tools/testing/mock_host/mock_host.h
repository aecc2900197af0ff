/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_MOCK_HOST_H
#define _DRCACHE_MOCK_HOST_H

#include <linux/types.h>

void mock_host_fail(int err);
bool mock_host_hooked(void);
void mock_host_exit_here(u64 exit_rax, u64 entry_rcx);
int mock_host_exit(unsigned int cpu, u64 exit_rax, u64 entry_rcx);

#endif /* _DRCACHE_MOCK_HOST_H */
