/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * The subset of the TDX module's guest-side ABI for TD partitioning: TDG.VP.ENTER,
 * TDG.VP.RD and TDG.VP.WR. Numbers and layouts only.
 *
 * Source: intel/tdx-module, commit 1666adc494dbea5db99895f37125a338c20bec5a; each part
 * below names its file. src/td_dispatcher/vm_exits/tdg_vp_rd_wr.c of the 1.5 line (commit
 * e18f1edc999e3afe26a6b86e4ce7ba37838d1dad) agrees.
 */
#ifndef _TDX_TDG_VP_H
#define _TDX_TDG_VP_H

#include <linux/types.h>

/*
 * Leaf numbers, in RAX bits 15:0. Bits 23:16 are the version, 0 here; the other bits are
 * reserved. Source: include/tdx_api_defs.h, tdcall_leaf_opcode_t.
 */
#define TDX_LEAF_VP_RD			9
#define TDX_LEAF_VP_WR			10
#define TDX_LEAF_VP_ENTER			25
#define TDX_LEAF_MASK			0xffffull

/*
 * The entry RCX of TDG.VP.ENTER. Bits 53:52 are the VM index, from 1 to the number of L2
 * VMs, which is at most 3. Bits 1:0 request an invalidation. The other bits are reserved.
 * RDX, the physical address of L2_ENTER_GUEST_STATE, must be aligned and is checked first.
 * Source: src/td_transitions/tdg_vp_enter.c.
 */
#define TDX_ENTRY_INVEPT_MASK		3ull
#define TDX_ENTRY_VM_SHIFT		52
#define TDX_ENTRY_VM_MASK		(3ull << TDX_ENTRY_VM_SHIFT)
#define TDX_L2_VM_MAX			3
#define TDX_L2_STATE_ALIGN		256

/*
 * RAX after TDG.VP.ENTER is class << 32 | VMX exit reason. With PENDING_INTERRUPT no L2
 * ran, and the low half is 0 but not a reason. Classes from ERROR on are errors, which
 * change only RAX. The exception is L2_VM_ENTRY_FAILED of TDX 2.0: it writes all
 * registers, and the L2 may have run before it.
 * Source: include/auto_gen_2_0/tdx_error_codes_defs.h, src/td_transitions/td_exit.c.
 */
#define TDX_CLASS_SHIFT				32
#define TDX_CLASS_SUCCESS			0x0000u
#define TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC	0x1100u
#define TDX_CLASS_L2_EXIT_HOST_ROUTED_TDVMCALL	0x1101u
#define TDX_CLASS_L2_EXIT_PENDING_INTERRUPT	0x1102u
#define TDX_CLASS_PENDING_INTERRUPT		0x1120u
#define TDX_CLASS_ERROR				0x80000000u
#define TDX_CLASS_L2_VM_ENTRY_FAILED		0x80001103u
/* Bits 15:0 are the basic reason. Bit 31 means that the VM entry failed and no L2 ran. */
#define TDX_BASIC_REASON_MASK		0xffffu
#define TDX_ENTRY_FAILURE		(1u << 31)
/* The basic reason of L2_VM_ENTRY_FAILED. */
#define TDX_REASON_ENTRY_FAILED		0xffffu

/*
 * Errors. OPERAND_INVALID has the number of the invalid operand in bits 31:0.
 * Source: include/auto_gen_2_0/tdx_error_codes_defs.h, src/common/helpers/error_reporting.h.
 */
#define TDX_STATUS_OPERAND_INVALID	0xC000010000000000ull
#define TDX_STATUS_OPERAND_BUSY		0x8000020000000000ull
#define TDX_STATUS_FIELD_ID_INCORRECT	0xC0000C0000000000ull
#define TDX_STATUS_FIELD_NOT_WRITABLE	0xC0000C0100000000ull
#define TDX_STATUS_FIELD_VALUE_NOT_VALID	0xC0000C0300000000ull
/* Not an error. */
#define TDX_STATUS_FIRST_FIELD_ID	0x00000C0B00000000ull
#define TDX_OPERAND_RAX			0
#define TDX_OPERAND_RCX			1
#define TDX_OPERAND_RDX			2

/*
 * TDG.VP.RD and TDG.VP.WR take RCX = 0 and a metadata field's identifier in RDX. In R8
 * they return the field's value, for a write the old one, or 0 on error. RD returns the
 * next field's identifier in RDX, or FIELD_ID_NONE on error or if there is none. Given
 * FIELD_ID_NONE, it returns the first field's. WR leaves RDX unchanged and writes those
 * bits of R8 that are set in R9. Source: src/td_dispatcher/vm_exits/tdg_vp_rd_wr.c.
 *
 * The VMCS of L2 VM n has class 36 + 8 * (n - 1), and the field code is the VMCS encoding.
 * The context and the element size are ignored. The numbers of further elements and
 * fields must be 0. Source: src/common/metadata_handlers/metadata_generic.c,
 * include/auto_gen_2_0/td_l2_vmcs_fields_lookup.c and tdvps_fields_lookup.h; OHCL's
 * drivers/hv/mshv_vtl_main.c (struct tdx_extended_field_code) agrees.
 */
