/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * The part of the TDX module's guest-side ABI that has to do with TD
 * partitioning: TDG.VP.ENTER, TDG.VP.RD and TDG.VP.WR. Numbers and layouts
 * only.
 *
 * The classes, the leaf numbers and what TDG.VP.ENTER returns in RAX, RCX and R8
 * to R12 are as read in the sources of the TDX module 1.5 and of OpenHCL's kernel.
 * The error codes, and what is in RDX, RSI and RDI, were not checked against
 * either: only the emulator and its callers use them.
 */
#ifndef _TDX_TDG_VP_H
#define _TDX_TDG_VP_H

#include <linux/types.h>

/* Leaf numbers, in RAX bits 15:0. */
#define TDX_LEAF_VP_RD			9
#define TDX_LEAF_VP_WR			10
#define TDX_LEAF_VP_ENTER			25
#define TDX_LEAF_MASK			0xffffull

/* The entry RCX of TDG.VP.ENTER: bits 53:52 are the VM index, 1 to 3. */
#define TDX_ENTRY_VM_SHIFT		52
#define TDX_ENTRY_VM_MASK		(3ull << TDX_ENTRY_VM_SHIFT)
#define TDX_L2_VM_MAX			3

/*
 * RAX after TDG.VP.ENTER is class << 32 | VMX exit reason. With
 * PENDING_INTERRUPT no L2 ran: the low half is 0 and is not a reason.
 */
#define TDX_CLASS_SHIFT				32
#define TDX_CLASS_SUCCESS			0x0000u
#define TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC	0x1100u
#define TDX_CLASS_L2_EXIT_HOST_ROUTED_TDVMCALL	0x1101u
#define TDX_CLASS_L2_EXIT_PENDING_INTERRUPT	0x1102u
#define TDX_CLASS_PENDING_INTERRUPT		0x1120u
/* Bits 15:0 are the basic reason; bit 31: the VM entry failed, no L2 ran. */
#define TDX_BASIC_REASON_MASK		0xffffu
#define TDX_ENTRY_FAILURE		(1u << 31)

/* Errors, with the operand that is wrong in bits 31:0. */
#define TDX_STATUS_OPERAND_INVALID	0xC000010000000000ull
#define TDX_STATUS_FIELD_ID_INCORRECT	0xC0000C0000000000ull
#define TDX_OPERAND_RAX			0
#define TDX_OPERAND_RCX			1
#define TDX_OPERAND_RDX			2

/*
 * A metadata field's identifier, the RDX of TDG.VP.RD and TDG.VP.WR. The VMCS
 * of L2 VM n has class 36 + 8 * (n - 1), and the VMCS encoding as field code.
 */
#define TDX_MD_FIELD_CODE_MASK		0xffffffull
#define TDX_MD_FIELD_SIZE_SHIFT		32
#define TDX_MD_CONTEXT_SHIFT		52
#define TDX_MD_CONTEXT_MASK		(7ull << TDX_MD_CONTEXT_SHIFT)
#define TDX_MD_CONTEXT_VP		(2ull << TDX_MD_CONTEXT_SHIFT)
#define TDX_MD_CLASS_SHIFT		56
#define TDX_MD_CLASS_MASK		(0x3full << TDX_MD_CLASS_SHIFT)
#define TDX_MD_CLASS_L2_VMCS(vm)	((36ull + 8 * ((vm) - 1)) << TDX_MD_CLASS_SHIFT)
#define TDX_MD_L2_VMCS(vm, field)					\
	(TDX_MD_CLASS_L2_VMCS(vm) | TDX_MD_CONTEXT_VP |			\
	 (3ull << TDX_MD_FIELD_SIZE_SHIFT) | (field))

/* VMCS encodings (Intel SDM volume 3, appendix B). */
#define TDX_VMCS_EXCEPTION_BITMAP	0x4004
#define TDX_VMCS_GUEST_DR7		0x681A

/* L2_ENTER_GUEST_STATE: what RDX of TDG.VP.ENTER points to. */
struct tdx_l2_enter_guest_state {
	__u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
	__u64 r8, r9, r10, r11, r12, r13, r14, r15;
	__u64 rflags, rip, ssp;
	__u8 rvi, svi;
	__u8 reserved[6];
};

/**
 * struct tdx_vp_enter_regs - the registers as TDG.VP.ENTER leaves them
 * @rax: class << 32 | exit reason
 * @rcx: exit qualification
 * @rdx: guest linear address
 * @rsi: CS selector and access rights
 * @rdi: CS base
 * @r8: guest physical address
 * @r9: error code << 32 | interruption information
 * @r10: IDT vectoring information
 * @r11: instruction length << 32 | instruction information
 * @r12: CPL
 * @r13: reserved
 */
struct tdx_vp_enter_regs {
	__u64 rax, rcx, rdx, rsi, rdi;
	__u64 r8, r9, r10, r11, r12, r13;
};

#endif /* _TDX_TDG_VP_H */
