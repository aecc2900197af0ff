/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between kernel versions. Each block names the change and its version. No
 * other file here tests the version.
 */
#ifndef _DRCACHE_COMPAT_H
#define _DRCACHE_COMPAT_H

#ifndef CONFIG_X86_64
#error "tdx_drcache requires x86-64, as a TDX trust domain does"
#endif

#include <linux/fprobe.h>
#include <linux/mm.h>
#include <linux/version.h>
#include <asm/hardirq.h>
#include <asm/cpufeatures.h>

/* 6.3: vm_flags_*() change vma->vm_flags. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

/* 6.8: the kernel has a feature bit for TDX hosts; commit 765a0542fdc7. */
#ifdef X86_FEATURE_TDX_HOST_PLATFORM
#define drcache_is_tdx_host()	boot_cpu_has(X86_FEATURE_TDX_HOST_PLATFORM)
#else
#define drcache_is_tdx_host()	false
#endif

/* Hyper-V's function, for symbol_get(); absent without CONFIG_HYPERV. */
bool hv_isolation_type_snp(void);

/*
 * 6.5: fprobe handlers take ret_ip. Older kernels have no fprobe hook.
 * 6.14: fprobe handlers take ftrace_regs instead of pt_regs.
 */
#if defined(CONFIG_FPROBE) && LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define DRCACHE_FPROBE
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
#define DRCACHE_FPROBE_EXIT_ARGS					\
	struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip, \
	struct ftrace_regs *fregs, void *data
#else
#define DRCACHE_FPROBE_EXIT_ARGS					\
	struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip, \
	struct pt_regs *regs, void *data
#endif

/*
 * True if the kernel may skip the exit handler where RCU is not watching.
 * Before 6.10: it always does.
 * 6.10: only if it is configured to check; commits b0e28a4b5bec ("ftrace: make extra
 * rcu_is_watching() validation check optional") and e03c05ac9813 ("rethook: honor
 * CONFIG_FTRACE_VALIDATE_RCU_IS_WATCHING in rethook_try_get()").
 * 6.14: fprobes use function graph tracing, not rethook. 7.3 skips the handler although
 * its configuration does not ask for the check, so assume the same for all of these.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define DRCACHE_FPROBE_NEEDS_RCU					\
	(IS_ENABLED(CONFIG_FTRACE_VALIDATE_RCU_IS_WATCHING) ||		\
	 IS_ENABLED(CONFIG_KPROBE_EVENTS_ON_NOTRACE))
#else
#define DRCACHE_FPROBE_NEEDS_RCU	true
#endif
#endif

/*
 * The number of function-call interrupts on this CPU. By 7.3 the members of irq_stat are
 * an array; inc_perf_irq_stat() came with that change, so test for it.
 */
#ifndef CONFIG_SMP
#define drcache_call_interrupts()	0
#elif defined(inc_perf_irq_stat)
#define drcache_call_interrupts()	this_cpu_read(irq_stat.counts[IRQ_COUNT_CALL_FUNCTION])
#else
#define drcache_call_interrupts()	this_cpu_read(irq_stat.irq_call_count)
#endif

#endif /* _DRCACHE_COMPAT_H */