#define TDX_MD_FIELD_ID_NONE		(~0ull)
#define TDX_MD_FIELD_CODE_MASK		0xffffffull
#define TDX_MD_FIELD_SIZE_SHIFT		32
#define TDX_MD_32BIT			(2ull << TDX_MD_FIELD_SIZE_SHIFT)
#define TDX_MD_64BIT			(3ull << TDX_MD_FIELD_SIZE_SHIFT)
#define TDX_MD_LAST_MASK		(0x1fffull << 34)
#define TDX_MD_INCREMENT_SIZE		(1ull << 50)
#define TDX_MD_CONTEXT_SHIFT		52
#define TDX_MD_CONTEXT_MASK		(7ull << TDX_MD_CONTEXT_SHIFT)
#define TDX_MD_CONTEXT_VP		(2ull << TDX_MD_CONTEXT_SHIFT)
#define TDX_MD_CLASS_SHIFT		56
#define TDX_MD_CLASS_MASK		(0x3full << TDX_MD_CLASS_SHIFT)
#define TDX_MD_CLASS_L2_VMCS(vm)	((36ull + 8 * ((vm) - 1)) << TDX_MD_CLASS_SHIFT)
#define TDX_MD_L2_VMCS(vm, field)					\
	(TDX_MD_CLASS_L2_VMCS(vm) | TDX_MD_CONTEXT_VP |			\
	 TDX_MD_64BIT | (field))
#define TDX_MD_NON_ARCH			(1ull << 63)
/* The TSC deadline of VM @vm, 0 for L1; the value ~0 means none. OHCL uses it too. */
#define TDX_MD_TSC_DEADLINE(vm)		(0xA020000300000058ull + (vm))

/* VMCS encodings (Intel SDM volume 3, appendix B). */
#define TDX_VMCS_VIRTUAL_APIC_PAGE	0x2012
#define TDX_VMCS_GUEST_DEBUGCTL		0x2802
#define TDX_VMCS_EXCEPTION_BITMAP	0x4004
#define TDX_VMCS_ENTRY_INTR_INFO	0x4016
#define TDX_VMCS_ENTRY_ERROR_CODE	0x4018
#define TDX_VMCS_GUEST_INTERRUPTIBILITY	0x4824
#define TDX_VMCS_GUEST_DR7		0x681A

/*
 * L2_ENTER_GUEST_STATE, which RDX of TDG.VP.ENTER points to.
 * Source: include/tdx_api_defs.h, l2_enter_guest_state_t.
 */
struct tdx_l2_enter_guest_state {
	__u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
	__u64 r8, r9, r10, r11, r12, r13, r14, r15;
	__u64 rflags, rip, ssp;
	__u8 rvi, svi;
	__u8 reserved[6];
};

/**
 * struct tdx_vp_enter_regs - the output registers of TDG.VP.ENTER
 * @rax: class << 32 | exit reason
 * @rcx: exit qualification
 * @rdx: guest linear address
 * @rsi: CS: limit << 32 | access rights << 16 | selector, in VMX's form
 * @rdi: CS base
 * @r8: guest physical address
 * @r9: error code << 32 | interruption information. Because exit control 15 is set, an
 *	external interrupt also has the valid bit (31) and the vector (bits 7:0).
 * @r10: IDT vectoring error code << 32 | IDT vectoring information: an event whose
 *	delivery the exit interrupted, and which L1 must inject again
 * @r11: instruction length << 32 | instruction information
 * @r12: CPL
 * @r13: extended exit qualification: information in bits 63:32, type in bits 3:0; 0 at
 *	all exits that the L2 causes
 *
 * At an exit RBX, R14 and R15 are cleared. Errors and TDX_CLASS_PENDING_INTERRUPT change
 * only RAX.
 *
 * Source: src/td_transitions/td_exit.c (td_l2_to_l1_exit_internal()) and, for exits
 * routed by the host, tdh_vp_enter.c (set_l2_to_l1_async_exit_gprs()).
 */
struct tdx_vp_enter_regs {
	__u64 rax, rcx, rdx, rsi, rdi;
	__u64 r8, r9, r10, r11, r12, r13;
};

/*
 * R13's information with TDX_CLASS_L2_VM_ENTRY_FAILED: the kind of the entry that failed.
 * Source: src/td_transitions/td_exit.h, l2_failure_flow_e.
 */
#define TDX_R13_INFO_SHIFT		32
#define TDX_R13_L1_FAILED_TO_ENTER_L2	9ull
#define TDX_R13_FAILED_AFTER_L2_EXIT	10ull

#endif /* _TDX_TDG_VP_H */
