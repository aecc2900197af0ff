/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * The subset of mshv_vtl's TDX ABI used here. Numbers and layouts only.
 *
 * Source, in OHCL-Linux-Kernel (6.12 to 7.2 based): include/uapi/linux/mshv.h
 * (f53f8d5364f0) for the ioctls, drivers/hv/mshv_vtl.h as of
 * drivers/hv/mshv_vtl_main.c (00d95ddb1b73) for the run page, and the definitions
 * of struct hv_register_assoc. OpenVMM's hcl crate mirrors them. The run page has no
 * version field; both sides assert its offsets. l2_tsc_deadline and offload_flags are
 * newer than the other members and were padding before.
 */
#ifndef _MSHV_MSHV_VTL_H
#define _MSHV_MSHV_VTL_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include "../tdx/tdg_vp.h"

#define MSHV_IOCTL			0xB8

#define MSHV_CAP_CORE_API_STABLE	0
#define MSHV_CAP_REGISTER_PAGE		1
#define MSHV_CAP_VTL_RETURN_ACTION	2
#define MSHV_CAP_DR6_SHARED		3
#define MSHV_CAP_LOWER_VTL_TIMER_VIRT	4

/* A register's name and its 16-byte value. */
struct hv_register_assoc {
	__u32 name;
	__u32 pad[3];
	__u64 value[2];
};

#define HV_X64_REGISTER_DR0		0x00050000
#define HV_X64_REGISTER_DR3		0x00050003
#define HV_X64_REGISTER_DR6		0x00050004

/* @count must be 1. */
struct mshv_vp_registers {
	__u32 count;
	__u32 pad;
	__u64 regs_ptr;
};

/* All members are outputs; all but the last two are also inputs. */
struct mshv_tdcall {
	__u64 rax, rcx, rdx, r8, r9;
	__u64 r10_out, r11_out;
};

/* A wake-up on @fd cancels the run of @cpu. */
struct mshv_vtl_set_poll_file {
	__u32 cpu;
	__u32 fd;
};

/* Interrupt the CPUs in the mask, which has @len bytes. */
struct mshv_kick_cpus {
	__u64 len;
	__u64 cpu_mask_ptr;
	__u64 flags;			/* MSHV_KICK_CPUS_FLAG_* */
};

#define MSHV_KICK_CPUS_FLAG_WAIT_FOR_CPUS	0x1
#define MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN	0x2

/* ioctls of /dev/mshv */
#define MSHV_CHECK_EXTENSION		_IOW(MSHV_IOCTL, 0x00, __u32)
#define MSHV_CREATE_VTL			_IOR(MSHV_IOCTL, 0x1D, char)
/* ioctls of the file that MSHV_CREATE_VTL creates */
#define MSHV_GET_VP_REGISTERS		_IOWR(MSHV_IOCTL, 0x05, struct mshv_vp_registers)
#define MSHV_SET_VP_REGISTERS		_IOW(MSHV_IOCTL, 0x06, struct mshv_vp_registers)
#define MSHV_VTL_SET_POLL_FILE		_IOW(MSHV_IOCTL, 0x25, struct mshv_vtl_set_poll_file)
#define MSHV_VTL_RETURN_TO_LOWER_VTL	_IO(MSHV_IOCTL, 0x27)
#define MSHV_VTL_TDCALL			_IOWR(MSHV_IOCTL, 0x32, struct mshv_tdcall)
#define MSHV_VTL_KICK_CPU		_IOW(MSHV_IOCTL, 0x38, struct mshv_kick_cpus)

/* Written by the VMM. The kernel clears @update when it takes over the deadline. */
struct tdx_l2_tsc_deadline {
	__u64 deadline;			/* 0: disarmed */
	__u8 update;			/* MSHV_VTL_TDX_L2_DEADLINE_UPDATE */
	__u8 pad[7];
};

#define MSHV_VTL_TDX_L2_DEADLINE_DISARMED	0
#define MSHV_VTL_TDX_L2_DEADLINE_UPDATE		0x1

/*
 * The run page, one per CPU, mapped from the VTL's file at page offset = CPU. Only the
 * members used here have names. struct tdx_vp_context spans exit_info to reserved4.
 */
