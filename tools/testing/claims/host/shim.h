/* SPDX-License-Identifier: GPL-2.0 */
/*
 * In place of the headers of Hyper-V, and of those that 6.12 lacks: a trust domain whose
 * hypervisor does nothing. Only what the driver's TDX path reaches does anything; the
 * rest lets the driver compile.
 */
#ifndef _CLAIMS_HOST_SHIM_H
#define _CLAIMS_HOST_SHIM_H

#include <linux/bits.h>
#include <linux/device.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pfn_t.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/slab.h>
#include <linux/thread_info.h>
#include <linux/tick.h>
#include <linux/uaccess.h>
#include <asm/apic.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/hw_irq.h>
#include <asm/irqdomain.h>
#include <asm/special_insns.h>
#include <asm/sync_bitops.h>
#include <asm/tdx.h>
#include <asm/tsc.h>

#include "host.h"

/* The isolation type. The compiler drops the paths of the other types. */
static __always_inline bool hv_isolation_type_tdx(void) { return true; }
static __always_inline bool hv_isolation_type_snp(void) { return false; }

/* TDCALL, but for TDG.VP.ENTER, which the driver's mshv_tdx.S executes. */
#define __tdcall(leaf, args)		host_tdcall(leaf, args)
#define __tdcall_ret(leaf, args)	host_tdcall(leaf, args)
/* A cache flush: the emulated L2 shares L1's caches. */
#define __tdx_hypercall(args)		((void)(args))
#define tdx_safe_halt()			host_halt()
#define hv_vtl_idle()			host_idle()
#define mshv_vtl_set_idle(fn)		host_set_idle(fn)

/* Not exported by the test kernel. */
#define schedule_preempt_disabled()	\
	do { preempt_enable(); schedule(); preempt_disable(); } while (0)
/* As in the stand-in, the tick goes on in play idle. */
#define tick_nohz_idle_enter()		do { } while (0)
#define tick_nohz_idle_stop_tick()	do { } while (0)
#define tick_nohz_idle_exit()		do { } while (0)
#define cpuid_to_apicid			host_apicids
#define __apic_send_IPI_mask		host_send_ipi
/* For redirected interrupts, which nobody asks for. */
#define apic_eoi()			do { } while (0)
#define irq_cfg(irq)			host_irq_cfg(irq)
/* For /dev/mshv_vtl_low. */
#undef pgprot_encrypted
#undef pgprot_decrypted
#define pgprot_encrypted(prot)		(prot)
#define pgprot_decrypted(prot)		(prot)
/* For MSHV_RESTORE_PARTITION_TIME. */
#define sched_clock_suspend()		do { } while (0)
#define sched_clock_resume()		do { } while (0)
#define timekeeping_suspend()		do { } while (0)
#define timekeeping_resume()		do { } while (0)
#define hv_save_sched_clock_state()	do { } while (0)
#define hv_restore_sched_clock_state()	do { } while (0)

/* Newer than the test kernel. */
#define XFER_WORK	(_TIF_NEED_RESCHED | _TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | \
			 _TIF_NOTIFY_RESUME)
#define __xfer_to_guest_mode_work_pending()	(!!(read_thread_flags() & XFER_WORK))
#define xfer_to_guest_mode_handle_work()	host_handle_work()
#define vmf_insert_mixed(vma, addr, pfn)	\
	vmf_insert_mixed(vma, addr, __pfn_to_pfn_t(pfn, PFN_DEV))
#define vmf_insert_pfn_pmd(vmf, pfn, write)	\
	vmf_insert_pfn_pmd(vmf, __pfn_to_pfn_t(pfn, PFN_DEV), write)
#define vmf_insert_pfn_pud(vmf, pfn, write)	\
	vmf_insert_pfn_pud(vmf, __pfn_to_pfn_t(pfn, PFN_DEV), write)
#define PGMAP_DECRYPTED			0

static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*fn)(struct hrtimer *timer),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = fn;
}

/* @vector is always that of a reschedule interrupt. */
static inline void host_send_ipi(const struct cpumask *cpus, int vector)
{
	host_reschedule(cpus);
}

static inline struct irq_cfg *host_irq_cfg(unsigned int irq)
{
	return NULL;
}

/* In arch/x86/kernel/fpu/legacy.h, which header packages lack. */
static inline void fxrstor(struct fxregs_state *fx)
{
	asm volatile("1: fxrstor64 %0\n2:\n" _ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_FPU_RESTORE)
		     : : "m" (*fx));
}

static inline void fxsave(struct fxregs_state *fx)
{
	asm volatile("fxsave64 %0" : "=m" (*fx));
}

/* Registers: the debug registers are this CPU's, and there is no hypervisor to ask. */
#define HV_X64_REGISTER_SEV_CONTROL		0x00090040
#define HV_REGISTER_REG_PAGE			0x0009001c
#define HV_REGISTER_VSM_CODE_PAGE_OFFSETS	0x000d0002
#define HV_REGISTER_VSM_CAPABILITIES		0x000d0006
#define HV_VP_INDEX_SELF			((u32)-2)
#define HV_PARTITION_ID_SELF			((u64)-1)

struct hv_register_assoc {
	u32 name;
	u32 reserved[3];
	union {
		u64 reg64;
		u64 reg128[2];
	} value;
};

union hv_input_vtl {
	u8 as_uint8;
	struct {
		u8 target_vtl:4;
		u8 use_target_vtl:1;
		u8 reserved:3;
	};
};

