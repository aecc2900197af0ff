/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where kernel versions differ. Each block names what changed, and when. No
 * other file here asks for the version.
 */
#ifndef _DRCACHE_COMPAT_H
#define _DRCACHE_COMPAT_H

#include <linux/mm.h>
#include <linux/version.h>
#include <asm/cpufeatures.h>

/* 6.3, bc292ab00f6c: vma->vm_flags is changed by vm_flags_*(). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

/* 6.8, 765a0542fdc7: the kernel says whether it is the host of TDX guests. */
#ifdef X86_FEATURE_TDX_HOST_PLATFORM
#define drcache_is_tdx_host()	boot_cpu_has(X86_FEATURE_TDX_HOST_PLATFORM)
#else
#define drcache_is_tdx_host()	false
#endif

#endif /* _DRCACHE_COMPAT_H */