struct mshv_vtl_run {
	__u32 cancel;			/* not 0: return EINTR */
	__u32 reserved0;
	__u32 flags;			/* MSHV_VTL_RUN_FLAG_* */
	__u8 scan_proxy_irr;
	__u8 offload_flags;		/* MSHV_VTL_OFFLOAD_FLAG_* */
	__u8 reserved1;
	__u8 enter_mode;		/* MSHV_ENTER_* */
	__u8 exit_message[256];
	struct tdx_vp_enter_regs exit_info;
	__u8 reserved2[144];
	__u64 entry_rcx;
	struct tdx_l2_enter_guest_state l2_enter_guest_state;
	struct tdx_l2_tsc_deadline l2_tsc_deadline;
	__u8 reserved3[80];
	__u8 fx_state[512];
	__u8 reserved4[16];
};

/* Halt the CPU until an interrupt or the L2's TSC deadline; do not enter an L2. */
#define MSHV_VTL_RUN_FLAG_HALTED		0x01

/* Handle pending interrupts, HLT and the guest idle MSR in the kernel. */
#define MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT	0x01
/* Handle writes of the x2APIC's ICR in the kernel; the stand-in does not support this. */
#define MSHV_VTL_OFFLOAD_FLAG_X2APIC		0x02
/* Reasons for HALTED. The kernel sets the last two. */
#define MSHV_VTL_OFFLOAD_FLAG_HALT_OTHER	0x20
#define MSHV_VTL_OFFLOAD_FLAG_HALT_HLT		0x40
#define MSHV_VTL_OFFLOAD_FLAG_HALT_IDLE		0x80

/*
 * Bits 3:0 of enter_mode select how every entry within one ioctl enters the L2. On TDX
 * the host driver ignores bits 7:4: after an exit that it handles itself, it reenters in
 * the same mode (in mshv_vtl_ioctl_return_to_lower_vtl() only the non-TDX branch uses
 * `reenter`). In the idle modes RCU is not watching.
 */
#define MSHV_ENTER_MASK			0x0f
#define MSHV_ENTER_FAST			0
#define MSHV_ENTER_PLAY_IDLE		1
#define MSHV_ENTER_IDLE_THREAD		2

#define MSHV_RUN_ASSERT(member, offset)					\
	_Static_assert(__builtin_offsetof(struct mshv_vtl_run, member) == (offset), #member)

MSHV_RUN_ASSERT(flags, 8);
MSHV_RUN_ASSERT(scan_proxy_irr, 12);
MSHV_RUN_ASSERT(offload_flags, 13);
MSHV_RUN_ASSERT(enter_mode, 15);
MSHV_RUN_ASSERT(exit_message, 16);
MSHV_RUN_ASSERT(exit_info.rax, 272);
MSHV_RUN_ASSERT(exit_info.r13, 352);
MSHV_RUN_ASSERT(entry_rcx, 504);
MSHV_RUN_ASSERT(l2_enter_guest_state.rax, 512);
MSHV_RUN_ASSERT(l2_enter_guest_state.rip, 648);
MSHV_RUN_ASSERT(l2_enter_guest_state.svi, 665);
MSHV_RUN_ASSERT(l2_tsc_deadline.deadline, 672);
MSHV_RUN_ASSERT(l2_tsc_deadline.update, 680);
MSHV_RUN_ASSERT(fx_state, 768);
_Static_assert(sizeof(struct mshv_vtl_run) == 1296, "end of struct tdx_vp_context");
_Static_assert(sizeof(struct mshv_kick_cpus) == 24, "packed in OHCL");

/*
 * An ioctl of the stand-in, not in OHCL, which replaces MSHV_ADD_VTL0_MEMORY. It makes a
 * buffer of the caller's the L2's memory, starting at guest physical address 0. @addr
 * and @length are multiples of the page size. Each VTL file can do this once, and only
 * one file at a time can have memory; otherwise it fails with EBUSY.
 */
struct mshv_vtl_emul_memory {
	__u64 addr;
	__u64 length;
};

#define MSHV_VTL_EMUL_SET_MEMORY	_IOW(MSHV_IOCTL, 0xF0, struct mshv_vtl_emul_memory)

/*
 * Another ioctl of the stand-in, not in OHCL: read this CPU's DR0-DR3 and DR6 at once,
 * into a struct as long as KVM_GET_DEBUGREGS's. It shows the cost of such an interface.
 */
struct mshv_vtl_emul_debugregs {
	__u64 db[4];
	__u64 dr6;
	__u64 reserved[11];
};

#define MSHV_VTL_EMUL_GET_DEBUGREGS	_IOR(MSHV_IOCTL, 0xF1, struct mshv_vtl_emul_debugregs)

#endif /* _MSHV_MSHV_VTL_H */