static inline int mshv_vtl_get_set_reg(struct hv_register_assoc *reg, bool set, u64 shared)
{
	return host_get_set_dr(reg->name, &reg->value.reg64, set);
}

/* The VSM capability query, too: no capability. */
static inline int hv_call_get_vp_registers(u32 vp, u64 partition, u16 count,
					   union hv_input_vtl vtl,
					   struct hv_register_assoc *regs)
{
	while (count--)
		regs[count].value.reg64 = 0;
	return 0;
}

static inline int hv_call_set_vp_registers(u32 vp, u64 partition, u16 count,
					   union hv_input_vtl vtl,
					   struct hv_register_assoc *regs)
{
	return 0;
}

union hv_register_vsm_capabilities {
	u64 as_uint64;
	struct {
		u64 return_action_available:1;
		u64 intercept_page_available:1;
		u64 dr6_shared:1;
	};
};

union hv_register_vsm_page_offsets {
	u64 as_uint64;
	struct {
		u64 vtl_call_offset:12;
		u64 vtl_return_offset:12;
	};
};

/* The return by hypercall, for a VM that is not isolated. Older trees: hv_vtl_cpu_context. */
struct mshv_vtl_cpu_context {
	u64 gp_regs[16];
	struct fxregs_state fx_state;
};

#define hv_vtl_cpu_context		mshv_vtl_cpu_context
/* Not every tree has it in mshv_vtl.h. The number is also in OpenVMM's protocol.rs. */
#define MSHV_VTL_RUN_FLAG_HALTED	BIT(0)

struct hv_vp_assist_page {
	u32 vtl_entry_reason;
	u8 intercept_message[256];
	u8 vtl_ret_actions[256];
};

static struct hv_vp_assist_page **hv_vp_assist_page;

#define mshv_vtl_return_call(context)	((void)(context))
#define mshv_vtl_return_call_init(off)	((void)(off))

static inline void trace_mshv_vtl_enter_vtl0(const struct mshv_vtl_cpu_context *context)
{
}

static inline void trace_mshv_vtl_exit_vtl0(u32 reason,
					    const struct mshv_vtl_cpu_context *context)
{
}

/* VMBus and SynIC: no message ever comes. */
#define HV_EVENT_FLAGS_COUNT		2048
#define HV_MESSAGE_PAYLOAD_BYTE_COUNT	240
#define HV_SYNIC_INTERCEPTION_SINT_INDEX	0
#define HV_MSR_SINT0			0x40000090
#define HV_X64_MSR_GUEST_IDLE		0x400000f0
#define HV_X64_MSR_ICR			0x40000071
#define HVMSG_NONE			0
#define HVMSG_X64_PROXY_INTERRUPT_INTERCEPT	0x8001000f
#define HVCALL_SIGNAL_EVENT		0x5d
#define HV_HYP_PAGE_SIZE		PAGE_SIZE
#define VMBUS_CONNECT_CPU		0

struct hv_message {
	struct {
		u32 message_type;
		u8 payload_size;
		u8 flags[11];
	} header;
	struct {
		u64 payload[HV_MESSAGE_PAYLOAD_BYTE_COUNT / 8];
	} u;
};

struct hv_x64_proxy_interrupt_message_payload {
	bool assert_multiple;
	union {
		u32 asserted_irr[8];
		u32 asserted_vector;
	} u;
};

union hv_synic_event_flags {
	unsigned long flags[HV_EVENT_FLAGS_COUNT / BITS_PER_LONG];
};

union hv_synic_sint {
	u64 as_uint64;
	struct {
		u64 vector:8;
		u64 reserved:8;
		u64 masked:1;
		u64 auto_eoi:1;
	};
};

union hv_connection_id {
	u32 asu32;
};

struct hv_per_cpu_context {
	void *synic_message_page;
	void *synic_event_page;
};

static struct {
	struct hv_per_cpu_context __percpu *cpu_context;
} hv_context __maybe_unused;

static inline void vmbus_isr(void)
{
}

static inline void hv_set_msr(u32 msr, u64 val)
{
}

#define vmbus_interrupt			0
#define hv_recommend_using_aeoi()	false
#define hv_setup_vmbus_handler(fn)	((void)(fn))
#define hv_setup_percpu_vmbus_handler(fn)	((void)(fn))
#define vmbus_signal_eom(msg, type)	((void)(msg))
#define mshv_vtl_sidecar_init()		0
#define mshv_vtl_sidecar_exit()		do { } while (0)

/* The hypervisor's own calls: none succeeds. */
struct hv_input_restore_partition_time {
	u64 partition_id;
	u32 tsc_sequence;
	u32 reserved;
	u64 reference_time_in_100_ns;
	u64 tsc;
};

#define hyperv_pcpu_input_arg		((void * __percpu *)NULL)
#define hyperv_pcpu_output_arg		((void * __percpu *)NULL)
#define hv_result_success(status)	(!(status))
#define hv_result_to_errno(status)	((status) ? -EIO : 0)
#define page_to_hvpfn(page)		page_to_pfn(page)

static inline u64 hv_do_hypercall(u64 control, void *in, void *out)
{
	return -1;
}

static inline u64 hv_do_fast_hypercall8(u16 code, u64 in)
{
	return -1;
}

static inline int hv_post_message(union hv_connection_id id, u32 type, void *payload,
				  size_t size)
{
	return -EIO;
}

#endif /* _CLAIMS_HOST_SHIM_H */
