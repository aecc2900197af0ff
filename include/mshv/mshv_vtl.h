/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * The subset of mshv_vtl's TDX ABI used here. Numbers and layouts only.
 *
 * Source, in OHCL-Linux-Kernel (6.12 to 7.2 based): include/uapi/linux/mshv.h
 * (f53f8d5364f0) for the ioctls, drivers/hv/mshv_vtl.h as of
 * drivers/hv/mshv_vtl_main.c (00d95ddb1b73) for the run page, and the definitions
 * of struct hv_register_assoc. OpenVMM's hcl crate mirrors them. The run page has
 * no version field; both sides assert its offsets. l2_tsc_deadline and
 * offload_flags are newer than the rest: until then they were padding.
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

/* One register: its name, and its value of 16 bytes. */
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

/* Input in all but the last two, output in all. */
struct mshv_tdcall {
	__u64 rax, rcx, rdx, r8, r9;
	__u64 r10_out, r11_out;
};

/* A wake-up of @fd's file cancels the run of @cpu. */
struct mshv_vtl_set_poll_file {
	__u32 cpu;
	__u32 fd;
};

/* The CPUs in the mask of @len bytes are interrupted. */
struct mshv_kick_cpus {
	__u64 len;
	__u64 cpu_mask_ptr;
	__u64 flags;			/* MSHV_KICK_CPUS_FLAG_* */
};

#define MSHV_KICK_CPUS_FLAG_WAIT_FOR_CPUS	0x1
#define MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN	0x2

/* Of /dev/mshv itself. */
#define MSHV_CHECK_EXTENSION		_IOW(MSHV_IOCTL, 0x00, __u32)
#define MSHV_CREATE_VTL			_IOR(MSHV_IOCTL, 0x1D, char)
/* Of the file that MSHV_CREATE_VTL makes. */
#define MSHV_GET_VP_REGISTERS		_IOWR(MSHV_IOCTL, 0x05, struct mshv_vp_registers)
#define MSHV_SET_VP_REGISTERS		_IOW(MSHV_IOCTL, 0x06, struct mshv_vp_registers)
#define MSHV_VTL_SET_POLL_FILE		_IOW(MSHV_IOCTL, 0x25, struct mshv_vtl_set_poll_file)
#define MSHV_VTL_RETURN_TO_LOWER_VTL	_IO(MSHV_IOCTL, 0x27)
#define MSHV_VTL_TDCALL			_IOWR(MSHV_IOCTL, 0x32, struct mshv_tdcall)
#define MSHV_VTL_KICK_CPU		_IOW(MSHV_IOCTL, 0x38, struct mshv_kick_cpus)

/* Written by the VMM; @update is cleared when the kernel has taken the deadline. */
struct tdx_l2_tsc_deadline {
	__u64 deadline;			/* 0: disarmed */
	__u8 update;			/* MSHV_VTL_TDX_L2_DEADLINE_UPDATE */
	__u8 pad[7];
};

#define MSHV_VTL_TDX_L2_DEADLINE_DISARMED	0
#define MSHV_VTL_TDX_L2_DEADLINE_UPDATE		0x1

/*
 * The run page, one per CPU, mapped from the VTL's file at page offset = cpu. Only
 * members used here have a name. exit_info to reserved4 is struct tdx_vp_context.
 */
struct mshv_vtl_run {
	__u32 cancel;			/* not 0: leave with EINTR */
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

/* No L2 is entered: the CPU halts until an interrupt or the L2's TSC deadline. */
#define MSHV_VTL_RUN_FLAG_HALTED		0x01

/* Handle pending interrupts, HLT and the guest idle MSR in the kernel. */
#define MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT	0x01
/* Handle writes of the x2APIC's ICR in the kernel; not by the stand-in. */
#define MSHV_VTL_OFFLOAD_FLAG_X2APIC		0x02
/* Reasons for HALTED. The kernel sets the last two. */
#define MSHV_VTL_OFFLOAD_FLAG_HALT_OTHER	0x20
#define MSHV_VTL_OFFLOAD_FLAG_HALT_HLT		0x40
#define MSHV_VTL_OFFLOAD_FLAG_HALT_IDLE		0x80

/*
 * How the L2 is entered, each time within one ioctl: bits 3:0 of enter_mode. On TDX
 * the host driver does not use bits 7:4: it enters again, after an exit that it
 * handles itself, in the same mode (mshv_vtl_ioctl_return_to_lower_vtl(), where
 * `reenter` is for the non-TDX branch alone). In the idle modes RCU is not watching.
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
 * Not OHCL's: the stand-in's own ioctl, in place of MSHV_ADD_VTL0_MEMORY. Makes
 * a buffer of the caller's the memory of the L2, from guest physical address 0.
 * @addr and @length are multiples of the page size. Once for a VTL's file, and
 * for one file at a time: else EBUSY.
 */
struct mshv_vtl_emul_memory {
	__u64 addr;
	__u64 length;
};

#define MSHV_VTL_EMUL_SET_MEMORY	_IOW(MSHV_IOCTL, 0xF0, struct mshv_vtl_emul_memory)

/*
 * Neither: DR0-DR3 and DR6 of this CPU by one ioctl, in a struct as long as KVM's
 * for KVM_GET_DEBUGREGS. What such an interface would cost is to be known.
 */
struct mshv_vtl_emul_debugregs {
	__u64 db[4];
	__u64 dr6;
	__u64 reserved[11];
};

#define MSHV_VTL_EMUL_GET_DEBUGREGS	_IOR(MSHV_IOCTL, 0xF1, struct mshv_vtl_emul_debugregs)

#endif /* _MSHV_MSHV_VTL_H */
