/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * What of mshv_vtl's ABI on TDX is used here. Numbers and layouts only.
 *
 * Source: include/uapi/linux/mshv.h, drivers/hv/mshv_vtl.h and the definitions
 * of struct hv_register_assoc of OHCL-Linux-Kernel (6.12 to 7.2 based), which
 * OpenVMM's hcl crate mirrors. The run page has no version field; both sides
 * assert its offsets, and they have not moved since October 2024.
 */
#ifndef _MSHV_MSHV_VTL_H
#define _MSHV_MSHV_VTL_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include "../tdx/tdg_vp.h"

#define MSHV_IOCTL			0xB8

#define MSHV_CAP_DR6_SHARED		3

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

#define MSHV_CHECK_EXTENSION		_IOW(MSHV_IOCTL, 0x00, __u32)
#define MSHV_GET_VP_REGISTERS		_IOWR(MSHV_IOCTL, 0x05, struct mshv_vp_registers)
#define MSHV_SET_VP_REGISTERS		_IOW(MSHV_IOCTL, 0x06, struct mshv_vp_registers)
#define MSHV_CREATE_VTL			_IOR(MSHV_IOCTL, 0x1D, char)
#define MSHV_VTL_RETURN_TO_LOWER_VTL	_IO(MSHV_IOCTL, 0x27)
#define MSHV_VTL_TDCALL			_IOWR(MSHV_IOCTL, 0x32, struct mshv_tdcall)

/*
 * The run page, one a CPU, mapped from the VTL's file at page offset = cpu.
 * Only what is used here has a name.
 */
struct mshv_vtl_run {
	__u32 cancel;			/* not 0: leave with EINTR */
	__u8 reserved0[11];
	__u8 enter_mode;		/* MSHV_ENTER_* */
	__u8 exit_message[256];
	struct tdx_vp_enter_regs exit_info;
	__u8 reserved1[144];
	__u64 entry_rcx;
	struct tdx_l2_enter_guest_state l2_enter_guest_state;
	__u8 reserved2[96];
	__u8 fx_state[512];
};

/*
 * How the L2 is entered: bits 3:0 for the first time in an ioctl, bits 7:4 when
 * it is entered again. In the idle modes RCU is not watching.
 */
#define MSHV_ENTER_MASK			0xf
#define MSHV_ENTER_FAST			0
#define MSHV_ENTER_PLAY_IDLE		1
#define MSHV_ENTER_IDLE_THREAD		2
#define MSHV_REENTER(mode)		((mode) << 4)

#define MSHV_RUN_ASSERT(member, offset)					\
	_Static_assert(__builtin_offsetof(struct mshv_vtl_run, member) == (offset), #member)

MSHV_RUN_ASSERT(enter_mode, 15);
MSHV_RUN_ASSERT(exit_message, 16);
MSHV_RUN_ASSERT(exit_info.rax, 272);
MSHV_RUN_ASSERT(exit_info.r13, 352);
MSHV_RUN_ASSERT(entry_rcx, 504);
MSHV_RUN_ASSERT(l2_enter_guest_state.rax, 512);
MSHV_RUN_ASSERT(l2_enter_guest_state.rip, 648);
MSHV_RUN_ASSERT(l2_enter_guest_state.svi, 665);
MSHV_RUN_ASSERT(fx_state, 768);

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
